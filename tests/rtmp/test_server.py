"""The server's side of the conversation, spoken to by hand, by our client, and by captured encoders."""

from __future__ import annotations

import math
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import amf0
from relay.rtmp.errors import LocalProtocolError, RemoteProtocolError
from relay.rtmp.events import (
    Acknowledged,
    ConnectRequested,
    Event,
    HandshakeCompleted,
    Message,
    PlayEnded,
    PlayGated,
    PlayRequested,
    PublishEnded,
    PublishRequested,
)
from relay.rtmp.server import ServerConnection
from tests.helpers.pairs import (
    ConnectionPair,
    Peer,
    accept_all,
    asked,
    connected,
    fixed_random,
    playing,
    publishing,
)

CORPUS = Path(__file__).parents[1] / "corpus"
CAPTURES = ["cap_128", "cap_h264aac", "cap_hevcopus", "cap_extts"]
CONNECT: dict[str, amf0.Value] = {"app": "live", "tcUrl": "rtmp://relay.example/live"}
WINDOW = 2_500_000
NAN = struct.unpack(">d", bytes.fromhex("7ff80000deadbeef"))[0]


def server_of(peer: Peer) -> ServerConnection:
    assert isinstance(peer.connection, ServerConnection)
    return peer.connection


def summary(events: list[Event]) -> list[Any]:
    """What events say, without object identity."""
    return [
        (event.type_id, event.timestamp, event.stream_id, bytes(event.payload)) if isinstance(event, Message) else event
        for event in events
    ]


def infos(replies: list[list[Any]]) -> list[tuple[str, str, str]]:
    return [(reply[0], reply[-1]["level"], reply[-1]["code"]) for reply in replies if isinstance(reply[-1], dict)]


def remote_error(peer: Peer, *command: Any, msid: int = 0) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        peer.command(*command, msid=msid)
    return caught.value


# Connect.


def test_connect_is_asked_and_accepted_with_window_bandwidth_and_chunk_size_first() -> None:
    server = ServerConnection(random=fixed_random)
    peer = Peer(server).handshake()
    peer.command("connect", 1.0, CONNECT | {"flashVer": "FMLE/3.0", "objectEncoding": 0.0})

    assert server.data_to_send()[3073:] == b""
    assert server.accept_connect() == []

    handshake, question = peer.events
    assert handshake == HandshakeCompleted(digest=False)
    assert isinstance(question, ConnectRequested)
    assert (question.app, question.flash_ver, server.app) == ("live", "FMLE/3.0", "live")
    sent = server.data_to_send()
    reader = Peer(server)
    messages = reader._reader.receive(sent, 0.0)
    assert [(message.type_id, message.payload) for message in messages[:2]] == [
        (5, struct.pack(">I", WINDOW)),
        (6, struct.pack(">IB", WINDOW, 2)),
    ]
    assert reader._reader.chunk_size == 65536
    name, transaction, properties, info = amf0.decode(messages[2].payload)
    assert (name, transaction) == ("_result", 1.0)
    assert isinstance(properties, dict)
    assert properties == {"fmsVer": "FMS/3,0,1,123", "capabilities": 31.0, "mode": 1.0}
    assert info == {
        "level": "status",
        "code": "NetConnection.Connect.Success",
        "description": "Connection succeeded.",
        "objectEncoding": 0.0,
    }


@pytest.mark.parametrize(
    "announced",
    [
        {"fourCcList": ["hvc1"]},
        {"videoFourCcInfoMap": {"*": 4.0}},
        {"capsEx": 1.0},
        {"audioFourCcInfoMap": {"Opus": 1.0}},
    ],
    ids=lambda announced: next(iter(announced)),
)
def test_enhanced_keys_are_echoed_to_a_peer_that_sent_any(announced: dict[str, amf0.Value]) -> None:
    server = ServerConnection(random=fixed_random)
    peer = Peer(server).handshake()
    peer.command("connect", 1.0, CONNECT | announced)
    server.accept_connect()

    info = peer.replies()[0][-1]

    assert info["fourCcList"] == ["*"]
    assert info["videoFourCcInfoMap"] == info["audioFourCcInfoMap"] == {"*": 4.0}
    assert info["capsEx"] == 6.0


def test_capabilities_are_read_from_every_form() -> None:
    peer = connected(
        fourCcList=["hvc1", 7.0], videoFourCcInfoMap={"av01": 4.0}, audioFourCcInfoMap={"*": 4.0}, capsEx=3.0
    )
    capabilities = server_of(peer).capabilities

    assert capabilities.fourccs == {"hvc1", "av01", "*"}
    assert (capabilities.reconnect, capabilities.multitrack, capabilities.any_codec) == (True, True, True)


