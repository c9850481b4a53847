"""Cases 35-43: protocol control, acknowledgements, user control."""

from __future__ import annotations

import struct

from tests.spec.model import WHOLE, Case, Phase, closed, continues
from tests.spec.wire import ACK, PEER_BANDWIDTH, USER_CONTROL, WINDOW_ACK_SIZE, audio, control, sound, user_control

HANDSHAKE, CONNECT, LIVE, PLAY = Phase.HANDSHAKE, Phase.CONNECT, Phase.LIVE, Phase.PLAY


def window(size: int) -> bytes:
    """Window Acknowledgement Size."""
    return control(WINDOW_ACK_SIZE, struct.pack(">I", size))


def acknowledge(total: int) -> bytes:
    """Acknowledgement."""
    return control(ACK, struct.pack(">I", total & 0xFFFFFFFF))


sounds = b"".join(audio(sound(bytes([index]) * 90), 10 + index) for index in range(200))

CASES = [
    *(
        Case(
            number=35 if size == 0 else 36 if size < 4096 else 37,
            name=f"window-{size}",
            title="a window acknowledgement size that must cause neither a division by zero nor a storm of acks",
            after=LIVE,
            send=window(size) + sounds,
            expect=continues(),
            max_reply=2048,
        )
        for size in (0, 1, 2, 1023, 0x7FFFFFFF, 0xFFFFFFFF)
    ),
    Case(
        number=36,
        name="window-1-before-connect",
        title="a window of one byte from a stranger",
        after=HANDSHAKE,
        send=window(1) * 500,
        expect=continues(),
        max_reply=2048,
    ),
    *(
        Case(
            number=39,
            name=f"acks-{name}",
            title="acknowledgements that go backwards or count increments are statistics, nothing else",
            after=phase,
            send=b"".join(acknowledge(total) for total in totals),
            expect=continues(),
        )
        for phase in (LIVE, PLAY)
        for name, totals in (
            ("backwards", (5000, 4000, 0, 3)),
            ("increments", (100,) * 20),
            ("wrapped", (0xFFFFFFF0, 16)),
        )
    ),
    *(
        Case(
            number=40,
            name="ack-too-much",
            title="an acknowledgement of more than was ever sent",
            after=phase,
            send=acknowledge(0x7FFFFFFF) + acknowledge(0xFFFFFFFF),
            expect=continues(),
        )
        for phase in (HANDSHAKE, LIVE, PLAY)
    ),
    *(
        Case(
            number=41,
            name=f"user-control-body-{size}",
            title="User Control too short to mean anything",
            after=phase,
            send=control(USER_CONTROL, bytes(size)),
            expect=continues(),
        )
        for phase, size in ((CONNECT, 0), (LIVE, 1), (LIVE, 2), (LIVE, 5), (PLAY, 3))
    ),
    *(
        Case(
            number=41,
            name=f"user-control-event-{event}-{len(data)}",
            title="User Control events that nobody knows, and known ones without their data",
            after=LIVE,
            send=user_control(event, data),
            expect=continues(),
        )
        for event in (0, 1, 2, 3, 4, 5, 6, 7, 26, 27, 31, 32, 33, 255, 65535)
        for data in (b"", b"\0\0\0\1")
    ),
    *(
        Case(
            number=42,
            name="ping-flood",
            title="ten thousand pings get a handful of answers",
            after=phase,
            send=user_control(6, b"\0\0\0\7") * 10_000,
            expect=continues() | closed("limit.*", "ctl.*", "chunk.work"),
            max_reply=1024,
            deliveries=(WHOLE,),
            seconds=4,
        )
        for phase in (CONNECT, LIVE)
    ),
    Case(
        number=42,
        name="ping",
        title="a ping is answered with its own data",
        after=CONNECT,
        send=user_control(6, b"\xde\xad\xbe\xef"),
        expect=continues(),
        answers=(b"\0\7\xde\xad\xbe\xef",),
    ),
    *(
        Case(
            number=43,
            name=f"peer-bandwidth-type-{kind}",
            title="Set Peer Bandwidth with every kind of limit",
            after=CONNECT,
            send=control(PEER_BANDWIDTH, struct.pack(">IB", 2_500_000, kind)),
            expect=continues(),
        )
        for kind in (0, 1, 2, 3, 255)
    ),
    *(
        Case(
            number=43,
            name=f"peer-bandwidth-body-{size}",
            title="Set Peer Bandwidth with a short body",
            after=CONNECT,
            send=control(PEER_BANDWIDTH, bytes(size)),
            expect=continues() | closed("ctl.short"),
        )
        for size in (0, 3, 4)
    ),
    Case(
        number=43,
        name="peer-bandwidth-flood",
        title="a new bandwidth each time must not make the server talk without end",
        after=CONNECT,
        send=b"".join(control(PEER_BANDWIDTH, struct.pack(">IB", 10_000 + index, 2)) for index in range(2000)),
        expect=continues() | closed("limit.*", "ctl.*"),
        max_reply=40_000,
        deliveries=(WHOLE,),
    ),
]
