"""Cases 44-60: AMF0 and AMF3."""

from __future__ import annotations

import math
import struct

from tests.spec.model import ANY_PROTOCOL_ERROR, SEVENS, WHOLE, Case, Phase, closed, continues, refused
from tests.spec.wire import (
    COMMAND,
    DATA,
    METADATA,
    Ecma,
    Raw,
    amf,
    amf_object,
    command,
    connect,
    connect_object,
    create_stream,
    data,
    message,
    publish,
    utf8,
)

HANDSHAKE, CONNECT, LIVE = Phase.HANDSHAKE, Phase.CONNECT, Phase.LIVE
AMF_ERROR = closed("amf.*")

NUMBERS = {
    "nan": math.nan,
    "inf": math.inf,
    "minus-inf": -math.inf,
    "minus-zero": -0.0,
    "huge": 1e308,
    "denormal": 5e-324,
    "negative": -1.0,
    "fraction": 2.5,
}


def connecting(extra: bytes, *, end: bytes = b"\0\0\x09") -> bytes:
    """`connect` whose command object holds *extra* (an encoded value) in a property."""
    pairs = [*connect_object().items(), ("extra", Raw(extra))]
    return command("connect", 1, Raw(b"\x03" + amf_object(pairs, end)))


def connecting_with(command_object: bytes) -> bytes:
    """`connect` with this encoded command object."""
    return command("connect", 1, Raw(command_object))


def nested(depth: int, opener: bytes = b"\x0a\0\0\0\1") -> bytes:
    """Containers in containers."""
    return opener * depth + b"\x05"


def nested_objects(depth: int) -> bytes:
    """Objects in objects."""
    return b"\x03\0\1a" * depth + b"\x05" + b"\0\0\x09" * depth


CONNECT_BODY = amf("connect", 1, connect_object())

