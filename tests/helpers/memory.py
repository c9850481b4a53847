"""What a piece of code holds, and held at most, whatever else lives in the process."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def traced() -> Iterator[None]:
    """Trace what is allocated inside, without the garbage of others.

    A collection in the middle would run finalizers of earlier tests, whose warnings alone take half a megabyte.
    """
    gc.disable()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


def peak() -> int:
    """Return the most bytes that were held since `traced` began."""
    return tracemalloc.get_traced_memory()[1]


def held_by(*files: str) -> int:
    """Return the bytes that are held now and were allocated by a line of *files*."""
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, file) for file in files])
    return sum(trace.size for trace in snapshot.traces)
