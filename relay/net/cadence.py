"""When the next packet of a stream is to be expected: each track goes on at the distance of its last two packets.

Under load a flush waits for what comes soon, and only if something comes soon: a picture whose sound is due 5 ms later
leaves together with it, one whose sound left 5 ms ago leaves at once. A guess that fails costs nothing but the wait.
"""

from __future__ import annotations

from relay.media.packets import MediaKind, Packet

MAX_STEP_MS = 100
"""Packets further apart than this have no cadence that a flush could wait for: data, and streams below 10 fps."""


class Cadence:
    """The tracks of one stream and when each is due.

    The distance comes from the timestamps and the moment from the clock, so that packets which the network held up and
    delivered together do not count as a faster cadence.
    """

    __slots__ = ("_tracks",)

    def __init__(self) -> None:
        self._tracks: dict[tuple[MediaKind, int], tuple[int, float, float]] = {}  # last dts, due at, step in seconds

    def note(self, packet: Packet, now: float) -> None:
        """Note that *packet* has come at *now*."""
        track = (packet.kind, packet.track)
        last = self._tracks.get(track)
        step_ms = 0 if last is None else packet.dts - last[0]
        if not 0 < step_ms <= MAX_STEP_MS:
            step_ms = 0
        step_s = step_ms / 1000.0
        self._tracks[track] = (packet.dts, now + step_s, step_s)

    def expects(self, now: float, until: float) -> bool:
        """Whether a packet is due by *until*. One that is overdue by more than its step is not expected any more."""
        return any(due <= until and now < due + step for _, due, step in self._tracks.values())
