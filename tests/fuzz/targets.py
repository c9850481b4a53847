"""What is fuzzed: each target makes an input from dice and walks it; whatever it raises but its own verdict is a bug.

The common invariant: any input gives events (values, packets, a configuration) or the error that says who is at
fault, however the bytes are cut, and holds no more memory than the limits allow.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from random import Random
from urllib.parse import quote

from relay import amf0, amf3
from relay.amf_values import AmfError
from relay.config import parse
from relay.config_file import ConfigFileError, Source, _decode
from relay.errors import ConfigError
from relay.media import configs, side
from relay.media.flv import FlvDemuxer
from relay.media.packets import MediaKind, Role
from relay.media.timeline import Timeline
from relay.media.tracks import TrackTable
from relay.net.addresses import AddressPolicy
from relay.net.endpoints import parse_url
from relay.rtmp.chunks import ChunkReader
from relay.rtmp.client import ClientConnection
from relay.rtmp.errors import RemoteProtocolError
from relay.rtmp.events import ConnectRequested, Event, Message, PlayRequested, PublishRequested
from relay.rtmp.framing import frame
from relay.rtmp.handshake import ClientHandshake, ServerHandshake, embed_digest
from relay.rtmp.limits import AFTER_AUTH, BEFORE_AUTH, WireLimits
from relay.rtmp.server import MAX_HELD, ServerConnection
from relay.secret import Redactor, Secret, redact_url, redact_urls
from tests.fuzz import grammar
from tests.fuzz.mutate import damage, pieces
from tests.rtmp.reference_chunks import decode
from tests.spec import wire

SMALL = WireLimits(video=4000, audio=1500, command=2500, chunk_streams=8, partial=1700)
LONGEST_HEADER = 18
MEDIA = (8, 9, 15, 18)


def handshake(dice: Random) -> None:
    """Z1: decided within 3,073 bytes, the same for any split, on both sides."""
    seed = dice.randbytes(1536)
    first = dice.choice(
        (
            wire.FFMPEG_C1,
            seed,
            wire.c1(),
            embed_digest(b"\0\0\0\0\x80\0\7\2" + seed[8:], b"Genuine Adobe Flash Player 001", dice.choice((8, 772))),
        )
    )
    opener = dice.choice((b"\3", b"\3", b"\3", b"\3", b"\6", b"G", b"\x16\3", b"PROXY ", b"POST /", dice.randbytes(2)))
    data = damage(dice, opener + first + dice.randbytes(1536), most=3) + dice.randbytes(dice.choice((0, 1, 50)))
    for make in (ServerHandshake, ClientHandshake):
        results = [_shake(make, cut) for cut in ([data], pieces(dice, data))]
        assert results[0] == results[1], "the split changed the handshake"
        assert len(data) < 3073 or results[0][0], "undecided after 3,073 bytes"


def _shake(make: Callable[..., ServerHandshake | ClientHandshake], cut: list[bytes]) -> tuple[object, ...]:
    hands = make(Random(1).randbytes)
    if isinstance(hands, ClientHandshake):
        hands.start()
    said = left = b""
    for piece in cut:
        if hands.done:
            left += piece
            continue
        try:
            said += hands.receive(piece)
        except RemoteProtocolError as error:
            return error.code, said if isinstance(hands, ClientHandshake) else b""
    return hands.done, hands.digest, said, (hands.leftover if hands.done else b"") + left


def dechunker(dice: Random) -> None:
    """Z2: equal to the slow reference, whatever the split; memory within the bound."""
    data = dice.choice(grammar.recordings())[3073:6000] if not dice.randrange(4) else grammar.chunks(dice)
    data = damage(dice, data, most=3)
    expected = decode(data, SMALL)
    reader = ChunkReader(SMALL)
    found: list[tuple[int, int, int, int, bytes]] = []
    error = ""
    for piece in pieces(dice, data):
        try:
            found += [(m.type_id, m.timestamp, m.stream_id, m.csid, m.payload) for m in reader.receive(piece, 1.0)]
        except RemoteProtocolError as wrong:
            error = wrong.code
            break
        assert reader.partial_bytes <= SMALL.partial + LONGEST_HEADER
    assert error == expected.error
    assert found == (expected.messages[: len(found)] if error else expected.messages)


def writer(dice: Random) -> None:
    """Z3: what we frame comes back as it was, for all sizes, chunk streams and times."""
    reader = ChunkReader(AFTER_AUTH)
    size = dice.choice((1, 2, 127, 128, 129, 4096, 65536))
    data, sent = wire.set_chunk_size(size), []
    for _ in range(dice.randint(1, 8)):
        body = dice.randbytes(dice.choice((1, 2, 126, 127, 128, 129, 300, 4097)))
        one = (
            dice.choice((8, 9, 18, 20)),
            dice.choice(grammar.TIMES),
            dice.choice((0, 1, 7)),
            dice.choice(grammar.CSIDS[1:]),
        )
        sent.append((*one, body))
        data += frame(one[3], one[1], one[0], one[2], body, size)
    got = [message for piece in pieces(dice, data) for message in reader.receive(piece, 1.0)]
    assert [(m.type_id, m.timestamp, m.stream_id, m.csid, m.payload) for m in got] == sent


def amf0_values(dice: Random) -> None:
    """Z4: values or an AmfError; within the budget; what was decoded encodes and decodes to the same."""
    data = damage(dice, b"".join(grammar.amf0(dice) for _ in range(dice.randint(1, 6))), most=2)
    try:
        values = amf0.decode(data)
    except AmfError:
        return
    assert _weight(values) <= 2 * amf0.AMF_LIMITS.nodes
    again = amf0.encode(*values)
    assert amf0.encode(*amf0.decode(again)) == again


def amf3_values(dice: Random) -> None:
    """Z5: the same for AMF3, which is only read."""
    data = damage(dice, b"".join(grammar.amf3(dice) for _ in range(dice.randint(1, 6))), most=2)
    try:
        values = amf3.decode(data)
    except AmfError:
        return
    assert _weight(values) <= 2 * amf0.AMF_LIMITS.nodes
    amf0.encode(*values)


def _weight(value: object) -> int:
    """Values that a walk over *value* meets; more than the budget means that somebody may make us walk for ever."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_weight, inside))


