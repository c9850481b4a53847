"""Time that no clock step can change: the first thing that every program of ours does with its reactor."""

from __future__ import annotations

import time
from typing import Any


def use_monotonic_time(reactor: Any) -> None:
    """Make every timer of *reactor* follow the monotonic clock. Must come before anything is scheduled."""
    reactor.seconds = time.monotonic
