"""A line between an encoder and the relay that can be slowed down: forwards TCP at so many bytes a second."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

CHUNK_S = 0.02


class SlowLine:
    """Listens on a port of its own and forwards to *port*; `rate` may change at any time. 0: as fast as it goes."""

    def __init__(self, port: int) -> None:
        self.rate = 0.0
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._wires: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut everything."""
        self._listener.close()
        for wire in self._wires:
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
            wire.close()

    def __enter__(self) -> SlowLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
                self._wires += [near, far]
                for source, sink, slow in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pump, args=(source, sink, slow), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, slow: bool) -> None:
        with contextlib.suppress(OSError):
            while True:
                size = max(int(self.rate * CHUNK_S), 1) if slow and self.rate else 65536
                data = source.recv(size)
                if not data:
                    break
                sink.sendall(data)
                if slow and self.rate:
                    time.sleep(len(data) / self.rate)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
