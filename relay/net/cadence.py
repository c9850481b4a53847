"""When the next packet of a stream is to be expected: each track goes on at the distance of its last two packets.

Under load a flush waits for what comes soon, and only if something comes soon: a picture whose sound is due 5 ms later
leaves together with it, one whose sound left 5 ms ago leaves at once. A guess that fails costs the wait, so nothing is
expected of a track that does not keep time: an encoder that lets a picture go when the next sound is there sends at the
pace of its sound, and so does a network that delivers in bursts.
"""

from __future__ import annotations

from relay.media.packets import MediaKind, Packet

MAX_STEP_MS = 100
"""Packets further apart than this have no cadence that a flush could wait for: data, and streams below 10 fps."""

NEVER_S = float("inf")


class Cadence:
    """The tracks of one stream and when each is due.

    The distance comes from the timestamps and the moment from the clock, so that packets which the network held up and
    delivered together do not count as a faster cadence.
    """

    __slots__ = ("_tracks",)

    def __init__(self) -> None:
        self._tracks: dict[tuple[MediaKind, int], tuple[int, float, float, float]] = {}
        """Of each track: the last dts, when it came, the step in seconds, by how much the last packet was off."""

    def note(self, packet: Packet, now: float) -> None:
        """Note that *packet* has come at *now*."""
        track = (packet.kind, packet.track)
        last = self._tracks.get(track)
        step_ms = 0 if last is None else packet.dts - last[0]
        if last is None or not 0 < step_ms <= MAX_STEP_MS:
            self._tracks[track] = (packet.dts, now, 0.0, NEVER_S)
        else:
            step_s = step_ms / 1000.0
            self._tracks[track] = (packet.dts, now, step_s, abs(now - last[1] - step_s))

    def expects(self, now: float, until: float, tolerance: float) -> bool:
        """Whether a packet is due by *until*, of a track whose last one was off by *tolerance* seconds at most.

        One that is overdue by more than its step is not expected any more.
        """
        return any(
            off <= tolerance and came + step <= until and now < came + 2 * step
            for _, came, step, off in self._tracks.values()
        )
