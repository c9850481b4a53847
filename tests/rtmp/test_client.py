"""The client's side of the conversation, against our server and against every manner of other servers."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import amf0
from relay.rtmp.chunks import ChunkReader
from relay.rtmp.client import ClientConnection
from relay.rtmp.errors import LocalProtocolError, RemoteProtocolError
from relay.rtmp.events import (
    Acknowledged,
    ConnectAccepted,
    ConnectRejected,
    ConnectRequested,
    Event,
    HandshakeCompleted,
    Message,
    PlayAccepted,
    PlayEnded,
    PlayRefused,
    PlayRequested,
    PublishAccepted,
    PublishEnded,
    PublishRefused,
    PublishRequested,
    ReconnectRequested,
    StatusReceived,
)
from relay.rtmp.limits import AFTER_AUTH
from relay.rtmp.server import ServerConnection
from relay.secret import Secret
from tests.helpers.pairs import HANDSHAKE_SIZE, ConnectionPair, Peer, fixed_random

KEY = "FB-1?s_bl=1&a=Ab_c/d=="
TC_URL = "rtmps://live.example/rtmp"
SUCCESS: dict[str, amf0.Value] = {"level": "status", "code": "NetConnection.Connect.Success", "description": "ok"}


def client(**options: Any) -> ClientConnection:
    settings: dict[str, Any] = {
        "role": "publish",
        "app": "rtmp",
        "tc_url": Secret(TC_URL),
        "name": Secret(KEY),
        "random": fixed_random,
    }
    return ClientConnection(**settings | options)


def info(level: str, code: str, **more: amf0.Value) -> dict[str, amf0.Value]:
    return {"level": level, "code": code, "description": "words"} | more


def connecting(**options: Any) -> Peer:
    """A server that has shaken hands with our client and read its connect."""
    peer = Peer(client(**options)).handshake()
    peer.messages()
    return peer


def creating(**options: Any) -> Peer:
    """A server that has accepted connect."""
    peer = connecting(**options)
    peer.command("_result", 1.0, {"fmsVer": "x"}, SUCCESS)
    return peer


def waiting(stream_id: float = 1.0, **options: Any) -> Peer:
    """A server that was asked to publish or play."""
    peer = creating(**options)
    peer.command("_result", 4.0 if client_of(peer)._role == "publish" else 2.0, None, stream_id)
    peer.messages()
    return peer


def live(**options: Any) -> Peer:
    """A server that granted it."""
    peer = waiting(**options)
    code = "NetStream.Publish.Start" if client_of(peer)._role == "publish" else "NetStream.Play.Start"
    peer.command("onStatus", 0.0, None, info("status", code), msid=1)
    peer.messages()
    return peer


def client_of(peer: Peer) -> ClientConnection:
    assert isinstance(peer.connection, ClientConnection)
    return peer.connection


# The way up.


def test_c2_leaves_as_soon_as_s1_is_in() -> None:
    connection = client()
    connection.start()
    opening = connection.data_to_send()
    s1 = bytes(range(256)) * 6

    assert connection.receive_data(b"\x03" + s1[:-1], 0.0) == []
    assert connection.data_to_send() == b""
    assert connection.receive_data(s1[-1:], 0.0) == []

    assert len(opening) == 1537
    assert connection.data_to_send() == s1


def test_chunk_size_comes_before_connect() -> None:
    connection = client()
    peer = Peer(connection).handshake()
    reader = ChunkReader(AFTER_AUTH)

    (connect,) = reader.receive(connection.data_to_send()[HANDSHAKE_SIZE:], 0.0)

    assert reader.chunk_size == 65536
    assert peer.events == [HandshakeCompleted(digest=False)]
    name, transaction, properties = amf0.decode(connect.payload)
    assert (name, transaction) == ("connect", 1.0)
    assert properties == {
        "app": "rtmp",
        "type": "nonprivate",
        "flashVer": "FMLE/3.0 (compatible; rtmp-relay/0.1)",
        "swfUrl": TC_URL,
        "tcUrl": TC_URL,
    }


def test_a_player_says_what_it_can_take() -> None:
    connection = client(role="play")
    (connect,) = Peer(connection).handshake().replies()

    assert connect[2]["fourCcList"] == ["*"]
    assert connect[2]["videoFourCcInfoMap"] == {"*": 4.0}
    assert connect[2]["capsEx"] == 7.0
    assert connect[2]["videoCodecs"] == 252.0


@pytest.mark.parametrize(("enhanced", "present"), [(None, False), (False, False), (True, True)])
def test_a_publisher_announces_enhanced_rtmp_when_told_to(enhanced: bool | None, present: bool) -> None:
    (connect,) = Peer(client(enhanced=enhanced)).handshake().replies()

    assert ("capsEx" in connect[2]) == present


def test_the_commands_before_publish_are_sent_without_waiting_for_answers() -> None:
    peer = connecting()

    (accepted,) = peer.command("_result", 1.0, {"fmsVer": "x"}, SUCCESS)

    assert accepted == ConnectAccepted(properties={"fmsVer": "x"}, info=SUCCESS)
    assert peer.replies() == [
        ["releaseStream", 2.0, None, KEY],
        ["FCPublish", 3.0, None, KEY],
        ["createStream", 4.0, None],
    ]


@pytest.mark.parametrize("stream_id", [1.0, 0.0, 5.0, 4_000_000_000.0])
def test_the_stream_id_that_the_server_gives_is_used(stream_id: float) -> None:
    peer = creating()
    peer.messages()
    peer.command("_result", 4.0, None, stream_id)

    (publish,) = peer.messages()

    assert publish.stream_id == stream_id == client_of(peer).stream_id
    assert amf0.decode(publish.payload) == ["publish", 5.0, None, KEY, "live"]
    client_of(peer).start_anyway()
    (media,) = peer._reader.receive(client_of(peer).send_media(9, 40, b"x"), 0.0)
    assert media.stream_id == stream_id


def test_play_asks_for_live_and_says_its_buffer() -> None:
    peer = creating(role="play", name=Secret("show"))
    window, create = peer.messages()
    assert window.type_id == 5
    assert amf0.decode(create.payload) == ["createStream", 2.0, None]
    peer.command("_result", 2.0, None, 1.0)

    play, buffer = peer.messages()

    assert amf0.decode(play.payload) == ["play", 3.0, None, "show", -2000.0]
    assert buffer.payload == struct.pack(">HII", 3, 1, 3000)


@pytest.mark.parametrize("role", ["publish", "play"])
def test_what_servers_say_on_the_way_disturbs_nothing(role: str) -> None:
    peer = Peer(client(role=role)).handshake()
    peer.messages()
    peer.message(5, struct.pack(">I", 2_500_000))
    peer.message(6, struct.pack(">IB", 2_500_000, 2))
    peer.message(4, struct.pack(">HI", 0, 0))
    peer.command("onBWDone", 0.0, None, 8192.0)
    peer.command("_checkbw", 7.0, None)
    peer.command("_result", 1.0, {}, SUCCESS)
    peer.command("onBWDone", 0.0, None)
    peer.command("_error", 2.0 if role == "publish" else 99.0, None, info("error", "NetConnection.Call.Failed"))
    peer.command("_result", 3.0 if role == "publish" else 98.0, None, amf0.UNDEFINED)
    peer.command("onFCPublish", 3.0, None, info("status", "NetStream.Publish.Start"))
    peer.command("_result", 4.0 if role == "publish" else 2.0, None, 1.0)
    peer.message(18, amf0.encode("|RtmpSampleAccess", True, True), msid=1)
    code = "NetStream.Publish.Start" if role == "publish" else "NetStream.Play.Start"
    peer.command("onStatus", 0.0, None, info("status", code), msid=1)

    kinds = [type(event) for event in peer.events if not isinstance(event, Message)]

    assert kinds == [HandshakeCompleted, ConnectAccepted, PublishAccepted if role == "publish" else PlayAccepted]


@pytest.mark.parametrize(
    ("name", "transaction", "values"),
    [
        ("onStatus", 0.0, (None, info("status", "NetStream.Publish.Start"))),
        ("onStatus", 5.0, (None, info("status", "NetStream.Play.Start"))),
        ("_result", 5.0, (None, info("status", "NetStream.Publish.Start"))),
        ("_result", 5.0, ()),
    ],
    ids=["publish-start", "huya-says-play-start", "result-with-status", "bare-result"],
)
def test_every_form_of_a_grant_is_taken_and_only_once(name: str, transaction: float, values: tuple[Any, ...]) -> None:
    peer = waiting()

    assert peer.command(name, transaction, *values, msid=1) == [PublishAccepted(stream_id=1)]
    assert peer.command(name, transaction, *values, msid=1) == []
    assert peer.command("onStatus", 0.0, None, info("status", "NetStream.Publish.Start")) == []


def test_a_connect_answer_is_taken_whatever_its_transaction_id() -> None:
    assert [type(event) for event in connecting().command("_result", 0.0, None, SUCCESS)] == [ConnectAccepted]


def test_a_create_stream_answer_with_a_wrong_transaction_id_is_taken_for_its_number() -> None:
    peer = creating()
    peer.messages()
    peer.command("_result", 77.0, None, None)
    peer.command("_result", 78.0, None, 3.0)

    assert client_of(peer).stream_id == 3


def test_a_server_that_never_grants_may_be_ignored() -> None:
    peer = waiting()
    connection = client_of(peer)

    assert connection.start_anyway() == [PublishAccepted(stream_id=1)]
    assert connection.start_anyway() == []
    assert peer.command("onStatus", 0.0, None, info("status", "NetStream.Publish.Start"), msid=1) == []
    assert connection.send_media(8, 0, b"x")


def test_only_an_asked_publish_can_start_anyway() -> None:
    with pytest.raises(LocalProtocolError):
        client_of(creating()).start_anyway()


def test_a_client_starts_once() -> None:
    connection = client()
    connection.start()

    with pytest.raises(LocalProtocolError):
        connection.start()


# Refusals.


def test_a_rejected_connect_tells_code_description_and_redirect() -> None:
    peer = connecting()
    redirect: dict[str, amf0.Value] = {"code": 302.0, "redirect": "rtmp://other.example/live"}
    reason = info("error", "NetConnection.Connect.Rejected", ex=redirect)

    assert peer.command("_error", 1.0, None, reason) == [
        ConnectRejected(code="NetConnection.Connect.Rejected", description="words", info=reason)
    ]
    assert peer.connection.closed
    assert peer.command("_result", 1.0, {}, SUCCESS) == []


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("_error", 1.0, None, {}), "NetConnection.Call.Failed"),
        (("_error", 1.0), "NetConnection.Call.Failed"),
        (("_error", 1.0, info("error", "NetConnection.Connect.Closed")), "NetConnection.Connect.Closed"),
        (("_result", 1.0, {}, info("error", "NetConnection.Connect.Rejected")), "NetConnection.Connect.Rejected"),
        (
            ("onStatus", 0.0, None, info("error", "NetConnection.Connect.InvalidApp")),
            "NetConnection.Connect.InvalidApp",
        ),
        (("close", 0.0, None), "NetConnection.Connect.Closed"),
    ],
    ids=["empty-info", "no-info", "info-as-object", "result-that-is-none", "status", "close"],
)
def test_every_form_of_rejecting_connect_is_understood(command: tuple[Any, ...], code: str) -> None:
    (event,) = connecting().command(*command)

    assert isinstance(event, ConnectRejected)
    assert event.code == code


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("onStatus", 0.0, None, info("error", "NetStream.Publish.BadName")), "NetStream.Publish.BadName"),
        (("onStatus", 0.0, None, info("error", "NetStream.Failed")), "NetStream.Failed"),
        (("_error", 5.0, None, info("error", "NetStream.Publish.Denied")), "NetStream.Publish.Denied"),
        (("onFCPublish", 0.0, None, info("error", "NetStream.Publish.BadName")), "NetStream.Publish.BadName"),
        (("close", 0.0), "NetConnection.Connect.Closed"),
    ],
    ids=["bad-name", "failed", "error-to-publish", "fcpublish", "close"],
)
def test_every_form_of_refusing_publish_is_understood(command: tuple[Any, ...], code: str) -> None:
    peer = waiting()

    (event,) = peer.command(*command)

    assert isinstance(event, PublishRefused)
    assert event.code == code
    assert peer.connection.closed


@pytest.mark.parametrize(
    "answer", [("_error", 4.0, None, info("error", "x")), ("_result", 4.0, None, "1"), ("_result", 4.0)]
)
def test_a_stream_that_cannot_be_created_ends_the_attempt(answer: tuple[Any, ...]) -> None:
    (event,) = creating().command(*answer)

    assert isinstance(event, PublishRefused)


@pytest.mark.parametrize("value", [float("nan"), -1.0, 1e300])
def test_a_stream_id_that_is_none_ends_the_attempt(value: float) -> None:
    assert [type(event) for event in creating().command("_result", 4.0, None, value)] == [PublishRefused]


@pytest.mark.parametrize("code", ["NetStream.Play.StreamNotFound", "NetStream.Play.Failed", "NetStream.Failed"])
def test_a_refused_play_is_understood(code: str) -> None:
    (event,) = waiting(role="play").command("onStatus", 0.0, None, info("error", code), msid=1)

    assert event == PlayRefused(code=code, description="words")


@pytest.mark.parametrize("end", ["UnpublishNotify", "Complete", "Stop"])
def test_the_end_of_a_play_is_understood(end: str) -> None:
    peer = live(role="play")

    (event,) = peer.command("onStatus", 0.0, None, info("status", f"NetStream.Play.{end}"), msid=1)

    assert isinstance(event, PlayRefused)
    assert peer.connection.closed


# While live.


def test_an_error_while_live_is_a_status_for_the_caller_to_judge() -> None:
    peer = live()
    (event,) = peer.command("onStatus", 0.0, None, info("error", "NetStream.Publish.BadName"), msid=1)

    assert isinstance(event, StatusReceived)
    assert (event.level, event.code, event.description) == ("error", "NetStream.Publish.BadName", "words")
    assert client_of(peer).send_media(9, 0, b"x")


def test_other_statuses_are_passed_on() -> None:
    (event,) = live().command("onStatus", 0.0, None, {"code": "NetStream.Publish.Idle"}, msid=1)

    assert event == StatusReceived(
        level="status", code="NetStream.Publish.Idle", description="", info={"code": "NetStream.Publish.Idle"}
    )


def test_a_reconnect_request_is_understood_at_any_time() -> None:
    code = "NetConnection.Connect.ReconnectRequest"
    for peer in (creating(), waiting(), live()):
        (event,) = peer.command("onStatus", 0.0, None, info("status", code, tcUrl="/other"))

        assert event == ReconnectRequested(tc_url="/other", description="words")
        assert not peer.connection.closed


def test_metadata_gets_the_set_data_frame_that_servers_want() -> None:
    peer = live()
    bare = amf0.encode("onMetaData", {"width": 1.0})
    prefixed = amf0.encode("@setDataFrame") + bare
    other = amf0.encode("onTextData", {"text": "x"})

    sent = b"".join(client_of(peer).send_media(18, 0, body) for body in (bare, prefixed, other))

    assert [message.payload for message in peer._reader.receive(sent, 0.0)] == [prefixed, prefixed, other]


def test_media_is_not_sent_before_the_grant_or_by_a_player() -> None:
    for peer in (creating(), waiting(), live(role="play")):
        with pytest.raises(LocalProtocolError):
            client_of(peer).send_media(9, 0, b"x")


def test_large_media_is_cut_at_the_announced_chunk_size() -> None:
    peer = live(chunk_size=4096)
    body = bytes(range(256)) * 40
    data = client_of(peer).send_media(9, 0x1000000, body)

    (message,) = peer._reader.receive(data, 0.0)

    assert len(data) == len(body) + 16 + 2 * 5
    assert (message.payload, message.timestamp) == (body, 0x1000000)


def test_bytes_sent_count_everything_handed_out() -> None:
    peer = live()
    connection = client_of(peer)
    before = connection.bytes_sent

    data = connection.send_media(9, 0, bytes(100))

    assert before > 3073
    assert connection.bytes_sent == before + len(data)


def test_acknowledgements_are_counted_while_they_make_sense() -> None:
    peer = live()
    connection = client_of(peer)
    assert peer.message(3, struct.pack(">I", 500)) == [Acknowledged(total=500)]
    assert connection.acked == 500
    peer.message(3, struct.pack(">I", 400))
    peer.message(3, struct.pack(">I", 0xFFFFFFF0))
    peer.message(3, b"\x01")

    assert connection.acked == 500


def test_the_acknowledged_count_follows_a_counter_that_wraps() -> None:
    peer = live()
    connection = client_of(peer)
    connection.bytes_sent = (1 << 32) + 1000
    peer.message(3, struct.pack(">I", 0xFFFFFF00))
    assert connection.acked == 0xFFFFFF00

    peer.message(3, struct.pack(">I", 900))

    assert connection.acked == (1 << 32) + 900


def test_pings_are_answered_and_what_comes_is_acknowledged() -> None:
    peer = live(role="play")
    peer.message(4, struct.pack(">HI", 6, 77))
    (pong,) = peer.messages()
    assert pong.payload == struct.pack(">HI", 7, 77)
    peer.message(5, struct.pack(">I", 50_000))
    for _ in range(60):
        peer.message(9, bytes(500), msid=1)

    (ack,) = peer.messages()
    assert ack.type_id == 3


def test_unpublish_says_so_once_and_ends_it() -> None:
    peer = live()
    connection = client_of(peer)
    connection.unpublish()
    connection.unpublish()

    assert peer.replies() == [["FCUnpublish", 6.0, None, KEY], ["deleteStream", 7.0, None, 1.0]]
    assert connection.closed
    with pytest.raises(LocalProtocolError):
        connection.send_media(9, 0, b"x")


def test_unpublish_before_anything_was_asked_says_nothing() -> None:
    peer = connecting()
    client_of(peer).unpublish()

    assert peer.messages() == []


# Play.


def test_media_that_is_played_is_the_message_itself() -> None:
    peer = live(role="play")
    for type_id in (8, 9, 18, 15):
        (message,) = peer.message(type_id, b"body", msid=1, timestamp=40)

        assert isinstance(message, Message)
        assert (message.type_id, message.timestamp, message.payload) == (type_id, 40, b"body")


def test_media_without_a_grant_is_a_grant() -> None:
    peer = waiting(role="play")

    granted, message = peer.message(9, b"body", msid=1)

    assert granted == PlayAccepted(stream_id=1)
    assert isinstance(message, Message)


def test_media_to_a_publisher_is_dropped() -> None:
    peer = live()

    assert peer.message(9, b"body", msid=1) == []
    assert peer.connection.odd["media.unexpected"] == 1


# Both roles of ours together.


@pytest.mark.parametrize("piece", [0, 1, 7, 1000])
@pytest.mark.parametrize("digest", [False, True])
def test_our_client_publishes_to_our_server(piece: int, digest: bool) -> None:
    pair = ConnectionPair(app="live/a", name="key?token=t", piece=piece, options={"digest": digest}).pump()
    pair.pump(pair.client.send_media(9, 40, b"\x17\x01" + bytes(70_000)) + pair.client.send_media(8, 41, b"\xaf\x01x"))
    pair.client.unpublish()
    pair.pump()

    kinds = [type(event) for event in pair.server_events]
    assert kinds == [HandshakeCompleted, ConnectRequested, PublishRequested, Message, Message, PublishEnded]
    assert pair.server_events[0] == HandshakeCompleted(digest=digest)
    question = pair.server_events[2]
    assert isinstance(question, PublishRequested)
    assert (question.app, question.name.reveal(), question.query["token"].reveal()) == ("live", "a/key", "t")
    assert [type(event) for event in pair.client_events] == [HandshakeCompleted, ConnectAccepted, PublishAccepted]


@pytest.mark.parametrize("piece", [0, 1, 7])
def test_our_client_plays_from_our_server(piece: int) -> None:
    pair = ConnectionPair(role="play", name="show", piece=piece).pump()
    pair.server.end_play(1, "over")
    pair.pump()

    assert [type(event) for event in pair.server_events] == [HandshakeCompleted, ConnectRequested, PlayRequested]
    kinds = [type(event) for event in pair.client_events]
    assert kinds == [HandshakeCompleted, ConnectAccepted, StatusReceived, PlayAccepted, Message, PlayRefused]


def test_a_player_of_ours_leaves_our_server() -> None:
    pair = ConnectionPair(role="play", name="show").pump()
    pair.client.unpublish()
    pair.pump()

    assert pair.server_events[-1] == PlayEnded(stream_id=1)


def test_a_refusal_of_our_server_reaches_our_client() -> None:
    def refuse(server: ServerConnection, event: Event) -> list[Event]:
        if isinstance(event, ConnectRequested):
            return server.accept_connect()
        if isinstance(event, PublishRequested):
            return server.reject_publish(event.stream_id, "NetStream.Publish.Denied", "not today")
        return []

    pair = ConnectionPair(answer=refuse).pump()

    assert pair.client_events[-1] == PublishRefused(code="NetStream.Publish.Denied", description="not today")


def test_a_rejection_of_our_server_reaches_our_client() -> None:
    def reject(server: ServerConnection, event: Event) -> list[Event]:
        if isinstance(event, ConnectRequested):
            server.reject_connect("not today")
        return []

    last = ConnectionPair(answer=reject).pump().client_events[-1]

    assert isinstance(last, ConnectRejected)
    assert (last.code, last.description) == ("NetConnection.Connect.Rejected", "not today")


def test_no_secret_is_in_a_repr_of_a_client() -> None:
    assert "FB-1" not in repr(vars(client(app="rtmp?token=FB-1", tc_url=Secret("rtmp://h/FB-1"))))


# Any bytes at all.


def run(pieces: list[bytes]) -> tuple[list[Event], str]:
    connection = client(role="play")
    connection.start()
    events: list[Event] = []
    try:
        for piece in pieces:
            events += connection.receive_data(piece, 1.0)
            connection.data_to_send()
    except RemoteProtocolError as error:
        return events, error.code
    return events, ""


def told(events: list[Event]) -> list[Any]:
    return [
        (event.type_id, event.timestamp, event.payload) if isinstance(event, Message) else repr(event)
        for event in events
    ]


SHAKEN = b"\x03" + bytes(3072)
answers = st.builds(
    lambda name, transaction, values: Peer.frame(20, amf0.encode(name, transaction, *values), 1),
    st.sampled_from(["_result", "_error", "onStatus", "close", "onFCPublish", "onBWDone", "?"]),
    st.integers(0, 4).map(float),
    st.lists(
        st.sampled_from(
            [
                *(None, 1.0, "x", {}, SUCCESS),
                *(info("status", "NetStream.Play.Start"), info("error", "NetStream.Failed"), {"code": 5.0}),
            ]
        ),
        max_size=3,
    ),
)
others = st.builds(Peer.frame, st.sampled_from([3, 4, 5, 6, 8, 9, 18, 19, 77]), st.binary(max_size=20))


@settings(max_examples=60)
@given(st.booleans(), st.lists(st.one_of(answers, others), max_size=12), st.lists(st.integers(0, 4000), max_size=6))
def test_any_messages_in_any_split_give_the_same_events_or_the_same_error(
    up: bool, frames: list[bytes], cuts: list[int]
) -> None:
    start = [
        Peer.frame(20, amf0.encode("_result", 1.0, {}, SUCCESS)),
        Peer.frame(20, amf0.encode("_result", 2.0, None, 1.0)),
    ]
    data = SHAKEN + b"".join((start if up else []) + frames)
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    whole, error = run([data])

    split, split_error = run([data[start:end] for start, end in pairwise(edges)])

    assert split_error == error
    assert error or told(split) == told(whole)


@settings(max_examples=60)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_events_or_a_protocol_error(junk: bytes, shaken: bool) -> None:
    events, error = run([SHAKEN, junk] if shaken else [junk])

    assert error or len(events) <= 2 + len(junk)
