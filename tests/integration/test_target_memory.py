"""What a healthy destination costs in memory: the bound that is promised is 1 MiB."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration import sources
from tests.integration.harness import nginx, publisher, relay, stream_table, wait_for

pytestmark = pytest.mark.integration

KEY = "canary-5b9d1f3a7c2e"
MIB = 1024 * 1024
TARGETS = 60


def test_a_healthy_destination_costs_less_than_a_mebibyte(tmp_path: Path, made: Path) -> None:
    source = sources.small_h264_aac(made, 14)
    with nginx(tmp_path) as platform:
        targets = {f"t{number}": platform.url for number in range(TARGETS)}
        tables = stream_table("few", "few-" + KEY, targets={"one": platform.url})
        tables += stream_table("many", "many-" + KEY, targets=targets)
        with relay(tmp_path, tables) as running:

            def live(stream: str) -> int:
                shown = running.stream(stream).get("targets", [])
                assert isinstance(shown, list)
                return sum(target["state"] == "live" and target["delivery"] == "accepted" for target in shown)

            with publisher(running.publish_url("few-" + KEY), source) as first:
                wait_for(lambda: live("few") == 1, "the first destination")
                before = running.memory()
                with publisher(running.publish_url("many-" + KEY), source) as second:
                    wait_for(lambda: live("many") == TARGETS, "all destinations", 20)
                    each = (running.memory() - before) / TARGETS
                    print(f"{each / 1024:.0f} KiB each, the stream itself included")  # noqa: T201 - shown with -s

                    assert each < MIB
                    second.stop()
                first.stop()