def server(dice: Random) -> None:
    """Z6: events or a protocol error; no media without a grant; memory within the bound; silent after the end."""
    core = ServerConnection(random=Random(1).randbytes)
    granted = False
    told = 0
    data = wire.handshake() + grammar.conversation(dice)
    try:
        for piece in pieces(dice, data, 12):
            waiting: list[Event] = list(core.receive_data(piece, 1.0))
            while waiting:
                event = waiting.pop(0)
                match event:
                    case Message():
                        assert granted, "media without a grant"
                    case ConnectRequested():
                        waiting[:0] = core.accept_connect()
                    case PublishRequested(stream_id=number) | PlayRequested(stream_id=number):
                        granted |= isinstance(event, PublishRequested)
                        waiting[:0] = _answer(dice, core, event, number)
                    case _:
                        repr(event)
            told += len(core.data_to_send())
            limits = BEFORE_AUTH if not granted and core.playing is None else AFTER_AUTH
            assert core._reader.partial_bytes <= limits.partial + LONGEST_HEADER
            assert core._held_bytes <= MAX_HELD
    except RemoteProtocolError as error:
        told += len(error.answer)
    assert told <= 64 * len(data), "an amplifier"


def _answer(dice: Random, core: ServerConnection, event: PublishRequested | PlayRequested, number: int) -> list[Event]:
    yes = dice.randrange(5)
    if isinstance(event, PublishRequested):
        return core.accept_publish(number) if yes else core.reject_publish(number)
    return core.accept_play(number) if yes else core.reject_play(number)


def media(dice: Random) -> None:
    """Z7: media never raises; tracks are bounded; what a configuration says is within bounds; time goes forward."""
    demuxer, table, timeline = FlvDemuxer(), TrackTable(), Timeline()
    last: dict[tuple[int, int], int] = {}
    for _ in range(dice.randint(1, 8)):
        kind, body = grammar.body(dice)
        for packet in demuxer.read_many(kind, dice.choice(grammar.TIMES), body):
            assert packet.offset <= len(packet.body)
            if packet.role is not Role.OTHER:
                table.see(packet)
            if packet.role is Role.SIDE:
                side.color_info(packet)
                side.channel_layout(packet)
            if packet.kind is not MediaKind.DATA and packet.role is Role.FRAME:
                key = (packet.kind, packet.track)
                at = timeline.place(packet.kind, packet.track, packet.dts & 0xFFFFFFFF, config=False)
                assert at > last.get(key, -1), "time went back"
                last[key] = at
    for track in table.tracks.tracks:
        facts = configs.video_facts(track)
        assert facts is None or (0 <= facts.width <= 65536 and 0 <= facts.height <= 65536)
        configs.audio_facts(track, b"\x0b\x77" + dice.randbytes(8))
        configs.codec_string(track)
    assert len(table.tracks.tracks) <= 16


KEY = "Zq7xSecretKeyW3k9Lm4v"
"""So long and mixed that it is known for a key even where an app should stand."""


