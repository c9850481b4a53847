"""Two paths of one encoder: matched frame by frame, so that losing either loses nothing.

Imports packets and the feeds. How it works: keyframes of all feeds are compared, byte for byte. Two keyframes that are
equal say how the clocks of two feeds relate; when the next pair says the same, with the same number of pictures in
between, both carry one encoder's frames. From then on each feed has the offset that puts equal frames at equal stream
times, and of every frame the first copy passes.

The rules it guards: a frame passes once, whichever feed brings it; feeds whose copies differ are taken apart again;
and while a feed is alone, nothing here runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from relay.media.packets import MediaKind, Packet, Role
from relay.stream.feeds import Feed, FeedState

TOLERANCE_MS = 2
"""Copies of a frame may differ by rounding: an encoder makes the times of each of its outputs from its own."""

MAX_ANCHORS = 8
"""Keyframes remembered of each feed."""

MAX_WINDOW_FRAMES = 1024
MAX_WINDOW_BYTES = 12 * 1024 * 1024
"""What is remembered of each track to tell copies from strangers: the paths may be so far apart."""

MAX_STRANGE = 3
"""So many frames in a row that are no copies of what passed end the merge."""


@dataclass(slots=True)
class _Anchor:
    """A keyframe of one feed, in the feed's own time."""

    dts: int
    body: bytes
    frames: int


@dataclass(slots=True)
class _Pair:
    """What is known about two feeds."""

    delta: int
    one: _Anchor
    other: _Anchor
    matches: int = 1

    def continues(self, pair: _Pair) -> bool:
        """Whether *pair* says the same a GOP later: equal clocks, and as many pictures in both."""
        pictures = pair.one.frames - self.one.frames
        return abs(self.delta - pair.delta) <= TOLERANCE_MS and pictures == pair.other.frames - self.other.frames


@dataclass(slots=True)
class _Window:
    """What passed of one track, in stream time."""

    last: int
    bodies: dict[int, bytes] = field(default_factory=dict)
    order: deque[int] = field(default_factory=deque)
    nbytes: int = 0

    def add(self, dts: int, body: bytes) -> None:
        self.last = dts
        self.bodies[dts] = body
        self.order.append(dts)
        self.nbytes += len(body)
        while len(self.order) > MAX_WINDOW_FRAMES or (self.nbytes > MAX_WINDOW_BYTES and len(self.order) > 1):
            self.nbytes -= len(self.bodies.pop(self.order.popleft()))

    def near(self, dts: int) -> bytes | None:
        for moment in range(dts - TOLERANCE_MS, dts + TOLERANCE_MS + 1):
            body = self.bodies.get(moment)
            if body is not None:
                return body
        return None


