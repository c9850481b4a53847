"""Generators that know the formats: chunks, AMF, media bodies, commands, configuration text and addresses.

They write valid forms most of the time and lie in one place, which is what blind bytes never manage: a length, a
count, a depth, a reference, an order.
"""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from random import Random

from relay.media import flvfile
from tests.fuzz.mutate import EDGES, damage
from tests.rtmp.reference_chunks import Outgoing, Writer
from tests.spec import wire

CORPUS = Path(__file__).parents[1] / "corpus"
ROOT = Path(__file__).parents[2]
TIMES = (0, 1, 20, 999, 1000, 1001, 0xFFFFFE, 0xFFFFFF, 0x1000000, 2**31 - 1, 2**31, 2**32 - 20, 2**32 - 1)
TYPES = (8, 8, 9, 9, 9, 9, 18, 20, 20, 22, 15, 17, 1, 2, 3, 4, 5, 6, 0, 7, 16, 32, 255)
CSIDS = (2, 3, 4, 6, 6, 6, 63, 64, 319, 320, 65599)


# --- AMF -----------------------------------------------------------------------------------------------------------


def amf0(dice: Random, depth: int = 0) -> bytes:
    """One AMF0 value, perhaps with a lie in it."""
    shape = dice.randrange(10 if depth > 4 else 15)
    match shape:
        case 0 | 1:
            return b"\0" + dice.choice((struct.pack(">d", dice.choice((0, 1, -1, 2.5, 1e300))), b"\x7f\xf8" + bytes(6)))
        case 2:
            return bytes([1, dice.randrange(3)])
        case 3 | 4:
            text = dice.choice((b"", b"app", b"live", b"\xff\xfe", b"k" * 300, b"a\0b", "\u202e".encode()))
            length = dice.choice(EDGES) if not dice.randrange(12) else len(text)
            return b"\2" + struct.pack(">H", length & 0xFFFF) + text
        case 5:
            return b"\x0c" + struct.pack(">I", dice.choice((3, 3, 0, *EDGES))) + b"abc"
        case 6:
            return bytes([dice.choice((5, 6, 0x0D, 9, 4, 0x0E, 0x12, 0xFF))])
        case 7:
            return b"\7" + struct.pack(">H", dice.choice((0, 1, 2, 3, 0xFFFF)))
        case 8:
            return b"\x0b" + dice.randbytes(10)
        case 9:
            return b"\x11" + amf3(dice, depth + 1)
        case 10 | 11:
            return dice.choice((b"\3", b"\x08" + struct.pack(">I", dice.choice(EDGES)), b"\x10\0\1C")) + _pairs(
                dice, depth
            )
        case 12:
            items = [amf0(dice, depth + 1) for _ in range(dice.randrange(4))]
            count = dice.choice(EDGES) if not dice.randrange(6) else len(items)
            return b"\x0a" + struct.pack(">I", count) + b"".join(items)
        case 13:
            return b"\x0a\0\0\0\1" * dice.choice((3, 31, 32, 33, 400)) + b"\5"
        case _:  # references to the one before: doubling
            return b"\x0a\0\0\0\1\5" + b"".join(
                b"\x0a\0\0\0\2\7" + struct.pack(">H", index) + b"\7" + struct.pack(">H", index)
                for index in range(dice.choice((2, 12, 40)))
            )


def _pairs(dice: Random, depth: int) -> bytes:
    keys = (b"app", b"tcUrl", b"", b"x", b"objectEncoding", b"fourCcList", b"capsEx", b"width", b"n" * 70)
    inside = b"".join(wire.utf8(dice.choice(keys)) + amf0(dice, depth + 1) for _ in range(dice.randrange(5)))
    return inside + dice.choice((b"\0\0\x09", b"\0\0\x09", b"\0\0\x09", b"", b"\0\0", b"\0\x09"))


def amf3(dice: Random, depth: int = 0) -> bytes:
    """One AMF3 value, perhaps with a lie in it."""
    u29 = dice.choice((b"\0", b"\1", b"\2", b"\3", b"\5", b"\x07", b"\x7f", b"\xff\x7f", b"\xbf\xff\xff\xff", b"\xff"))
    match dice.randrange(6 if depth > 4 else 10):
        case 0:
            return bytes([dice.randrange(0x14)])
        case 1:
            return b"\4" + u29
        case 2:
            return b"\5" + dice.randbytes(dice.choice((8, 8, 3)))
        case 3:
            return b"\6" + dice.choice((b"\7abc", b"\1", u29))
        case 4:
            return bytes([dice.choice((7, 8, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x10, 0x11))]) + u29 + dice.randbytes(6)
        case 5:
            return bytes([dice.choice((9, 0x0A))]) + u29
        case 6 | 7:
            count = dice.randrange(4)
            items = b"".join(amf3(dice, depth + 1) for _ in range(count))
            return b"\x09" + bytes([count << 1 | 1]) + b"\1" + items
        case 8:
            return b"\x09\3\1" * dice.choice((3, 31, 32, 33, 400)) + b"\1"
        case _:
            names = [b"\3" + bytes([97 + index]) for index in range(dice.randrange(4))]
            traits = bytes([len(names) << 4 | dice.choice((3, 11))])
            values = b"".join(amf3(dice, depth + 1) for _ in names)
            return b"\x0a" + traits + b"\1" + b"".join(names) + values + dice.choice((b"\1", b"\3k\1\1", b""))


