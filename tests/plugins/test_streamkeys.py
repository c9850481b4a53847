"""Stream keys: who may publish where, who may play, and what nobody learns."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import ClassVar

import pytest

from twisted.logger import capturedLogs, formatEvent

from relay.api import Allow, Decision, Deny
from relay.config_file import ConfigFileError
from relay.pluginhost import PluginHost
from relay.testing import PluginContract, host_for, play_request, publish_request, result_of
from relay_streamkeys import KEY_MISSING, KEY_REFUSED, PLAY_REFUSED, StreamKeysPlugin
from relay_streamkeys import keys as keys_module

STREAMS: Mapping[str, Mapping[str, object]] = {
    "townhall": {
        "primary": "townhall-primary-0001",
        "backup": ["townhall-backup-old-1", "townhall-backup-new-1"],
        "remote": "sha256:" + hashlib.sha256(b"townhall-remote-00001").hexdigest().upper(),
    },
    "private/stage": {"primary": "private-primary-00001", "play": ["private-play-0000001", "private-play-0000002"]},
    "*": {"guest": "guest-key-0000000001"},
}


class TestStreamKeysContract(PluginContract):
    name = "streamkeys"
    plugin = StreamKeysPlugin
    config: ClassVar[Mapping[str, object]] = {"any_key": "loopback"}
    streams = STREAMS
    bad_configs = (
        ({"any_key": "on"}, "plugins.streamkeys.any_key"),
        ({"min_length": "16"}, "plugins.streamkeys.min_length"),
        ({"min_length": 0}, "plugins.streamkeys.min_length"),
        ({"unknown": True}, "plugins.streamkeys.unknown"),
    )
    bad_streams = (
        ({"primary": 5}, "streams.stage.streamkeys.primary"),
        ({"primary": ""}, "streams.stage.streamkeys.primary"),
        ({"primary": []}, "streams.stage.streamkeys.primary"),
        ({"primary": ["good-key-000000001", {"envv": "A"}]}, "streams.stage.streamkeys.primary[1]"),
        ({"primary": {"env": "RELAY_TEST_UNSET"}}, "streams.stage.streamkeys.primary"),
        ({"play": {"file": "/nonexistent"}}, "streams.stage.streamkeys.play"),
        ({"primary": "sha256:abc"}, "streams.stage.streamkeys.primary"),
        ({"a/b": "some-key-0000000001"}, 'streams.stage.streamkeys."a/b"'),
        ({"primary": "same-key-0000000001", "backup": "same-key-0000000001"}, "streams.stage.streamkeys.backup"),
    )


def host(streams: Mapping[str, Mapping[str, object]] = STREAMS, **config: object) -> PluginHost:
    return host_for(StreamKeysPlugin, name="streamkeys", config=config, streams=streams)


def publish(key: str, /, *, peer: str = "192.0.2.1", relay: PluginHost | None = None, **query: str) -> Decision:
    return result_of((relay or host()).authorize_publish(publish_request(key, peer=peer, **query)))


def play(stream: str, relay: PluginHost | None = None, **query: str) -> Decision:
    return result_of((relay or host()).authorize_play(play_request(stream, **query)))


def public_text(decision: Decision) -> str:
    assert isinstance(decision, Deny)
    return decision.public


PRIMARY = Allow(stream_name="townhall", feed="primary", priority=0, key_id="townhall.primary[0]")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("townhall-primary-0001", PRIMARY),
        (
            "townhall-backup-old-1",
            Allow(stream_name="townhall", feed="backup", priority=1, key_id="townhall.backup[0]"),
        ),
        (
            "townhall-backup-new-1",
            Allow(stream_name="townhall", feed="backup", priority=1, key_id="townhall.backup[1]"),
        ),
        (
            "townhall-remote-00001",
            Allow(stream_name="townhall", feed="remote", priority=2, key_id="townhall.remote[0]"),
        ),
        ("private-primary-00001", Allow(stream_name="private/stage", key_id="private/stage.primary[0]")),
    ],
)
def test_the_key_decides_stream_and_feed(key: str, expected: Allow) -> None:
    assert publish(key) == expected


@pytest.mark.parametrize("name", ["key", "token", "pass"])
@pytest.mark.parametrize("path", ["townhall", ""])
def test_the_key_may_stand_in_the_query_beside_the_streams_name(name: str, path: str) -> None:
    assert publish(path, **{name: "townhall-primary-0001"}) == PRIMARY


def test_user_and_pass_are_one_credential_and_the_user_is_anybody() -> None:
    assert publish("townhall", user="camera", **{"pass": "townhall-primary-0001"}) == PRIMARY


def test_a_key_in_the_path_wins_over_strange_parameters() -> None:
    assert publish("townhall-primary-0001", token="of-somebody-else") == PRIMARY


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("wrong", {}),
        ("townhall", {}),
        ("townhall", {"key": "wrong"}),
        ("townhall", {"user": "townhall-primary-0001"}),
        ("private/stage", {"key": "townhall-primary-0001"}),
        ("nowhere", {"key": "townhall-primary-0001"}),
        ("private-play-0000001", {}),
        ("guest-key-0000000001", {}),
        ("townhall", {"key": "guest-key-0000000001"}),
        ("../x", {"key": "guest-key-0000000001"}),
        ("TOWNHALL-PRIMARY-0001", {}),
        ("townhall-primary-0001 ", {}),
        ("sha256:" + hashlib.sha256(b"townhall-remote-00001").hexdigest(), {}),
        ("ключ\ud800", {}),
    ],
)
def test_everything_else_is_refused_with_one_text(path: str, query: dict[str, str]) -> None:
    assert public_text(publish(path, **query)) == KEY_REFUSED


def test_no_key_at_all_gets_a_text_of_its_own() -> None:
    assert public_text(publish("")) == KEY_MISSING


def test_the_template_opens_streams_that_are_not_declared() -> None:
    assert publish("party/one", key="guest-key-0000000001") == Allow(
        stream_name="party/one", feed="guest", key_id="*.guest[0]"
    )


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_any_key_of_this_machine_is_the_streams_name(peer: str) -> None:
    relay = host(any_key="loopback")

    assert publish("my-show", peer=peer, relay=relay) == Allow(stream_name="my-show", key_id="any")


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("192.0.2.1", "my-show"),
        ("127.0.0.1", "townhall"),
        ("127.0.0.1", "../x"),
        ("127.0.0.1", "two words"),
        ("127.0.0.1", "guest-key-0000000001"),
        ("not an address", "my-show"),
    ],
)
def test_any_key_does_not_open(peer: str, key: str) -> None:
    assert public_text(publish(key, peer=peer, relay=host(any_key="loopback"))) == KEY_REFUSED


def test_any_key_is_off_unless_asked_for() -> None:
    assert isinstance(publish("my-show", peer="127.0.0.1"), Deny)


def test_a_key_that_is_not_ours_may_be_left_to_the_next_plugin() -> None:
    relay = host(unknown="ask-next")

    assert publish("wrong", relay=relay) == Deny(reason="no plugin allowed it")
    assert publish("townhall-primary-0001", relay=relay) == PRIMARY


# Play.


@pytest.mark.parametrize("stream", ["townhall", "undeclared"])
def test_everybody_may_play_a_stream_without_play_keys(stream: str) -> None:
    assert play(stream) == Allow()


@pytest.mark.parametrize("name", ["key", "token", "pass"])
@pytest.mark.parametrize("key", ["private-play-0000001", "private-play-0000002"])
def test_a_play_key_opens_its_stream(name: str, key: str) -> None:
    assert play("private/stage", **{name: key}) == Allow()


@pytest.mark.parametrize(
    "query", [{}, {"key": "wrong"}, {"key": "private-primary-00001"}, {"user": "private-play-0000001"}]
)
def test_a_stream_with_play_keys_is_closed_without_one(query: dict[str, str]) -> None:
    assert public_text(play("private/stage", **query)) == PLAY_REFUSED


def test_the_templates_play_key_guards_streams_that_are_not_declared() -> None:
    relay = host({"open": {"primary": "open-primary-000001"}, "*": {"play": "template-play-00001"}})

    assert play("open", relay) == Allow()
    assert play("other", relay, key="template-play-00001") == Allow()
    assert isinstance(play("other", relay), Deny)


# What nobody learns.


def test_every_request_is_compared_with_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = host()
    compared: list[int] = []
    compare = hmac.compare_digest

    def counting(first: bytes, second: bytes) -> bool:
        compared.append(1)
        return compare(first, second)

    monkeypatch.setattr(keys_module.hmac, "compare_digest", counting)
    counts = []
    for key in ("townhall-primary-0001", "guest-key-0000000001", "wrong", ""):
        compared.clear()
        publish(key, relay=relay)
        counts.append(len(compared))

    assert counts == [6, 6, 6, 6]


def test_keys_show_nowhere() -> None:
    with capturedLogs() as events:
        relay = host()
        answers = [publish(key, relay=relay) for key in ("wrong-key-canary", "townhall-primary-0001")]
    shown = repr(answers) + repr(vars(relay.plugins[0].instance)) + repr(events)

    assert not [key for key in ("wrong-key-canary", "townhall-primary-0001", "private-play") if key in shown]


def test_an_error_about_a_key_does_not_hold_it() -> None:
    streams = {"a": {"primary": "canary-key-00000001", "backup": "canary-key-00000001"}}
    with pytest.raises(ConfigFileError) as caught:
        host(streams)

    assert "the same key as a.primary[0]" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_short_key_is_warned_about() -> None:
    with capturedLogs() as events:
        host({"a": {"primary": "short", "backup": "x" * 16}})

    assert [formatEvent(event) for event in events] == [
        "streams.a.streamkeys.primary is shorter than 16 characters and can be guessed"
    ]


def test_a_relay_that_nobody_may_publish_to_says_so() -> None:
    with capturedLogs() as events:
        host({})

    assert [formatEvent(event) for event in events] == ["no stream has a key, so nobody may publish"]
