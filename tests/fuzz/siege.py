"""Enemies on real sockets: `python -m tests.fuzz.siege HOST RTMP RTMPS HTTP EVIL SECONDS SEED`.

Each enemy is one short connection from an address of its own. What it says comes from the grammars of the fuzz
targets, so most of it gets somewhere before it lies. EVIL is a port on which a server for pushes is to listen that
answers in the same manner.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable
from random import Random

from tests.fuzz import grammar
from tests.fuzz.mutate import damage, pieces
from tests.spec import wire

HEALTHY_KEY, HEALTHY = "siege-healthy-key-1", "healthy"
"""The stream that must not notice; enemies may know its name, and try its key."""

PATHS = (
    *("/", "/healthz", "/metrics", "/api/v1/streams", f"/api/v1/streams/{HEALTHY}", "/api/v1/openapi.json"),
    *("/../etc/passwd", "/%2e%2e/x", "//", "/api/v1/streams/%00", "/hls/x/y.m3u8", "/" + "a" * 9000, "*", "http://x/"),
    *(f"/api/v1/streams/{HEALTHY}/switch", f"/api/v1/streams/{HEALTHY}/targets/x", "/api/v1/streams/%F0%9F%92%A9"),
)
SMUGGLED = (
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: 3\r\nContent-Length: 4\r\n",
    b"Transfer-Encoding: \x0bchunked\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Range: bytes=" + b"0-," * 2000 + b"0-\r\n",
    b"X: " + b"y" * 40_000 + b"\r\n",
    b"Expect: 100-continue\r\n",
    b" folded: x\r\n",
    b"Host: a\r\nHost: b\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n",
    b"",
)


class Enemy:
    """Knows the ports; every method is one attack."""

    def __init__(self, host: str, rtmp: int, rtmps: int, http: int, seed: int) -> None:
        self.host, self.rtmp, self.rtmps, self.http = host, rtmp, rtmps, http
        self.dice = Random(seed)
        self.kinds: tuple[Callable[[], None], ...] = (
            *(self.damaged_recording, self.conversation, self.conversation, self.over_tls, self.tls_garbage),
            *(self.http_request, self.http_request, self.slow_http, self.crowd, self.lazy_player, self.partials),
            *(self.pretender, self.dust),
        )

    def connect(self, port: int, buffer: int = 0) -> socket.socket:
        end = socket.socket()
        if buffer:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        end.settimeout(1)
        end.bind((f"127.{self.dice.randint(64, 127)}.{self.dice.randint(1, 250)}.{self.dice.randint(1, 250)}", 0))
        end.connect((self.host, port))
        return end

    def say(self, end: socket.socket, data: bytes, most: int = 8) -> None:
        """Send *data* in pieces, listen a little, and leave in one of three ways."""
        for piece in pieces(self.dice, data, most):
            end.sendall(piece)
            if not self.dice.randrange(3):
                time.sleep(0.005)
        end.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            while end.recv(1 << 16) and self.dice.randrange(8):
                pass
        if not self.dice.randrange(3):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def damaged_recording(self) -> None:
        with self.connect(self.rtmp) as end:
            self.say(end, damage(self.dice, self.dice.choice(grammar.recordings()), most=6))

    def conversation(self) -> None:
        with self.connect(self.rtmp) as end:
            self.say(end, wire.handshake() + grammar.conversation(self.dice) + grammar.conversation(self.dice)[:500])

    def over_tls(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with self.connect(self.rtmps) as plain, context.wrap_socket(plain) as end:
            self.say(end, wire.handshake() + grammar.conversation(self.dice))

    def tls_garbage(self) -> None:
        hello = bytes.fromhex("16030100c8010000c40303") + self.dice.randbytes(200)
        with self.connect(self.dice.choice((self.rtmps, self.rtmp))) as end:
            self.say(end, damage(self.dice, hello, most=4) + self.dice.randbytes(self.dice.choice((0, 20_000))))

    def http_request(self) -> None:
        method = self.dice.choice((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"G\0T"))
        head = b"%s %s HTTP/1.%d\r\nHost: %s\r\nContent-Type: application/json\r\n%s\r\n" % (
            method,
            self.dice.choice(PATHS).encode(),
            self.dice.randrange(2),
            self.dice.choice((b"127.0.0.1", b"evil.example", b"[", b"localhost")),
            self.dice.choice(SMUGGLED),
        )
        body = self.dice.choice(
            (b"", b"5\r\nhello\r\n0\r\n\r\n", b'{"feed": "x"}', b"[" * 5000, b"GET / HTTP/1.1\r\n\r\n")
        )
        with self.connect(self.http) as end:
            self.say(end, damage(self.dice, head, most=1) + body)

    def slow_http(self) -> None:
        with self.connect(self.http) as end:
            for byte in b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: yyyyyyyyyyyyyy"[: self.dice.randint(1, 50)]:
                end.sendall(bytes([byte]))
                time.sleep(0.01)

    def crowd(self) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(30):
                end = stack.enter_context(self.connect(self.dice.choice((self.rtmp, self.rtmps, self.http))))
                end.sendall(self.dice.choice((b"", b"\3", b"\3" + wire.c1()[:900], wire.handshake())))
            time.sleep(0.1)

    def lazy_player(self) -> None:
        with self.connect(self.rtmp, 4096) as end:
            end.sendall(wire.handshake() + wire.connect() + wire.create_stream() + wire.play(HEALTHY))
            time.sleep(self.dice.choice((0.01, 0.3)))
            end.sendall(b"".join(grammar.command(self.dice) for _ in range(6)))

    def partials(self) -> None:
        with self.connect(self.rtmp) as end:
            said = (
                wire.handshake() + wire.connect() + wire.create_stream() + wire.publish() + wire.set_chunk_size(60_000)
            )
            heads = [wire.header(3 + index, 9, 400_000, msid=1) + bytes(60_000) for index in range(40)]
            self.say(end, said + b"".join(heads))

    def pretender(self) -> None:
        key = self.dice.choice((HEALTHY_KEY, HEALTHY_KEY[:-1], "x" * 400, HEALTHY, f"{HEALTHY}?key={HEALTHY_KEY}x"))
        with self.connect(self.rtmp) as end:
            self.say(end, wire.handshake() + wire.connect() + wire.create_stream() + wire.publish(key) + wire.opening())

    def dust(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        secure = bool(self.dice.randrange(2))
        with self.connect(self.rtmps if secure else self.rtmp) as plain:
            end = context.wrap_socket(plain) if secure else plain
            said = wire.handshake() + wire.connect() + wire.create_stream() + wire.publish() + wire.set_chunk_size(1)
            self.say(end, said + wire.message(6, 9, bytes(60_000), msid=1, chunk_size=1), 2)

    def fight(self, seconds: float) -> int:
        """Attack until the time is over; return how often."""
        until, fought = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                self.dice.choice(self.kinds)()
            fought += 1
        return fought


def evil_server(port: int, seed: int) -> None:
    """Take pushes, and answer them with what no honest server says."""
    dice = Random(seed)
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            end, _ = server.accept()
            with end, contextlib.suppress(OSError):
                end.settimeout(0.2)
                end.recv(1 << 16)
                way = [
                    wire.command("_result", 1, {}, {"code": "NetConnection.Connect.Success"}),
                    wire.command("_result", 4, None, 1),
                    wire.command("onStatus", 0, None, {"level": "status", "code": "NetStream.Publish.Start"}, msid=1),
                ]
                said = b"".join(step + grammar.command(dice) * dice.randrange(3) for step in way)
                end.sendall(b"\3" + wire.c1() * 2 + damage(dice, said, most=2) + grammar.chunks(dice))
                for _ in range(dice.randrange(20)):
                    end.recv(1 << 16)
                    end.sendall(dice.choice((wire.user_control(6, b"\0\0\0\1"), grammar.command(dice), b"")))


def main() -> None:
    """Run from the command line."""
    host, *numbers = sys.argv[1:]
    rtmp, rtmps, http, evil = map(int, numbers[:4])
    seconds, seed = float(numbers[4]), int(numbers[5])
    if evil:
        threading.Thread(target=evil_server, args=(evil, seed), daemon=True).start()
    fought: list[int] = []
    threads = [
        threading.Thread(
            target=lambda n=n: fought.append(Enemy(host, rtmp, rtmps, http, seed * 100 + n).fight(seconds))
        )  # type: ignore[misc]
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write(f"{sum(fought)}\n")


if __name__ == "__main__":
    main()
