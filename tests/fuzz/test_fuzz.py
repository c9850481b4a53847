"""Every fuzz target: the same few hundred inputs in every run of the suite, new ones for longer with RELAY_LONG=1.

A failure prints the target and the seed; `FUZZ_SEED=17 pytest tests/fuzz -k z2` walks that input again. A seed that
once failed goes into CRASHERS and stays there.
"""

from __future__ import annotations

import os
import time
from random import Random

import pytest

from tests.fuzz.targets import TARGETS

LONG = os.environ.get("RELAY_LONG") == "1"
LONG_S = float(os.environ.get("FUZZ_S", "20"))
RUNS = 1000
ONLY = os.environ.get("FUZZ_SEED", "")

CRASHERS: dict[str, tuple[int, ...]] = {}


def seeds(name: str) -> list[int]:
    """What a short run walks."""
    return [int(ONLY)] if ONLY else [*CRASHERS.get(name, ()), *range(RUNS)]


@pytest.mark.parametrize("name", TARGETS)
def test_any_input_gives_a_result_or_the_error_that_says_who_is_at_fault(name: str) -> None:
    for seed in seeds(name):
        _walk(name, seed)
    until = time.monotonic() + (LONG_S if LONG and not ONLY else 0)
    seed = time.time_ns() % 10**12
    while time.monotonic() < until:
        seed += 1
        _walk(name, seed)


def _walk(name: str, seed: int) -> None:
    try:
        TARGETS[name](Random(seed))
    except Exception as error:
        error.add_note(f"target {name}, FUZZ_SEED={seed}")
        raise
