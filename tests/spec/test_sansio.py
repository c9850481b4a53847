"""Every case against the protocol core alone: no socket, no clock. A step of a case costs no time unless it waits."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from relay.rtmp.chunks import ChunkReader
from relay.rtmp.errors import RemoteProtocolError
from relay.rtmp.events import ConnectRequested, Event, Message, PlayRequested, PublishRequested
from relay.rtmp.names import is_public_name
from relay.rtmp.server import ServerConnection
from tests.helpers.memory import peak, traced
from tests.spec import dialogue, wire
from tests.spec.cases import names
from tests.spec.catalogue import CASES, ELSEWHERE, SCENARIOS
from tests.spec.model import Case, Outcome, Phase, Wait, verdict

MEDIA = (wire.AUDIO, wire.VIDEO, wire.DATA)
SMALL = 24 * 1024
"""Longer cases are not cut into single bytes: it would only take long."""
WATCHED = 16 * 1024 * 1024
"""Cases with a tighter bound on memory are measured; measuring is slow."""


class CoreLink(dialogue.Link):
    """A connection to a `ServerConnection`, with a server behind it that knows one key and one stream."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.core = ServerConnection(random=random.Random(7).randbytes)
        self.code = ""
        self.media: list[tuple[int, int, bytes]] = []

    def send(self, data: bytes, size: int = 0) -> None:
        for start in range(0, len(data), size or max(len(data), 1)):
            if self.closed:
                return
            self._receive(data[start : start + size] if size else data)

    def rest(self, seconds: float) -> None:
        self.now += seconds

    def listen(self) -> bool:
        return False

    def _receive(self, data: bytes) -> None:
        try:
            self._take(self.core.receive_data(data, self.now))
        except RemoteProtocolError as error:
            self.closed, self.code = True, error.code
            self._hear(self.core.data_to_send() + error.answer)
        else:
            self._hear(self.core.data_to_send())

    def _hear(self, data: bytes) -> None:
        self.heard += self.ear.hear(data)

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if not self.closed:
                self._take(self._answer(event))

    def _answer(self, event: Event) -> list[Event]:
        match event:
            case Message(type_id=kind) if kind in MEDIA:
                self.media.append((kind, event.timestamp, bytes(event.payload)))
            case ConnectRequested():
                return self.core.accept_connect()
            case PublishRequested(stream_id=stream_id):
                key = event.query.get("key") or event.name
                if key.reveal() == wire.KEY:
                    return self.core.accept_publish(stream_id)
                self.core.reject_publish(stream_id, "NetStream.Publish.Denied", "not authorised")
                self.closed = True
            case PlayRequested(stream_id=stream_id, name=name):
                if name == wire.STREAM:
                    return self.core.accept_play(stream_id)
                self.core.reject_play(stream_id, "NetStream.Play.StreamNotFound", "no such stream")
                self.closed = True
        return []


def play_out(case: Case, size: int) -> tuple[CoreLink, Outcome, str]:
    """Run *case* with its bytes cut into *size*; return the link, the outcome, and what else is wrong."""
    link = CoreLink()
    dialogue.reach(link, case.after)
    heard_before = link.ear.total
    first = len(link.heard)
    for piece in case.pieces():
        if isinstance(piece, Wait):
            link.rest(piece.seconds)
        else:
            link.send(piece, size)
    reply, answers = link.ear.total - heard_before, link.heard[first:]
    problem = ""
    if not link.closed and case.expect.continues:
        problem = dialogue.follow_up(link, case.after if case.leaves is None else case.leaves, case.chunk_size)
    complaint = f"answered {reply} bytes" if reply > case.max_reply else ""
    if not link.closed and not problem:
        complaint = complaint or _complaint(case, link, answers)
    return link, Outcome(link.closed, link.code, link.errors(), problem), complaint


def _complaint(case: Case, link: CoreLink, answers: list[wire.Heard]) -> str:
    wanted = case.delivers
    if case.leaves is not Phase.PLAY and case.after is not Phase.PLAY:
        time = dialogue.FOLLOW_UP_TIME
        wanted += ((wire.VIDEO, time, dialogue.last_picture), (wire.AUDIO, time, dialogue.last_sound))
    complaint = dialogue.missing_in_order(wanted, link.media)
    if not complaint and any(body in case.never for _, _, body in link.media):
        complaint = "something came out that never should"
    for answer in case.answers:
        if not any(answer in heard.body for heard in answers):
            complaint = f"never answered {answer!r}, but {link.summary()}"
    return complaint


