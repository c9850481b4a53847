"""A thread that does one thing after the other, so that the reactor never waits for a disk.

The rule it guards: a job that hangs holds up this thread's later jobs and nobody else; the process can end meanwhile.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

Job = Callable[[], None]

MAX_FAULTS = 16
"""Exceptions kept until somebody reads them."""


class Worker:
    """One thread with its jobs. Before `start` jobs only wait; tests run them with `run_waiting`.

    Attributes:
        faults: what jobs raised that they should not have: bugs.
    """

    def __init__(self, name: str, *, nice: bool = False) -> None:
        self.name = name
        self.faults: deque[Exception] = deque(maxlen=MAX_FAULTS)
        self._nice = nice
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def do(self, job: Job) -> None:
        """Have *job* done after all others."""
        self._jobs.put(job)

    def start(self) -> None:
        """Begin. A second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End after the jobs that wait now; does not wait for that."""
        self._jobs.put(None)

    @property
    def running(self) -> bool:
        """Whether the thread lives."""
        return self._thread is not None and self._thread.is_alive()

    def run_waiting(self) -> None:
        """Do what waits, here and now."""
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return
            if job is not None:
                self._do(job)

    def _run(self) -> None:
        if self._nice:
            with suppress(OSError):  # systemd's filter may forbid it; a thread has a niceness of its own on Linux
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        while (job := self._jobs.get()) is not None:
            self._do(job)

    def _do(self, job: Job) -> None:
        try:
            job()
        except Exception as error:  # a thread that died would look like a disk that hangs
            self.faults.append(error)
