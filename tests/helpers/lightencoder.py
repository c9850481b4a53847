"""Publishes a numbered programme over RTMP, as a process of its own that can be killed, stopped and unplugged.

    python -m tests.helpers.lightencoder --url rtmp://127.0.0.1:PORT/live/KEY --file A.flv --maker A --epoch SECONDS

Blocking sockets and no reactor: it starts in a fifth of a second. It begins at its next keyframe. With ``--delay`` its
line is so much slower, with ``--skew`` its sound so much later; with ``--clock`` its timestamps begin there. After
SIGUSR1 it sends no sound any more, after SIGUSR2 no pictures. It prints its own port, then the moment at which its
first keyframe left.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

from relay.rtmp.client import ClientConnection
from relay.rtmp.events import PublishAccepted
from relay.secret import Secret
from tests.helpers.programme import PICTURES, TURN_S, Programme, load, numbered

ANSWER_S = 5.0


def connect(url: str) -> tuple[socket.socket, ClientConnection]:
    """Connect and publish; return once the server has granted it."""
    parts = urlsplit(url)
    app, _, key = parts.path.strip("/").partition("/")
    rtmp = ClientConnection(
        role="publish", app=app, tc_url=Secret(url.rpartition("/")[0]), name=Secret(key), random=os.urandom
    )
    wire = socket.create_connection((parts.hostname or "", parts.port or 1935), ANSWER_S)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    rtmp.start()
    granted = False
    while not granted:
        wire.sendall(rtmp.data_to_send())
        data = wire.recv(65536)
        if not data:
            raise SystemExit("the server closed the connection")
        granted = any(isinstance(event, PublishAccepted) for event in rtmp.receive_data(data, time.monotonic()))
    wire.sendall(rtmp.data_to_send())
    return wire, rtmp


class Sender:
    """Sends a programme in its time."""

    def __init__(self, programme: Programme, maker: str, epoch: float, *, delay_s: float, skew_ms: int, clock: int):
        self.programme = programme
        self.maker = maker
        self.start = epoch + programme.shift / 30 + delay_s
        self.skew_ms = skew_ms
        self.clock = clock
        self.began = False
        self.left_out: set[int] = set()
        signal.signal(signal.SIGUSR1, lambda *_: self.left_out.add(8))
        signal.signal(signal.SIGUSR2, lambda *_: self.left_out.add(9))

    def run(self, wire: socket.socket, rtmp: ClientConnection) -> None:
        """Send until the connection breaks."""
        send = wire.sendall
        send(rtmp.send_media(9, self.clock, self.programme.video_header))
        send(rtmp.send_media(8, self.clock, self.programme.audio_header))
        units = self.programme.units
        turn, at = divmod((time.monotonic() - self.start) * 1000, TURN_S * 1000)
        index = next((n for n, unit in enumerate(units) if unit.due_ms >= at and unit.keyframe), 0)
        if index == 0:
            turn += 1
        zero = turn * TURN_S * 1000 + units[index].due_ms
        while True:
            unit = units[index]
            due_ms = turn * TURN_S * 1000 + unit.due_ms
            wait = self.start + due_ms / 1000 - time.monotonic()
            if wait > 0:
                self._listen(wire, rtmp, wait)
            body, skew = unit.body, 0
            if unit.kind == 9:
                body = numbered(body, self.maker, int(turn) * PICTURES + unit.number + self.programme.shift)
            else:
                skew = self.skew_ms
            if unit.kind not in self.left_out:
                send(rtmp.send_media(unit.kind, (self.clock + max(round(due_ms - zero) + skew, 0)) % 2**32, body))
            if not self.began:
                self.began = True
                print("began", time.monotonic(), flush=True)  # noqa: T201 - what its parent waits for
            index += 1
            if index == len(units):
                index, turn = 0, turn + 1

    def _listen(self, wire: socket.socket, rtmp: ClientConnection, seconds: float) -> None:
        """Sleep; now and then read what the server says, so that its acknowledgements do not pile up."""
        time.sleep(seconds)
        with contextlib.suppress(BlockingIOError):
            data = wire.recv(65536, socket.MSG_DONTWAIT)
            if not data:
                raise SystemExit("the server closed the connection")
            rtmp.receive_data(data, time.monotonic())
            wire.sendall(rtmp.data_to_send())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--maker", default="A")
    parser.add_argument("--shift", type=int, default=0)
    parser.add_argument("--epoch", type=float, required=True)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--skew", type=int, default=0)
    parser.add_argument("--clock", type=int, default=0)
    options = parser.parse_args()
    programme = load(options.file, shift=options.shift)
    sender = Sender(
        programme, options.maker, options.epoch, delay_s=options.delay, skew_ms=options.skew, clock=options.clock
    )
    try:
        wire, rtmp = connect(options.url)
        wire.settimeout(None)
        print("port", wire.getsockname()[1], flush=True)  # noqa: T201
        sender.run(wire, rtmp)
    except OSError as error:
        raise SystemExit(f"the connection broke: {error}") from None


if __name__ == "__main__":
    main()