@pytest.mark.parametrize("value", [math.nan, -1.0, 1e300, "3", None, [1.0]])
def test_nonsense_in_capabilities_means_none(value: amf0.Value) -> None:
    capabilities = server_of(connected(capsEx=value, objectEncoding=value, fourCcList=value)).capabilities

    assert (capabilities.caps_ex, capabilities.object_encoding, capabilities.fourccs) == (0, 0, frozenset())


def test_connect_keys_are_read_whatever_their_case() -> None:
    server = ServerConnection(random=fixed_random)
    (question,) = Peer(server).handshake().command("connect", 1.0, {"App": "live", "tcurl": '"rtmp://h/live?key=k'})

    assert isinstance(question, ConnectRequested)
    assert question.query["key"].reveal() == "k"


def test_a_question_about_connect_shows_no_secret() -> None:
    server = ServerConnection(random=fixed_random)
    url = "rtmp://h/live/hunter2?key=hunter2"
    (question,) = Peer(server).handshake().command("connect", 1.0, {"app": "live/hunter2?key=hunter2", "tcUrl": url})

    assert "hunter2" not in repr(question)


@pytest.mark.parametrize(
    "properties",
    [{}, {"app": ""}, {"app": 5.0}, {"app": None}, {"app": "?key=1"}, {"app": "../x"}, {"app": "a b"}, None, "live"],
    ids=str,
)
def test_connect_without_an_app_is_refused_with_error_and_closed(properties: amf0.Value) -> None:
    peer = Peer(ServerConnection(random=fixed_random)).handshake()

    error = remote_error(peer, "connect", 1.0, properties)

    assert error.code == "connect.bad_app"
    peer.messages()
    assert infos(peer.read(error.answer)) == [("_error", "error", "NetConnection.Connect.InvalidApp")]


def test_connect_may_be_rejected_and_then_nothing_is_heard_any_more() -> None:
    server = ServerConnection(random=fixed_random)
    peer = Peer(server).handshake()
    peer.command("connect", 1.0, CONNECT)
    server.reject_connect("[ AccessManager.Reject ] : no")

    (reply,) = peer.replies()
    assert reply[:3] == ["_error", 1.0, None]
    assert reply[3]["description"] == "[ AccessManager.Reject ] : no"
    assert server.closed
    assert peer.command("createStream", 2.0, None) == []
    assert server.accept_connect() == []
    assert server.data_to_send() == b""


def test_a_second_connect_is_refused_and_closed() -> None:
    peer = connected()

    error = remote_error(peer, "connect", 2.0, CONNECT)

    assert error.code == "connect.twice"
    assert infos(peer.read(error.answer)) == [("_error", "error", "NetConnection.Connect.Rejected")]


@pytest.mark.parametrize("name", ["createStream", "publish", "play", "releaseStream", "deleteStream", "whatever"])
def test_commands_before_connect_are_out_of_order(name: str) -> None:
    peer = Peer(ServerConnection(random=fixed_random)).handshake()

    error = remote_error(peer, name, 2.0, None, "key")

    assert error.code == "cmd.order"
    peer.messages()
    assert infos(peer.read(error.answer)) == [("_error", "error", "NetConnection.Call.Failed")]


# Commands.


def test_stream_ids_start_at_1_and_are_used_again() -> None:
    peer = connected()
    for _ in range(2):
        peer.command("createStream", 2.0, None)
    peer.command("deleteStream", 0.0, None, 1.0)
    peer.command("createStream", 3.0, None)

    assert [reply[-1] for reply in peer.replies()] == [1.0, 2.0, 1.0]


def test_eight_streams_may_live_and_the_ninth_is_refused() -> None:
    peer = connected()
    for transaction in range(2, 11):
        peer.command("createStream", float(transaction), None)

    replies = peer.replies()

    assert [reply[0] for reply in replies] == ["_result"] * 8 + ["_error"]
    assert replies[8][3]["code"] == "NetConnection.Call.Failed"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("releaseStream", [["_result", 4.0, None, None]]),
        ("FCSubscribe", [["_result", 4.0, None, None]]),
        ("_checkbw", [["_result", 4.0, None, None]]),
        ("setPlaylist", [["_result", 4.0, None, None]]),
        ("neverHeardOf", [["_result", 4.0, None, None]]),
        ("getStreamLength", [["_result", 4.0, None, 0.0]]),
        ("_result", []),
        ("_error", []),
        ("onStatus", []),
        ("deleteStream", []),
    ],
)
def test_commands_that_only_want_an_answer_get_one(name: str, expected: list[list[Any]]) -> None:
    peer = connected()

    assert peer.command(name, 4.0, None, "key") == []
    assert peer.replies() == expected


def test_a_command_without_transaction_id_gets_no_answer() -> None:
    peer = connected()
    peer.command("releaseStream", 0.0, None, "key")

    assert peer.replies() == []


