"""A plugin of somebody else whose sink blocks: it is named and detached, and the broadcast goes on without it."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.integration.harness import player, publisher, relay, stream_table, wait_for

pytestmark = pytest.mark.integration

PLUGIN = """
import time

from relay.api import hookimpl


class Sink:
    def configure(self, tracks):
        pass

    def write(self, packet):
        time.sleep(0.4)

    def close(self):
        pass


class SleepyPlugin:
    def __init__(self, config, context):
        pass

    @hookimpl
    def open_sinks(self, stream):
        return [Sink()]
"""

KEY = "sleepy-ingest-5f1d"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin as pip would leave it."""
    site = tmp_path / "site"
    metadata = site / "somebody_sleepy-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody-sleepy\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[rtmp_relay]\nsleepy = somebody_sleepy:SleepyPlugin\n")
    (site / "somebody_sleepy.py").write_text(PLUGIN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH")))))


@pytest.mark.usefixtures("installed")
def test_a_sink_that_blocks_is_named_and_detached_and_the_relay_goes_on_and_can_be_stopped(
    tmp_path: Path, small: Path
) -> None:
    hashes = tmp_path / "played"
    with (
        relay(tmp_path, stream_table("town", KEY), plugins=("streamkeys", "sleepy")) as running,
        publisher(running.publish_url(KEY), small, before=("-stream_loop", "-1")),
    ):
        detached = running.wait_log("a detached sink", lambda line: "was detached" in str(line["msg"]), 30)
        with player(running.play_url("town"), hashes):
            wait_for(lambda: hashes.exists() and hashes.read_text().count("\n") > 100, "pictures for a player", 20)
        blocked = running.wait_log("who blocked", lambda line: "of plugin sleepy" in str(line["msg"]), 30)
        running.program.signal(signal.SIGTERM)
        assert running.program.wait(5) == 0

    assert re.fullmatch(
        r"the reactor was blocked for \d+ ms in write \(site/somebody_sleepy\.py:12\) of plugin sleepy",
        str(blocked["msg"]),
    )
    assert str(detached["msg"]).startswith(
        "a sink of sleepy failed on stream town and was detached: Sink.write blocked the relay 5 times within 60 s"
    )
