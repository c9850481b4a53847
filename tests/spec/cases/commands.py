"""Cases 61-78 as far as one connection can show them: order of commands, state, ownership."""

from __future__ import annotations

import math
import struct

from tests.spec.model import SEVENS, WHOLE, Case, Phase, closed, continues, refused
from tests.spec.wire import (
    AUDIO,
    AVC_CONFIG,
    KEY,
    METADATA,
    STREAM,
    VIDEO,
    audio,
    command,
    connect,
    create_stream,
    data,
    message,
    opening,
    picture,
    play,
    publish,
    sound,
    utf8,
    video,
)

HANDSHAKE, CONNECT, PUBLISH, LIVE, PLAY = Phase.HANDSHAKE, Phase.CONNECT, Phase.PUBLISH, Phase.LIVE, Phase.PLAY
DENIED = refused("NetStream.Publish.*", "NetStream.Failed")
STRANGE = {"nan": math.nan, "minus-1": -1.0, "huge": 1e300, "inf": math.inf, "other": 99.0, "zero": 0.0, "half": 0.5}

early = picture(b"early", key=True)
pending = picture(b"pending", key=True)
late = picture(b"late", key=True)


def delete_stream(number: float) -> bytes:
    """`deleteStream`."""
    return command("deleteStream", 7, None, number)