def test_fcpublish_is_answered_twice_with_its_own_transaction_id() -> None:
    peer = connected()
    peer.command("FCPublish", 7.0, None, "key")

    result, notice = peer.replies()
    assert result == ["_result", 7.0, None, None]
    assert notice[:2] == ["onFCPublish", 7.0]
    assert notice[3]["code"] == "NetStream.Publish.Start"


@pytest.mark.parametrize("raw", ["7ff80000deadbeef", "fff0000000000000", "7ff0000000000001", "7fe1ccf385ebc8a0"])
def test_a_transaction_id_is_echoed_bit_for_bit(raw: str) -> None:
    peer = connected()
    body = amf0.encode("createStream") + b"\x00" + bytes.fromhex(raw) + amf0.encode(None)
    peer.message(20, body)

    (reply,) = peer.messages()

    assert reply.payload == amf0.encode("_result") + b"\x00" + bytes.fromhex(raw) + amf0.encode(None, 1.0)


@pytest.mark.parametrize(
    "body",
    [amf0.encode(5.0, 1.0), amf0.encode(None), amf0.encode({"a": 1.0}), amf0.encode(["createStream"])],
    ids=["number", "null", "object", "array"],
)
def test_a_command_whose_name_is_no_string_is_skipped(body: bytes) -> None:
    peer = connected()
    peer.message(20, body)

    assert peer.connection.odd["cmd.bad_name"] == 1
    peer.command("createStream", 2.0, None)
    assert peer.replies() == [["_result", 2.0, None, 1.0]]


@pytest.mark.parametrize("lead", [b"\x00", b""], ids=["zero-byte", "no-zero-byte"])
def test_amf3_commands_are_read(lead: bytes) -> None:
    peer = connected()
    peer.message(17, lead + amf0.encode("createStream", 2.0, None))

    assert peer.replies() == [["_result", 2.0, None, 1.0]]


def test_a_command_that_is_not_amf_ends_the_connection_with_the_code_of_the_decoder() -> None:
    peer = connected()

    with pytest.raises(RemoteProtocolError) as caught:
        peer.message(20, b"\x02\xff\xffabc")

    assert caught.value.code == "amf.truncated"
    assert peer.connection.closed


def test_two_hundred_commands_a_second_are_served_and_no_more() -> None:
    peer = Peer(ServerConnection(random=fixed_random)).handshake()
    peer.command("connect", 1.0, CONNECT)
    server_of(peer).accept_connect()
    for _ in range(199):
        peer.command("_checkbw", 0.0, None)

    peer.now += 1.0
    for _ in range(200):
        peer.command("_checkbw", 0.0, None)
    assert remote_error(peer, "_checkbw", 0.0, None).code == "cmd.flood"


def test_shared_objects_are_skipped() -> None:
    peer = connected()
    peer.message(19, amf0.encode("../../x"))
    peer.message(16, b"\x00" + amf0.encode("../../x"))

    assert peer.connection.odd["message.shared_object"] == 2
    assert peer.replies() == []


# Publish.


def test_publish_is_asked_granted_on_its_stream_and_its_media_comes_out_as_it_is() -> None:
    peer = asked("abc/key?token=t")
    server = server_of(peer)
    question = peer.events[-1]
    assert isinstance(question, PublishRequested)
    assert (question.stream_id, question.app, question.name.reveal()) == (1, "live", "abc/key")
    assert question.query["token"].reveal() == "t"
    assert server.publishing is None

    server.accept_publish(1)

    begin, start = peer.messages()
    assert (begin.type_id, begin.payload) == (4, struct.pack(">HI", 0, 1))
    assert (start.type_id, start.stream_id) == (20, 1)
    name, transaction, nothing, info = amf0.decode(start.payload)
    assert (name, transaction, nothing) == ("onStatus", 0.0, None)
    assert isinstance(info, dict)
    assert (info["level"], info["code"]) == ("status", "NetStream.Publish.Start")
    assert info["description"]
    assert (server.publishing, server.phase) == (1, "publish")
    for type_id in (8, 9, 18, 15):
        (message,) = peer.message(type_id, b"body", msid=1, timestamp=40)
        assert isinstance(message, Message)
        assert (message.type_id, message.timestamp, message.payload) == (type_id, 40, b"body")


def test_set_data_frame_is_handed_out_untouched() -> None:
    body = amf0.encode("@setDataFrame", "onMetaData", amf0.EcmaArray({"width": 1.0}))
    (message,) = publishing().message(18, body, msid=1)

    assert isinstance(message, Message)
    assert message.payload == body


def test_media_before_publish_is_dropped() -> None:
    peer = connected()
    peer.command("createStream", 2.0, None)

    assert peer.message(9, b"early", msid=1) == []
    assert peer.connection.odd["media.unexpected"] == 1


def test_media_while_the_question_is_open_comes_out_of_the_answer_in_order() -> None:
    peer = asked()
    for number in range(3):
        assert peer.message(9, b"%d" % number, msid=1) == []

    events = server_of(peer).accept_publish(1)

    assert [event.payload for event in events if isinstance(event, Message)] == [b"0", b"1", b"2"]
    assert peer.message(8, b"later", msid=1)


