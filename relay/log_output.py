"""The last step of a log line: a bounded queue, and a thread that writes.

The rule it guards: whoever reads our log may stop reading. A pipe that is full, a journal that stalls and a disk that
hangs block whoever writes to them, and that must not be the thread that relays. What does not fit is counted.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from typing import Protocol

MOST_LINES = 4_096
"""Lines that wait. An ordinary relay writes a few a minute; when the reader is gone, the newest say most."""

MOST_CHARACTERS = 4 * 1024 * 1024
"""The same in size: a line may be a traceback of 32 KiB."""

FAREWELL_S = 1.0
"""At the end of the process a reader has this long to take what waits."""


class Output(Protocol):
    """A text file or something like it."""

    def write(self, text: str, /) -> object:
        """Write *text*."""
        ...

    def flush(self) -> object:
        """Hand it to the system."""
        ...


class Lines:
    """Counts of a process, for its metrics."""

    def __init__(self) -> None:
        self.dropped = 0
        """Lines that were not written: the reader is too slow or gone, the disk is full."""


LINES = Lines()


def write(output: Output, text: str) -> None:
    """Write *text*; a failure is counted, not raised."""
    try:
        try:
            output.write(text)
        except UnicodeEncodeError:  # standard output may be ASCII under a bare locale
            output.write(text.encode("ascii", "backslashreplace").decode("ascii"))
        output.flush()
    except (OSError, ValueError):  # ValueError: the file was closed
        LINES.dropped += 1


class QueuedOutput:
    """Writes to *output* from a thread of its own. When too much waits, the oldest lines go."""

    def __init__(self, output: Output, *, lines: int = MOST_LINES, characters: int = MOST_CHARACTERS) -> None:
        self._output = output
        self._most_lines = lines
        self._most_characters = characters
        self._waiting: deque[str] = deque()
        self._size = 0
        self._busy = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> None:
        """Queue *text*. Never blocks."""
        with self._changed:
            self._waiting.append(text)
            self._size += len(text)
            while len(self._waiting) > self._most_lines or self._size > self._most_characters:
                self._size -= len(self._waiting.popleft())
                LINES.dropped += 1
            if self._thread is None:
                # Not before the first line: twistd forks on the way to being a daemon, and threads do not follow.
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            self._changed.notify_all()

    def flush(self) -> None:
        """Nothing to do: the thread flushes."""

    def close(self, seconds: float = FAREWELL_S) -> None:
        """Wait until everything is written, but no longer than *seconds*."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                text = "".join(self._waiting)
                self._waiting.clear()
                self._size = 0
                self._busy = True
            write(self._output, text)
