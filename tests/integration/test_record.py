"""Recordings of a real relay, fed by FFmpeg and read by FFmpeg."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.framehash import assert_same, framehash
from tests.integration.harness import publisher, relay, stream_table, wait_for

pytestmark = pytest.mark.integration

KEY = "canary-7e1f0b5d9a3c"
PLUGINS = ("streamkeys", "restream")


def record_table(directory: Path, *options: str) -> str:
    """TOML that enables recording."""
    lines = [f'directory = "{directory}"', "min_free_mb = 0", *options]
    return "[plugins.record]\n" + "".join(line + "\n" for line in lines)


def files(directory: Path, stream: str = "town", suffix: str = "") -> list[Path]:
    """Media files of a stream, in order."""
    return sorted(path for path in (directory / stream).glob(f"*{suffix}") if path.suffix in (".mp4", ".flv", ".ts"))


def sidecar(directory: Path, stream: str = "town") -> dict[str, Any]:
    """The only sidecar of a stream."""
    (path,) = (directory / stream).glob("*.json")
    document = json.loads(path.read_text())
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("form", ["flv"])
def test_a_recording_is_the_stream_packet_by_packet(tmp_path: Path, small: Path, form: str) -> None:
    directory = tmp_path / "recordings"
    extra = record_table(directory, f'format = "{form}"')
    with relay(tmp_path, stream_table("town", KEY), extra=extra, plugins=PLUGINS) as running:
        with publisher(running.publish_url(KEY), small) as encoder:
            wait_for(lambda: (running.stream("town").get("recording") or {}).get("state") == "recording", "recording")
            assert encoder.wait(30) == 0
        wait_for(lambda: files(directory), "a finished file")
    (recorded,) = files(directory)

    assert_same(framehash(small), framehash(recorded), what=form)
    assert recorded.stat().st_mode & 0o777 == 0o600
    assert KEY not in str(recorded)
    document = sidecar(directory)
    assert document["parts"][0]["file"] == recorded.name
    assert document["parts"][0]["state"] == "finished"
    assert not list((directory / "town").glob("*.part"))