def redaction(dice: Random) -> None:
    """Z11: a key is in no address that is shown, and no private address passes for a public one."""
    hosts = ("h", "a.b.example", "[::1]", "127.0.0.1:1935", "user:pw@h", "h:99999", "", "h\\x", "[", "h@", "\u202eh")
    scheme = dice.choice(("rtmp", "RTMPS", "rtmpt", "http", "srt", "x"))
    app = dice.choice(("live", "live2", "a b", "..", "", "app?x=1", "live#", "%2e%2e"))
    place = dice.choice(
        (f"/{KEY}", f"?key={KEY}", f"/x/{KEY}?a=1", f"?a&{KEY}", f"#{KEY}", f"//{KEY}", f"?token={quote(KEY)}&b")
    )
    address = f"{scheme}://{dice.choice(hosts)}/{app}{place}"
    text = damage(dice, address.encode(), (b"/", b"?", b"@", b":", b"\\", b"\n", b" "), most=2).decode(errors="replace")
    behind_host = re.fullmatch(r"(?i:rtmp[st]?)://[^/?#\\\\]*[/?#\\\\].*" + KEY + ".*", text, re.DOTALL)
    if behind_host and text.count(KEY) == 1:  # glued to the host it looks like a host
        assert KEY not in redact_url(text), redact_url(text)
    assert redact_url(redact_url(text)) == redact_url(text)
    assert KEY not in Redactor([Secret(KEY)]).redact(redact_urls(text))
    try:
        url = parse_url(text)
    except ConfigError:
        pass
    else:
        assert KEY not in f"{url!r}{url.display}{url.authority}" or KEY in url.host.upper() or KEY.lower() in url.host
    _private_is_private(dice)


def _private_is_private(dice: Random) -> None:
    network = ipaddress.ip_network(
        dice.choice(
            (
                "127.0.0.0/8",
                "10.0.0.0/8",
                "172.16.0.0/12",
                "192.168.0.0/16",
                "169.254.0.0/16",
                "100.64.0.0/10",
                "0.0.0.0/8",
            )
        )
    )
    four = int(network.network_address) + dice.randrange(network.num_addresses)
    v4 = str(ipaddress.IPv4Address(four))
    low = f"{four >> 16:x}:{four & 0xFFFF:x}"
    forms = (v4, f"::ffff:{v4}", f"::{low}", f"64:ff9b::{low}", f"2002:{low}::1", f"fe80::{low}%eth0", f"fc00::{low}")
    assert not AddressPolicy().permits(dice.choice(forms))
    for text in (hex(four), str(four), v4 + "\n", f" {v4}", v4.replace(".", "..", 1), f"{v4}/8"):
        assert not AddressPolicy().permits(text)


def configuration(dice: Random) -> None:
    """Z12: a configuration, or problems that each name a line of the file."""
    data = grammar.toml(dice)
    lines = max(data.count(b"\n"), data.count(b"\r")) + 1
    try:
        source = Source(_decode(data, "relay.toml"), file="relay.toml")
        config, problems = parse(source)
    except ConfigFileError as error:
        problems, config = list(error.problems), None
    assert config is not None or problems, "neither a configuration nor a reason"
    for problem in problems:
        assert 1 <= problem.line <= lines, str(problem)
        assert "\n" not in str(problem), str(problem)


def client(dice: Random) -> None:
    """Z13: a hostile destination or source gets no more out of us than a hostile client."""
    role = dice.choice(("publish", "play"))
    core = ClientConnection(
        role=role,  # type: ignore[arg-type]
        app="live",
        tc_url=Secret("rtmp://h/live"),
        name=Secret(KEY),
        random=Random(1).randbytes,
        digest=bool(dice.randrange(2)),
    )
    core.start()
    ok = {"level": "status", "code": dice.choice(("NetConnection.Connect.Success", "x"))}
    begin = {"level": "status", "code": f"NetStream.{role.title()}.Start"}
    way = [
        wire.command("_result", 1, {}, ok),
        wire.command("_result", dice.choice((2, 4)), None, dice.choice((1, 0, 7.5, 2**32))),
        wire.command("onStatus", 0, None, begin, msid=1),
    ]
    data = b"".join(part for step in way for part in (_aside(dice), step, _aside(dice)))
    data = b"\3" + wire.c1() + wire.c1() + damage(dice, data, most=3)
    told, wrong = 0, ""
    try:
        for piece in pieces(dice, data, 12):
            for event in core.receive_data(piece, 1.0):
                assert KEY not in repr(event)
            told += len(core.data_to_send())
            assert core._reader.partial_bytes <= AFTER_AUTH.partial + LONGEST_HEADER
    except RemoteProtocolError as error:
        wrong = str(error)
    assert KEY not in wrong
    assert told <= 8192 + 16 * len(data)
    if core.phase == "streaming" and role == "publish":
        assert core.send_media(9, 5, wire.picture(b"x"))
    core.unpublish()


def _aside(dice: Random) -> bytes:
    if dice.randrange(3):
        return b""
    return dice.choice((grammar.command(dice), grammar.chunks(dice, most=4), wire.user_control(6, b"\0\0\0\1")))


TARGETS: dict[str, Callable[[Random], None]] = {
    "z1-handshake": handshake,
    "z2-dechunker": dechunker,
    "z3-writer": writer,
    "z4-amf0": amf0_values,
    "z5-amf3": amf3_values,
    "z6-server": server,
    "z7-media": media,
    "z11-redaction": redaction,
    "z12-configuration": configuration,
    "z13-client": client,
}