@pytest.mark.parametrize(("count", "kept"), [(15, 15), (16, 16), (17, 16), (40, 16)])
def test_at_most_64_kib_wait_for_the_answer(count: int, kept: int) -> None:
    peer = asked()
    for _ in range(count):
        peer.message(9, bytes(4096 - 64), msid=1)

    assert len(server_of(peer).accept_publish(1)) == kept
    assert peer.connection.odd["media.early_dropped"] == count - kept


def test_after_the_first_loss_no_media_is_kept_so_that_there_is_no_hole() -> None:
    peer = asked()
    peer.message(9, b"first", msid=1)
    peer.message(9, bytes(60_000), msid=1)
    peer.message(9, bytes(10_000), msid=1)
    peer.message(9, b"small enough", msid=1)

    assert len(server_of(peer).accept_publish(1)) == 2


def test_commands_without_end_behind_a_question_end_the_connection() -> None:
    peer = asked()
    flood = Peer.frame(20, amf0.encode("_checkbw", 1.0, None)) * 2000
    with pytest.raises(RemoteProtocolError) as caught:
        peer.raw(flood)

    assert caught.value.code == "cmd.flood"
    assert server_of(peer).accept_publish(1) == []


def test_media_of_a_refused_publish_is_never_handed_out() -> None:
    peer = asked()
    peer.message(9, b"x", msid=1)

    assert server_of(peer).reject_publish(1, "NetStream.Publish.Denied", "no") == []
    assert infos(peer.replies()) == [("onStatus", "error", "NetStream.Publish.Denied")]
    assert peer.message(9, b"x", msid=1) == []


def test_a_refused_publisher_may_ask_again() -> None:
    peer = asked()
    server_of(peer).reject_publish(1)

    (question,) = peer.command("publish", 4.0, None, "other", msid=1)

    assert isinstance(question, PublishRequested)


def test_commands_behind_a_question_wait_for_the_answer() -> None:
    peer = asked()
    peer.message(9, b"x", msid=1)
    assert peer.command("deleteStream", 0.0, None, 1.0) == []

    media, end = server_of(peer).accept_publish(1)

    assert isinstance(media, Message)
    assert end == PublishEnded(stream_id=1, command="deleteStream")
    assert server_of(peer).publishing is None


def test_a_command_that_breaks_the_protocol_behind_a_question_is_raised_by_the_next_receive() -> None:
    peer = asked()
    peer.command("connect", 9.0, CONNECT)
    assert server_of(peer).accept_publish(1) == []

    with pytest.raises(RemoteProtocolError) as caught:
        peer.raw(b"")

    assert caught.value.code == "connect.twice"
    assert peer.raw(b"more") == []


@pytest.mark.parametrize("kind", ["live", "record", "append", "../../x", None, 7.0, ...])
def test_the_type_of_publish_does_not_matter(kind: Any) -> None:
    peer = connected()
    peer.command("createStream", 2.0, None)
    arguments = () if kind is ... else (kind,)

    (question,) = peer.command("publish", 3.0, None, "key", *arguments, msid=1)

    assert isinstance(question, PublishRequested)


def test_publish_on_stream_0_means_the_only_stream_there_is() -> None:
    peer = connected()
    peer.command("createStream", 2.0, None)
    (question,) = peer.command("publish", 3.0, None, "key")
    assert isinstance(question, PublishRequested)
    assert question.stream_id == 1

    server_of(peer).accept_publish(1)

    assert len(peer.message(9, b"x", msid=0)) == len(peer.message(9, b"x", msid=1)) == 1
    assert peer.message(9, b"x", msid=2) == []


@pytest.mark.parametrize(("streams", "msid"), [(0, 0), (0, 1), (1, 2), (2, 0), (2, 0xFFFFFFFF)])
def test_publish_on_a_stream_that_is_not_there_is_refused_and_closed(streams: int, msid: int) -> None:
    peer = connected()
    for _ in range(streams):
        peer.command("createStream", 2.0, None)
    peer.messages()

    error = remote_error(peer, "publish", 3.0, None, "key", msid=msid)

    assert error.code == "publish.no_stream"
    assert infos(peer.read(error.answer)) == [("onStatus", "error", "NetStream.Publish.Failed")]


@pytest.mark.parametrize(("name", "code"), [("../x", "name.dots"), ("a\nb", "name.control"), ("k" * 1025, "name.long")])
def test_a_bad_key_is_refused_with_bad_name_and_closed(name: str, code: str) -> None:
    peer = connected()
    peer.command("createStream", 2.0, None)
    peer.messages()

    error = remote_error(peer, "publish", 3.0, None, name, msid=1)

    assert error.code == code
    assert name not in str(error)
    assert infos(peer.read(error.answer)) == [("onStatus", "error", "NetStream.Publish.BadName")]