def cuts(case: Case) -> list[int]:
    """The deliveries of *case* that do not take for ever."""
    size = sum(len(piece) for piece in case.pieces() if not isinstance(piece, Wait))
    return [cut for cut in case.deliveries if cut == 0 or size < SMALL * cut]


@pytest.mark.parametrize("case", [case for case in CASES if case.sansio], ids=lambda case: case.id)
def test_bad_input_ends_as_the_catalogue_says(case: Case) -> None:
    for size in cuts(case):
        _link, outcome, complaint = play_out(case, size)

        wrong = verdict(case.expect, outcome) or complaint
        assert not wrong, f"{case.title} (cut into {size or 'one piece'}): {wrong}"


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.sansio and case.memory < WATCHED], ids=lambda case: case.id
)
def test_bad_input_holds_no_more_memory_than_the_catalogue_says(case: Case) -> None:
    pieces = case.pieces()
    with traced():
        play_out(case.but(send=pieces), 0)
        most = peak()

    assert most < case.memory


class CuriousLink(CoreLink):
    """Notes what whoever decides would be asked about: a server that lets everybody in would take these names."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def _answer(self, event: Event) -> list[Event]:
        if isinstance(event, PublishRequested):
            self.asked.append(event.name.reveal())
        if isinstance(event, PlayRequested):
            self.asked.append(event.name)
        return super()._answer(event)


GOOD_NAMES = ("upper-case", "trailing-dot", "leading-dash")
"""They are names, though of nothing that lives. Of the others, a refusal for want of a key would say nothing."""


@pytest.mark.parametrize("ask", [wire.publish, wire.play], ids=["publish", "play"])
@pytest.mark.parametrize("name", [name for name in names.NAMES if name[1] not in GOOD_NAMES], ids=lambda name: name[1])
def test_a_name_that_is_none_is_never_asked_about_as_a_public_name(
    ask: Callable[[str | bytes], bytes], name: tuple[int, str, str | bytes]
) -> None:
    link = CuriousLink()
    dialogue.reach(link, Phase.CONNECT)

    link.send(wire.create_stream() + ask(name[2]))

    assert link.closed
    assert not [asked for asked in link.asked if is_public_name(asked)]
    assert not [asked for asked in link.asked if ".." in asked.split("/") or not asked.isprintable()]


@pytest.mark.parametrize("edge", [2**31, 2**32], ids=["31-bit", "32-bit"])
def test_038_acknowledgements_count_on_past_the_ends_of_their_field(edge: int) -> None:
    link = CoreLink()
    dialogue.reach(link, Phase.LIVE)
    reader = _reader_of(link.core)
    reader.bytes_received = edge - 50_000
    link.send(wire.control(wire.WINDOW_ACK_SIZE, (20_000).to_bytes(4, "big")))
    for number in range(1, 60):
        link.rest(0.2)
        link.send(wire.audio(wire.sound(bytes(2000)), number))

    totals = [int.from_bytes(heard.body, "big") for heard in link.heard if heard.type_id == wire.ACK]
    assert totals, "no acknowledgement at all"
    steps = [(after - before) % 2**32 for before, after in itertools.pairwise(totals)]
    assert all(step < 100_000 for step in steps)
    assert len(link.media) == 59 + 5
    # Past 2^32 the count goes on modulo 2^32, or from 0 as SRS and nginx-rtmp have it for encoders that stall there.
    assert totals[-1] < 200_000 if edge == 2**32 else totals[-1] > edge


def _reader_of(core: ServerConnection) -> ChunkReader:
    """The chunk reader of a connection: the only way to have received 4 GiB without sending them."""
    names = {name for kind in type(core).__mro__ for name in getattr(kind, "__slots__", ())} | set(
        getattr(core, "__dict__", {})
    )
    return next(part for name in names if isinstance(part := getattr(core, name, None), ChunkReader))


def test_every_number_of_the_catalogue_is_checked_somewhere() -> None:
    checked = {case.number for case in CASES} | set(SCENARIOS) | set(ELSEWHERE)

    assert checked >= set(range(1, 127))


def test_case_names_are_unique() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
