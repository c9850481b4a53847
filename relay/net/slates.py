"""The operator's own slates: a picture or clip, encoded once to what a stream needs, by ffmpeg in a child process.

The rule it guards: nobody waits for it and nothing depends on it. It is made when a stream starts and when the stream's
parameters change; until it is ready, and whenever it cannot be made, the slate is the last picture.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.log import clean_line
from relay.media.errors import MediaError
from relay.media.packets import MediaKind, TrackSet
from relay.net.encoderchild import ChildError, EncoderChild
from relay.net.slateencoder import encode_file
from relay.stream.clip import Clip, why_not
from relay.stream.registry import Registry
from relay.stream.reports import SlateMade
from relay.stream.stream import Stream

STARTS = 5
STARTS_S = 60.0
"""So many encodings a minute: a stream whose parameters change all the time must not keep a core busy."""

KEPT = 4
"""Finished slates that are remembered, for the next start of their stream."""

MAX_PROBLEM = 300

Encode = Callable[[Path, TrackSet], Clip]


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a slate is made of, and for."""

    path: str
    config: bytes
    sound: bytes


class SlateMaker:
    """Gives every stream with a slate file its clip. The watch ticks it; *in_thread* is `deferToThread`."""

    log = Logger(namespace="relay.slate")

    def __init__(
        self,
        clock: IReactorTime,
        registry: Registry,
        *,
        in_thread: Callable[..., Any],
        report: Callable[[Stream, SlateMade], None],
        encode: Encode | None = None,
    ) -> None:
        self._clock = clock
        self._registry = registry
        self._in_thread = in_thread
        self._report = report
        self._child = EncoderChild()
        self._encode = encode or partial(encode_file, self._child)
        self._wishes: dict[Stream, _Wish] = {}
        self._waiting: dict[_Wish, TrackSet] = {}
        self._starts: deque[float] = deque(maxlen=STARTS)
        self._made: OrderedDict[_Wish, tuple[object, Clip]] = OrderedDict()
        self._busy = False

    def tick(self, seconds: float) -> None:
        """Look at every stream; begin the next encoding when none runs."""
        for stream in self._registry:
            if stream.started and stream.failover.slate not in ("auto", "none"):
                self._look_at(stream)
        for stream in tuple(self._wishes):
            if stream.closed:
                del self._wishes[stream]
        if self._waiting:
            self._forget_unwanted()
        if self._waiting and not self._busy and self._may_start():
            wish = next(iter(self._waiting))
            self._begin(wish, self._waiting.pop(wish))

    def stop(self) -> None:
        """End what runs."""
        self._waiting.clear()
        self._child.stop()

    def _look_at(self, stream: Stream) -> None:
        video, sound = stream.tracks.find(MediaKind.VIDEO), stream.tracks.find(MediaKind.AUDIO)
        config = b"" if video is None else video.config
        wish = _Wish(stream.failover.slate, config, b"" if sound is None else sound.config)
        if self._wishes.get(stream) == wish:
            return
        self._wishes[stream] = wish
        stream.failover.clip = None
        problem = why_not(stream.tracks)
        if problem:
            self._report(stream, SlateMade(problem=problem))
        else:
            self._waiting.setdefault(wish, stream.tracks)

    def _forget_unwanted(self) -> None:
        """Parameters may change faster than slates are made: what no stream wants any more is not made, nor kept."""
        wanted = set(self._wishes.values())
        self._waiting = {wish: tracks for wish, tracks in self._waiting.items() if wish in wanted}

    def _may_start(self) -> bool:
        return len(self._starts) < STARTS or self._clock.seconds() - self._starts[0] >= STARTS_S

    def _begin(self, wish: _Wish, tracks: TrackSet) -> None:
        began = self._clock.seconds()
        self._starts.append(began)
        self._busy = True
        done = self._in_thread(self._work, wish, tracks)
        done.addCallbacks(self._succeeded, self._failed, callbackArgs=(wish,), errbackArgs=(wish,))

    def _work(self, wish: _Wish, tracks: TrackSet) -> tuple[object, Clip]:
        """In a thread: encode the file, unless it was and has not changed."""
        path = Path(wish.path)
        try:
            status = os.stat(path)
        except OSError as error:
            raise ChildError(f"{path}: {error.strerror}") from None
        stamp = (status.st_mtime_ns, status.st_size)
        known = self._made.get(wish)
        return known if known is not None and known[0] == stamp else (stamp, self._encode(path, tracks))

    def _succeeded(self, made: tuple[object, Clip], wish: _Wish) -> None:
        self._busy = False
        clip = made[1]
        self._made[wish] = made
        self._made.move_to_end(wish)
        while len(self._made) > KEPT:
            self._made.popitem(last=False)
        for stream in self._wishing(wish):
            stream.failover.clip = clip
            self._report(stream, SlateMade(nbytes=clip.nbytes, seconds=clip.duration_ms / 1000))

    def _failed(self, failure: Failure, wish: _Wish) -> None:
        self._busy = False
        if failure.check(ChildError, MediaError):
            problem = failure.getErrorMessage()
        else:
            self.log.failure("a slate could not be made", failure)
            problem = "an error of ours; see the log"
        for stream in self._wishing(wish):
            self._report(stream, SlateMade(problem=clean_line(problem)[:MAX_PROBLEM]))

    def _wishing(self, wish: _Wish) -> list[Stream]:
        return [stream for stream, wanted in self._wishes.items() if wanted == wish and not stream.closed]
