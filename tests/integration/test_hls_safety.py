"""P21: whoever reads all the time sees no torn playlist, no missing segment and no number that falls.

A plain player polls, a low-latency player blocks, both fetch whatever they see as soon as they see it, while encoders
are killed and the relay is stopped, killed and started again.
"""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration import sources
from tests.integration.harness import relay, wait_for
from tests.integration.hls_viewer import Viewer, again, settle, stubborn, watching

pytestmark = pytest.mark.integration

STREAM = '[streams.town.streamkeys]\nprimary = "primary-canary-1"\nbackup = "backup-canary-01"\n'
STREAM += '[streams.town.failover]\nmode = "switch"\n'


def test_readers_notice_nothing_but_discontinuities(tmp_path: Path, made: Path) -> None:
    """With a disk, and with memory alone, where numbers go on from the time of day."""
    source, on_disk = sources.small_h264_aac(made), f'directory = "{tmp_path}/hls"\nmin_free_mb = 0\n'
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda options: _watch_everything(tmp_path, source, options), (on_disk, "")))


def _watch_everything(tmp_path: Path, source: Path, options: str) -> None:
    """Let viewers watch a failover, a restart in order and a kill."""
    extra = "[plugins.hls]\nsegment_s = 1\nwindow_s = 10\n" + options
    with relay(tmp_path, STREAM, plugins=("streamkeys",), extra=extra) as running:
        base = f"http://127.0.0.1:{running.http_port}/hls/town/"
        plain, eager = Viewer(base), Viewer(base)
        marks = []
        with (
            stubborn(running.publish_url("primary-canary-1"), source) as primary,
            stubborn(running.publish_url("backup-canary-01"), source) as backup,
            watching(plain.run, eager.run_blocking, viewers=[plain, eager]),
        ):
            wait_for(lambda: plain.last, "first segment", 20)
            wait_for(lambda: len(running.stream("town").get("feeds", ())) == 2, "both feeds", 10)  # type: ignore[arg-type]
            settle(plain, 2)
            marks.append(len(plain.discontinuities))
            (primary if running.stream("town")["live_feed"] == "primary" else backup).set()
            settle(plain, 3)
            marks.append(len(plain.discontinuities))
            running.program.signal(signal.SIGTERM)
            assert running.program.wait(8) == 0
            with again(running):
                settle(plain, 3)
                marks.append(len(plain.discontinuities))
                running.program.signal(signal.SIGKILL)
                running.program.process.wait()
                with again(running):
                    settle(plain, 3)
                    marks.append(len(plain.discontinuities))

    assert plain.faults == []
    assert eager.faults == []
    assert marks == [1, 2, 3, 4]
    assert [plain.dates[number] for number in sorted(plain.dates)] == sorted(plain.dates.values())
    assert len(plain.fetched) > 40
    assert eager.playlists > 30