@pytest.mark.parametrize(("name", "msid"), [("key", 1), ("other", 1), ("key", 2), ("other", 2)])
def test_a_second_publish_is_refused_and_the_first_goes_on(name: str, msid: int) -> None:
    peer = publishing()
    peer.command("createStream", 5.0, None)
    peer.messages()

    assert peer.command("publish", 6.0, None, name, msid=msid) == []

    (reply,) = peer.messages()
    assert reply.stream_id == msid
    assert infos([amf0.decode(reply.payload)]) == [("onStatus", "error", "NetStream.Publish.BadName")]
    assert peer.message(9, b"x", msid=1)
    assert peer.message(9, b"x", msid=2) == []


@pytest.mark.parametrize(
    ("name", "arguments", "msid"),
    [
        ("FCUnpublish", ["key"], 0),
        ("FCUnpublish", [], 0),
        ("deleteStream", [1.0], 0),
        ("closeStream", [], 1),
        ("publish", [False], 1),
        ("close", [], 0),
    ],
)
def test_a_publish_ends_once_however_it_ends(name: str, arguments: list[amf0.Value], msid: int) -> None:
    peer = publishing()
    server = server_of(peer)

    assert peer.command(name, 0.0, None, *arguments, msid=msid) == [PublishEnded(stream_id=1, command=name)]
    assert ("onStatus", "status", "NetStream.Unpublish.Success") in infos(
        [reply for reply in peer.replies() if reply[0] == "onStatus"]
    )
    assert server.publishing is None
    for again in ("FCUnpublish", "closeStream", "deleteStream"):
        assert peer.command(again, 0.0, None, 1.0, msid=msid) == []
    assert peer.message(9, b"late", msid=1) == []
    server.end_publish(1, "too late")


def test_fcunpublish_is_answered() -> None:
    peer = publishing()
    peer.command("FCUnpublish", 6.0, None, "key")

    assert [reply[0] for reply in peer.replies()] == ["_result", "onFCUnpublish", "onStatus"]


def test_fcunpublish_of_another_key_ends_nothing() -> None:
    peer = publishing()

    assert peer.command("FCUnpublish", 0.0, None, "other") == []
    assert peer.command("FCUnpublish", 0.0, None, "../other") == []
    assert peer.message(9, b"x", msid=1)


@pytest.mark.parametrize("number", [0.0, 2.0, -1.0, math.nan, math.inf, 1e300, "1", None, True])
def test_deleting_a_stream_of_others_changes_nothing(number: amf0.Value) -> None:
    peer = publishing()

    assert peer.command("deleteStream", 0.0, None, number) == []
    assert peer.message(9, b"x", msid=1)


def test_an_encoder_may_publish_again_on_the_same_connection() -> None:
    peer = publishing()
    peer.command("FCUnpublish", 0.0, None, "key")
    peer.command("deleteStream", 0.0, None, 1.0)
    assert server_of(peer).phase == "command"

    peer.command("createStream", 8.0, None)
    (question,) = peer.command("publish", 9.0, None, "key", msid=1)

    assert isinstance(question, PublishRequested)


def test_a_publish_taken_back_is_told_and_its_media_stops() -> None:
    peer = publishing()
    server_of(peer).end_publish(1, "Another encoder took over.")

    assert infos(peer.replies()) == [("onStatus", "error", "NetStream.Publish.BadName")]
    assert peer.message(9, b"x", msid=1) == []


def test_a_description_is_printable_ascii_under_256_characters() -> None:
    peer = asked()
    server_of(peer).reject_publish(1, "NetStream.Publish.Denied", "ñ\x1b\n" + "x" * 400)

    description = peer.replies()[0][3]["description"]

    assert len(description) == 255
    assert description.startswith("???xxx")


def test_an_empty_description_is_replaced() -> None:
    peer = asked()
    server_of(peer).reject_publish(1, "NetStream.Publish.Denied", "")

    assert peer.replies()[0][3]["description"]


def test_answers_to_questions_nobody_asked_are_our_own_error() -> None:
    server = server_of(connected())
    for answer in (server.accept_publish, server.reject_publish, server.accept_play, server.reject_play):
        with pytest.raises(LocalProtocolError):
            answer(1)
    with pytest.raises(LocalProtocolError):
        server.accept_connect()
    with pytest.raises(LocalProtocolError):
        server_of(asked()).accept_play(1)
    with pytest.raises(LocalProtocolError):
        server_of(asked()).accept_publish(2)


# Play.


