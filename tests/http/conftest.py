from __future__ import annotations

from collections.abc import Iterator

import pytest

from twisted.internet.task import Clock


@pytest.fixture
def clock() -> Iterator[Clock]:
    """A clock that must be empty when the test is over: no request may leave a timer behind."""
    clock = Clock()
    yield clock
    clock.advance(10_000)
    assert clock.getDelayedCalls() == []
