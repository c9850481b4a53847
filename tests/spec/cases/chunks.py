"""Cases 15-34: the chunk layer."""

from __future__ import annotations

from tests.spec.model import BYTES, SEVENS, WHOLE, Case, Phase, Wait, closed, continues
from tests.spec.wire import (
    ABORT,
    AUDIO,
    DATA,
    SET_CHUNK_SIZE,
    VIDEO,
    audio,
    basic,
    control,
    header,
    message,
    picture,
    set_chunk_size,
    sound,
    video,
)

HANDSHAKE, CONNECT, LIVE, PUBLISH, PLAY = Phase.HANDSHAKE, Phase.CONNECT, Phase.LIVE, Phase.PUBLISH, Phase.PLAY
TOO_MUCH = ("msg.*", "limit.*", "chunk.*")
KIB, MIB = 1024, 1024 * 1024
CONTROL_TYPES = (1, 2, 3, 4, 5, 6)
KNOWN_TYPES = {*CONTROL_TYPES, 8, 9, 15, 16, 17, 18, 19, 20, 22}

long_picture = picture(bytes(range(256)) + b"0123456789" * 4)
"""Three chunks of 128 bytes."""
tagged = picture(b"after")


def one_byte_chunks(count: int) -> bytes:
    """A video message of *count* bytes in chunks of one byte, after Set Chunk Size 1."""
    return set_chunk_size(1) + message(6, VIDEO, bytes(count), msid=1, chunk_size=1)


def partials(count: int, size: int, declared: int, first: int = 10) -> bytes:
    """The beginnings of *count* video messages on as many chunk streams."""
    return b"".join(header(first + index, VIDEO, declared, msid=1) + bytes(size) for index in range(count))


def types(ids: range, body: bytes) -> bytes:
    """One message of every type in *ids* that means nothing."""
    return b"".join(message(5, type_id, body, msid=1) for type_id in ids)


