"""The webhook plugin without a network: what is asked, what an answer means, and what storms and faults cost."""

from __future__ import annotations

import hmac
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger, capturedLogs, formatEvent

import relay_webhook as webhook_module
from relay.api import (
    Allow,
    Decision,
    Deny,
    Event,
    FailoverLocked,
    FeedEnded,
    FeedStarted,
    FeedSwitched,
    PlayRequest,
    PublishRequest,
    Secret,
    StreamEnded,
    StreamStarted,
    TargetStateChanged,
    is_public_name,
)
from relay.config import Config
from relay.config_file import ConfigFileError
from relay.pluginfind import plugin_from_class
from relay.pluginhost import PluginHost
from relay.testing import PluginContract, host_for, play_request, publish_request, result_of
from relay_streamkeys import StreamKeysPlugin
from relay_webhook import WebhookPlugin
from relay_webhook.asking import CONCURRENCY, LIMIT_S, MAX_WAITING, NOT_NOW, VIEWERS, Asker
from relay_webhook.client import Reply, ServiceError
from relay_webhook.flapping import Flapping
from relay_webhook.guards import (
    FAULTS_TO_OPEN,
    MAX_REFUSALS,
    MAX_WATCHING,
    OPEN_S,
    REFUSED_S,
    WATCHING_S,
    Refusals,
    Watching,
)
from relay_webhook.options import EVENTS, NEARBY, read_place
from relay_webhook.telling import FAREWELL_S, LONGEST_WAIT_S, MAX_BATCH, MAX_QUEUE, Teller
from relay_webhook.telling import LIMIT_S as TELL_S
from relay_webhook.wire import MAX_TEXT, Answer, BadAnswerError, decision, question, report, signature, told

STEP = 2.0**-10
"""A moment that adds up exactly."""

KEY = "canary-key-1234567890"
URL = "https://control.example/relay"


class TestWebhookContract(PluginContract):
    name = "webhook"
    plugin = WebhookPlugin
    config: ClassVar[Mapping[str, object]] = {"url": URL, "secret": "a-secret-of-the-test"}
    bad_configs = (
        ({"url": "control.example"}, "plugins.webhook.url"),
        ({"url": "ftp://control.example/"}, "plugins.webhook.url"),
        ({"url": "https:///hook"}, "plugins.webhook.url"),
        ({"url": "https://user:pass@control.example/"}, "plugins.webhook.url"),
        ({"url": "https://control.example/#x"}, "plugins.webhook.url"),
        ({"url": "https://control.example:0/"}, "plugins.webhook.url"),
        ({"url": "https://control.example:x/"}, "plugins.webhook.url"),
        ({"url": "https://good.example\\@127.0.0.1/"}, "plugins.webhook.url"),
        ({"url": "https://control.example/a b"}, "plugins.webhook.url"),
        ({"url": "http://198.41.0.4/"}, "plugins.webhook.url"),
        ({"url": 5}, "plugins.webhook.url"),
        ({"url": URL, "events_url": "http://198.41.0.4/"}, "plugins.webhook.events_url"),
        ({"url": URL, "events": ["StreamBegan"]}, "plugins.webhook.events"),
        ({"url": URL, "ask": ["record"]}, "plugins.webhook.ask[0]"),
        ({"url": URL, "plain_http": "yes"}, "plugins.webhook.plain_http"),
        ({"url": URL, "secret": ""}, "plugins.webhook.secret"),
    )


# Addresses.


@pytest.mark.parametrize(
    ("url", "display"),
    [
        ("https://control.example/hook/T0KEN?x=secret", "https://control.example"),
        ("https://control.example:8443/", "https://control.example:8443"),
        ("http://[fd00::7]:8000/", "http://[fd00::7]:8000"),
        ("http://127.0.0.1/", "http://127.0.0.1"),
        ("http://relay-control/", "http://relay-control"),
    ],
)
def test_an_address_is_shown_without_its_path(url: str, display: str) -> None:
    assert read_place(url, "url", plain_http=False).display == display


def test_plain_http_to_a_public_address_must_be_wanted() -> None:
    assert read_place("http://198.41.0.4/", "url", plain_http=True).host == "198.41.0.4"


@pytest.mark.parametrize(
    ("address", "near"),
    [
        *((address, True) for address in ("127.0.0.1", "10.1.2.3", "fd00::1", "::1", "::ffff:10.0.0.1")),
        *((address, False) for address in ("198.41.0.4", "2001:500::1", "::ffff:198.41.0.4", "nonsense")),
    ],
)
def test_neighbours_are_this_machine_and_private_networks(address: str, near: bool) -> None:
    assert NEARBY.permits(address) is near


# What is sent and answered.


def test_every_event_of_the_relay_can_be_asked_for() -> None:
    assert {"StreamStarted", "FeedSwitched", "PublishRefused", "RecordingFailed"} < set(EVENTS)
    assert "Event" not in EVENTS


