"""The upload of a check: a programme of our own at its pace, and how much of it got there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from relay.media.snow import Snow
from relay.net.lanes import Lanes
from relay.net.pushlink import PushLink
from relay.stream.outbox import Outbox

WARM_UP_S = 1.0
"""TCP finds its speed: the first second does not count, unless there is hardly more."""


@dataclass(slots=True)
class Sample:
    """Sums at a moment."""

    age: float
    made: int
    acked: int


class Upload:
    """The programme on its way: makes it at its pace, counts what was made and what arrived."""

    def __init__(self, snow: Snow, mbps: float, outbox: Outbox, lanes: Lanes, acked: Callable[[], int]) -> None:
        self.offered = mbps
        self._snow = snow
        self._outbox = outbox
        self._lanes = lanes
        self._acked = acked
        self._made = 0
        self._first = Sample(0.0, 0, acked())
        self._samples: list[Sample] = []

    def write(self, age: float, link: PushLink | None) -> None:
        """Send what is due *age* seconds after the beginning."""
        for packet in self._snow.until(age * 1000):
            self._made += len(packet.body)
            if link is None:
                continue
            if link.in_step:
                self._lanes.write(packet)
            elif self._outbox.append(packet):
                link.pump_later()

    def sample(self, age: float) -> None:
        """Note where it stands."""
        self._samples.append(Sample(age, self._made, self._acked() or self._newest.acked))

    @property
    def _newest(self) -> Sample:
        return self._samples[-1] if self._samples else self._first

    @property
    def _oldest(self) -> Sample:
        """Where the window begins: after the warm-up, if two samples come later."""
        later = [one for one in self._samples if one.age >= WARM_UP_S]
        return later[0] if len(later) > 2 else self._first

    @property
    def accepted(self) -> float:
        """Mbit/s that arrived, at most what was planned: the wire's own bytes do not count."""
        made = self._newest.made - self._oldest.made
        acked = self._newest.acked - self._oldest.acked
        return self.offered * min(1.0, acked / made) if made > 0 else 0.0

    @property
    def silent_s(self) -> float:
        """Seconds until now in which nothing arrived."""
        newest = self._newest
        return newest.age - next((one.age for one in self._samples if one.acked == newest.acked), newest.age)

    @property
    def queue_ms(self) -> int:
        """Stream time that waits in front of the kernel."""
        return self._outbox.queue_ms