CASES = [
    *(
        Case(
            number=15,
            name="chunk-size-0",
            title="Set Chunk Size 0",
            after=phase,
            send=set_chunk_size(0),
            expect=closed("chunk.size_zero"),
        )
        for phase in (HANDSHAKE, CONNECT, LIVE)
    ),
    Case(
        number=16,
        name="chunk-size-1-flood",
        title="chunks of one byte by the hundred thousand: the work is bounded",
        after=LIVE,
        send=lambda: one_byte_chunks(400_000),
        expect=closed("chunk.work"),
        deliveries=(WHOLE,),
        seconds=8,
    ),
    Case(
        number=16,
        name="chunk-size-1-modest",
        title="chunks of one byte are legal",
        after=LIVE,
        send=set_chunk_size(1) + message(6, VIDEO, tagged, timestamp=10, msid=1, chunk_size=1),
        expect=continues(),
        chunk_size=1,
        delivers=((VIDEO, 10, tagged),),
    ),
    *(
        Case(
            number=17,
            name=f"chunk-size-{size}",
            title="chunk sizes beyond any message mean one chunk per message, and nothing is allocated for them",
            after=phase,
            send=set_chunk_size(size),
            expect=continues(),
            chunk_size=0xFFFFFF,
            memory=8 * MIB,
        )
        for size in (0xFFFFFF - 1, 0xFFFFFF, 0x1000000, 0x7FFFFFFF)
        for phase in (HANDSHAKE, LIVE)
        if phase is LIVE or size == 0x7FFFFFFF
    ),
    *(
        Case(
            number=18,
            name=f"chunk-size-{size:x}",
            title="the reserved top bit of Set Chunk Size is set",
            after=HANDSHAKE,
            send=set_chunk_size(size),
            expect=closed("chunk.size_reserved_bit"),
        )
        for size in (0x80000000, 0x80001000, 0xFFFFFFFF)
    ),
    *(
        Case(
            number=19,
            name=f"chunk-size-body-{size}",
            title="Set Chunk Size with a short body",
            after=HANDSHAKE,
            send=control(SET_CHUNK_SIZE, bytes(size)),
            expect=closed("ctl.short"),
        )
        for size in (0, 1, 2, 3)
    ),
    Case(
        number=20,
        name="chunk-size-inside-message",
        title="Set Chunk Size between two chunks of a message on another chunk stream",
        after=LIVE,
        send=b"".join(
            [
                header(6, VIDEO, len(long_picture), timestamp=10, msid=1) + long_picture[:128],
                set_chunk_size(150),
                basic(3, 6) + long_picture[128:278],
                basic(3, 6) + long_picture[278:],
            ]
        ),
        expect=continues(),
        chunk_size=150,
        delivers=((VIDEO, 10, long_picture),),
    ),
    *(
        Case(
            number=21,
            name=f"declares-{length}-of-type-{kind}",
            title="a header announces more than is allowed: closed on the header, nothing held for it",
            after=phase,
            send=header(6, kind, length, msid=1),
            expect=closed(*TOO_MUCH),
            memory=4 * MIB,
        )
        for phase, kind, length in (
            (HANDSHAKE, 20, 0xFFFFFF),
            (HANDSHAKE, 20, 64 * KIB + 1),
            (CONNECT, VIDEO, 64 * KIB + 1),
            (PLAY, VIDEO, 64 * KIB + 1),  # whoever may play has shown no key: ten thousand may
            (PLAY, 20, 64 * KIB + 1),
            (LIVE, VIDEO, 0xFFFFFF),
            (LIVE, VIDEO, 8 * MIB + 1),
            (LIVE, AUDIO, 1 * MIB + 1),
            (LIVE, DATA, 256 * KIB + 1),
            (LIVE, 20, 256 * KIB + 1),
            (LIVE, 4, 65),
        )
    ),
    *(
        Case(
            number=21,
            name=f"largest-of-type-{kind}",
            title="exactly the limit is allowed",
            after=LIVE,
            send=lambda body=body, kind=kind: message(6, kind, body, timestamp=10, msid=1),  # type: ignore[misc]
            expect=continues(),
            deliveries=(WHOLE,),
            seconds=5,
            memory=96 * MIB,
            delivers=((kind, 10, body),),
        )
        for kind, body in (
            (VIDEO, b"\x27\x01\0\0\0" + (8 * MIB - 9).to_bytes(4, "big") + b"\x41" + bytes(8 * MIB - 10)),
            (AUDIO, sound(bytes(MIB - 2))),
        )
    ),
    Case(
        number=22,
        name="many-partials",
        title="40 chunk streams, each with the beginning of a message",
        after=LIVE,
        send=partials(40, 128, 100_000),
        expect=closed(*TOO_MUCH),
    ),
    Case(
        number=22,
        name="many-partials-before-auth",
        title="9 chunk streams before anybody is known",
        after=HANDSHAKE,
        send=partials(9, 128, 200, first=3),
        expect=closed(*TOO_MUCH),
    ),
    Case(
        number=22,
        name="partials-of-a-player",
        title="9 chunk streams of somebody who only plays",
        after=PLAY,
        send=partials(9, 128, 200),
        expect=closed(*TOO_MUCH),
    ),
    Case(
        number=22,
        name="big-partials",
        title="the sum of unfinished messages is bounded",
        after=LIVE,
        send=lambda: b"".join(
            [set_chunk_size(8 * MIB - 2)]
            + [header(10 + index, VIDEO, 8 * MIB, msid=1) + bytes(8 * MIB - 2) for index in range(3)]
        ),
        expect=closed(*TOO_MUCH),
        deliveries=(WHOLE,),
        memory=48 * MIB,
        seconds=5,
    ),
    Case(
        number=22,
        name="65597-ids",
        title="one chunk on every chunk stream there is",
        after=LIVE,
        send=lambda: partials(65_590, 128, 0xFF0000 >> 4),
        expect=closed(*TOO_MUCH),
        deliveries=(WHOLE,),
        seconds=5,
    ),
    Case(
        number=23,
        name="old-partial",
        title="a message that is not finished in half a minute",
        after=LIVE,
        send=[
            header(7, VIDEO, 300, msid=1) + bytes(128),
            Wait(15),
            audio(sound(b"a"), 10),
            Wait(16),
            audio(sound(b"b"), 20),
        ],
        expect=closed(*TOO_MUCH),
        socket=False,
    ),
    *(
        Case(
            number=24,
            name=f"length-changes-fmt-{fmt}-to-{length}",
            title="a header inside an unfinished message announces another length",
            after=phase,
            send=header(6, VIDEO, 300, msid=1) + bytes(128) + header(6, VIDEO, length, msid=1, fmt=fmt) + bytes(128),
            expect=closed("chunk.len_changed"),
        )
        for phase in (CONNECT, LIVE)
        for fmt in (0, 1)
        for length in (1, 127, 128, 299, 301, 60_000)
    ),
    Case(
        number=25,
        name="fmt-0-inside-message",
        title="a fmt 0 header inside an unfinished message: a continuation, a restart or a close, but no mixture",
        after=LIVE,
        send=header(6, VIDEO, len(long_picture), timestamp=10, msid=1)
        + long_picture[:128]
        + header(6, VIDEO, len(long_picture), timestamp=10, msid=1)
        + long_picture[128:256]
        + header(6, VIDEO, len(long_picture), timestamp=10, msid=1)
        + long_picture[256:],
        expect=closed("chunk.*") | continues(),
        delivers=((VIDEO, 10, long_picture),),
    ),
    Case(
        number=25,
        name="fmt-0-other-type-inside-message",
        title="the header inside the unfinished message is of another type",
        after=LIVE,
        send=header(6, VIDEO, 300, timestamp=10, msid=1) + bytes(128) + header(6, AUDIO, 300, msid=1) + bytes(128),
        expect=closed("chunk.*"),
    ),
    Case(
        number=26,
        name="fmt-3-first",
        title="a fmt 3 chunk when there is no header to repeat",
        after=HANDSHAKE,
        send=basic(3, 20) + bytes(128),
        expect=closed("chunk.no_previous"),
    ),
    Case(
        number=26,
        name="fmt-3-first",
        title="a fmt 3 chunk first on its chunk stream, with headers elsewhere that it may mean (FMS 3.0 does)",
        after=LIVE,
        send=basic(3, 20) + sound(b"opening"),
        expect=closed("chunk.no_previous") | continues(),
    ),
    Case(
        number=27,
        name="fmt-1-first",
        title="a fmt 1 chunk first on its chunk stream",
        after=LIVE,
        send=message(20, VIDEO, tagged, timestamp=10, fmt=1),
        expect=closed("chunk.no_previous") | continues(),
    ),
    Case(
        number=27,
        name="fmt-2-first",
        title="a fmt 2 chunk when there is no header to take the length from",
        after=HANDSHAKE,
        send=header(20, VIDEO, 0, timestamp=10, fmt=2) + bytes(128),
        expect=closed("chunk.no_previous"),
    ),
    Case(
        number=27,
        name="fmt-2-first",
        title="a fmt 2 chunk first on its chunk stream, with headers elsewhere that it may mean (DJI Osmo does)",
        after=LIVE,
        send=header(20, VIDEO, 0, timestamp=10, fmt=2) + sound(b"opening"),
        expect=closed("chunk.no_previous") | continues(),
    ),
    Case(
        number=28,
        name="media-on-csid-2",
        title="media on the chunk stream of control messages",
        after=LIVE,
        send=video(tagged, 10, csid=2) + audio(sound(b"odd"), 11, csid=2),
        expect=continues(),
        delivers=((VIDEO, 10, tagged), (AUDIO, 11, sound(b"odd"))),
    ),
    Case(
        number=28,
        name="control-elsewhere",
        title="control messages on other chunk streams and stream ids (cameras do it)",
        after=HANDSHAKE,
        send=set_chunk_size(4096, csid=4)
        + message(5, 5, (2_500_000).to_bytes(4, "big"), msid=1)
        + message(6, 4, b"\0\3\0\0\0\1\0\0\0\x64", msid=1),
        expect=continues(),
        chunk_size=4096,
    ),
    *(
        Case(
            number=29,
            name=f"csid-{csid}-as-{form}-then-{then}",
            title="every form of a chunk stream id means the same lane",
            after=LIVE,
            send=message(csid, VIDEO, long_picture, timestamp=10, msid=1, form=form, next_form=then),
            expect=continues(),
            delivers=((VIDEO, 10, long_picture),),
        )
        for csid, form, then in (
            (3, 1, 1),
            (63, 1, 1),
            (64, 2, 2),
            (64, 2, 3),
            (64, 3, 2),
            (64, 3, 3),
            (319, 2, 3),
            (319, 3, 2),
            (320, 3, 3),
            (65599, 3, 3),
        )
    ),
    *(
        Case(
            number=30,
            name=f"extended-{stamp:x}-{'repeated' if repeat else 'once'}",
            title="extended timestamps on fmt 3 chunks: some encoders repeat them, some do not",
            after=LIVE,
            send=message(6, VIDEO, long_picture, timestamp=stamp, msid=1, repeat_extended=repeat)
            + message(4, AUDIO, sound(b"s" * 300), timestamp=stamp, msid=1, repeat_extended=repeat),
            expect=continues(),
            delivers=((VIDEO, stamp, long_picture), (AUDIO, stamp, sound(b"s" * 300))),
        )
        for stamp in (0xFFFFFF, 0x1000000, 0x7FFFFFFF, 0xFFFFFFF0)
        for repeat in (True, False)
    ),
    *(
        Case(
            number=31,
            name=f"extended-delta-{'repeated' if repeat else 'once'}",
            title="an extended timestamp in a fmt 1 header is a delta",
            after=LIVE,
            send=message(6, VIDEO, tagged, timestamp=1000, msid=1)
            + message(6, VIDEO, long_picture, timestamp=0x1000000, fmt=1, repeat_extended=repeat),
            expect=continues(),
            delivers=((VIDEO, 1000, tagged), (VIDEO, 0x1000000 + 1000, long_picture)),
        )
        for repeat in (True, False)
    ),
    Case(
        number=31,
        name="extended-delta-backwards",
        title="a delta of 2^32 - 20 goes back by 20 ms (librtmp does that)",
        after=LIVE,
        send=message(6, VIDEO, tagged, timestamp=1000, msid=1)
        + message(6, VIDEO, long_picture, timestamp=0xFFFFFFEC, fmt=1),
        expect=continues(),
        delivers=((VIDEO, 1000, tagged), (VIDEO, 980, long_picture)),
    ),
    Case(
        number=32,
        name="abort-own",
        title="Abort drops the unfinished message and nothing else",
        after=LIVE,
        send=header(6, VIDEO, 300, timestamp=5, msid=1)
        + bytes(128)
        + control(ABORT, (6).to_bytes(4, "big"))
        + message(6, VIDEO, long_picture, timestamp=10, msid=1),
        expect=continues(),
        delivers=((VIDEO, 10, long_picture),),
    ),
    *(
        Case(
            number=32,
            name=f"abort-{other}",
            title="Abort of another chunk stream leaves this one alone",
            after=LIVE,
            send=header(6, VIDEO, len(long_picture), timestamp=10, msid=1)
            + long_picture[:128]
            + control(ABORT, other.to_bytes(4, "big"))
            + basic(3, 6)
            + long_picture[128:256]
            + basic(3, 6)
            + long_picture[256:],
            expect=continues(),
            delivers=((VIDEO, 10, long_picture),),
        )
        for other in (0, 2, 4, 60, 65599, 0xFFFFFFFF)
    ),
    *(
        Case(
            number=32,
            name=f"abort-body-{size}",
            title="Abort with a short body",
            after=LIVE,
            send=control(ABORT, bytes(size)),
            expect=continues() | closed("ctl.short"),
        )
        for size in (0, 3)
    ),
    *(
        Case(
            number=33,
            name=f"empty-{ids.start}",
            title="a message without a body, of every type but Set Chunk Size (19) and Abort (32)",
            after=phase,
            send=types(ids, b""),
            expect=continues(),
        )
        for phase in (CONNECT, LIVE)
        for ids in (range(3, 60), range(60, 120), range(120, 180), range(180, 240), range(240, 256), range(1))
    ),
    *(
        Case(
            number=34,
            name=f"unknown-{ids.start}",
            title="messages of unknown types are skipped",
            after=LIVE,
            send=b"".join(message(5, kind, b"\1\2\3\4\5", msid=1) for kind in ids if kind not in KNOWN_TYPES),
            expect=continues(),
        )
        for ids in (range(60), range(60, 120), range(120, 180), range(180, 256))
    ),
    Case(
        number=34,
        name="unknown-flood",
        title="messages of an unknown type without end",
        after=LIVE,
        send=message(5, 77, b"\1\2\3\4", msid=1) * 5000,
        expect=closed(*TOO_MUCH),
        deliveries=(WHOLE, BYTES, SEVENS),
        seconds=4,
    ),
]