def test_a_signature_covers_time_and_body() -> None:
    wanted = hmac.new(b"secret", b'1796040000.{"a": 1}', "sha256").hexdigest()

    assert signature(Secret("secret"), 1796040000, b'{"a": 1}') == f"t=1796040000,v1={wanted}"


def test_a_question_holds_what_the_request_holds() -> None:
    asked = json.loads(question(play_request("townhall", peer="2001:db8::1", tls=True, app="hls", token="t")))

    assert asked == {
        "version": 1,
        "ask": "play",
        "connection_id": "c1",
        "peer": "2001:db8::1",
        "tls": True,
        "app": "hls",
        "stream_name": "townhall",
        "query": {"token": "t"},
    }


PUBLISH, NAMED, PLAY = publish_request(KEY), publish_request("townhall", key=KEY), play_request("townhall", key=KEY)


@pytest.mark.parametrize(
    ("request_", "answer", "decided"),
    [
        (PUBLISH, {"allow": True, "stream_name": "a/b"}, Allow(stream_name="a/b")),
        (NAMED, {"allow": True, "feed": "b", "priority": 99}, Allow(stream_name="townhall", feed="b", priority=99)),
        (NAMED, {"allow": True}, Allow(stream_name="townhall")),
        (NAMED, {"allow": True, "stream_name": "other"}, Allow(stream_name="other")),
        (PLAY, {"allow": True}, Allow(stream_name="townhall")),
        (PLAY, {"allow": True, "stream_name": "townhall"}, Allow(stream_name="townhall")),
        (PUBLISH, {"allow": False}, Deny(reason="the service refused: no reason given")),
        (PLAY, {"allow": False, "reason": "old"}, Deny(reason="the service refused: old")),
        (
            PLAY,
            {"allow": False, "public": "Later."},
            Deny(reason="the service refused: no reason given", public="Later."),
        ),
        (PUBLISH, {"allow": False, "stream_name": "../x"}, Deny(reason="the service refused: no reason given")),
    ],
)
def test_an_answer_decides(request_: PublishRequest | PlayRequest, answer: object, decided: Decision) -> None:
    assert decision(json.dumps(answer).encode(), request_) == decided


BAD_NAMES = (
    *("../x", "a/../b", "/etc/passwd", ".", "a//b", "a" * 256, "a b", "key=1", "ё", "a\n", "a/b/c/d/e"),
    *("rtmp://169.254.169.254/live/x", "http://127.0.0.1/", "file:///etc/passwd"),
)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (PUBLISH, {"allow": True}),
        *[(request_, {"allow": True, "stream_name": name}) for request_ in (PUBLISH, NAMED) for name in BAD_NAMES],
        *[(NAMED, {"allow": True, "feed": feed}) for feed in ("", "a/b", "..", "rtmp://x/y", "a b")],
        *[(NAMED, {"allow": True, "priority": priority}) for priority in (-1, 100, 1.0, "1", True, None)],
        *[(NAMED, {"allow": allow}) for allow in (1, "true", None, [], {})],
        *[(NAMED, {"allow": True, key: "rtmp://x/y"}) for key in ("redirect", "url", "Stream_name", "stream")],
        *[(NAMED, document) for document in ({}, [], None, "allow", 1, [{"allow": True}])],
        (PLAY, {"allow": True, "stream_name": "other"}),
        (PLAY, {"allow": True, "stream_name": "../townhall"}),
        (publish_request("../x", key=KEY), {"allow": True}),
    ],
)
def test_an_answer_that_is_wrong_anywhere_decides_nothing(
    request_: PublishRequest | PlayRequest, answer: object
) -> None:
    with pytest.raises(BadAnswerError):
        decision(json.dumps(answer).encode(), request_)


def test_sentences_of_the_service_are_short_printable_and_hold_no_key() -> None:
    said = f"bad key {KEY}\r\n\x1b[31mred rtmp://user:pw@host/live/abc " + "x" * 1000
    answer = {"allow": False, "reason": said, "public": said}

    for request_ in (PUBLISH, NAMED, PLAY):
        denied = decision(json.dumps(answer).encode(), request_)

        assert isinstance(denied, Deny)
        for text in (denied.reason, denied.public):
            assert KEY not in text
            assert "pw@" not in text
            assert text.isprintable()
            assert len(text) <= MAX_TEXT + len("the service refused: ")


def test_a_key_that_became_a_field_is_hidden() -> None:
    with pytest.raises(BadAnswerError, match=r"^JSON that is no answer: \*\*\*: Extra inputs are not permitted$"):
        decision(json.dumps({"allow": True, KEY: 1}).encode(), PUBLISH)