def test_play_is_asked_granted_and_announced_in_order() -> None:
    peer = asked("show?token=t", "play")
    server = server_of(peer)
    question = peer.events[-1]
    assert isinstance(question, PlayRequested)
    assert (question.stream_id, question.app, question.name) == (1, "live", "show")
    assert question.query["token"].reveal() == "t"

    server.accept_play(1)

    begin, reset, start, access = peer.messages()
    assert (begin.type_id, begin.payload) == (4, struct.pack(">HI", 0, 1))
    assert infos([amf0.decode(reset.payload), amf0.decode(start.payload)]) == [
        ("onStatus", "status", "NetStream.Play.Reset"),
        ("onStatus", "status", "NetStream.Play.Start"),
    ]
    assert (access.type_id, access.stream_id) == (18, 1)
    assert amf0.decode(access.payload) == ["|RtmpSampleAccess", True, True]
    assert (server.playing, server.phase) == (1, "play")


def test_play2_is_play() -> None:
    peer = connected()
    peer.command("createStream", 2.0, None)

    (question,) = peer.command("play2", 3.0, None, {"streamName": "show"}, msid=1)

    assert isinstance(question, PlayRequested)
    assert question.name == "show"


def test_play_on_another_stream_than_1_is_refused() -> None:
    peer = connected()
    for _ in range(2):
        peer.command("createStream", 2.0, None)
    peer.messages()

    assert peer.command("play", 3.0, None, "show", msid=2) == []
    assert infos(peer.replies()) == [("onStatus", "error", "NetStream.Play.Failed")]


def test_play_without_a_stream_is_refused_and_closed() -> None:
    assert remote_error(connected(), "play", 3.0, None, "show", msid=1).code == "play.no_stream"


def test_play_of_a_name_that_no_stream_can_have_is_not_found() -> None:
    peer = connected()
    peer.command("createStream", 2.0, None)
    peer.messages()

    error = remote_error(peer, "play", 3.0, None, "a b", msid=1)

    assert error.code == "name.grammar"
    assert infos(peer.read(error.answer)) == [("onStatus", "error", "NetStream.Play.StreamNotFound")]


def test_a_connection_that_publishes_does_not_play() -> None:
    peer = publishing()

    assert peer.command("play", 3.0, None, "show", msid=1) == []
    assert infos(peer.replies()) == [("onStatus", "error", "NetStream.Play.Failed")]
    assert peer.message(9, b"x", msid=1)


def test_a_refused_play_says_not_found() -> None:
    peer = asked("show", "play")
    server_of(peer).reject_play(1)

    assert infos(peer.replies()) == [("onStatus", "error", "NetStream.Play.StreamNotFound")]
    assert server_of(peer).playing is None


def test_the_end_of_a_stream_is_told_to_its_player_once() -> None:
    peer = playing()
    server_of(peer).end_play(1, "over")
    server_of(peer).end_play(1, "over")

    notice, eof = peer.messages()
    assert infos([amf0.decode(notice.payload)]) == [("onStatus", "status", "NetStream.Play.UnpublishNotify")]
    assert eof.payload == struct.pack(">HI", 1, 1)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("pause", [True, 0.0], PlayGated(stream_id=1, paused=True)),
        ("pause", [False, 0.0], PlayGated(stream_id=1, paused=False)),
        ("receiveAudio", [False], PlayGated(stream_id=1, audio=False)),
        ("receiveVideo", [True], PlayGated(stream_id=1, video=True)),
        ("closeStream", [], PlayEnded(stream_id=1)),
        ("deleteStream", [1.0], PlayEnded(stream_id=1)),
        ("play", [False], PlayEnded(stream_id=1)),
    ],
)
def test_a_player_may_pause_switch_tracks_and_leave(name: str, arguments: list[amf0.Value], expected: Event) -> None:
    assert playing().command(name, 0.0, None, *arguments, msid=1) == [expected]


def test_pause_is_confirmed_and_seek_is_not_possible() -> None:
    peer = playing()
    peer.command("pause", 0.0, None, True, 0.0, msid=1)
    peer.command("pause", 0.0, None, False, 0.0, msid=1)
    peer.command("seek", 0.0, None, 1e300, msid=1)

    assert infos(peer.replies()) == [
        ("onStatus", "status", "NetStream.Pause.Notify"),
        ("onStatus", "status", "NetStream.Unpause.Notify"),
        ("onStatus", "status", "NetStream.Seek.Failed"),
    ]


@pytest.mark.parametrize("name", ["pause", "receiveAudio", "receiveVideo", "seek"])
def test_player_commands_without_a_play_do_nothing(name: str) -> None:
    peer = connected()

    assert peer.command(name, 0.0, None, True) == []
    assert peer.replies() == []


# Control.


def test_a_ping_is_answered_with_its_own_time() -> None:
    peer = connected()
    peer.message(4, struct.pack(">HI", 6, 0xDEADBEEF))

    (pong,) = peer.messages()
    assert (pong.type_id, pong.payload) == (4, struct.pack(">HI", 7, 0xDEADBEEF))


