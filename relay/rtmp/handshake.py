"""The RTMP handshake, plain and with digests, as server and as client (RTMP 1.0 §5.2; the digest form is Adobe's).

The rule: what the peer's 1536 bytes hold never decides whether we go on. They are random by design; a digest only
chooses how we answer. Our times in C1 and S1 are zero, which the specification allows.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import NamedTuple

from relay.rtmp.errors import LocalProtocolError, RemoteProtocolError
from relay.rtmp.sniff import Protocol, refusal, sniff

SIZE = 1536
"""Bytes of C1, C2, S1 and S2 each."""

_VERSION = b"\x03"
_DIGEST = 32
_PLAIN = bytes(8)
"""Time and version of a plain C1 or S1. The version must be zero: from 3 on, `ffmpeg -i` demands a digest."""
_SERVER_DIGEST = b"\x00\x00\x00\x00\x0d\x0e\x0a\x0d"
"""Time 0 and the version that nginx-rtmp sends."""
_CLIENT_DIGEST = b"\x00\x00\x00\x00\x09\x00\x7c\x02"
"""Time 0 and the Flash version that FFmpeg sends."""

_TAIL = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")
_CLIENT_NAME = b"Genuine Adobe Flash Player 001"
_SERVER_NAME = b"Genuine Adobe Flash Media Server 001"
_CLIENT_KEY = _CLIENT_NAME + _TAIL
_SERVER_KEY = _SERVER_NAME + _TAIL

_BASES = (772, 8)
"""Where the four offset bytes lie; tried in the order of FFmpeg and nginx-rtmp."""
_CLIENT_BASE = 8
"""The layout we sign C1 with: FFmpeg's, and the one that FMS wants."""


class Digest(NamedTuple):
    """A digest found in C1 or S1, and the layout that it was found with."""

    base: int
    value: bytes


def find_digest(block: bytes, key: bytes) -> Digest | None:
    """Return the digest in *block* when one of the two layouts validates with *key*."""
    for base in _BASES:
        start = _digest_start(block, base)
        value = block[start : start + _DIGEST]
        if hmac.compare_digest(value, _sign_around(block, start, key)):
            return Digest(base, value)
    return None


def embed_digest(block: bytes, key: bytes, base: int) -> bytes:
    """Return *block* with its digest in the layout *base*."""
    start = _digest_start(block, base)
    return block[:start] + _sign_around(block, start, key) + block[start + _DIGEST :]


def answer_digest(random: bytes, key: bytes, digest: bytes) -> bytes:
    """Return S2 or C2: 1504 random bytes, signed with a key made from the peer's digest."""
    return random + hmac.digest(hmac.digest(key, digest, "sha256"), random, "sha256")


def _digest_start(block: bytes, base: int) -> int:
    return sum(block[base : base + 4]) % 728 + base + 4


def _sign_around(block: bytes, start: int, key: bytes) -> bytes:
    return hmac.digest(key, block[:start] + block[start + _DIGEST :], "sha256")


class _Handshake:
    """What both sides share: gathering blocks of known size, and what remains after the last."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._buffer = bytearray()
        self.done = False
        self.digest = False

    @property
    def leftover(self) -> bytes:
        """What the peer sent after its handshake; complete once `done` is true."""
        return bytes(self._buffer) if self.done else b""

    def _gather(self, data: bytes) -> None:
        if self.done:
            raise LocalProtocolError("the handshake is over")
        self._buffer += data

    def _take(self, size: int) -> bytes | None:
        if len(self._buffer) < size:
            return None
        block = bytes(self._buffer[:size])
        del self._buffer[:size]
        return block


class ServerHandshake(_Handshake):
    """The server's side: C0 C1 in, S0 S1 S2 out in one piece, C2 in, done.

    Attributes:
        done: C2 is in; the rest of the connection is chunks.
        digest: the peer sent a valid digest and got one.
        c2_echoed: C2 repeats the random bytes of S1. Encoders that do not are served all the same.
    """

    def __init__(self, random: Callable[[int], bytes]) -> None:
        super().__init__(random)
        self._s1 = b""
        self.c2_echoed = False

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the peer and return the bytes to send.

        Raises:
            RemoteProtocolError: the first bytes are not RTMP (see `relay.rtmp.sniff`).
        """
        self._gather(data)
        answer = b""
        if not self._s1:
            protocol = sniff(self._buffer)
            if protocol is not Protocol.RTMP:
                if protocol is None:
                    return b""
                raise refusal(protocol, self._buffer)
            first = self._take(1 + SIZE)
            if first is None:
                return b""
            answer = self._answer(first[1:])
        c2 = self._take(SIZE)
        if c2 is not None:
            self.c2_echoed = c2[8:] == self._s1[8:]
            self.done = True
        return answer

    def _answer(self, c1: bytes) -> bytes:
        """Return S0 S1 S2. FFmpeg and librtmp read all three before they send C2."""
        found = find_digest(c1, _CLIENT_NAME) if c1[4:8] != b"\x00\x00\x00\x00" else None
        if found is None:
            self._s1 = _PLAIN + self._random(SIZE - 8)
            s2 = c1  # an exact echo: Streamlabs refuses anything else
        else:
            self.digest = True
            self._s1 = embed_digest(_SERVER_DIGEST + self._random(SIZE - 8), _SERVER_NAME, found.base)
            s2 = answer_digest(self._random(SIZE - _DIGEST), _SERVER_KEY, found.value)
        return _VERSION + self._s1 + s2


class ClientHandshake(_Handshake):
    """The client's side: C0 C1 out, S0 S1 in, C2 out at once (some servers hold S2 back until then), S2 in, done.

    Attributes:
        done: S2 is in.
        digest: the server's S1 holds a valid digest.
    """

    def __init__(self, random: Callable[[int], bytes], *, digest: bool = False) -> None:
        super().__init__(random)
        self._want_digest = digest
        self._c1 = b""
        self._s1 = b""

    def start(self) -> bytes:
        """Return C0 and C1, to be sent when the connection is up."""
        if self._c1:
            raise LocalProtocolError("the handshake has started")
        if self._want_digest:
            self._c1 = embed_digest(_CLIENT_DIGEST + self._random(SIZE - 8), _CLIENT_NAME, _CLIENT_BASE)
        else:
            self._c1 = _PLAIN + self._random(SIZE - 8)
        return _VERSION + self._c1

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the server and return the bytes to send.

        Raises:
            RemoteProtocolError: the server does not speak plain RTMP.
        """
        self._gather(data)
        answer = b""
        if not self._s1:
            if self._buffer and self._buffer[:1] != _VERSION:
                raise _not_a_server(self._buffer[0])
            first = self._take(1 + SIZE)
            if first is None:
                return b""
            self._s1 = first[1:]
            answer = self._answer(self._s1)
        if self._take(SIZE) is not None:  # any S2 will do
            self.done = True
        return answer

    def _answer(self, s1: bytes) -> bytes:
        """Return C2."""
        found = find_digest(s1, _SERVER_NAME) if self._want_digest else None
        if found is None:
            return s1
        self.digest = True
        return answer_digest(self._random(SIZE - _DIGEST), _CLIENT_KEY, found.value)


def _not_a_server(first: int) -> RemoteProtocolError:
    if first == ord("H"):
        return RemoteProtocolError(Protocol.HTTP.value, "an HTTP server answered")
    if first in (0x15, 0x16):
        return RemoteProtocolError(Protocol.TLS.value, "a TLS server answered: use rtmps://")
    return RemoteProtocolError(Protocol.UNKNOWN.value, f"the server answered with version {first}")