CASES = [
    *(
        Case(
            number=61,
            name=f"{name}-before-connect",
            title="a command that connect must precede",
            after=HANDSHAKE,
            send=sent,
            expect=closed("cmd.order") | refused("Net*"),
        )
        for name, sent in (
            ("publish", publish(KEY)),
            ("play", play()),
            ("create-stream", create_stream()),
            ("release-stream", command("releaseStream", 2, None, KEY) + create_stream()),
            ("delete-stream", delete_stream(1) + publish(KEY)),
        )
    ),
    *(
        Case(
            number=62,
            name="connect-twice",
            title="a second connect",
            after=phase,
            send=connect(),
            expect=closed("cmd.*", "connect.*") | refused("NetConnection.*"),
        )
        for phase in (CONNECT, LIVE, PLAY)
    ),
    *(
        Case(
            number=63,
            name=f"publish-on-{msid}-without-create-stream",
            title="publish on a stream id that was never made",
            after=CONNECT,
            send=publish(KEY, msid=msid),
            expect=DENIED | closed("cmd.*"),
        )
        for msid in (1, 77, 0xFFFFFFFF)
    ),
    *(
        Case(
            number=63,
            name=f"publish-on-{msid}-after-create-stream",
            title="publish on another stream id than was made",
            after=CONNECT,
            send=create_stream() + publish(KEY, msid=msid),
            expect=DENIED | closed("cmd.*"),
        )
        for msid in (2, 77, 0x01000000)
    ),
    Case(
        number=63,
        name="publish-on-0-after-create-stream",
        title="publish on stream id 0, which some encoders do: tolerated or refused, not hung",
        after=CONNECT,
        send=create_stream() + publish(KEY, msid=0),
        expect=DENIED | closed("cmd.*") | continues(),
        leaves=PUBLISH,
    ),
    *(
        Case(
            number=64,
            name=f"publish-again-{name}",
            title="a second publish on the same connection is refused, the first goes on",
            after=LIVE,
            send=sent,
            expect=continues(statuses=("NetStream.Publish.BadName",)),
        )
        for name, sent in (
            ("same-id-same-key", publish(KEY, tid=9)),
            ("same-id-other-key", publish("another-key", tid=9)),
            ("new-id-same-key", create_stream(8) + publish(KEY, msid=2, tid=9)),
            ("new-id-other-key", create_stream(8) + publish("another-key", msid=2, tid=9)),
        )
    ),
    Case(
        number=68,
        name="play-own-stream",
        title="a publisher plays its own stream on its own connection",
        after=LIVE,
        send=create_stream(8) + play(msid=2, tid=9),
        expect=continues() | refused("NetStream.Play.*") | closed("cmd.*"),
        deliveries=(WHOLE, SEVENS),
    ),
    Case(
        number=69,
        name="create-stream-flood",
        title="createStream without end: a few stream ids, then errors, flat memory",
        after=CONNECT,
        send=lambda: b"".join(create_stream(float(tid)) for tid in range(10, 5010)),
        expect=continues() | closed("limit.*", "cmd.*"),
        deliveries=(WHOLE,),
        max_reply=1_500_000,
        memory=16 * 1024 * 1024,
        seconds=5,
    ),
    *(
        Case(
            number=70,
            name=f"delete-stream-{name}",
            title="deleteStream of a stream that is not ours",
            after=LIVE,
            send=delete_stream(number),
            expect=continues(),
        )
        for name, number in STRANGE.items()
    ),
    *(
        Case(
            number=70,
            name=name,
            title="the end of a stream that is not ours",
            after=LIVE,
            send=sent,
            expect=continues(),
        )
        for name, sent in (
            ("delete-stream-string", command("deleteStream", 7, None, "1")),
            ("delete-stream-null", command("deleteStream", 7, None, None)),
            ("delete-stream-nothing", command("deleteStream", 7, None)),
            ("close-stream-elsewhere", command("closeStream", 7, None, msid=5, csid=8)),
            ("unpublish-other-key", command("FCUnpublish", 7, None, "another-key")),
        )
    ),
    *(
        Case(
            number=70,
            name=f"before-publish-{name}",
            title="the end of a stream that never began",
            after=CONNECT,
            send=sent,
            expect=continues(),
        )
        for name, sent in (
            ("delete-stream", delete_stream(1)),
            ("close-stream", command("closeStream", 7, None, msid=1, csid=8)),
            ("unpublish", command("FCUnpublish", 7, None, KEY)),
        )
    ),
    Case(
        number=71,
        name="media-before-publish",
        title="media before publish is dropped",
        after=CONNECT,
        send=create_stream() + video(AVC_CONFIG) + video(early) + publish(KEY),
        expect=continues(),
        leaves=PUBLISH,
        never=(early,),
    ),
    Case(
        number=71,
        name="media-before-connect",
        title="media before connect is dropped, or the end",
        after=HANDSHAKE,
        send=video(early) + audio(sound(b"early")),
        expect=continues() | closed("cmd.order", "msg.*"),
        never=(early,),
    ),
    Case(
        number=71,
        name="media-behind-publish",
        title="media in the same segment as publish waits for the answer and is not lost",
        after=CONNECT,
        send=create_stream() + publish(KEY) + opening() + video(pending, 40) + audio(sound(b"pending"), 41),
        expect=continues(),
        leaves=LIVE,
        delivers=((VIDEO, 40, pending), (AUDIO, 41, sound(b"pending"))),
    ),
    Case(
        number=71,
        name="much-media-behind-publish",
        title="media before the answer is held up to a bound",
        after=CONNECT,
        send=lambda: (
            create_stream()
            + publish(KEY)
            + b"".join(video(picture(bytes(30_000), key=True), 40 * index) for index in range(60))
        ),
        expect=continues() | closed("limit.*", "msg.*", "cmd.*"),
        leaves=PUBLISH,
        deliveries=(WHOLE,),
    ),
    *(
        Case(
            number=72,
            name=f"media-after-{name}",
            title="media after the end of its publish is dropped, and the connection may publish again",
            after=LIVE,
            send=sent + video(late, 80) + audio(sound(b"late"), 81) + data(METADATA, 82),
            expect=continues(),
            leaves=CONNECT,
            never=(late,),
        )
        for name, sent in (
            ("unpublish-and-delete", command("FCUnpublish", 6, None, KEY) + delete_stream(1)),
            ("delete", delete_stream(1)),
            ("unpublish", command("FCUnpublish", 6, None, KEY)),
            ("close", command("closeStream", 0, None, msid=1, csid=8)),
            ("everything-twice", (command("FCUnpublish", 6, None, KEY) + delete_stream(1)) * 2),
        )
    ),
    *(
        Case(
            number=73,
            name=f"command-{name}",
            title="commands that are answered or ignored",
            after=phase,
            send=command(name, 4, None, *values),
            expect=continues(),
        )
        for phase in (CONNECT,)
        for name, values in (
            ("releaseStream", (KEY,)),
            ("FCPublish", (KEY,)),
            ("FCUnpublish", (KEY,)),
            ("FCSubscribe", (KEY,)),
            ("_checkbw", ()),
            ("checkBandwidth", ()),
            ("getStreamLength", (KEY,)),
            ("setPlaylist", ()),
            ("setDataFrame", ()),
            ("_result", ({},)),
            ("_error", ({},)),
            ("onStatus", ({},)),
            ("close", ()),
            ("__class__", ()),
            ("receive_data", ()),
            ("foo" * 80, ()),
        )
    ),
    *(
        Case(
            number=73,
            name=f"release-stream-answer-{tid}",
            title="releaseStream and FCPublish are answered with their transaction id",
            after=CONNECT,
            send=command("releaseStream", tid, None, KEY) + command("FCPublish", tid + 1, None, KEY),
            expect=continues(),
            answers=(
                utf8("_result") + b"\0" + struct.pack(">d", tid),
                utf8("_result") + b"\0" + struct.pack(">d", tid + 1),
            ),
        )
        for tid in (2, 77)
    ),
    Case(
        number=73,
        name="unknown-flood",
        title="unknown commands without end",
        after=CONNECT,
        send=command("foo", 5, None) * 5000,
        expect=continues() | closed("limit.*", "cmd.*"),
        deliveries=(WHOLE,),
        max_reply=1_000_000,
        seconds=5,
    ),
    *(
        Case(
            number=74,
            name=f"publish-type-{name}",
            title="the type of a publish names no file and changes nothing",
            after=CONNECT,
            send=create_stream() + command("publish", 3, None, KEY, *kind, csid=8, msid=1),
            expect=continues(),
            leaves=PUBLISH,
        )
        for name, kind in (
            ("record", ("record",)),
            ("append", ("append",)),
            ("bogus", ("../../x",)),
            ("missing", ()),
            ("number", (7.0,)),
            ("null", (None,)),
        )
    ),
    *(
        Case(
            number=75,
            name=f"player-{name}",
            title="what players ask of recordings does nothing on a live stream",
            after=PLAY,
            send=sent,
            expect=continues(),
        )
        for name, sent in (
            ("seek", command("seek", 0, None, 5000.0, msid=1, csid=8)),
            ("seek-nan", command("seek", 0, None, math.nan, msid=1, csid=8)),
            ("pause", command("pause", 0, None, True, 0.0, msid=1, csid=8)),
            (
                "pause-and-on",
                command("pause", 0, None, True, 0.0, msid=1) + command("pause", 0, None, False, 9e9, msid=1),
            ),
            ("pause-null", command("pause", 0, None, None, None, msid=1, csid=8)),
            ("receive-audio", command("receiveAudio", 0, None, False, msid=1, csid=8)),
            ("receive-video", command("receiveVideo", 0, None, False, msid=1, csid=8)),
            ("receive-video-string", command("receiveVideo", 0, None, "no", msid=1, csid=8)),
            ("buffer-length", message(2, 4, b"\0\3\0\0\0\1\xff\xff\xff\xff")),
        )
    ),
    *(
        Case(
            number=75,
            name=f"play-{name}",
            title="play with a strange start, duration or reset",
            after=CONNECT,
            send=create_stream() + play(STREAM, *values),
            expect=continues(),
            leaves=PLAY,
        )
        for name, values in (
            ("start-huge", (1e300,)),
            ("start-nan", (math.nan,)),
            ("start-inf-duration-minus", (math.inf, -5.0)),
            ("start-string", ("now", "ever", "yes")),
            ("reset-object", (-2.0, -1.0, {"a": 1.0})),
            ("live-only", (-1000.0,)),
        )
    ),
    *(
        Case(
            number=76,
            name=f"shared-object-{kind}",
            title="shared objects are not supported and touch nothing",
            after=CONNECT,
            send=message(3, kind, utf8("../../etc/x") + bytes(12) + b"\1\0\0\0\0") + message(3, kind, b"\0") * 20,
            expect=continues(),
        )
        for kind in (16, 19)
    ),
]