def test_ten_pings_a_second_are_answered() -> None:
    peer = connected()
    for _ in range(50):
        peer.message(4, struct.pack(">HI", 6, 1))
    assert len(peer.messages()) == 10

    peer.now += 1.0
    peer.message(4, struct.pack(">HI", 6, 1))
    assert len(peer.messages()) == 1
    assert peer.connection.odd["control.ping_flood"] == 40


def test_our_ping_carries_the_time() -> None:
    peer = connected()
    peer.connection.send_ping(12.5)

    assert peer.messages()[0].payload == struct.pack(">HI", 6, 12_500)


@pytest.mark.parametrize(
    ("type_id", "body", "code"),
    [
        (4, b"\x00", "control.short"),
        (4, b"\x00\x06\x00", "control.short"),
        (4, struct.pack(">HI", 31, 1), "control.unknown_event"),
        (4, struct.pack(">HI", 32, 1), "control.unknown_event"),
        (4, struct.pack(">HI", 65535, 1), "control.unknown_event"),
        (5, b"\x00\x01", "control.short"),
        (6, b"\x00\x00\x10\x00", "control.short"),
        (6, struct.pack(">IB", 5000, 3), "control.bandwidth_type"),
        (6, struct.pack(">IB", 5000, 255), "control.bandwidth_type"),
        (3, b"\x00", "control.short"),
    ],
)
def test_odd_control_messages_are_counted_and_ignored(type_id: int, body: bytes, code: str) -> None:
    peer = connected()

    assert peer.message(type_id, body) == []
    assert peer.messages() == []
    assert peer.connection.odd[code] == 1


@pytest.mark.parametrize("limit_type", [0, 1, 2])
def test_a_new_peer_bandwidth_is_answered_with_the_window(limit_type: int) -> None:
    peer = connected()
    for _ in range(3):
        peer.message(6, struct.pack(">IB", 5000, limit_type))

    (answer,) = peer.messages()
    assert (answer.type_id, answer.payload) == (5, struct.pack(">I", 5000))


def test_an_acknowledgement_is_a_fact() -> None:
    assert connected().message(3, struct.pack(">I", 0xFFFFFFFF)) == [Acknowledged(total=0xFFFFFFFF)]


def acks(peer: Peer) -> list[int]:
    return [struct.unpack(">I", message.payload)[0] for message in peer.messages() if message.type_id == 3]


def test_half_a_window_is_acknowledged() -> None:
    peer = publishing()
    peer.message(5, struct.pack(">I", 100_000))
    while server_of(peer).bytes_received < 49_000:
        peer.message(9, bytes(500), msid=1)
    assert acks(peer) == []

    while server_of(peer).bytes_received < 50_000:
        peer.message(9, bytes(500), msid=1)

    assert acks(peer) == [server_of(peer).bytes_received]


def test_a_window_is_assumed_when_none_is_announced() -> None:
    peer = publishing()
    body = bytes(60_000)
    for _ in range(21):
        peer.message(9, body, msid=1)

    assert len(acks(peer)) == 1


@pytest.mark.parametrize("size", [1, 100, 4096])
def test_a_tiny_window_is_acknowledged_ten_times_a_second_at_most(size: int) -> None:
    peer = publishing()
    peer.message(5, struct.pack(">I", size))
    for _ in range(100):
        peer.now += 0.01
        peer.message(9, bytes(5000), msid=1)

    assert 9 <= len(acks(peer)) <= 11


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_no_window_and_the_largest_window_need_no_acknowledgement(size: int) -> None:
    peer = publishing()
    peer.message(5, struct.pack(">I", size))
    for _ in range(30):
        peer.message(9, bytes(60_000), msid=1)

    assert acks(peer) == []


def test_the_acknowledged_count_starts_again_before_it_wraps() -> None:
    peer = publishing()
    server = server_of(peer)
    seen = []
    for total in (0xE0000000, 0xF0000000, 0x1_00000000, 0x1_E0000000):
        server._reader.bytes_received = total
        peer.now += 1.0
        peer.message(9, b"x", msid=1)
        seen += acks(peer)

    size = len(Peer.frame(9, b"x", 1))
    assert seen == [0xE0000000 + size, 0, 0x10000000, 0]


def test_a_reconnect_is_requested_only_from_a_peer_that_can() -> None:
    assert not server_of(connected()).request_reconnect("maintenance")
    peer = connected(capsEx=1.0)

    assert server_of(peer).request_reconnect("maintenance", "rtmp://other.example/live")

    (reply,) = peer.replies()
    assert reply[0] == "onStatus"
    assert reply[3] == {
        "level": "status",
        "code": "NetConnection.Connect.ReconnectRequest",
        "description": "maintenance",
        "tcUrl": "rtmp://other.example/live",
    }


# Captured encoders, and any bytes at all.


