"""A listener of threads and plain sockets, for tests that run beside a relay in a process of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self


class ThreadedListener:
    """Listens on a port of its own until it is closed, and gives every connection to `_welcome`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._wires: list[socket.socket] = []
        self._closed = False
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut everything; who comes now is not heard any more."""
        self._closed = True
        self._listener.close()
        with self._lock:
            for wire in self._wires:
                with contextlib.suppress(OSError):
                    wire.shutdown(socket.SHUT_RDWR)
                wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                wire, _ = self._listener.accept()
                if self._closed:
                    wire.close()
                    return
                self._keep(wire)
                self._welcome(wire)

    def _keep(self, wire: socket.socket) -> None:
        """Let *wire* be cut with the rest."""
        with self._lock:
            self._wires.append(wire)

    def _welcome(self, wire: socket.socket) -> None:
        """Begin to serve a connection, in threads of its own."""
        raise NotImplementedError
