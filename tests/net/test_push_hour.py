"""An hour of a destination that does not read, in the time of a clock that the test turns."""

from __future__ import annotations

from relay.testing import FakePlatform
from tests.helpers.pushes import PushTestCase
from tests.helpers.reactor import reactor, turns, until
from tests.helpers.seats import check_programme, frames_of, picture

STEP_MS = 500
GOP = 4
HOUR_S = 3600


class AnHour(PushTestCase):
    timeout = 120

    async def test_a_stalled_destination_changes_nothing_for_four_others(self) -> None:
        stalled = FakePlatform(reactor, faults=["stall"])
        stalled.start()
        self.later(stalled.stop)
        others = [self.platform() for _ in range(4)]
        *pushes, bad = self.push(*(port for _, port in others), stalled.port)
        for push in (*pushes, bad):
            await self.live(push)
        worst = 0

        for second in range(HOUR_S):
            for _ in range(1000 // STEP_MS):
                self._picture()
            self.wait(1.0)
            worst = max(worst, bad.outbox.queue_bytes)
            if second % 5 == 0:
                await turns(2)
        for platform, _ in others:
            await until(lambda platform=platform: len(frames_of(platform.last.messages)) == self.serial, "the end")  # type: ignore[misc]

        for platform, _ in others:
            assert len(platform.connections) == 1
            assert check_programme(platform.last.messages) == list(range(self.serial))
        assert {(push.state.value, push.attempts, push.dropped_gops) for push in pushes} == {("live", 1, 0)}
        assert bad.attempts > HOUR_S / 60, "it must try again, and again"
        assert 0 < worst <= 8 * 1024 * 1024
        assert bad.dropped_gops > 0

    def _picture(self) -> None:
        assert self.group is not None
        self.group.write(picture(self.serial, self.dts, key=self.serial % GOP == 0, size=6000))
        self.serial += 1
        self.dts += STEP_MS
