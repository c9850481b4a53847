"""No switch that nobody needs: bad but working lines for hours, on a fake clock (P8).

A quarter of an hour for each kind of feed, three minutes for the fastest; with RELAY_LONG=1 a day of each.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from relay.media.packets import Packet
from relay.stream.reports import HealthChanged, Switched
from tests.stream.stage import STEP, Encoder, Stage, picture, sound

LONG = os.environ.get("RELAY_LONG") == "1"

LOSS = 0.01
"""Share of packets that are lost; TCP sends them again."""

RETRANSMIT_S = (0.2, 0.4)
"""How long that takes, and again if it is lost a second time."""


class Line:
    """A way through the network: bursts of jitter, losses that hold up what is behind them, short pauses."""

    def __init__(self, encoder: Encoder, seed: int) -> None:
        self.encoder = encoder
        self.random = random.Random(seed)
        self.burst = 0

    def step(self, content: int) -> None:
        encoder, rng = self.encoder, self.random
        if self.burst:
            self.burst -= 1
        elif rng.random() < 0.002:
            self.burst = rng.randrange(50, 500)
        delay = 0.02 + (rng.uniform(0.0, 0.5) if self.burst else rng.uniform(0.0, 0.02))
        if rng.random() < LOSS:
            delay += RETRANSMIT_S[0]
            if rng.random() < LOSS:
                delay += RETRANSMIT_S[1]
        if rng.random() < 0.0005:
            delay += 0.2
        encoder.delay_s = delay
        encoder.step(content)


class HighSpeed(Encoder):
    """A camera of 240 pictures a second; what it makes in one step leaves together."""

    fps = 240

    def make(self, content: int) -> Iterator[Packet]:
        first, last = ((content - back) * self.fps // 1000 for back in (1000 * STEP, 0))
        for number in range(int(first) + 1, last + 1):
            moment = number * 1000 // self.fps
            key = not self.begun or number % (self.fps * self.gop_ms // 1000) == 0
            self.begun = True
            yield picture(moment, key, size=6000 if key else 600, dts=(self.clock + moment) % 2**32)
        yield sound(content, dts=(self.clock + content) % 2**32)


def endure(stage: Stage, lines: list[Line], seconds: float) -> None:
    """Let time pass; what went out is counted and forgotten."""
    failover = stage.stream.failover
    for number in range(round(seconds / STEP)):
        stage.now += STEP
        stage.content += 20
        for line in lines:
            line.step(stage.content)
        if failover.pacing:
            failover.pace(stage.now)
        if stage.content % 240 == 0:
            failover.tick(stage.now, 0.24)
        if number % 5000 == 0:
            stage.sink.calls.clear()


@pytest.mark.parametrize(
    ("interval_ms", "gop_ms", "failback", "seed"),
    [
        (0, 2000, "stay", 4),
        (20, 10_000, "prefer-primary", 20),
        (40, 2000, "stay", 40),
        (200, 4000, "prefer-primary", 270),  # a burst of jitter and a packet lost twice meet in the first ten minutes
        (1000, 10_000, "stay", 1000),
    ],
    ids=["240fps", "50fps-long-gop", "25fps", "5fps", "1fps"],
)
def test_a_bad_line_is_no_reason_to_switch(interval_ms: int, gop_ms: int, failback: str, seed: int) -> None:
    stage = Stage(failback=failback, mode="switch")
    lines = []
    for priority, name in enumerate(("primary", "backup")):
        kind = Encoder if interval_ms else HighSpeed
        encoder = kind(stage, name, priority, interval_ms=interval_ms, gop_ms=gop_ms, phase_ms=1000 * priority)
        lines.append(Line(encoder, seed=seed + priority))

    endure(stage, lines, 24 * 3600 if LONG else 900 if interval_ms else 180)

    assert [report for report in stage.reports if isinstance(report, Switched)] == []
    assert [report.fault for report in stage.reports if isinstance(report, HealthChanged)] == []
    assert stage.on_air == "primary"


def test_a_line_that_is_really_gone_is_still_left_at_once() -> None:
    """The same line with the same seed, so that the test above cannot pass by never deciding anything."""
    stage = Stage(mode="switch")
    lines = [Line(stage.encoder(name, n, phase_ms=1000 * n), seed=n) for n, name in enumerate(("primary", "backup"))]
    endure(stage, lines, 60)

    stage.encoders[0].sending = False
    endure(stage, lines, 2.2)

    assert stage.on_air == "backup"
