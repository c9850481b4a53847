"""A thread that does one job after the other, so that nothing else waits for a disk.

The rule it guards: the reactor never waits; a job that hangs holds up later jobs and nothing else, and the process can
end all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")

_Job = tuple[Callable[[], Any], "Deferred[Any]"]


class Worker:
    """Does jobs in a thread of its own, begun when the first one comes. On a clock of a test it does them at once."""

    def __init__(self, name: str, clock: IReactorTime) -> None:
        self._name = name
        self._call_from_thread = getattr(clock, "callFromThread", None)
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._thread: Thread | None = None
        self.waiting = 0

    def do(self, job: Callable[[], T]) -> Deferred[T]:
        """Do *job* after those before it."""
        if self._call_from_thread is None:
            return execute(job)
        if self._thread is None:
            self._thread = Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        done: Deferred[T] = Deferred()
        self.waiting += 1
        self._jobs.put((job, done))
        return done

    def _run(self) -> None:
        while True:
            job, done = self._jobs.get()
            result: Any
            try:
                result = job()
            except Exception:
                result = Failure()
            self._call_from_thread(self._done, done, result)  # type: ignore[misc]
            del job, done, result

    def _done(self, done: Deferred[Any], result: Any) -> None:
        self.waiting -= 1
        done.callback(result)
