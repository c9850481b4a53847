"""Cases 1-14: the handshake, and other protocols on the port."""

from __future__ import annotations

import random

from tests.spec.model import ANY_PROTOCOL_ERROR, BYTES, WHOLE, Case, Phase, Wait, closed, continues
from tests.spec.wire import FFMPEG_C1, KEY, c1, connect, create_stream, handshake, publish

NOTHING = Phase.NOTHING

TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(32)) + bytes(170)
PROXY_V1 = b"PROXY TCP4 203.0.113.7 203.0.113.8 56324 1935\r\n"
PROXY_V2 = bytes.fromhex("0d0a0d0a000d0a515549540a2111000c") + bytes([203, 0, 113, 7, 203, 0, 113, 8, 0xDC, 4, 7, 0x8F])


def garbage(seed: int) -> bytes:
    """A handshake of random bytes with random bytes after it."""
    source = random.Random(seed)
    return b"\x03" + source.randbytes(1536) + source.randbytes(1536) + source.randbytes(200_000)


def digest_at(sum_of_offset_bytes: int, base: int) -> bytes:
    """A C1 that claims the digest form, with a digest offset of this many and no digest there."""
    block = bytearray(c1(b"\x80\0\7\2"))
    rest = sum_of_offset_bytes
    for index in range(base, base + 4):
        block[index] = min(rest, 255)
        rest -= block[index]
    return bytes(block)


CASES = [
    Case(
        number=1,
        name="silence",
        title="connects and says nothing",
        after=NOTHING,
        send=b"",
        expect=closed("hs.timeout"),
        seconds=4,
        sansio=False,
        deliveries=(WHOLE,),
    ),
    Case(
        number=2,
        name="slow-c0c1",
        title="C0 and C1 in drops: the limit counts from the start and is never reset",
        after=NOTHING,
        send=[piece for byte in (b"\x03" + c1())[:60] for piece in (bytes([byte]), Wait(0.1))],
        expect=closed("hs.timeout"),
        seconds=4,
        sansio=False,
        deliveries=(WHOLE,),
    ),
    Case(
        number=3,
        name="no-c2",
        title="C0 and C1, then nothing",
        after=NOTHING,
        send=b"\x03" + c1(),
        expect=closed("hs.timeout"),
        seconds=4,
        sansio=False,
        deliveries=(WHOLE,),
    ),
    *(
        Case(
            number=4,
            name=f"version-{version}",
            title="a version of RTMP that nobody speaks",
            after=NOTHING,
            send=handshake(version),
            expect=closed("hs.version") | continues() if 3 < version < 32 else closed("hs.version"),
            leaves=Phase.HANDSHAKE,
        )
        for version in (0, 1, 2, 4, 5, 31, 32, 127, 255)
    ),
    *(
        Case(
            number=5,
            name=f"rtmpe-{version}",
            title="RTMPE: refused before any cryptography starts",
            after=NOTHING,
            send=handshake(version),
            expect=closed("hs.rtmpe_unsupported"),
        )
        for version in (6, 8, 9)
    ),
    *(
        Case(
            number=6,
            name=f"http-{line.split()[0].decode().lower()}",
            title="HTTP on the RTMP port",
            after=NOTHING,
            send=line + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            expect=closed("hs.http_on_rtmp"),
            max_reply=1024,
        )
        for line in (b"GET /", b"HEAD /", b"POST /form", b"OPTIONS *", b"CONNECT a:1")
    ),
    *(
        Case(
            number=6,
            name=name,
            title="RTMP tunnelled in HTTP is recognised, and not hung up on silently",
            after=NOTHING,
            send=line + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n\0",
            expect=closed("hs.rtmpt_unsupported", "hs.http_on_rtmp"),
            max_reply=1024,
        )
        for name, line in (("rtmpt-open", b"POST /open/1"), ("rtmpt-ident", b"POST /fcs/ident2"))
    ),
    Case(
        number=7,
        name="tls-hello",
        title="a TLS ClientHello on the plain port",
        after=NOTHING,
        send=TLS_HELLO,
        expect=closed("hs.tls_on_rtmp"),
    ),
    *(
        Case(
            number=9,
            name=f"random-{seed}",
            title="random C1 is good, random chunks are not",
            after=NOTHING,
            send=lambda seed=seed: garbage(seed),  # type: ignore[misc]
            expect=closed(*ANY_PROTOCOL_ERROR),
            deliveries=(WHOLE,),
        )
        for seed in range(12)
    ),
    Case(
        number=10,
        name="digest-valid",
        title="the digest form, valid (what FFmpeg sends)",
        after=NOTHING,
        send=handshake(first=FFMPEG_C1),
        expect=continues(),
        leaves=Phase.HANDSHAKE,
    ),
    Case(
        number=10,
        name="digest-broken",
        title="the digest form with one wrong bit falls back to the plain form",
        after=NOTHING,
        send=handshake(first=FFMPEG_C1[:700] + bytes([FFMPEG_C1[700] ^ 1]) + FFMPEG_C1[701:]),
        expect=continues(),
        leaves=Phase.HANDSHAKE,
    ),
    *(
        Case(
            number=10,
            name=f"digest-base-{base}-offset-{total}",
            title="the digest form claims an offset and nothing is there",
            after=NOTHING,
            send=handshake(first=digest_at(total, base)),
            expect=continues(),
            leaves=Phase.HANDSHAKE,
            deliveries=(WHOLE,),
        )
        for base in (8, 772)
        for total in (0, 727, 728, 1019, 1020)
    ),
    Case(
        number=11,
        name="c2-echoes-nothing",
        title="C2 is not a copy of S1; many encoders do that",
        after=NOTHING,
        send=b"\x03" + c1() + b"\x77" * 1536,
        expect=continues(),
        leaves=Phase.HANDSHAKE,
    ),
    Case(
        number=12,
        name="all-at-once",
        title="handshake, connect, createStream and publish in one segment",
        after=NOTHING,
        send=handshake() + connect() + create_stream() + publish(KEY),
        expect=continues(),
        leaves=Phase.PUBLISH,
    ),
    *(
        Case(
            number=14,
            name=name,
            title="a PROXY header nobody asked for must not pass as the peer's address",
            after=NOTHING,
            send=header + handshake(),
            expect=closed("hs.proxy"),
            deliveries=(WHOLE, BYTES),
        )
        for name, header in (("proxy-v1", PROXY_V1), ("proxy-v2", PROXY_V2), ("proxy-v1-cut", b"PROXY "))
    ),
]
