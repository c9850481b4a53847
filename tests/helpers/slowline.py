"""A line between an encoder and the relay that can be slowed down: forwards TCP at so many bytes a second.

What it does not forward waits in buffers of the usual size: with small ones the sender would stop for its probes of a
closed window, and the rate would be far below the one that was set.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from tests.helpers.listener import ThreadedListener

CHUNK_S = 0.02
MOST_LATE_S = 0.1
"""What the line makes up for after it was held up."""


class SlowLine(ThreadedListener):
    """Listens on a port of its own and forwards to *port*; `rate` may change at any time. 0: as fast as it goes."""

    def __init__(self, port: int) -> None:
        self.rate = 0.0
        self._to = port
        super().__init__()

    def _welcome(self, wire: socket.socket) -> None:
        far = socket.create_connection(("127.0.0.1", self._to))
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._keep(far)
        for source, sink, slow in ((wire, far, True), (far, wire, False)):
            threading.Thread(target=self._pump, args=(source, sink, slow), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, slow: bool) -> None:
        due = time.monotonic()
        with contextlib.suppress(OSError):
            while True:
                size = max(int(self.rate * CHUNK_S), 1) if slow and self.rate else 65536
                data = source.recv(size)
                if not data:
                    break
                sink.sendall(data)
                if slow and self.rate:
                    # By the clock, not by the sleep: on a busy machine each sleep lasts longer than it was meant to.
                    due = max(due, time.monotonic() - MOST_LATE_S) + len(data) / self.rate
                    time.sleep(max(due - time.monotonic(), 0.0))
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
