"""The operator's own slates: a picture or clip, encoded once to what a stream needs, by ffmpeg in a child process.

The rule it guards: nobody waits for it and nothing depends on it. It is made when a stream starts and when the stream's
parameters change; until it is ready, and whenever it cannot be made, the slate is the last picture.
"""

from __future__ import annotations

import os
import shutil
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
from relay.media import aac, configs
from relay.media.errors import MediaError
from relay.media.facts import VideoFacts
from relay.media.h264_refit import Parameters
from relay.media.packets import Codec, MediaKind, TrackSet
from relay.net.encoderchild import ChildError, EncoderChild
from relay.stream.clip import Clip, make_clip, why_not
from relay.stream.registry import Registry
from relay.stream.reports import SlateMade
from relay.stream.stream import Stream

MAX_CLIP_S = 30
"""Longer clips are cut: a slate is for the minute of a hold."""

PICTURE_S = 2
"""A picture that does not move is a clip of this length."""

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
"""By these names a file is a picture; anything else is a clip."""

DEFAULT_FPS, MAX_FPS = 30.0, 60.0

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


def find_ffmpeg() -> str:
    """Return the ffmpeg of the `[ffmpeg]` extra, else the system's. Raises `ChildError`."""
    try:
        import imageio_ffmpeg  # type: ignore[import-untyped]

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        found = shutil.which("ffmpeg")
    if found is None:
        raise ChildError("there is no ffmpeg: pip install 'rtmp-relay[ffmpeg]' or apt-get install ffmpeg")
    return found


def encode_file(child: EncoderChild, path: Path, tracks: TrackSet) -> Clip:
    """Encode *path* for *tracks*; blocks. Raises `ChildError` or `MediaError`."""
    video = tracks.find(MediaKind.VIDEO)
    facts = None if video is None else configs.video_facts(video)
    if video is None or facts is None:
        raise MediaError("media.misfit", "the stream's parameters cannot be read")
    if facts.bit_depth != 8 or facts.chroma_format != 1:
        raise MediaError("media.misfit", "the stream is not 8 bit 4:2:0")
    fps = min(float(facts.fps), MAX_FPS) if facts.fps and facts.fps >= 1 else DEFAULT_FPS
    args = [find_ffmpeg(), *_input(path), *_picture(facts, Parameters.of(video.config), fps), *_sound(path, tracks)]
    data = child.run([*args, "-f", "flv", "-flvflags", "no_duration_filesize", "pipe:1"])
    return make_clip(data, tracks, fps=fps)


def _input(path: Path) -> list[str]:
    """Local files only, whatever the file says about others."""
    args = ["-nostdin", "-hide_banner", "-loglevel", "error", "-protocol_whitelist", "file,pipe"]
    still = path.suffix.lower() in PICTURES
    args += ["-xerror", "-loop", "1", "-framerate", "30"] if still else []
    return [*args, "-i", f"file:{path}", "-t", str(PICTURE_S if still else MAX_CLIP_S)]


def _picture(facts: VideoFacts, target: Parameters, fps: float) -> list[str]:
    """x264 told to do what the stream's decoder expects; what it writes into the headers is replaced anyway."""
    size = f"{facts.width}:{facts.height}"
    colours = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020"}
    matrix = colours.get(facts.matrix, "bt709" if facts.height >= 720 else "bt601")
    span = "pc" if facts.full_range else "tv"
    graph = (
        f"scale={size}:force_original_aspect_ratio=decrease:out_color_matrix={matrix}:out_range={span},"
        f"pad={size}:-1:-1,setsar=1,fps={fps:.6f},format=yuv420p"
    )
    keyint = max(int(fps), 1)
    options = {
        "cabac": int(target.pps.cabac),
        "8x8dct": int(target.pps.transform_8x8),
        "chroma-qp-offset": target.pps.chroma_offsets[0],
        "constrained-intra": int(target.pps.constrained_intra),
        "keyint": keyint,
        "min-keyint": keyint,
        "scenecut": 0,
        "ref": 1,
        "bframes": 0,
        "weightp": 0,
        "psy": 0,
        "deblock": "0,0",
        "slices": 1,
        "sliced-threads": 0,
        "threads": 1,
        "open-gop": 0,
    }
    rate = "4M" if facts.height >= 720 else "1500k"
    x264 = ":".join(f"{name}={value}" for name, value in options.items())
    args = ["-map", "0:v:0", "-vf", graph, "-c:v", "libx264", "-preset", "medium", "-crf", "23", "-x264-params", x264]
    return [*args, "-maxrate", rate, "-bufsize", rate]


def _sound(path: Path, tracks: TrackSet) -> list[str]:
    """The clip's own sound, if it has any and the stream's is AAC-LC; silence is made elsewhere."""
    sound = tracks.find(MediaKind.AUDIO)
    if sound is None or sound.codec is not Codec.AAC or path.suffix.lower() in PICTURES:
        return ["-an"]
    try:
        config = aac.parse_config(sound.config)
    except MediaError:
        return ["-an"]
    if config.object_type != aac.LC or config.sbr or not config.channels:
        return ["-an"]
    args = ["-map", "0:a:0?", "-c:a", "aac", "-b:a", "128k", "-ar", str(config.sample_rate)]
    return [*args, "-ac", str(config.channels)]