CASES = [
    *(
        Case(
            number=44,
            name=f"{name}-{depth}-deep",
            title="containers nested without end",
            after=phase,
            send=lambda depth=depth, shape=shape, phase=phase: (  # type: ignore[misc]
                connecting(shape(depth)) if phase is HANDSHAKE else command("foo", 0, Raw(shape(depth)))
            ),
            expect=closed("amf.depth"),
            deliveries=(WHOLE, SEVENS),
        )
        for name, shape in (("arrays", nested), ("objects", nested_objects))
        for phase, depth in ((HANDSHAKE, 40), (HANDSHAKE, 1100), (HANDSHAKE, 9000), (LIVE, 1100), (LIVE, 30_000))
    ),
    Case(
        number=44,
        name="arrays-1-mb",
        title="200,000 arrays in each other",
        after=LIVE,
        send=lambda: message(3, COMMAND, amf("foo", 0) + nested(200_000)),
        expect=closed("amf.depth", "msg.*", "limit.*"),
        deliveries=(WHOLE,),
    ),
    Case(
        number=44,
        name="arrays-in-metadata",
        title="1,100 arrays in each other inside onMetaData: it may be passed on unread, or be the end",
        after=LIVE,
        send=data(amf("@setDataFrame", "onMetaData", Raw(nested(1100)))),
        expect=closed("amf.*") | continues(),
    ),
    Case(
        number=44,
        name="arrays-20-deep",
        title="20 arrays in each other are within bounds",
        after=HANDSHAKE,
        send=connecting(nested(20)),
        expect=continues(),
        leaves=CONNECT,
    ),
    *(
        Case(
            number=45,
            name=f"strict-array-count-{count:x}",
            title="a strict array that claims more values than there are bytes",
            after=HANDSHAKE,
            send=connecting_with(b"\x0a" + struct.pack(">I", count) + tail),
            expect=closed("amf.count", "amf.truncated"),
            memory=4 * 1024 * 1024,
        )
        for count, tail in ((0xFFFFFFFF, b""), (0x7FFFFFFF, b"\x05"), (1_000_000, b"\x05" * 100), (3, b"\x05\x05"))
    ),
    *(
        Case(
            number=46,
            name=f"ecma-count-{count:x}",
            title="the count of an ECMA array is advice",
            after=HANDSHAKE,
            send=connecting_with(b"\x08" + struct.pack(">I", count) + amf_object(connect_object())),
            expect=continues(),
            leaves=CONNECT,
            memory=4 * 1024 * 1024,
        )
        for count in (0, 1, 1000, 0x7FFFFFFF, 0xFFFFFFFF)
    ),
    *(
        Case(
            number=46,
            name=f"metadata-ecma-count-{count:x}",
            title="the count of an ECMA array is advice",
            after=LIVE,
            send=data(
                amf("@setDataFrame", "onMetaData") + b"\x08" + struct.pack(">I", count) + amf_object({"width": 2.0})
            ),
            expect=continues(),
            memory=4 * 1024 * 1024,
        )
        for count in (0, 0xFFFFFFFF)
    ),
    Case(
        number=47,
        name="no-end-marker",
        title="the last object has no end marker (Envivio encoders): accepted, or closed as truncated",
        after=HANDSHAKE,
        send=connecting_with(b"\x03" + amf_object(connect_object(), end=b"")),
        expect=continues() | closed("amf.truncated"),
        leaves=CONNECT,
    ),
    Case(
        number=47,
        name="end-inside-value",
        title="the message ends inside a number",
        after=HANDSHAKE,
        send=connecting_with(b"\x03" + amf_object(connect_object(), end=b"\0\3abc\0\x40\x08")),
        expect=closed("amf.truncated"),
    ),
    Case(
        number=47,
        name="end-inside-key",
        title="the message ends inside a key",
        after=HANDSHAKE,
        send=connecting_with(b"\x03" + amf_object(connect_object(), end=b"\0\x09ab")),
        expect=closed("amf.truncated"),
    ),
    Case(
        number=47,
        name="end-marker-inside-key",
        title="a key that contains the end marker",
        after=HANDSHAKE,
        send=connecting_with(b"\x03" + amf_object([("a\0\0\x09", 1.0), *connect_object().items()])),
        expect=continues(),
        leaves=CONNECT,
    ),
    Case(
        number=47,
        name="empty-key",
        title="an empty key in front of a value",
        after=HANDSHAKE,
        send=connecting_with(b"\x03" + amf_object([("", 1.0), *connect_object().items()])),
        expect=continues() | AMF_ERROR,
        leaves=CONNECT,
    ),
    *(
        Case(
            number=48,
            name=name,
            title="a string longer than its message",
            after=HANDSHAKE,
            send=connecting_with(value),
            expect=closed("amf.truncated", "amf.string"),
            memory=4 * 1024 * 1024,
        )
        for name, value in (
            ("string-65535", b"\x02\xff\xffabc"),
            ("long-string-4-gib", b"\x0c\xff\xff\xff\xffabc"),
            ("long-string-2-gib", b"\x0c\x7f\xff\xff\xffabc"),
            ("long-string-no-length", b"\x0c\0\0"),
            ("key-65535", b"\x03\xff\xffabc"),
        )
    ),
    *(
        Case(
            number=49,
            name=f"connect-cut-at-{cut:03}",
            title="connect cut short: a clean answer for every length",
            after=HANDSHAKE,
            send=message(3, COMMAND, CONNECT_BODY[:cut]),
            expect=closed(*ANY_PROTOCOL_ERROR) | refused() | continues(),
            leaves=CONNECT if cut > len(CONNECT_BODY) - 4 else HANDSHAKE,
            deliveries=(WHOLE,),
            socket=cut % 16 == 1,
        )
        for cut in range(len(CONNECT_BODY))
    ),
    *(
        Case(
            number=50,
            name=f"{name}-in-flashver",
            title="text that is not UTF-8 where text is only shown",
            after=HANDSHAKE,
            send=connect(flashVer=text),
            expect=continues(),
            leaves=CONNECT,
        )
        for name, text in (
            ("bad-utf8", b"\xff\xfe\xfd"),
            ("surrogate", b"\xed\xa0\x80"),
            ("overlong", b"\xc0\xaf"),
            ("bom", b"\xef\xbb\xbfx"),
            ("nul", b"a\0b"),
        )
    ),
    *(
        Case(
            number=50,
            name=f"{name}-in-{place}",
            title="text that is not UTF-8 where it names something",
            after=HANDSHAKE if place == "app" else CONNECT,
            send=connect(app=text) + create_stream() if place == "app" else create_stream() + publish(text),
            expect=refused() | closed("name.*", "connect.*", "cmd.*"),
        )
        for place in ("app", "name")
        for name, text in (
            ("bad-utf8", b"live\xff\xfe"),
            ("surrogate", b"\xed\xa0\x80"),
            ("overlong", b"\xc0\xaf\xc0\xaf"),
            ("nul", b"live\0x"),
        )
    ),
    *(
        Case(
            number=51,
            name=f"transaction-{name}",
            title="the transaction id is returned as it came, all eight bytes of it",
            after=CONNECT,
            send=create_stream(number),
            expect=continues(),
            answers=(utf8("_result") + b"\0" + struct.pack(">d", number),),
        )
        for name, number in NUMBERS.items()
    ),
    *(
        Case(
            number=51,
            name=f"connect-transaction-{name}",
            title="connect with a strange transaction id",
            after=HANDSHAKE,
            send=command("connect", number, connect_object()),
            expect=continues(),
            leaves=CONNECT,
            answers=(utf8("_result") + b"\0" + struct.pack(">d", number),),
        )
        for name, number in NUMBERS.items()
    ),
    *(
        Case(
            number=51,
            name=f"metadata-{name}",
            title="onMetaData with numbers that JSON and int() cannot hold",
            after=LIVE,
            send=data(
                amf(
                    "@setDataFrame",
                    "onMetaData",
                    Ecma(width=number, height=number, framerate=number, duration=number, videocodecid=number),
                )
            ),
            expect=continues(),
        )
        for name, number in NUMBERS.items()
    ),
    *(
        Case(
            number=52,
            name=f"command-name-{name}",
            title="the name of a command is not a string",
            after=phase,
            send=command(value, 5, None),
            expect=continues() if phase is LIVE else continues() | closed("cmd.bad_name", "cmd.order"),
        )
        for phase in (HANDSHAKE, LIVE)
        for name, value in (("number", 7.0), ("null", None), ("object", {"a": 1.0}), ("empty", ""), ("bool", True))
    ),
    *(
        Case(
            number=52,
            name=f"lone-command-name-{name}",
            title="a command without a transaction id, or with one that is no number",
            after=LIVE,
            send=message(3, COMMAND, body),
            expect=continues(),
        )
        for name, body in (
            ("only", amf("foo")),
            ("string", amf("foo", "bar")),
            ("null", amf("createStream", None)),
            ("publish", amf("publish")),
            ("play", amf("play", 0.0)),
            ("delete", amf("deleteStream", 0.0, None)),
        )
    ),
    *(
        Case(
            number=53,
            name=f"reference-{index}",
            title="AMF0 references",
            after=HANDSHAKE,
            send=connecting(b"\x07" + struct.pack(">H", index)),
            expect=closed("amf.reference"),
        )
        for index in (0, 1, 2, 65535)
    ),
    Case(
        number=54,
        name="type-17-of-amf0",
        title="an AMF3 command that holds AMF0 after its zero byte, as encoders send it",
        after=HANDSHAKE,
        send=message(3, 17, b"\0" + CONNECT_BODY),
        expect=continues(),
        leaves=CONNECT,
    ),
    Case(
        number=54,
        name="type-15-of-amf0",
        title="AMF3 data that holds AMF0 after its zero byte",
        after=LIVE,
        send=message(4, 15, b"\0" + METADATA, msid=1),
        expect=continues(),
    ),
    *(
        Case(
            number=54,
            name=f"amf3-{name}",
            title="AMF3 values that lie",
            after=HANDSHAKE,
            send=connecting(b"\x11" + value),
            expect=AMF_ERROR | continues(),
            leaves=CONNECT,
            memory=4 * 1024 * 1024,
        )
        for name, value in (
            ("string-reference", bytes.fromhex("067e")),
            ("object-reference", bytes.fromhex("0a7e")),
            ("trait-reference", bytes.fromhex("0a7d")),
            ("self-array", bytes.fromhex("0903010900")),
            ("externalizable", bytes.fromhex("0a070b466f6f4578")),
            ("dictionary", bytes.fromhex("118fffffff00")),
            ("vector-2-28", bytes.fromhex("0dbfffffff00")),
            ("array-2-28", bytes.fromhex("09bfffffff01")),
            ("byte-array-2-28", bytes.fromhex("0cbfffffff")),
            ("string-2-28", bytes.fromhex("06bfffffff61")),
            ("traits-2-28", bytes.fromhex("0abfffffff01")),
            ("nothing", b""),
            ("marker-ff", b"\xff"),
        )
    ),
    Case(
        number=54,
        name="amf3-nested",
        title="AMF3 arrays in each other without end",
        after=HANDSHAKE,
        send=connecting(b"\x11" + b"\x09\x03\x01" * 3000),
        expect=AMF_ERROR,
    ),
    Case(
        number=55,
        name="xml-document",
        title="XML with entities is text, nobody parses it",
        after=HANDSHAKE,
        send=connecting(
            b"\x0f"
            + struct.pack(">I", 92)
            + b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;"><!ENTITY f SYSTEM "file:///etc">]><x/>'[
                :92
            ].ljust(92)
        ),
        expect=continues(),
        leaves=CONNECT,
    ),
    *(
        Case(
            number=56,
            name=name,
            title="markers that nobody needs",
            after=HANDSHAKE,
            send=connecting(value),
            expect=continues() | closed("amf.type"),
            leaves=CONNECT,
        )
        for name, value in (
            ("typed-object", b"\x10" + utf8("os.system") + amf_object({"a": "b"})),
            ("movieclip", b"\x04"),
            ("recordset", b"\x0e"),
            ("unsupported", b"\x0d"),
            ("undefined", b"\x06"),
            ("date", b"\x0b" + struct.pack(">dh", 1e12, 60)),
            ("object-end", b"\x09"),
            ("unknown-marker", b"\x7f"),
        )
    ),
    Case(
        number=57,
        name="5000-keys",
        title="a connect object with 5,000 keys",
        after=HANDSHAKE,
        send=connecting_with(b"\x03" + amf_object([(f"k{index}", True) for index in range(5000)])),
        expect=AMF_ERROR,
    ),
    Case(
        number=57,
        name="duplicate-keys",
        title="the last of equal keys counts",
        after=HANDSHAKE,
        send=connecting_with(b"\x03" + amf_object([("app", 7.0), ("app", "../x"), *connect_object().items()])),
        expect=continues(),
        leaves=CONNECT,
    ),
    *(
        Case(
            number=57,
            name=f"long-{field}",
            title="60 KiB where a line is expected",
            after=HANDSHAKE,
            send=connect(**{field: "x" * 60_000}),
            expect=continues(),
            leaves=CONNECT,
            max_reply=8192,
            deliveries=(WHOLE, SEVENS),
        )
        for field in ("flashVer", "swfUrl", "pageUrl", "tcUrl")
    ),
    Case(
        number=58,
        name="numbers-before-metadata",
        title="two numbers in front of @setDataFrame (Uniview cameras)",
        after=LIVE,
        send=data(amf(0, 0) + METADATA),
        expect=continues(),
    ),
    Case(
        number=59,
        name="metadata-flood",
        title="onMetaData 1,000 times at once is not passed on as often",
        after=LIVE,
        send=lambda: b"".join(
            data(amf("@setDataFrame", "onMetaData", Ecma(width=float(index), note="n" * 2000))) for index in range(1000)
        ),
        expect=continues() | closed("limit.*", "msg.*"),
        deliveries=(WHOLE,),
        seconds=4,
        most_data=60,
    ),
    *(
        Case(
            number=60,
            name=f"app-{name}",
            title="an app that is none: an answer, then the end",
            after=HANDSHAKE,
            send=command("connect", 1, value),
            expect=refused("NetConnection.Connect.*"),
        )
        for name, value in (
            ("missing", {"tcUrl": "rtmp://127.0.0.1/"}),
            ("empty", {"app": "", "tcUrl": "rtmp://127.0.0.1/"}),
            ("slashes", {"app": "///", "tcUrl": "rtmp://127.0.0.1/"}),
            ("number", {"app": 7.0, "tcUrl": "rtmp://127.0.0.1/live"}),
            ("null", {"app": None, "tcUrl": "rtmp://127.0.0.1/live"}),
        )
    ),
    *(
        Case(
            number=60,
            name=f"command-object-{name}",
            title="connect without a command object",
            after=HANDSHAKE,
            send=message(3, COMMAND, amf("connect", 1, *values)),
            expect=refused("NetConnection.Connect.*") | closed("connect.*", "cmd.*"),
        )
        for name, values in (("missing", ()), ("null", (None,)), ("string", ("live",)), ("array", (["live"],)))
    ),
    *(
        Case(
            number=60,
            name=f"tcurl-{name}",
            title="tcUrl missing or of the wrong type does not matter when app is there",
            after=HANDSHAKE,
            send=command("connect", 1, {"app": "live", **more}),
            expect=continues() | refused("NetConnection.Connect.*"),
            leaves=CONNECT,
        )
        for name, more in (("missing", {}), ("number", {"tcUrl": 7.0}), ("null", {"tcUrl": None}))
    ),
    Case(
        number=60,
        name="data-before-connect",
        title="data messages before connect",
        after=HANDSHAKE,
        send=message(4, DATA, METADATA, msid=1),
        expect=continues() | closed("cmd.order", "msg.*"),
    ),
]