# --- chunks --------------------------------------------------------------------------------------------------------


def chunks(dice: Random, *, most: int = 14, sizes: tuple[int, ...] = (0, 1, 127, 128, 129, 300, 1000)) -> bytes:
    """Interleaved messages in any form, with changes of the chunk size and aborts in between."""
    writer = Writer(extended=dice.choice(("field", "field", "absolute", "nothing")))
    waiting: list[Outgoing] = []
    out = bytearray()
    for _ in range(dice.randint(1, most)):
        match dice.randrange(6):
            case 0 | 1:
                message = _outgoing(dice, sizes)
                if all(other.csid != message.csid for other in waiting):
                    waiting.append(message)
                    out += writer.chunk(message)
            case 2 if all(other.csid != 2 for other in waiting):
                size = dice.choice((1, 2, 5, 64, 128, 1000, 65536, 2**31 - 1, 0, 2**31))
                out += wire.set_chunk_size(size)  # shorter than any chunk size, except where it is cut
                writer.chunk_size = max(size, 1)
            case 3 if waiting:
                victim = waiting.pop(dice.randrange(len(waiting)))
                out += wire.control(wire.ABORT, victim.csid.to_bytes(4, "big"))
            case _ if waiting:
                message = dice.choice(waiting)
                out += writer.chunk(message)
        waiting = [message for message in waiting if message.sent < len(message.body)]
    return bytes(out)


def _outgoing(dice: Random, sizes: tuple[int, ...]) -> Outgoing:
    return Outgoing(
        csid=dice.choice(CSIDS),
        type_id=dice.choice(TYPES),
        timestamp=dice.choice(TIMES),
        msid=dice.choice((0, 1, 1, 2**32 - 1)),
        body=dice.choice((b"\0", b"\xc4", b"\xc6", b"\xff", b"\x17\1\0\0\0")) * dice.choice(sizes),
        fmt=dice.randrange(4),
        repeat_header=not dice.randrange(6),
    )


# --- what programs really sent -------------------------------------------------------------------------------------


@cache
def recordings() -> tuple[bytes, ...]:
    """What FFmpeg sends while it publishes: handshake and chunks, the beginnings."""
    return tuple(path.read_bytes()[:12_000] for path in sorted(CORPUS.glob("cap_*.c2s.bin")))


@cache
def bodies() -> tuple[tuple[int, bytes], ...]:
    """Message bodies of all codecs we know: (type, body)."""
    found: list[tuple[int, bytes]] = []
    for path in sorted(CORPUS.glob("ertmp_*.flv")):
        tags = flvfile.read(path.read_bytes())
        found += [(tag.type_id, tag.body[:3000]) for tag in tags[:12]]
    return tuple(found)


FOURCCS = (b"avc1", b"hvc1", b"av01", b"vp09", b"vp08", b"vvc1", b"Opus", b"mp4a", b"fLaC", b"ac-3", b"ec-3", b".mp3")

ENDLESS = (
    *(b"\0\0\0\1\x67", b"\0\0\1", b"\0\0\0\0", b"\0\0\0\2\x26\1", b"\x12\0", b"\x0a\x80", b"\x02\0\0\0\x07"),
    *(b"\0\0\7", b"\1\0\0\1x", b"avc1\1\0\0\1x", b"\xff\xf1\x50\x80\0\xff\xfc", b"\x20\xff\xff\0\0", b"\xff", b"\x80"),
)
"""Parts of which a message may hold as many as it likes."""


def body(dice: Random) -> tuple[int, bytes]:
    """A media message: a real one that was damaged near its front, one without end, or one of parts that lie."""
    if not dice.randrange(10):
        head = dice.choice(
            (b"\x17\0\0\0\0", b"\x17\1\0\0\0", *(bytes([0x90 | n]) + dice.choice(FOURCCS) for n in range(8)))
        )
        return dice.choice((8, 9, 9)), head + dice.choice(ENDLESS) * dice.choice((3, 300, 6000))
    if dice.randrange(3):
        kind, data = dice.choice(bodies())
        front = dice.choice((8, 40, 200, len(data)))
        return kind, damage(dice, data[:front], FOURCCS) + data[front:]
    kind = dice.choice((8, 9, 9))
    head = (
        bytes([0x80 | dice.choice((1, 2, 5)) << 4 | dice.randrange(16)])
        if kind == 9
        else bytes([0x90 | dice.randrange(16)])
    )
    parts = [
        dice.choice((b"", bytes([dice.randrange(256)]), dice.randbytes(3), b"\xff\xff", *FOURCCS)) for _ in range(6)
    ]
    return kind, head + b"".join(parts) + dice.choice(bodies())[1][5:80]


