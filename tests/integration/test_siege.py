"""A relay under attack from everywhere at once, while one FFmpeg publishes to it and another plays.

Short in the suite; `RELAY_LONG=1` fights for two minutes. Afterwards everything must be as before.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests.fuzz.siege import HEALTHY, HEALTHY_KEY
from tests.integration import sources
from tests.integration.framehash import assert_same, framehash, parse_framehash
from tests.integration.harness import (
    LONG,
    ROOT,
    Program,
    free_port,
    make_certificates,
    player,
    publisher,
    relay,
    stream_table,
    wait_for,
)
from tests.spec import wire

pytestmark = pytest.mark.integration

SIEGE_S = 120 if LONG else 4
MIB = 1024 * 1024
GROWTH = 200 * MIB
"""Promise P17: what all enemies together may cost while they are there."""


def test_nobody_notices_a_siege(tmp_path: Path, made: Path) -> None:
    source = sources.small_h264_aac(made, SIEGE_S + 4)
    evil = free_port()
    table = stream_table(HEALTHY, HEALTHY_KEY)
    table += stream_table(wire.STREAM, wire.KEY, targets={"evil": f"rtmp://127.0.0.1:{evil}/live"})
    with relay(tmp_path, table, certificates=make_certificates(tmp_path)) as running:
        idle, descriptors = running.memory(), running.descriptors()
        with publisher(running.publish_url(HEALTHY_KEY), source) as encoder:
            wait_for(lambda: running.stream(HEALTHY).get("live_feed"), "the live stream")
            with player(running.play_url(HEALTHY), tmp_path / "played") as watching:
                ports = (running.port, running.tls_port, running.http_port, evil, SIEGE_S, time.time_ns() % 10**6)
                command = [sys.executable, "-m", "tests.fuzz.siege", "127.0.0.1", *map(str, ports)]
                with Program(command, {"PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"}) as enemies:
                    assert enemies.wait(SIEGE_S + 30) == 0, enemies.tail
                    fought = int(enemies.out[-1])
                assert encoder.wait(30) == 0, encoder.tail
                assert watching.wait(30) == 0, watching.tail
        peak = running.memory_peak()
        wait_for(lambda: running.descriptors() <= descriptors + 2, "file descriptors back", 15)
        busy = _cpu_seconds(running.program.process.pid)
        time.sleep(1)
        busy = _cpu_seconds(running.program.process.pid) - busy
        assert running.get("/healthz")

    assert_same(framehash(source), parse_framehash((tmp_path / "played").read_text()), skipped_s=2.5, what="the player")
    assert fought > SIEGE_S * 5, f"{fought} attacks are none"
    assert peak - idle < GROWTH, f"{(peak - idle) // MIB} MiB more"
    assert busy < 0.3, f"{busy:.2f} s of CPU in a second in which nobody was there"


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