class Merge:
    """Compares the feeds of one stream and lets the first copy of each frame pass.

    Attributes:
        copies_total: frames left out because another feed had brought them already.
    """

    def __init__(
        self,
        *,
        floor: int,
        confirm: int,
        matched: Callable[[Feed, Feed, int], None],
        strayed: Callable[[Feed], None],
    ) -> None:
        """Start comparing.

        Args:
            floor: stream time of the newest frame so far.
            confirm: pairs of equal keyframes, one after the other, that it takes to be sure.
            matched: called with two feeds that carry the same frames and the first's clock minus the second's.
            strayed: called with a merged feed whose frames are no copies.
        """
        self.copies_total = 0
        self._floor = floor
        self._confirm = confirm
        self._matched = matched
        self._strayed = strayed
        self._anchors: dict[Feed, deque[_Anchor]] = {}
        self._pairs: dict[tuple[Feed, Feed], _Pair] = {}
        self._windows: dict[int, _Window] = {}
        self._strange: dict[Feed, int] = {}

    # Finding out.

    def compare(self, feed: Feed, packet: Packet) -> None:
        """Look for the same keyframe in the other feeds."""
        if packet.track:
            return
        anchor = _Anchor(packet.dts, packet.body, feed.video_frames_total)
        self._anchors.setdefault(feed, deque(maxlen=MAX_ANCHORS)).append(anchor)
        for other, anchors in tuple(self._anchors.items()):
            if other is feed:
                continue
            same = next((one for one in reversed(anchors) if one.body == anchor.body), None)
            if same is not None:
                self._pair(feed, anchor, other, same)

    def _pair(self, feed: Feed, anchor: _Anchor, other: Feed, same: _Anchor) -> None:
        if (other, feed) in self._pairs:
            feed, anchor, other, same = other, same, feed, anchor
        key = (feed, other)
        delta = anchor.dts - same.dts
        known = self._pairs.get(key)
        if known is not None and known.one.dts == anchor.dts:
            return
        pair = self._pairs[key] = _Pair(delta, anchor, same)
        if known is not None and known.continues(pair):
            pair.matches = known.matches + 1
        if pair.matches >= self._confirm:
            self._matched(feed, other, delta)

    def forget(self, feed: Feed) -> None:
        """*feed* is gone, or not merged any more."""
        self._anchors.pop(feed, None)
        self._strange.pop(feed, None)
        self._pairs = {key: pair for key, pair in self._pairs.items() if feed not in key}

    # Passing frames.

    @property
    def last_dts(self) -> int:
        """Stream time of the newest frame that passed."""
        return max((window.last for window in self._windows.values()), default=self._floor)

    @property
    def next_dts(self) -> int:
        """Stream time after all that passed."""
        ends = [_end(window) for key, window in self._windows.items() if key >> 8 != MediaKind.DATA]
        return max(ends, default=self._floor + 1)

    def covers(self, packets: Iterable[Packet], offset: int) -> bool:
        """Whether *packets* of a feed that joins reach back to what passed, so that nothing is missing in between."""
        oldest: dict[int, int] = {}
        for packet in packets:
            if packet.role is Role.FRAME:
                oldest.setdefault(_key(packet), packet.dts + offset)
        return all(dts <= self._last(key) + TOLERANCE_MS for key, dts in oldest.items())

    def passed_by(self, positions: dict[MediaKind, int]) -> bool:
        """Whether a feed at *positions* (stream time) has brought all that passed."""
        return all(
            window.last <= positions[kind] + TOLERANCE_MS
            for key, window in self._windows.items()
            if (kind := MediaKind(key >> 8)) in positions
        )

    def note(self, packet: Packet) -> None:
        """Remember a frame that was published."""
        self._window(packet).add(packet.dts, packet.body)

    def admit(self, feed: Feed, packet: Packet) -> bool:
        """Whether this is the first copy of its frame; if so, remember it."""
        window = self._window(packet)
        dts, last = packet.dts, window.last
        if dts > last + TOLERANCE_MS or (dts > last and window.bodies.get(last) != packet.body):
            window.add(dts, packet.body)
            return True
        passed = window.near(dts)
        if passed == packet.body or (window.order and dts < window.order[0]):
            self._strange[feed] = 0
            self.copies_total += 1
        elif window.order:
            strange = self._strange[feed] = self._strange.get(feed, 0) + 1
            if strange >= MAX_STRANGE:
                self._strayed(feed)
        return False

    def admit_other(self, feed: Feed, packet: Packet) -> bool:
        """Whether a header or a data message may pass: headers not behind the frames, data from the live feed only."""
        if packet.role is Role.HEADER or packet.role is Role.SIDE:
            return packet.dts >= self._window(packet).last
        return feed.state is FeedState.LIVE

    def _window(self, packet: Packet) -> _Window:
        key = _key(packet)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _Window(self._floor)
        return window

    def _last(self, key: int) -> int:
        window = self._windows.get(key)
        return self._floor if window is None else window.last


def _key(packet: Packet) -> int:
    return packet.kind << 8 | packet.track


def _end(window: _Window) -> int:
    """When the next frame of a track may come: after one interval, if there is one."""
    if len(window.order) < 2:
        return window.last + 1
    return window.last + min(max(window.order[-1] - window.order[-2], 1), 100)
