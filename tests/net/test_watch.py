from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from relay.net.watch import MAX_TICK_S, TICK_S, Watch
from tests.helpers.reactor import pass_time


class Aging:
    def __init__(self) -> None:
        self.age = 0.0
        self.ticks = 0

    def tick(self, seconds: float) -> None:
        self.age += seconds
        self.ticks += 1


class Broken(Aging):
    def tick(self, seconds: float) -> None:
        super().tick(seconds)
        raise RuntimeError("broken")


class WatchTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.watch = Watch(self.clock)
        self.watch.startService()
        self.addCleanup(lambda: self.watch.running and self.watch.stopService())

    def test_running_time_is_counted(self) -> None:
        one = Aging()
        self.watch.add(one)

        pass_time(self.clock, 3.0)

        assert abs(one.age - 3.0) < 0.001
        assert one.ticks == round(3.0 / TICK_S)

    def test_time_in_which_the_process_was_stopped_does_not_count(self) -> None:
        one = Aging()
        self.watch.add(one)
        pass_time(self.clock, 1.0)

        self.clock.advance(30.0)  # SIGSTOP for half a minute: one late tick

        assert one.age <= 1.0 + MAX_TICK_S
        pass_time(self.clock, 1.0)
        assert one.age <= 2.0 + MAX_TICK_S

    def test_an_error_in_one_tick_stops_neither_the_others_nor_the_next_tick(self) -> None:
        broken, before, after = Broken(), Aging(), Aging()
        for one in (before, broken, after):
            self.watch.add(one)

        pass_time(self.clock, 0.5)

        assert (before.ticks, broken.ticks, after.ticks) == (2, 2, 2)
        assert len(self.flushLoggedErrors(RuntimeError)) == 2

    def test_who_was_added_twice_is_ticked_once_and_who_was_discarded_not_at_all(self) -> None:
        twice, gone = Aging(), Aging()
        for one in (twice, twice, gone):
            self.watch.add(one)
        self.watch.discard(gone)
        self.watch.discard(gone)

        pass_time(self.clock, TICK_S)

        assert (twice.ticks, gone.ticks) == (1, 0)

    def test_who_is_discarded_by_another_in_the_same_tick_is_not_ticked_any_more(self) -> None:
        victim = Aging()

        class Remover(Aging):
            def tick(inner, seconds: float) -> None:  # noqa: N805
                self.watch.discard(victim)

        self.watch.add(Remover())
        self.watch.add(victim)

        pass_time(self.clock, TICK_S)

        assert victim.ticks == 0

    def test_a_stopped_watch_leaves_no_timer(self) -> None:
        self.watch.add(Aging())

        self.watch.stopService()

        assert self.clock.getDelayedCalls() == []