# --- conversations -------------------------------------------------------------------------------------------------

NAMES = (
    *("connect", "createStream", "publish", "play", "play2", "deleteStream", "closeStream", "FCUnpublish", "FCPublish"),
    *(
        "releaseStream",
        "pause",
        "seek",
        "receiveVideo",
        "getStreamLength",
        "_result",
        "_error",
        "onStatus",
        "close",
        "x",
    ),
)


def command(dice: Random) -> bytes:
    """A command of either side with arguments that fit, or do not."""
    name = dice.choice(NAMES)
    if dice.randrange(2):
        fitting: dict[str, bytes] = {
            "connect": wire.amf(1, wire.connect_object()),
            "createStream": wire.amf(2, None),
            "publish": wire.amf(3, None, wire.KEY, "live"),
            "play": wire.amf(4, None, wire.STREAM, -2000),
            "deleteStream": wire.amf(5, None, dice.choice((0, 1, 2, -1, 1e300))),
            "_result": wire.amf(
                dice.choice((1, 2, 4, 5)), None, dice.choice((1, 7, {"code": "NetConnection.Connect.Success"}))
            ),
            "onStatus": wire.amf(
                0, None, {"level": dice.choice(("status", "error")), "code": "NetStream.Publish.Start"}
            ),
        }
        arguments = fitting.get(name, wire.amf(dice.choice((0, 1, 6)), None, wire.KEY))
    else:
        arguments = b"".join(amf0(dice) for _ in range(dice.randrange(5)))
    kind = dice.choice((20, 20, 20, 17, 18))
    return wire.message(
        dice.choice((2, 3, 8)),
        kind,
        (b"\0" if kind == 17 else b"") + wire.amf(name) + arguments,
        msid=dice.choice((0, 1, 1, 2)),
    )


def conversation(dice: Random) -> bytes:
    """What a client says after its handshake: a way that leads somewhere, with other things in between."""
    way = [wire.connect(), wire.create_stream(), dice.choice((wire.publish(), wire.play())), wire.opening()]
    said = bytearray()
    for step in way:
        for _ in range(dice.choice((0, 0, 0, 1, 2))):
            kind, data = body(dice)
            said += dice.choice(
                (
                    command(dice),
                    wire.message(6, kind, data[:900], msid=1),
                    chunks(dice, most=4),
                    wire.user_control(6, b"\0\0\0\1"),
                )
            )
        if dice.randrange(12):
            said += step
    return damage(dice, bytes(said), most=2)


# --- text ----------------------------------------------------------------------------------------------------------


@cache
def sample_texts() -> tuple[str, ...]:
    """The configuration files that are shipped."""
    return tuple(path.read_text() for path in sorted((ROOT / "etc").glob("*.toml")))


TOML_TOKENS = tuple(
    token.encode()
    for token in (
        *(
            "[",
            "]",
            "[[",
            "]]",
            "=",
            '"',
            "'''",
            '"""',
            "{",
            "}",
            ",",
            "\n",
            "\r",
            "\0",
            "\ufeff",
            "\u202e",
            "#",
            "\\u0000",
        ),
        *(
            "true",
            "inf",
            "nan",
            "-1",
            "1e999",
            "9" * 5000,
            "1979-05-27",
            "0x",
            "10s",
            "[streams]",
            "[limits]\n",
            "a.b.c = 1\n",
        ),
        *(
            '"*"',
            '[streams.""]',
            "[http]\nlisten = 7\n",
            "{ env = 1 }",
            "{ file = [] }",
            "[[listen]]\nurl = []\n",
            "[" * 1200,
        ),
    )
)


def toml(dice: Random) -> bytes:
    """A configuration in which lines moved and tokens stand where they should not."""
    lines = dice.choice(sample_texts()).split("\n")
    start = dice.randrange(len(lines))
    lines = lines[start : start + dice.choice((5, 20, 200))]
    for _ in range(dice.randrange(3)):
        a, b = dice.randrange(len(lines)), dice.randrange(len(lines))
        lines[a], lines[b] = lines[b], dice.choice((lines[a], lines[a].lstrip("# ")))
    return damage(dice, "\n".join(lines).encode(), TOML_TOKENS, most=3)
