"""Our side of real sockets: a connection that a case drives, and a good publisher and player beside it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import ClassVar

from tests.spec import dialogue, wire
from tests.spec.model import Phase

Address = tuple[str, int]


def source_address(number: int) -> str:
    """A loopback address of its own for each connection, so that its log lines can be told from others'."""
    return f"127.{10 + number // 62_500}.{number // 250 % 250 + 1}.{number % 250 + 1}"


class SocketLink(dialogue.Link):
    """A connection over TCP. `listen` waits for at most *patience* seconds."""

    opened: ClassVar[list[SocketLink]] = []
    """Every link that was made; who made them may close them all."""

    def __init__(self, address: Address, source: str = "127.0.0.1", *, patience: float = 3.0, buffer: int = 0) -> None:
        super().__init__()
        self.source = source
        self.patience = patience
        self.reset = False
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.bind((source, 0))
        self.socket.settimeout(10)
        self.opened.append(self)
        self.socket.connect(address)

    def send(self, data: bytes, size: int = 0) -> None:
        view = memoryview(data)
        try:
            for start in range(0, len(view), size or max(len(view), 1)):
                if self.closed:
                    return
                self._push(view[start : start + size] if size else view)
        except OSError:
            self._drain()

    def _push(self, view: memoryview) -> None:
        """Send while listening, so that a server that answers a lot never blocks us."""
        until = time.monotonic() + 20
        while len(view) and not self.closed:
            self.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                view = view[self.socket.send(view) :]
                continue
            self._receive(0.01)
            assert time.monotonic() < until, "the server neither reads nor closes"

    def _drain(self) -> None:
        """After a failed send, read what the server said before it closed."""
        while not self.closed and self._receive(0.5):
            pass
        self.close()

    def rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.closed and (left := until - time.monotonic()) > 0:
            self._receive(left)

    def listen(self) -> bool:
        return not self.closed and self._receive(self.patience)

    def wait_closed(self, seconds: float) -> bool:
        """Listen until the server closes."""
        self.rest(seconds)
        return self.closed

    def _receive(self, seconds: float) -> bool:
        self.socket.settimeout(max(seconds, 0.001))
        try:
            data = self.socket.recv(1 << 18)
        except (TimeoutError, BlockingIOError):
            return False
        except OSError:
            self.reset = True
            self.close()
            return False
        if not data:
            self.close()
            return False
        self.heard += self.ear.hear(data)
        return True

    def abort(self) -> None:
        """Close with RST."""
        if not self.closed:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close with FIN."""
        self.socket.close()
        self.closed = True


class Viewer:
    """A player that reads all the time, in a thread, and keeps what it got."""

    def __init__(self, address: Address, stream: str, *, patience: float = 5.0) -> None:
        until = time.monotonic() + patience
        while True:
            self.link = SocketLink(address)
            try:
                dialogue.reach(self.link, Phase.PLAY, stream=stream)
                break
            except dialogue.StuckError:
                self.link.close()
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
        self.media: list[tuple[int, int, bytes]] = []
        self.arrivals: list[float] = []
        """When each of *media* arrived."""
        self.ended = False
        self._stop = False
        self._take()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop and not self.link.closed:
            if self.link._receive(0.1):
                self._take()
        self.ended = True

    def _take(self) -> None:
        now = time.monotonic()
        for heard in self.link.heard:
            if heard.type_id in (wire.AUDIO, wire.VIDEO, wire.DATA):
                self.arrivals.append(now)
                self.media.append((heard.type_id, heard.timestamp, heard.body))
        self.link.heard.clear()

    def wait_for(self, body: bytes, seconds: float = 3.0) -> bool:
        """Wait until *body* has arrived."""
        until = time.monotonic() + seconds
        while not any(body == have for _, _, have in list(self.media)):
            if time.monotonic() > until or self.ended:
                return any(body == have for _, _, have in list(self.media))
            time.sleep(0.005)
        return True

    def close(self) -> None:
        """Leave."""
        self._stop = True
        self._thread.join(5)
        self.link.close()


class Witness:
    """A good publisher and its player. Pictures are numbered; `check` says whether one was lost or late."""

    PERIOD = 0.02

    def __init__(self, address: Address, key: str, stream: str) -> None:
        self.publisher = SocketLink(address, patience=10)
        dialogue.reach(self.publisher, Phase.PUBLISH, key=key)
        self.publisher.send(wire.opening())
        self.sent = 0
        self.sent_at: dict[int, float] = {}
        self.late_by = 0.0
        self._stop = False
        self._thread = threading.Thread(target=self._publish, daemon=True)
        self._thread.start()
        self.viewer = Viewer(address, stream)
        self._next: int | None = None

    def _publish(self) -> None:
        began = time.monotonic()
        while not self._stop and not self.publisher.closed:
            self.sent += 1
            tag = struct.pack(">I", self.sent)
            stamp = self.sent * 20
            self.sent_at[self.sent] = time.monotonic()
            self.publisher.send(
                wire.video(wire.picture(tag, key=self.sent % 50 == 0), stamp) + wire.audio(wire.sound(tag), stamp)
            )
            self.publisher.rest(max(began + self.sent * self.PERIOD - time.monotonic(), 0.001))

    def check(self) -> str:
        """Return what is wrong with what the player got so far, or nothing."""
        target = self.sent
        until = time.monotonic() + 3
        while time.monotonic() < until:
            fault = self._read_numbers()
            if fault or (self._next or 0) > target:
                return fault
            if self.publisher.closed or self.viewer.ended:
                return "the good publisher or player was cut off"
            time.sleep(0.005)
        return f"the good player has not got picture {target} after 3 s"

    def _read_numbers(self) -> str:
        media, arrivals = self.viewer.media, self.viewer.arrivals
        seen = len(media)
        for (kind, _, body), arrived in zip(media[:seen], arrivals[:seen], strict=True):
            if kind != wire.VIDEO or len(body) != len(wire.picture(b"1234")):
                continue
            number = int.from_bytes(body[-4:], "big")
            if self._next not in (None, number):
                return f"the good player got picture {number} instead of {self._next}"
            self._next = number + 1
            self.late_by = max(self.late_by, arrived - self.sent_at.pop(number, arrived))
        del media[:seen], arrivals[:seen]
        return ""

    def close(self) -> None:
        """Stop both."""
        self._stop = True
        self._thread.join(5)
        self.publisher.close()
        self.viewer.close()
