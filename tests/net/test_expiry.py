"""When a listener's certificate expires."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twisted.internet.defer import Deferred

from relay.net.expiry import LOOK_S, Expiry
from tests.helpers.tls import Authority


class Threads:
    """Runs what was asked for when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def __call__(self, work: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.waiting.append((done, lambda: work(*arguments)))
        return done

    def run(self) -> None:
        """Let all of them end."""
        for done, work in self.waiting:
            done.callback(work())
        self.waiting.clear()


@pytest.fixture
def threads() -> Threads:
    return Threads()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return Authority(tmp_path).issue(days=5)[0]


def days_left(expiry: Expiry) -> float:
    return (expiry.not_after - time.time()) / 86_400


def test_it_is_known_from_the_start_and_asking_looks_at_no_file(threads: Threads, file: Path) -> None:
    expiry = Expiry(file, in_thread=threads)
    file.unlink()

    assert 4.9 < days_left(expiry) < 5.1
    assert threads.waiting == []


def test_a_renewed_file_is_read_in_a_thread_when_a_look_is_due(threads: Threads, file: Path) -> None:
    expiry = Expiry(file, in_thread=threads)
    Authority(file.parent).issue(days=80)
    expiry.tick(LOOK_S - 0.25)
    assert threads.waiting == []

    expiry.tick(0.25)
    assert days_left(expiry) < 6
    threads.run()
    assert 79.9 < days_left(expiry) < 80.1


def test_a_disk_that_hangs_holds_one_thread(threads: Threads, file: Path) -> None:
    expiry = Expiry(file, in_thread=threads)
    for _ in range(3):
        expiry.tick(LOOK_S)
    assert len(threads.waiting) == 1

    threads.run()
    expiry.tick(LOOK_S)
    assert len(threads.waiting) == 1


def test_a_file_that_has_not_changed_is_not_read_again(threads: Threads, file: Path) -> None:
    expiry = Expiry(file, in_thread=threads)
    status = file.stat()
    file.write_bytes(b"x" * status.st_size)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    expiry.tick(LOOK_S)
    threads.run()

    assert 4.9 < days_left(expiry) < 5.1


@pytest.mark.parametrize("content", [None, b"", b"renewal in progress"])
def test_a_file_that_cannot_be_read_is_looked_at_again(threads: Threads, file: Path, content: bytes | None) -> None:
    expiry = Expiry(file, in_thread=threads)
    good = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    expiry.tick(LOOK_S)
    threads.run()
    assert expiry.not_after == 0.0

    file.write_bytes(good)
    expiry.tick(LOOK_S)
    threads.run()
    assert 4.9 < days_left(expiry) < 5.1


def test_a_look_that_fails_is_not_the_last(threads: Threads, file: Path) -> None:
    expiry = Expiry(file, in_thread=threads)
    expiry.tick(LOOK_S)
    threads.waiting.pop()[0].errback(RuntimeError("no thread"))
    expiry.tick(LOOK_S)

    assert len(threads.waiting) == 1
