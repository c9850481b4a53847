"""Runs the operator's program for a finished file, in a thread of its own, one at a time.

The rule it guards: a list of arguments, never a shell; the program gets nothing of the relay's environment but where
programs are, so no secret; it has a process group of its own, and nothing of that is left when its time is up.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from .worker import Worker

MAX_WAITING = 1000
"""Programs that wait for their turn; more files than that in a row means that the program never keeps up."""
TRIES = 3
"""A program that fails is run again, after a pause: what it sends to may be away for a moment."""
PAUSE_S = 5.0
MERCY_S = 3.0
"""Between SIGTERM and SIGKILL."""
OUTPUT_BYTES = 2000
"""What is kept of a program's output for the log."""
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a program."""

    args: Sequence[str]
    stream: str
    path: str
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How it ended. *status*: exit code, negative for a signal, None when it could not start or took too long."""

    run: Run
    status: int | None
    output: str


class Programs:
    """Runs programs."""

    def __init__(self, *, pause: Callable[[float], None] = time.sleep) -> None:
        self.worker = Worker("record-exec")
        self.waiting = 0
        self._pause = pause
        self._ran: SimpleQueue[Ran] = SimpleQueue()

    def run(self, run: Run) -> bool:
        """Have a program run; False when too many wait."""
        if self.waiting >= MAX_WAITING:
            return False
        self.waiting += 1
        self.worker.do(lambda: self._run(run))
        return True

    def ended(self) -> list[Ran]:
        """Take those that ended since the last call."""
        taken = []
        while True:
            try:
                taken.append(self._ran.get_nowait())
            except Empty:
                return taken

    def _run(self, run: Run) -> None:
        ran = Ran(run=run, status=None, output="")
        try:
            for attempt in range(TRIES):
                if attempt:
                    self._pause(PAUSE_S * attempt)
                ran = run_once(run)
                if ran.status == 0:
                    return
        finally:
            self.waiting -= 1
            self._ran.put(ran)


def fill_in(args: Sequence[str], **values: str) -> list[str]:
    """Put values into the arguments, each in its place; nothing of a value is ever taken for a placeholder."""
    filled = []
    for arg in args:
        pieces: list[str] = []
        rest = arg
        while True:
            found = min(((at, name) for name in values if (at := rest.find("{" + name + "}")) >= 0), default=None)
            if found is None:
                break
            at, name = found
            pieces += (rest[:at], values[name])
            rest = rest[at + len(name) + 2 :]
        filled.append("".join((*pieces, rest)))
    return filled


def run_once(run: Run) -> Ran:
    """Run a program to its end, or to the end of its time."""
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator's own program, and no shell
            run.args,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd="/",
            close_fds=True,
            start_new_session=True,
        )
    except OSError as error:
        return Ran(run=run, status=None, output=f"cannot be started: {error.strerror}")
    until = time.monotonic() + run.timeout_s
    tail: deque[int] = deque(maxlen=OUTPUT_BYTES)
    try:
        _read_until(process, until, tail)
        in_time = _wait(process, until)
        if not in_time:
            _signal(process, signal.SIGTERM)
            _wait(process, time.monotonic() + MERCY_S)
    finally:
        _signal(process, signal.SIGKILL)  # and whatever it left behind
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    output = bytes(tail).decode("utf-8", "replace")
    return Ran(run=run, status=process.returncode if in_time else None, output=output)


def _read_until(process: subprocess.Popen[bytes], until: float, tail: deque[int]) -> None:
    """Read what it says until it says no more, or has ended, or its time is up."""
    if process.stdout is None:
        return
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := until - time.monotonic()) > 0:
            if selector.select(min(left, 0.2)):
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    return
                tail.extend(data)
            elif process.poll() is not None:
                return


def _wait(process: subprocess.Popen[bytes], until: float) -> bool:
    try:
        process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to its whole process group."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return
