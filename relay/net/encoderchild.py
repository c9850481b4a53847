"""A child process that encodes something for us: started, fed, limited and ended, in a thread that may wait for it.

The rule it guards (reliability.md case 171, S19): whatever the child does, hang, flood either pipe, fork, ignore
SIGTERM, the relay goes on and nothing of the child is left. It gets no secret, no environment of ours, no descriptor
but its three, a low priority and limits; it has a process group of its own, which is ended as a whole.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from threading import Lock
from typing import IO

MAX_OUTPUT = 32 * 1024 * 1024
"""A minute at 4 Mbit/s. More than that is no slate."""

MAX_WORDS = 64 * 1024
"""The end of what it complains about is kept."""

DEADLINE_S = 60.0
"""From its start to its end."""

TERM_S = 3.0
"""Between SIGTERM and SIGKILL."""

MAX_MEMORY = 4 * 1024**3
MAX_CPU_S = 120
NICE = 10
POLL_S = 0.2


class ChildError(Exception):
    """The child gave nothing that can be used; the text says why."""


class EncoderChild:
    """Runs one command at a time and returns what it writes. `run` belongs in a thread, `stop` may come from any."""

    def __init__(self, *, deadline_s: float = DEADLINE_S, term_s: float = TERM_S, max_output: int = MAX_OUTPUT) -> None:
        self._deadline_s = deadline_s
        self._term_s = term_s
        self._max_output = max_output
        self._lock = Lock()
        self._stopped = False

    def stop(self) -> None:
        """End what runs, and start nothing any more."""
        self._stopped = True

    def run(self, args: Sequence[str]) -> bytes:
        """Return the standard output of a command that ends well. Raises `ChildError`."""
        with self._lock:
            if self._stopped:
                raise ChildError("the relay stops")
            try:
                process = subprocess.Popen(  # noqa: S603 - the operator's own encoder and file
                    list(args),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                    close_fds=True,
                    cwd="/",
                    env={"PATH": os.defpath, "LC_ALL": "C"},
                )
            except OSError as error:
                raise ChildError(f"{args[0]} cannot be started: {error.strerror}") from None
            try:
                _limit(process.pid)
                return self._collect(process)
            finally:
                self._end(process)

    def _collect(self, process: subprocess.Popen[bytes]) -> bytes:
        output, words = bytearray(), bytearray()
        assert process.stdout is not None  # noqa: S101 - both are pipes
        assert process.stderr is not None  # noqa: S101
        until = time.monotonic() + self._deadline_s
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ, output)
            selector.register(process.stderr, selectors.EVENT_READ, words)
            while selector.get_map():
                if self._stopped:
                    raise ChildError("the relay stops")
                if time.monotonic() > until:
                    raise ChildError(f"it took longer than {self._deadline_s:g} s")
                for key, _ in selector.select(POLL_S):
                    _read(selector, key)
                if len(output) > self._max_output:
                    raise ChildError(f"it is larger than {self._max_output // 1024**2} MiB")
                del words[:-MAX_WORDS]
        try:
            code = process.wait(max(until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            raise ChildError("it closed its output and did not end") from None
        if code:
            said = words.decode("utf-8", "replace").strip().splitlines()
            raise ChildError(said[-1] if said else f"exit code {code}")
        return bytes(output)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End the whole group: what the child started goes with it."""
        if process.poll() is None:
            _signal(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self._term_s)
        _signal(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _read(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]
    data = os.read(pipe.fileno(), 65536)
    if data:
        key.data.extend(data)
    else:
        selector.unregister(pipe)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _limit(pid: int) -> None:
    """Bound what it may use; one that is gone already needs no bounds."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, NICE)
        for kind, most in (
            (resource.RLIMIT_AS, MAX_MEMORY),
            (resource.RLIMIT_CPU, MAX_CPU_S),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.prlimit(pid, kind, (most, most))