def test_a_key_is_hidden_as_it_looks_in_an_address_too() -> None:
    request_ = publish_request("schlüssel/1?=&")
    answer = json.dumps({"allow": False, "reason": "no such key: schl%C3%BCssel%2F1%3F%3D%26 (schlüssel/1?=&)"})
    denied = decision(answer.encode(), request_)

    assert denied == Deny(reason="the service refused: no such key: *** (***)")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*Answer.model_fields, "redirect"]) | st.text(max_size=5), inner, max_size=5)
    ),
)


@given(answer=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_answered_lets_in_by_good_names_only(answer: bytes) -> None:
    for request_ in (PUBLISH, NAMED, PLAY):
        try:
            decided = decision(answer, request_)
        except BadAnswerError:
            continue
        document = json.loads(answer)
        assert document["allow"] is isinstance(decided, Allow)
        if isinstance(decided, Allow):
            assert is_public_name(decided.stream_name)
            assert is_public_name(decided.feed)
            assert set(document) <= set(Answer.model_fields)


README = (Path(webhook_module.__file__).parent / "README.md").read_text("utf-8")


def test_the_answers_in_the_readme_are_answers() -> None:
    answers = re.findall(r"^\| `(\{.*?\})` \|", README, re.MULTILINE)

    assert len(answers) == 4
    for answer in answers:
        assert isinstance(decision(answer.encode(), NAMED), Allow | Deny)


def test_the_check_in_the_readme_accepts_what_is_signed_and_nothing_else() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    names: dict[str, Callable[..., bool]] = {"hmac": hmac, "time": time}  # type: ignore[dict-item]
    exec(compile(code, "README.md", "exec"), names)
    check, now = names["from_relay"], int(time.time())
    header = signature(Secret("secret"), now, b"{}")

    assert check(b"secret", header, b"{}")
    assert not check(b"secret", header, b"{ }")
    assert not check(b"other", header, b"{}")
    assert not check(b"secret", header.replace(str(now), str(now + 1)), b"{}")
    assert not check(b"secret", signature(Secret("secret"), now - 600, b"{}"), b"{}"), "too old"


def test_numbers_that_json_does_not_have_are_null() -> None:
    event = FeedSwitched(stream="a", previous="", feed="b", reason="x", measured=math.inf, threshold=math.nan)
    document = json.loads(report("i", 0, [told(event)]), parse_constant=pytest.fail)

    assert (document["events"][0]["measured"], document["events"][0]["threshold"]) == (None, None)


# Asking, with a service that is a list of things to do.


@dataclass
class Service:
    """Stands in for the HTTP client: keeps what was posted, answers what the test wants."""

    answers: list[Reply | Exception] = field(default_factory=list)
    always: Reply | Exception | None = None
    posted: list[bytes] = field(default_factory=list)
    waiting: list[Deferred[Reply]] = field(default_factory=list)

    async def post(self, document: bytes) -> Reply:
        self.posted.append(document)
        answer = self.answers.pop(0) if self.answers else self.always
        if answer is None:
            held: Deferred[Reply] = Deferred()
            self.waiting.append(held)
            return await held
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def told(self) -> list[dict[str, object]]:
        """The events in everything that was posted."""
        return [event for document in self.posted for event in json.loads(document)["events"]]


YES = Reply(200, b'{"allow": true, "stream_name": "townhall"}')
NO = Reply(200, b'{"allow": false, "reason": "expired"}')
GONE = ServiceError("connection refused: nothing listens there")
ALLOWED = Allow(stream_name="townhall")


def asker(service: Service, clock: Clock) -> Asker:
    return Asker(service, place="https://control.example", clock=clock, log=Logger())


def start(asking: Asker, key: str) -> list[Decision]:
    """Ask, and return the list that the answer will be in."""
    decided: list[Decision] = []
    Deferred.fromCoroutine(asking.decide(publish_request(key))).addCallback(decided.append)
    return decided


def ask(asking: Asker, key: str = KEY, **more: str) -> Decision:
    return result_of(asking.decide(publish_request(key, **more)))


def test_no_answer_within_three_seconds_is_a_no() -> None:
    clock, service = Clock(), Service()
    decided = start(asker(service, clock), KEY)
    clock.advance(LIMIT_S - STEP)
    assert decided == []
    clock.advance(STEP)

    (denied,) = decided
    assert isinstance(denied, Deny)
    assert denied.reason == "the service at https://control.example did not decide: no answer within 3 s"
    assert denied.public == NOT_NOW
    assert clock.getDelayedCalls() == []


def test_a_refusal_is_remembered_for_five_seconds_and_a_yes_is_not() -> None:
    clock, service = Clock(), Service([NO, YES, NO])
    asking = asker(service, clock)

    assert isinstance(ask(asking), Deny)
    clock.advance(REFUSED_S - STEP)
    assert isinstance(ask(asking), Deny)
    assert len(service.posted) == 1
    clock.advance(STEP)
    assert ask(asking) == ALLOWED
    assert isinstance(ask(asking), Deny)
    assert len(service.posted) == 3
    assert (asking.counters.questions, asking.counters.refused, asking.counters.spared) == (3, 2, 1)


def test_a_refusal_is_that_of_one_question() -> None:
    clock, service = Clock(), Service([NO], always=YES)
    asking = asker(service, clock)
    ask(asking)
    others = (
        publish_request(KEY + "1"),
        publish_request(KEY, peer="192.0.2.2"),
        publish_request(KEY, app="other"),
        publish_request(KEY, tls=True),
        publish_request(KEY, token="1"),
        play_request(KEY),
    )
    for other in others:
        result_of(asking.decide(other))

    assert len(service.posted) == 1 + len(others)


def test_a_fault_is_not_remembered_as_a_refusal() -> None:
    service = Service([GONE, Reply(500, b""), YES])
    asking = asker(service, Clock())

    assert [type(ask(asking)) for _ in range(3)] == [Deny, Deny, Allow]


def test_status_403_is_a_refusal() -> None:
    service = Service([Reply(403, b"<html>")])
    asking = asker(service, Clock())

    assert ask(asking) == ask(asking) == Deny(reason="the service refused: HTTP status 403")
    assert len(service.posted) == 1


def test_refusals_remembered_are_bounded() -> None:
    refusals = Refusals()
    for number in range(MAX_REFUSALS + 1):
        refusals.add(str(number).encode(), Deny(), 0.0)

    assert len(refusals) == MAX_REFUSALS
    assert refusals.find(b"0", 1.0) is None
    assert refusals.find(b"1", 1.0) == Deny()


def test_twenty_questions_are_asked_at_once_and_the_next_waits_its_turn() -> None:
    clock, service = Clock(), Service()
    asking = asker(service, clock)
    decided = [start(asking, f"key-{number}") for number in range(CONCURRENCY + 1)]
    assert (len(service.posted), asking.waiting) == (CONCURRENCY, 1)
    service.waiting[0].callback(YES)

    assert decided[0] == [ALLOWED]
    assert (len(service.posted), asking.waiting) == (CONCURRENCY + 1, 0)
    service.waiting[-1].callback(YES)
    assert decided[-1] == [ALLOWED]


def test_waiting_for_a_turn_is_part_of_the_three_seconds() -> None:
    clock, service = Clock(), Service()
    asking = asker(service, clock)
    for number in range(CONCURRENCY):
        start(asking, f"key-{number}")
    clock.advance(1.0)
    late = start(asking, "late")
    clock.advance(LIMIT_S - 1.0)  # the twenty are given up, and the late one is asked
    assert (len(service.posted), late) == (CONCURRENCY + 1, [])
    clock.advance(1.0 - STEP)
    assert late == []
    clock.advance(STEP)

    assert isinstance(late[0], Deny)
    assert asking.waiting == 0


def test_those_who_wait_while_the_service_is_found_gone_are_spared() -> None:
    clock, service = Clock(), Service()
    asking = asker(service, clock)
    decided = [start(asking, f"key-{number}") for number in range(CONCURRENCY * 3)]
    clock.advance(LIMIT_S)

    assert all(isinstance(answers[0], Deny) for answers in decided)
    assert len(service.posted) < CONCURRENCY + FAULTS_TO_OPEN


@pytest.mark.parametrize(("make", "at_once"), [(publish_request, CONCURRENCY), (play_request, VIEWERS)])
def test_questions_that_wait_are_bounded(make: Callable[[str], PublishRequest | PlayRequest], at_once: int) -> None:
    clock, service = Clock(), Service()
    asking = asker(service, clock)
    for number in range(at_once + MAX_WAITING - 1):
        Deferred.fromCoroutine(asking.decide(make(f"a{number}")))
    last: list[Decision] = []
    Deferred.fromCoroutine(asking.decide(make("last"))).addCallback(last.append)
    assert (len(service.posted), asking.waiting, last) == (at_once, MAX_WAITING, [])
    one_more = result_of(asking.decide(make("one-more")))

    assert isinstance(one_more, Deny)
    assert one_more.reason == f"{MAX_WAITING} questions wait for the service already"
    clock.advance(LIMIT_S)
    assert asking.waiting == 0


def test_a_service_that_is_only_busy_is_not_gone() -> None:
    clock, service = Clock(), Service()
    asking = asker(service, clock)
    decided = [start(asking, f"key-{number}") for number in range(CONCURRENCY * 3)]
    clock.advance(LIMIT_S - 1)
    for held in tuple(service.waiting):
        held.callback(YES)
    clock.advance(1)

    late = decided[-1][0]
    assert isinstance(late, Deny)
    assert "its turn did not come within 3 s: too many questions" in late.reason
    assert not asking.breaker.is_open


def test_viewers_leave_room_for_encoders() -> None:
    clock, service = Clock(), Service()
    asking = asker(service, clock)
    for number in range(100):
        Deferred.fromCoroutine(asking.decide(play_request(f"a{number}")))
    encoder = start(asking, KEY)
    assert len(service.posted) == VIEWERS + 1
    service.waiting[-1].callback(YES)

    assert encoder == [ALLOWED]
    clock.advance(LIMIT_S)


def test_after_five_faults_in_a_row_nobody_is_asked_for_five_seconds() -> None:
    clock, service = Clock(), Service(always=GONE)
    asking = asker(service, clock)
    for _ in range(FAULTS_TO_OPEN - 1):
        ask(asking)
    assert not asking.breaker.is_open
    ask(asking)
    assert asking.breaker.is_open
    clock.advance(OPEN_S - STEP)
    denied = ask(asking)
    assert isinstance(denied, Deny)
    assert denied.public == NOT_NOW
    assert len(service.posted) == FAULTS_TO_OPEN

    service.always = None
    clock.advance(STEP)
    probe, other = start(asking, "a"), start(asking, "b")
    assert len(service.posted) == FAULTS_TO_OPEN + 1, "one question tries, the others are spared"
    assert isinstance(other[0], Deny)
    service.waiting[0].callback(YES)
    assert probe == [ALLOWED]
    service.always = YES
    assert ask(asking) == ALLOWED


def test_a_try_that_fails_closes_the_door_for_five_seconds_more() -> None:
    clock, service = Clock(), Service(always=GONE)
    asking = asker(service, clock)
    for _ in range(FAULTS_TO_OPEN):
        ask(asking)
    clock.advance(OPEN_S)
    ask(asking)
    service.always = YES
    clock.advance(OPEN_S - STEP)
    assert isinstance(ask(asking), Deny)
    clock.advance(STEP)

    assert ask(asking) == ALLOWED


@pytest.mark.parametrize("how", ["cancelled", "too large"])
def test_a_try_that_says_nothing_leaves_the_way_free_for_the_next(how: str) -> None:
    clock, service = Clock(), Service(always=GONE)
    asking = asker(service, clock)
    for _ in range(FAULTS_TO_OPEN):
        ask(asking)
    clock.advance(OPEN_S)
    if how == "cancelled":
        service.always = None
        trying = Deferred.fromCoroutine(asking.decide(publish_request("a")))
        trying.addErrback(lambda _: None)
        trying.cancel()
    else:
        service.always = ServiceError("the answer is larger than 64 KiB", reached=True)
        ask(asking, "a")
    service.always = YES

    assert ask(asking) == ALLOWED


def test_a_service_that_answers_nonsense_to_one_key_is_asked_about_the_others() -> None:
    service = Service(always=Reply(500, b""))
    asking = asker(service, Clock())
    for _ in range(FAULTS_TO_OPEN * 2):
        ask(asking)
    service.always = YES

    assert ask(asking) == ALLOWED


def test_an_answer_in_between_starts_the_count_again() -> None:
    service = Service([*[GONE] * (FAULTS_TO_OPEN - 1), YES, *[GONE] * (FAULTS_TO_OPEN - 1), YES])
    asking = asker(service, Clock())

    assert [type(ask(asking)) for _ in range(2 * FAULTS_TO_OPEN)].count(Allow) == 2


def view(asking: Asker, *, app: str = "hls", peer: str = "192.0.2.1", stream: str = "townhall") -> type[Decision]:
    return type(result_of(asking.decide(play_request(stream, app=app, peer=peer))))


def test_who_watches_hls_goes_on_while_the_service_is_gone_and_nobody_else_begins() -> None:
    clock, service = Clock(), Service(always=Reply(200, b'{"allow": true}'))
    asking = asker(service, clock)
    assert view(asking) is Allow
    service.always = GONE
    for _ in range(60):  # ten minutes, most of them with an open breaker
        clock.advance(10)
        assert view(asking) is Allow

    assert view(asking, peer="192.0.2.2") is Deny
    assert view(asking, stream="other") is Deny
    assert view(asking, app="live") is Deny
    clock.advance(WATCHING_S)
    assert view(asking) is Deny, "gone for a minute, and new again"


def test_a_viewer_whom_the_service_refuses_is_out_at_once() -> None:
    clock, service = Clock(), Service([Reply(200, b'{"allow": true}'), NO], always=GONE)
    asking = asker(service, clock)

    assert [view(asking) for _ in range(2)] == [Allow, Deny]
    clock.advance(REFUSED_S)
    assert view(asking) is Deny


def test_players_and_encoders_are_new_every_time() -> None:
    service = Service([Reply(200, b'{"allow": true}'), YES], always=GONE)
    asking = asker(service, Clock())

    assert [view(asking, app="live"), type(ask(asking))] == [Allow, Allow]
    assert [view(asking, app="live"), type(ask(asking))] == [Deny, Deny]


def test_viewers_remembered_are_bounded() -> None:
    watching = Watching()
    for number in range(MAX_WATCHING + 1):
        watching.seen(str(number).encode(), 0.0)

    assert len(watching) == MAX_WATCHING
    assert not watching.goes_on(b"0", 1.0)
    assert watching.goes_on(b"1", WATCHING_S - STEP)
    assert not watching.goes_on(b"1", WATCHING_S)


def test_a_storm_of_faults_is_few_lines_and_none_holds_a_key_or_the_secret() -> None:
    clock, service = Clock(), Service(always=Reply(500, KEY.encode()))
    asking = asker(service, clock)
    with capturedLogs() as events:
        for second in range(130):
            ask(asking, f"{KEY}-{second}")
            clock.advance(1)
        service.always = YES
        ask(asking)
        ask(asking)
    lines = [formatEvent(event) or "" for event in events]

    assert len(lines) == 4, lines
    assert lines[0].endswith("so 1 were refused: HTTP status 500 instead of 200")
    assert "so 60 were refused" in lines[1]
    assert lines[-1].endswith("decides again, after 130 faults")
    assert not [line for line in lines if KEY in line]


# The plugin.


def test_what_it_is_not_asked_about_is_left_to_others() -> None:
    host = host_for(WebhookPlugin, name="webhook", config={"url": URL, "ask": ["play"]})

    assert result_of(host.authorize_publish(publish_request(KEY))) == Deny(reason="no plugin allowed it")
    assert result_of(host.authorize_play(play_request("a"))) == Deny(reason="the relay does not run", public=NOT_NOW)


def test_the_service_is_asked_about_keys_that_streamkeys_leaves_to_it() -> None:
    installed = {
        "streamkeys": [plugin_from_class("streamkeys", StreamKeysPlugin)],
        "webhook": [plugin_from_class("webhook", WebhookPlugin)],
    }
    keys = {"a": {"streamkeys": {"primary": "town-hall-primary-01"}}}
    config = Config(plugins={"streamkeys": {"unknown": "ask-next"}, "webhook": {"url": URL}}, streams=keys)
    host = PluginHost(config, clock=Clock(), installed=installed)
    plugin, service = host.plugins[1].instance, Service(always=YES)
    assert isinstance(plugin, WebhookPlugin)
    plugin.asker._client, plugin.running = service, True

    assert isinstance(result_of(host.authorize_publish(publish_request("town-hall-primary-01"))), Allow)
    assert service.posted == []
    assert result_of(host.authorize_publish(publish_request(KEY))) == ALLOWED
    assert len(service.posted) == 1


def test_its_numbers_are_shown() -> None:
    host = host_for(WebhookPlugin, name="webhook", config={"url": URL})
    host.emit(StreamStarted(stream="a"))

    assert host.numbers()["webhook"]["events_queued"] == 1.0
    assert host.numbers()["webhook"]["service_gone"] == 0.0


def test_a_secret_in_the_file_is_not_shown_by_an_error() -> None:
    with pytest.raises(ConfigFileError) as raised:
        host_for(WebhookPlugin, name="webhook", config={"url": "x", "secret": "canary-secret-1"})

    assert "canary" not in str(raised.value)


# Telling.


def teller(service: Service, clock: Clock, wanted: Sequence[str] = tuple(EVENTS)) -> Teller:
    made = Teller(
        service,
        place="https://control.example",
        wanted=wanted,
        clock=clock,
        log=Logger(),
        uniform=lambda low, high: high,
    )
    made.start()
    return made


def started(number: int) -> StreamStarted:
    return StreamStarted(stream=f"s{number}", at=float(number))


OK = Reply(204, b"")


def test_events_are_told_in_order_with_their_fields() -> None:
    clock, service = Clock(), Service(always=OK)
    telling = teller(service, clock)
    telling.take(FeedSwitched(stream="a", previous="primary", feed="backup", reason="no-video", at=5.0))
    telling.take(started(2))
    clock.advance(0)

    first, second = service.told
    assert (first["sequence"], second["sequence"]) == (1, 2)
    assert (first["event"], first["stream"], first["feed"], first["at"]) == ("FeedSwitched", "a", "backup", 5.0)
    assert json.loads(service.posted[0])["instance"] == telling.instance
    assert (telling.delivered, telling.queued) == (2, 0)


def test_only_wanted_events_are_told() -> None:
    service = Service(always=OK)
    telling = teller(service, Clock(), ["StreamEnded"])
    for event in (
        started(1),
        FailoverLocked(stream="a", feed="b", seconds=60.0),
        StreamEnded(stream="a", reason="closed"),
    ):
        telling.take(event)

    assert [event["event"] for event in service.told] == ["StreamEnded"]


def test_addresses_in_events_hold_no_secrets() -> None:
    service = Service(always=OK)
    teller(service, Clock()).take(
        TargetStateChanged(
            stream="a", target="t", state="refused", reason="x", detail=f"rtmp://host/live/{KEY} refused"
        )
    )

    assert KEY not in str(service.posted)


def test_one_request_at_a_time_with_fifty_events_at_most() -> None:
    clock, service = Clock(), Service()
    telling = teller(service, clock)
    for number in range(MAX_BATCH * 2 + 2):
        telling.take(started(number))
    assert len(service.posted) == 1
    for _ in range(3):
        service.waiting.pop().callback(OK)
        clock.advance(0)

    assert [len(json.loads(document)["events"]) for document in service.posted] == [1, MAX_BATCH, MAX_BATCH, 1]
    assert (telling.delivered, telling.queued) == (1 + 2 * MAX_BATCH, 1)
    service.waiting.pop().callback(OK)


def test_what_was_not_taken_is_told_again_slower_and_slower() -> None:
    clock, service = Clock(), Service(always=Reply(500, b""))
    telling = teller(service, clock)
    telling.take(started(1))
    tries = []
    for tenth in range(4_000):
        before = len(service.posted)
        clock.advance(0.1)
        if len(service.posted) > before:
            tries.append(round((tenth + 1) / 10, 1))

    waits = [round(later - earlier) for earlier, later in zip([0.0, *tries], tries, strict=False)]
    assert waits[:7] == [1, 2, 4, 8, 16, 32, LONGEST_WAIT_S]
    assert set(waits[7:]) == {LONGEST_WAIT_S}
    service.always = OK
    clock.advance(LONGEST_WAIT_S)
    assert (telling.queued, telling.delivered) == (0, 1)


def test_the_waits_are_jittered() -> None:
    clock, service = Clock(), Service(always=GONE)
    telling = teller(service, clock)
    telling._uniform = lambda low, high: low
    telling.take(started(1))
    clock.advance(0.5)

    assert len(service.posted) == 2


@pytest.mark.parametrize(("extra", "dropped"), [(-1, 0), (0, 0), (1, 1), (500, 500)])
def test_a_thousand_events_wait_and_the_oldest_is_dropped(extra: int, dropped: int) -> None:
    clock, service = Clock(), Service(always=GONE)
    telling = teller(service, clock)
    for number in range(MAX_QUEUE + extra):
        telling.take(started(number))
    assert (telling.queued, telling.dropped) == (min(MAX_QUEUE, MAX_QUEUE + extra), dropped)
    service.posted.clear()
    service.always = OK
    clock.pump([1.0] + [0.0] * 30)

    assert [event["stream"] for event in service.told] == [f"s{n}" for n in range(dropped, MAX_QUEUE + extra)]
    assert json.loads(service.posted[0])["dropped"] == dropped


@pytest.mark.parametrize("taken", [True, False])
def test_what_is_on_its_way_is_not_dropped(taken: bool) -> None:
    clock, service = Clock(), Service()
    telling = teller(service, clock)
    for number in range(MAX_QUEUE + 2):
        telling.take(started(number))
    service.always = OK
    service.waiting[0].callback(OK if taken else Reply(503, b""))
    service.posted[: not taken] = []
    clock.pump([0.0, 1.0] * 30)

    assert [event["stream"] for event in service.told][:2] == ["s0", "s3"]
    assert (telling.delivered, telling.dropped) == (MAX_QUEUE, 2)


def test_events_that_the_service_will_never_take_do_not_stand_in_the_way() -> None:
    clock, service = Clock(), Service([Reply(400, b"")], always=OK)
    telling = teller(service, clock)
    telling.take(started(1))
    telling.take(started(2))
    clock.advance(0)

    assert (telling.dropped, telling.delivered, telling.queued) == (1, 1, 0)


def test_losses_are_said_with_their_number_once_a_minute() -> None:
    clock, service = Clock(), Service()
    telling = teller(service, clock)
    for number in range(3):
        telling.take(started(number))
    with capturedLogs() as events:
        service.always = Reply(400, b"")
        service.waiting[0].callback(OK)
        clock.advance(0)
        for number in range(MAX_QUEUE):
            telling.take(started(number))
            clock.advance(0.07)
    said = [formatEvent(event) or "" for event in events]
    lost = [line for line in said if "were dropped" in line]

    why = "events for https://control.example were dropped: the service does not want them: HTTP status 400"
    assert lost[0] == f"2 {why}"
    assert [line.partition(" ")[2] for line in lost[1:]] == [why]
    assert int(lost[1].partition(" ")[0]) == pytest.approx(60 / 0.07, abs=3)
    assert telling.dropped == MAX_QUEUE + 2


def test_a_delivery_that_hangs_is_given_up() -> None:
    clock, service = Clock(), Service()
    telling = teller(service, clock)
    telling.take(started(1))
    clock.advance(TELL_S)
    service.always = OK
    clock.advance(1.0)

    assert (telling.delivered, telling.failures) == (1, 1)


def test_a_redirect_takes_no_event() -> None:
    service = Service(always=Reply(302, b""))
    telling = teller(service, Clock())
    telling.take(started(1))

    assert (telling.queued, telling.failures) == (1, 1)


def test_a_failure_nobody_thought_of_is_tried_again_too() -> None:
    clock, service = Clock(), Service([RuntimeError("a bug")], always=OK)
    telling = teller(service, clock)
    with capturedLogs() as events:
        telling.take(started(1))
    clock.advance(1.0)

    assert telling.delivered == 1
    assert ["events cannot be told" in (formatEvent(event) or "") for event in events] == [True]


def test_what_is_queued_at_the_end_is_tried_once_more() -> None:
    clock, service = Clock(), Service(always=GONE)
    telling = teller(service, clock)
    for event in (started(1), started(2), FailoverLocked(stream="a", feed="b", seconds=60.0)):
        telling.take(event)
    service.always = OK
    service.posted.clear()
    result_of(telling.stop())

    assert len(service.told) == 3
    assert clock.getDelayedCalls() == []


def test_the_end_waits_for_no_service() -> None:
    clock, service = Clock(), Service()
    telling = teller(service, clock)
    telling.take(started(1))
    ended: list[None] = []
    Deferred.fromCoroutine(telling.stop()).addCallback(ended.append)
    clock.advance(FAREWELL_S)

    assert ended == [None]
    assert clock.getDelayedCalls() == []


# Flapping.


def switched(feed: str) -> FeedSwitched:
    return FeedSwitched(stream="a", previous="", feed=feed, reason="closed")


LOCKED = FailoverLocked(stream="a", feed="backup", seconds=60.0)


def test_a_stream_that_does_not_flap_tells_everything() -> None:
    flapping = Flapping()

    for event in (switched("backup"), FeedEnded(stream="a", feed="primary", connection_id="c", reason="closed")):
        assert flapping.take(event, 0.0) == [(event, 0)]
    assert flapping.next_due() is None


def test_while_failover_is_locked_feeds_are_told_about_once_a_minute() -> None:
    clock, service = Clock(), Service(always=OK)
    telling = teller(service, clock)
    telling.take(switched("backup"))
    telling.take(FailoverLocked(stream="a", feed="backup", seconds=300.0))
    clock.advance(0)
    sent = len(service.posted)
    for second in range(300):
        telling.take(switched("backup" if second % 2 else "primary"))
        telling.take(FeedStarted(stream="a", feed="primary", connection_id=f"c{second}", peer=""))
        telling.take(started(second))  # another stream is told at once
        clock.advance(1.0)
    messages = [json.loads(document)["events"] for document in service.posted[sent:]]
    about_a = [events for events in messages if any(event["stream"] == "a" for event in events)]

    assert len(about_a) == 5
    assert [event["event"] for event in about_a[0]] == ["FeedSwitched", "FeedStarted"]
    assert [event["left_out"] for event in about_a[0]] == [59, 59]
    assert about_a[0][0]["feed"] == "backup", "the newest"
    assert sum(event["event"] == "StreamStarted" for event in service.told) == 300
    assert telling.flapping.left_out == 5 * 2 * 59


def test_when_the_lock_is_over_everything_is_told_again() -> None:
    flapping = Flapping()
    flapping.take(LOCKED, 0.0)
    flapping.take(switched("primary"), 59.9)
    event = switched("backup")

    assert flapping.take(event, 60.0) == [(switched("primary"), 0), (event, 0)]
    assert flapping.next_due() is None


def test_a_longer_lock_withholds_longer() -> None:
    flapping = Flapping()
    flapping.take(LOCKED, 0.0)
    flapping.take(FailoverLocked(stream="a", feed="backup", seconds=120.0), 30.0)

    assert [event for event, _ in flapping.due(60.0)] == [FailoverLocked(stream="a", feed="backup", seconds=120.0)]
    assert flapping.take(switched("a"), 149.9) == []
    assert flapping.take(switched("b"), 150.0)


def test_the_end_of_a_stream_says_what_was_withheld() -> None:
    flapping = Flapping()
    flapping.take(LOCKED, 0.0)
    flapping.take(switched("primary"), 1.0)
    end: Event = StreamEnded(stream="a", reason="closed")

    assert flapping.take(end, 2.0) == [(switched("primary"), 0), (end, 0)]
    assert flapping.next_due() is None


def test_what_is_withheld_is_bounded() -> None:
    flapping = Flapping()
    flapping.take(LOCKED, 0.0)
    for number in range(200):
        flapping.take(FeedStarted(stream="a", feed=f"f{number}", connection_id="", peer=""), 1.0)

    assert len(list(flapping.due(60.0))) == 50
    assert flapping.left_out == 150
