"""Promises P13 to P16, measured at the destinations: a few runs here, two hundred of each with RELAY_LONG=1."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.integration.harness import LONG, ROOT

pytestmark = pytest.mark.integration

RUNS, PARALLEL = (200, 25) if LONG else (7, 7)


@pytest.mark.parametrize("promises", [["p13", "p16"], ["p15"]] if not LONG else [["p13"], ["away"], ["p15"], ["p16"]])
def test_promises_are_kept_in_every_run(promises: list[str]) -> None:
    command = [
        sys.executable,
        "benchmarks/destinations.py",
        *promises,
        "--runs",
        str(RUNS),
        "--parallel",
        str(PARALLEL),
    ]
    done = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=60 + 3 * RUNS)
    found = json.loads(done.stdout)

    assert {name: one["faults"] for name, one in found.items()} == {name: [] for name in promises}
    assert all(one["runs"] == RUNS for one in found.values())
    assert done.returncode == 0