def replay(data: bytes, size: int) -> list[Any]:
    server = ServerConnection(random=fixed_random)
    events: list[Event] = []
    for start in range(0, len(data), size):
        events += accept_all(server, server.receive_data(data[start : start + size], 1.0))
        server.data_to_send()
    return summary(events)


@pytest.mark.parametrize("name", CAPTURES)
def test_a_captured_encoder_publishes(name: str) -> None:
    events = replay((CORPUS / f"{name}.c2s.bin").read_bytes(), 4096)

    kinds = [event if not isinstance(event, tuple) else event[0] for event in events]
    assert [type(event) for event in kinds[:3]] == [HandshakeCompleted, ConnectRequested, PublishRequested]
    assert kinds[0] == HandshakeCompleted(digest=True)
    assert kinds[3:5] == [18, 9]
    assert kinds.count(9) > 5
    assert isinstance(kinds[-1], PublishEnded)
    assert sum(isinstance(kind, PublishEnded) for kind in kinds) == 1


@pytest.mark.parametrize("name", CAPTURES)
def test_a_capture_says_the_same_byte_by_byte(name: str) -> None:
    data = (CORPUS / f"{name}.c2s.bin").read_bytes()[:40_000]

    assert replay(data, 1) == replay(data, 1000)


@pytest.mark.parametrize("name", ["cap_128", "cap_h264aac", "cap_hevcopus"])
def test_a_capture_says_the_same_in_one_piece(name: str) -> None:
    data = (CORPUS / f"{name}.c2s.bin").read_bytes()

    assert replay(data, len(data)) == replay(data, 1000)


def run(pieces: list[bytes]) -> tuple[list[Any], str]:
    server = ServerConnection(random=fixed_random)
    events: list[Event] = []
    try:
        for piece in pieces:
            events += accept_all(server, server.receive_data(piece, 1.0))
        server.receive_data(b"", 1.0)
    except RemoteProtocolError as error:
        return summary(events), error.code
    return summary(events), ""


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
CALLS = (
    *("connect", "createStream", "publish", "play", "play2", "deleteStream", "closeStream", "FCUnpublish"),
    *("pause", "FCPublish", "receiveAudio", "seek", "_result", "close", "?"),
)
calls = st.builds(
    lambda name, transaction, arguments, msid: Peer.frame(20, amf0.encode(name, transaction, *arguments), msid),
    st.sampled_from(
        [
            "connect",
            "createStream",
            "publish",
            "play",
            "play2",
            "deleteStream",
            "closeStream",
            "FCUnpublish",
            "pause",
            "FCPublish",
            "receiveAudio",
            "seek",
            "_result",
            "close",
            "?",
        ]
    ),
    st.sampled_from([0.0, 1.0, NAN]),
    st.lists(st.one_of(values, st.sampled_from(["key", False, True, 1.0, 2.0])), max_size=3),
    st.integers(0, 2),
)
media = st.builds(
    Peer.frame, st.sampled_from([3, 4, 5, 6, 8, 9, 15, 16, 18, 19, 77]), st.binary(max_size=20), st.integers(0, 2)
)
OPENING = b"\x03" + bytes(3072) + Peer.frame(20, amf0.encode("connect", 1.0, CONNECT))
CREATE = Peer.frame(20, amf0.encode("createStream", 2.0, None))


@settings(max_examples=60)
@given(st.booleans(), st.lists(st.one_of(calls, media), max_size=12), st.lists(st.integers(0, 4000), max_size=6))
def test_any_messages_in_any_split_give_the_same_events_or_the_same_error(
    ready: bool, frames: list[bytes], cuts: list[int]
) -> None:
    data = OPENING + (CREATE if ready else b"") + b"".join(frames)
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    whole, error = run([data])

    split, split_error = run([data[start:end] for start, end in pairwise(edges)])

    assert split_error == error
    assert split == whole if not error else split[: len(whole)] == whole


@settings(max_examples=60)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x03" + bytes(3072), OPENING, OPENING + CREATE]))
def test_any_bytes_give_events_or_a_protocol_error(junk: bytes, before: bytes) -> None:
    events, error = run([before, junk])

    assert error or len(events) <= 3 + len(junk)


def test_an_error_names_the_phase_it_came_in() -> None:
    peer = publishing()
    with pytest.raises(RemoteProtocolError):
        peer.message(20, b"\x02\xff")

    assert server_of(peer).phase == "publish"


def test_both_roles_understand_each_other() -> None:
    pair = ConnectionPair(name="key?token=t").pump()
    data = pair.client.send_media(9, 40, b"\x17\x01picture")

    pair.pump(data)

    kinds = [type(event).__name__ for event in pair.server_events]
    assert kinds == ["HandshakeCompleted", "ConnectRequested", "PublishRequested", "Message"]
    assert [type(event).__name__ for event in pair.client_events] == [
        "HandshakeCompleted",
        "ConnectAccepted",
        "PublishAccepted",
    ]
