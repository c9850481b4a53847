"""Promises P13 to P16, measured at the destinations: a few runs here, two hundred of each with RELAY_LONG=1."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.integration.harness import LONG, ROOT

pytestmark = pytest.mark.integration

RUNS, PARALLEL = (200, 20) if LONG else (6, 6)
SETS = [["p13"], ["away"], ["p15"], ["p16"]] if LONG else [["p13", "p15", "p16"]]


@pytest.mark.parametrize("promises", SETS, ids="-".join)
def test_promises_are_kept_in_every_run(promises: list[str]) -> None:
    options = ["--runs", str(RUNS), "--parallel", str(PARALLEL), "--together", "--json"]
    command = [sys.executable, "benchmarks/destinations.py", *promises, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90 + 3 * RUNS)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)

    assert {name: one["faults"] for name, one in found.items()} == {name: [] for name in promises}
    assert all(one["runs"] == RUNS for one in found.values())
    assert done.returncode == 0
