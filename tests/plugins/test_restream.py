"""Targets of a stream: what is wanted, what is, and how one becomes the other."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from relay.api import (
    ConfigError,
    Event,
    MediaKind,
    Packet,
    PushSink,
    PushTarget,
    TargetControl,
    TargetPlan,
    TargetStateChanged,
    TargetWarning,
    TrackSet,
)
from relay.config_file import ConfigFileError
from relay.log import clean_line
from relay.pluginhost import PluginHost
from relay.secret import KEPT_GONE
from relay.testing import (
    PluginContract,
    RecordingPush,
    avc_frame,
    hevc_header,
    host_for,
    packets,
    result_of,
    stream_info,
    track_set,
)
from relay_restream import RestreamPlugin
from relay_restream.live import StreamTargets
from relay_restream.options import MAX_KEY_BYTES

Tables = Mapping[str, Any]

KEY = "canary-3d1f5b7a9c2e"
HERE: Tables = {"url": "rtmp://127.0.0.1:19350/live", "key": KEY}
SAFE: Tables = {"url": "rtmps://safe.example/live", "key": KEY}
VIDEO_ONLY = TrackSet(tuple(track for track in track_set().tracks if track.kind is MediaKind.VIDEO))
HEVC = track_set(hevc_header(), generation=2)


class TestRestreamContract(PluginContract):
    name = "restream"
    plugin = RestreamPlugin
    config: ClassVar[Tables] = {"ingest_lists": False}
    streams: ClassVar[Mapping[str, Tables]] = {
        "stage": {
            "one": HERE,
            "two": {"preset": "youtube", "key": "k2", "delay_s": 2.0},
            "three": {"preset": "facebook", "key": "k3", "enabled": False},
        }
    }
    bad_configs = (
        ({"merge_ms": -1}, "plugins.restream.merge_ms"),
        ({"allow_networks": ["10.0.0.1/8"]}, "plugins.restream.allow_networks"),
        ({"allow_networks": "10.0.0.0/8"}, "plugins.restream.allow_networks"),
    )
    bad_streams = (
        ({"one": {"url": "rtmp://h/a"}}, "streams.stage.restream.one.key"),
        ({"one": {"key": "k"}}, "streams.stage.restream.one"),
        ({"one": {"preset": "yutube", "key": "k"}}, "streams.stage.restream.one.preset"),
        ({"one": {"preset": "linkedin", "key": "k"}}, "streams.stage.restream.one"),
        ({"one": {"url": "http://h/a", "key": "k"}}, "streams.stage.restream.one.url"),
        ({"one": {**HERE, "audio_track": -1}}, "streams.stage.restream.one.audio_track"),
        ({"one": {**HERE, "audio_track": 256}}, "streams.stage.restream.one.audio_track"),
        ({"one": {**HERE, "delay_s": 901}}, "streams.stage.restream.one.delay_s"),
        ({"one": {**HERE, "silent_audio": "yes"}}, "streams.stage.restream.one.silent_audio"),
        ({"one": {**HERE, "ca_file": "/ca.pem"}}, "streams.stage.restream.one.ca_file"),
        ({"one": {**HERE, "crl_file": "/crl.pem"}}, "streams.stage.restream.one.crl_file"),
        ({"one": {**SAFE, "insecure_skip_verify": True}}, "streams.stage.restream.one.insecure_skip_verify"),
        ({"one": {**HERE, "fingerprint": "0" * 64}}, "streams.stage.restream.one"),
        ({"one": {**SAFE, "fingerprint": "0" * 63}}, "streams.stage.restream.one.fingerprint"),
        ({"one": {**SAFE, "fingerprint": "0" * 64, "ca_file": "/ca.pem"}}, "streams.stage.restream.one"),
        ({"one": {**SAFE, "fingerprint": "0" * 64, "backup_url": "rtmp://b/a"}}, "streams.stage.restream.one"),
        ({"one": {**HERE, "user": "bob"}}, "streams.stage.restream.one"),
        ({"one": {**HERE, "password": "p"}}, "streams.stage.restream.one"),
        ({"one": {**HERE, "user": "b&b", "password": "p"}}, "streams.stage.restream.one"),
        ({"one": {**HERE, "backup_url": "http://h/a"}}, "streams.stage.restream.one.backup_url"),
        ({"one": {**HERE, "backup_url": HERE["url"]}}, "streams.stage.restream.one"),
        ({"one": {**HERE, "backup_mode": "both"}}, "streams.stage.restream.one"),
        ({"one": {"preset": "twitch", "key": "k", "backup_mode": "both"}}, "streams.stage.restream.one"),
        ({"one": {**HERE, "backup_url": "rtmp://b/a", "backup_mode": "x"}}, "streams.stage.restream.one.backup_mode"),
        (
            {"one": {"preset": "youtube", "key": "k", "backup_mode": "both"}, "one.backup": HERE},
            "streams.stage.restream",
        ),
        ({"a b": HERE}, "streams.stage.restream"),
    )


# A plugin at work on a fake push.


class Pushes:
    """Gives out pushes that remember everything; a target leaves when `gone` is called."""

    def __init__(self) -> None:
        self.opened: list[RecordingPush] = []
        self.leaving: list[Deferred[None]] = []
        self.slow = False

    def __call__(self, stream: str, targets: Any, /, *, merge_ms: int = 0) -> PushSink:
        owner = self

        class Push(RecordingPush):
            def remove(self, name: str, /) -> Deferred[None]:
                super().remove(name)
                if not owner.slow:
                    return succeed(None)
                owner.leaving.append(Deferred())
                return owner.leaving[-1]

        push = Push(targets={target.name: target for target in targets})
        self.opened.append(push)
        return push

    @property
    def targets(self) -> dict[str, PushTarget]:
        """Everybody who is pushed to now."""
        return {name: target for push in self.opened for name, target in push.targets.items()}

    def of(self, name: str) -> RecordingPush:
        return next(push for push in self.opened if name in push.targets)

    def gone(self) -> None:
        leaving, self.leaving = self.leaving, []
        for one in leaving:
            one.callback(None)


class Relay:
    """The plugin with a fake push, a clock and what it says."""

    def __init__(self, streams: Mapping[str, Tables] | None = None, **config: Any) -> None:
        self.clock = Clock()
        self.pushes = Pushes()
        self.names: dict[str, list[str]] = {}
        self.host: PluginHost = host_for(
            RestreamPlugin,
            name="restream",
            config={"ingest_lists": False, **config},
            streams=streams or {},
            clock=self.clock,
            push=self.pushes,
            resolve=self.resolve,
        )
        self.events: list[Event] = []
        self.host.observers.append(self.events.append)

    def resolve(self, host: str) -> Deferred[Any]:
        return succeed(self.names.get(host, []))

    @property
    def control(self) -> TargetControl:
        control = self.host.target_control
        assert control is not None
        return control

    def start(self, stream: str = "stage", tracks: TrackSet | None = None) -> StreamTargets:
        (opened,) = self.host.open_sinks(stream_info(stream))
        assert isinstance(opened.sink, StreamTargets)
        opened.sink.configure(tracks or track_set())
        return opened.sink

    def put(self, name: str, stream: str = "stage", **options: Any) -> None:
        options = {"key": KEY, **options}
        result_of(self.control.put(stream, name, self.control.options.model_validate(options, strict=True)))

    def plan(self, name: str, stream: str = "stage") -> TargetPlan:
        return next(plan for plan in self.control.targets(stream) if plan.name == name)

    def told(self, name: str) -> list[tuple[str, str]]:
        """State and reason of each change the plugin announced."""
        return [
            (event.state, event.reason)
            for event in self.events
            if isinstance(event, TargetStateChanged) and event.target == name
        ]

    def warned(self, name: str) -> list[str]:
        return [event.code for event in self.events if isinstance(event, TargetWarning) and event.target == name]


def test_the_targets_of_the_file_are_pushed_to_and_trusted() -> None:
    relay = Relay({"stage": {"one": HERE, "off": {**HERE, "key": "other", "enabled": False}}})
    relay.start()
    target = relay.pushes.targets["one"]

    assert set(relay.pushes.targets) == {"one"}
    assert (target.url, target.key.reveal(), target.allow_networks) == (HERE["url"], KEY, None)
    assert relay.plan("one").state == "", "the push knows"
    assert (relay.plan("off").state, relay.plan("off").reason) == ("stopped", "by-configuration")


def test_targets_of_a_stream_that_is_not_live_wait() -> None:
    relay = Relay({"stage": {"one": HERE, "off": {**HERE, "enabled": False}}})

    assert list(relay.control.streams()) == ["stage"]
    assert (relay.plan("one").state, relay.plan("one").reason) == ("waiting", "no-stream")
    assert relay.plan("one").destination == "rtmp://127.0.0.1:19350/live"
    assert relay.plan("off").state == "stopped"


def test_a_target_whose_delay_fills_says_so() -> None:
    relay = Relay({"stage": {"late": {**HERE, "delay_s": 5.0}}})
    sink = relay.start()
    for packet in packets(1.0):
        sink.write(packet)
    relay.clock.advance(4.9)

    plan = relay.plan("late")
    assert (plan.state, plan.reason, plan.detail) == ("waiting", "delay", "the programme goes out 5 s later")
    relay.clock.advance(0.2)
    assert relay.plan("late").state == "", "the push knows"


def test_since_says_when_a_target_came_to_rest() -> None:
    relay = Relay({"stage": {"one": HERE, "two": {**HERE, "key": "k2"}}})
    relay.clock.advance(10)
    assert relay.plan("one").since == 0
    relay.control.stop("stage", "two")
    relay.clock.advance(10)
    relay.control.stop("stage", "two")
    assert (relay.plan("one").since, relay.plan("two").since) == (0, 10)
    sink = relay.start()
    relay.control.stop("stage", "one")
    assert relay.plan("one").since == 20
    relay.clock.advance(10)
    sink.close()
    assert (relay.plan("one").since, relay.plan("one").state) == (30, "stopped")


def test_streams_of_the_template_get_its_targets() -> None:
    relay = Relay({"*": {"one": HERE}, "stage": {}})
    relay.start("guest")

    assert set(relay.pushes.targets) == {"one"}
    assert list(relay.control.streams()) == []
    relay.control.delete("guest", "one")
    assert not relay.pushes.targets
    relay.start("guest")
    assert not relay.pushes.targets, "deleted targets do not come back with the stream"


def test_a_preset_brings_its_address_and_an_url_wins_over_it() -> None:
    relay = Relay(
        {
            "stage": {
                "tube": {"preset": "youtube", "key": "k1"},
                "near": {"preset": "youtube", "url": "rtmp://a.rtmp.youtube.com/live2", "key": "k2"},
            }
        }
    )
    relay.start()

    assert relay.pushes.targets["tube"].url == "rtmps://a.rtmps.youtube.com:443/live2"
    assert relay.pushes.targets["near"].url == "rtmp://a.rtmp.youtube.com/live2"


def test_a_presets_second_address_is_used_only_when_the_operator_says_how() -> None:
    relay = Relay(
        {
            "stage": {
                "plain": {"preset": "youtube", "key": "k1"},
                "spare": {"preset": "youtube", "key": "k2", "backup_mode": "failover"},
                "both": {"preset": "youtube", "key": "k3", "backup_mode": "both"},
                "own": {**HERE, "backup_url": "rtmp://127.0.0.1:19351/live"},
            }
        }
    )
    relay.start()
    second = "rtmps://b.rtmps.youtube.com:443/live2?backup=1"

    found = {name: (target.backup_url, target.backup_mode) for name, target in relay.pushes.targets.items()}
    assert found == {
        "plain": (None, "failover"),
        "spare": (second, "failover"),
        "both": (second, "both"),
        "own": ("rtmp://127.0.0.1:19351/live", "failover"),
    }


def test_how_a_target_is_left_follows_the_option_and_then_the_preset() -> None:
    relay = Relay(
        {
            "stage": {
                "plain": HERE,
                "twitch": {"preset": "twitch", "key": "k1"},
                "clean": {"preset": "twitch", "key": "k2", "close": "clean"},
                "abrupt": {**HERE, "key": "k3", "close": "abrupt"},
            }
        }
    )
    relay.start()

    found = {name: (target.close, target.close_on_fault) for name, target in relay.pushes.targets.items()}
    assert found == {
        "plain": ("clean", "clean"),
        "twitch": ("clean", "abrupt"),
        "clean": ("clean", "clean"),
        "abrupt": ("abrupt", "abrupt"),
    }


def test_the_reason_of_the_end_reaches_every_push_also_through_a_delay() -> None:
    relay = Relay({"stage": {"one": HERE, "late": {**HERE, "key": "k2", "delay_s": 5.0}}})
    sink = relay.start()
    sink.stream_ending("hold-expired")
    sink.close()

    assert [push.ended for push in relay.pushes.opened] == ["hold-expired", "hold-expired"]


@pytest.mark.parametrize("text", ["aB" * 32, ":".join(["ab"] * 32)])
def test_a_fingerprint_is_read_with_and_without_colons(text: str) -> None:
    relay = Relay({"stage": {"one": {**SAFE, "fingerprint": text}}})
    relay.start()

    assert relay.pushes.targets["one"].fingerprint == b"\xab" * 32


def test_a_login_and_where_redirects_may_lead_are_handed_on() -> None:
    options = {**HERE, "user": "bob", "password": "canary-77aa66bb", "enhanced_rtmp": "keep"}
    relay = Relay({"stage": {"one": options, "two": SAFE}}, allow_networks=["10.1.0.0/16"])
    relay.start()
    one, two = relay.pushes.targets["one"], relay.pushes.targets["two"]

    assert one.password is not None
    assert (one.user, one.password.reveal(), one.announce_enhanced) == ("bob", "canary-77aa66bb", True)
    assert (two.user, two.password, two.announce_enhanced) == ("", None, False)
    for target in (one, two):
        assert target.allow_networks is None, "the operator wrote the address"
        assert [str(network) for network in target.redirect_networks] == ["10.1.0.0/16"]
    assert "canary-77aa66bb" not in repr(one)


def test_a_changed_password_applies_to_that_target_alone() -> None:
    relay = Relay({"stage": {"one": HERE, "two": {**HERE, "key": "k2"}}})
    relay.start()
    other = relay.pushes.targets["two"]
    relay.put("one", url=HERE["url"], user="bob", password="canary-77aa66bb")

    changed = relay.pushes.targets["one"].password
    assert changed is not None
    assert changed.reveal() == "canary-77aa66bb"
    assert relay.pushes.targets["two"] is other


def test_equal_tailoring_shares_a_push_and_other_tailoring_does_not() -> None:
    streams = {
        "stage": {
            "one": {**HERE, "key": "1"},
            "two": {**HERE, "key": "2"},
            "flat": {**HERE, "key": "3", "tracks": "default"},
            "flat-too": {**HERE, "key": "4", "tracks": "default"},
            "late": {**HERE, "key": "5", "delay_s": 10.0},
        }
    }
    relay = Relay(streams)
    sink = relay.start()
    frames = list(packets(0.2))
    for packet in frames:
        sink.write(packet)

    assert [sorted(push.targets) for push in relay.pushes.opened] == [["one", "two"], ["flat", "flat-too"], ["late"]]
    assert [id(one) for one in relay.pushes.of("one").written] == [id(one) for one in frames]
    assert [id(one) for one in relay.pushes.of("flat").written] == [id(one) for one in frames], "nothing to change"
    assert relay.pushes.of("late").written == []


# What is wanted changes.


def test_a_target_comes_while_the_stream_is_live_and_no_other_notices() -> None:
    relay = Relay({"stage": {"one": HERE}})
    sink = relay.start()
    one = relay.pushes.of("one")
    relay.names["new.example"] = ["8.8.8.8"]
    relay.put("new", url="rtmps://new.example/live", key="key-of-new-1")

    assert set(one.targets) == {"one", "new"}
    assert len(one.configured) == 1
    assert relay.pushes.targets["new"].allow_networks == ()
    for packet in packets(0.1):
        sink.write(packet)
    relay.control.delete("stage", "new")
    assert set(one.targets) == {"one"}
    assert one.closed == 0


def test_the_order_of_calls_and_of_the_stream_does_not_matter() -> None:
    relay = Relay(None)
    relay.names["new.example"] = ["8.8.8.8"]
    relay.put("new", url="rtmp://new.example/live")
    assert relay.plan("new").state == "waiting"
    assert relay.control.stop("stage", "new")
    relay.start()
    assert not relay.pushes.targets
    assert (relay.plan("new").state, relay.plan("new").reason) == ("stopped", "by-api")
    assert relay.control.start("stage", "new")

    assert set(relay.pushes.targets) == {"new"}


def test_repeating_a_call_changes_nothing() -> None:
    relay = Relay(None)
    relay.names["new.example"] = ["8.8.8.8"]
    relay.start()
    for _ in range(3):
        relay.put("new", url="rtmp://new.example/live")
        relay.control.start("stage", "new")
    (push,) = relay.pushes.opened
    relay.control.stop("stage", "new")
    told = len(relay.events)
    relay.control.stop("stage", "new")
    relay.control.delete("stage", "absent")

    assert push.targets == {}
    assert len(relay.events) == told
    assert not relay.control.start("stage", "absent")
    assert not relay.control.stop("stage", "absent")
    assert not relay.control.dump("stage", "absent")
    relay.control.delete("stage", "new")
    relay.control.delete("stage", "new")
    assert list(relay.control.targets("stage")) == []
    assert list(relay.control.streams()) == []


def test_a_changed_key_is_used_when_the_old_connection_is_gone_and_touches_that_target_alone() -> None:
    relay = Relay({"stage": {"one": HERE, "two": {**HERE, "key": "k2"}}})
    relay.start()
    relay.pushes.slow = True
    two = relay.pushes.targets["two"]
    relay.put("one", url=HERE["url"], key="new-key-00001")

    assert set(relay.pushes.targets) == {"two"}, "the platform takes one connection at a time"
    assert (relay.plan("one").state, relay.plan("one").reason) == ("waiting", "changing")
    relay.put("one", url=HERE["url"], key="new-key-00002")
    relay.pushes.gone()
    assert relay.pushes.targets["one"].key.reveal() == "new-key-00002", "the last word counts"
    assert relay.pushes.targets["two"] is two


def test_a_target_that_is_stopped_while_it_changes_stays_stopped() -> None:
    relay = Relay({"stage": {"one": HERE}})
    relay.start()
    relay.pushes.slow = True
    relay.control.stop("stage", "one")
    relay.control.start("stage", "one")
    relay.control.stop("stage", "one")
    relay.pushes.gone()

    assert not relay.pushes.targets
    assert relay.plan("one").state == "stopped"
    assert relay.told("one") == [("stopped", "by-api"), ("stopped", "by-api")], "once for each change"


def test_a_stream_that_comes_back_waits_for_the_connections_of_its_last_run() -> None:
    relay = Relay({"stage": {"one": HERE}})
    first = relay.start()
    relay.pushes.slow = True
    relay.control.stop("stage", "one")
    closing = first.close()
    relay.control.start("stage", "one")
    relay.start()

    assert not closing.called
    assert not relay.pushes.targets
    relay.pushes.gone()
    assert closing.called
    assert set(relay.pushes.targets) == {"one"}


def test_another_tailoring_moves_a_target_to_another_push_and_closes_an_empty_one() -> None:
    relay = Relay({"stage": {"one": HERE}})
    relay.start()
    first = relay.pushes.of("one")
    relay.put("one", url=HERE["url"], tracks="default")
    second = relay.pushes.of("one")

    assert second is not first
    assert first.closed == 1
    assert len(second.configured) == 1


# Addresses that come through the API.


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("rtmp://127.0.0.1/live", None),
        ("rtmp://[::1]/live", None),
        ("rtmp://[::ffff:10.0.0.1]/live", None),
        ("rtmp://169.254.169.254/live", None),
        ("rtmp://localhost/live", ["127.0.0.1", "::1"]),
        ("rtmp://127.1/live", ["127.0.0.1"]),
        ("rtmp://both.example/live", ["8.8.8.8", "192.168.0.7"]),
    ],
)
def test_an_address_that_is_not_public_is_refused(url: str, addresses: list[str] | None) -> None:
    relay = Relay(None)
    relay.start()
    if addresses is not None:
        relay.names[url.split("/")[2]] = addresses

    with pytest.raises(ConfigError, match="not a public one") as refused:
        relay.put("new", url=url)

    assert refused.value.path == "url"
    assert list(relay.control.targets("stage")) == []


def test_a_second_address_is_checked_like_the_first() -> None:
    relay = Relay({"stage": {"one": {**HERE, "backup_url": "rtmp://127.0.0.1:19351/live"}}})
    relay.start()
    relay.put("one", url=HERE["url"], backup_url="rtmp://127.0.0.1:19351/live", key="rotated-key-0001")
    assert relay.pushes.targets["one"].allow_networks is None, "the operator wrote both"

    for options in (
        {"preset": "youtube", "backup_url": "rtmp://10.0.0.7/live"},
        {"url": "rtmp://8.8.8.8/live", "backup_url": "rtmp://127.0.0.1/live"},
    ):
        with pytest.raises(ConfigError, match="not a public one"):
            relay.put("two", **options)
    relay.put("three", url="rtmp://8.8.8.8/live", backup_url="rtmp://9.9.9.9/live")
    assert relay.pushes.targets["three"].allow_networks == ()


def test_a_name_that_the_push_to_a_second_address_has_is_not_given_to_another_target() -> None:
    relay = Relay()
    relay.start()
    relay.put("one", preset="youtube", backup_mode="both")

    with pytest.raises(ConfigError, match="called"):
        relay.put("one.backup", preset="twitch")
    relay.put("two.backup", preset="twitch")
    with pytest.raises(ConfigError, match="called"):
        relay.put("two", preset="youtube", backup_mode="both", key="another-key-77")


def test_a_network_of_the_list_is_allowed_and_handed_on_for_the_connection() -> None:
    relay = Relay(None, allow_networks=["10.0.0.0/8"])
    relay.start()
    relay.put("new", url="rtmp://10.1.2.3/live")

    assert [str(one) for one in relay.pushes.targets["new"].allow_networks or ()] == ["10.0.0.0/8"]


def test_a_name_without_addresses_is_taken_and_checked_when_connecting() -> None:
    relay = Relay(None)
    relay.start()
    relay.put("new", url="rtmp://soon.example/live")

    assert relay.pushes.targets["new"].allow_networks == ()


def test_a_new_key_for_an_address_of_the_file_needs_no_check() -> None:
    relay = Relay({"stage": {"one": HERE}})
    relay.start()
    relay.put("one", url=HERE["url"], key="rotated-key-0001")

    assert relay.pushes.targets["one"].key.reveal() == "rotated-key-0001"
    with pytest.raises(ConfigError, match="not a public one"):
        relay.put("two", url=HERE["url"])


@pytest.mark.parametrize("option", ["key", "password"])
def test_a_key_of_a_caller_has_a_longest_form(option: str) -> None:
    relay = Relay({"stage": {"one": HERE}})
    login: Tables = {"user": "bob", "password": "p"} if option == "password" else {}
    relay.put("one", **{"url": HERE["url"], **login, option: "é" * (MAX_KEY_BYTES // 2)})

    with pytest.raises(ValueError, match="must have at most 4096 bytes"):
        relay.put("one", **{"url": HERE["url"], **login, option: "é" * (MAX_KEY_BYTES // 2) + "e"})


@pytest.mark.parametrize("key", ["copied\n", "two\r\nlines", "\x00", "a\x7f"])
def test_a_key_of_a_caller_holds_no_line_break(key: str) -> None:
    relay = Relay({"stage": {"one": HERE}})

    with pytest.raises(ValueError, match="control character"):
        relay.put("one", url=HERE["url"], key=key)


def test_the_keys_of_callers_are_hidden_from_the_log_and_do_not_fill_memory() -> None:
    relay = Relay({"stage": {"one": HERE}})
    keys = [f"canary-of-a-caller-{number:05}" for number in range(KEPT_GONE + 3)]
    for key in keys:
        relay.put("one", url=HERE["url"], key=key)
    gc.collect()
    relay.put("one", url=HERE["url"], key=keys[-1])

    assert clean_line(f"{keys[0]} {keys[-1]} {keys[-100]}") == f"{keys[0]} *** ***"


@pytest.mark.parametrize(
    "options",
    [
        {"url": "rtmp://8.8.8.8/live", "key": {"file": "/etc/passwd"}},
        {"url": "rtmp://8.8.8.8/live", "key": {"env": "HOME"}},
        {"url": "rtmp://8.8.8.8/live", "key": KEY, "ca_file": "/etc/passwd"},
        {"url": "rtmp://8.8.8.8/live", "key": KEY, "crl_file": "/etc/passwd"},
        {"url": "rtmp://8.8.8.8/live", "key": KEY, "user": "bob", "password": {"file": "/etc/passwd"}},
        {"url": "rtmp://8.8.8.8/live", "key": ""},
        {"url": "rtmp://8.8.8.8/live"},
        {"key": KEY},
        {"preset": "nothing", "key": KEY},
    ],
    ids=str,
)
def test_the_api_reads_no_files_and_no_variables(options: Tables) -> None:
    relay = Relay(None)

    with pytest.raises(ValueError, match="validation error") as wrong:
        relay.control.options.model_validate(options, strict=True)
    assert "passwd" not in str(wrong.value.errors(include_input=False)) if hasattr(wrong.value, "errors") else True


# Fit.


def test_a_codec_that_the_platform_does_not_take_is_refused_before_connecting() -> None:
    relay = Relay({"stage": {"twitch": {"preset": "twitch", "key": "k"}, "tube": {"preset": "youtube", "key": "k"}}})
    relay.start(tracks=HEVC)

    assert set(relay.pushes.targets) == {"tube"}
    plan = relay.plan("twitch")
    assert (plan.state, plan.reason) == ("refused", "fit")
    assert plan.detail == "Twitch takes H.264 video, and this stream's is HEVC"
    assert relay.told("twitch") == [("refused", "fit")]


def test_when_the_stream_ends_its_targets_are_said_to_wait_as_the_api_says() -> None:
    relay = Relay({"stage": {"one": HERE, "off": {**HERE, "url": "rtmp://127.0.0.1/b", "enabled": False}}})
    sink = relay.start()
    before = relay.told("one")
    sink.close()

    assert before == []
    assert relay.told("one") == [("waiting", "no-stream")]
    assert (relay.plan("one").state, relay.plan("one").reason) == ("waiting", "no-stream")
    assert relay.told("off") == [("stopped", "by-configuration")]


def test_a_stream_that_is_back_before_its_last_run_is_gone_is_not_said_to_wait() -> None:
    relay = Relay({"stage": {"one": HERE, "two": {**HERE, "url": "rtmp://127.0.0.1/b"}}})
    sink = relay.start()
    relay.pushes.slow = True
    relay.control.stop("stage", "two")
    sink.close()
    relay.start()
    relay.pushes.gone()

    assert ("waiting", "no-stream") not in relay.told("one")


def test_a_codec_change_in_mid_stream_ends_and_begins_what_it_must() -> None:
    relay = Relay({"stage": {"twitch": {"preset": "twitch", "key": "k"}, "any": HERE}})
    sink = relay.start()
    relay.pushes.slow = True
    sink.configure(HEVC)

    assert set(relay.pushes.targets) == {"any"}
    relay.pushes.gone()
    assert relay.plan("twitch").reason == "fit"
    sink.configure(track_set(generation=3))
    assert set(relay.pushes.targets) == {"any", "twitch"}
    assert len(relay.pushes.of("any").configured) == 3


def test_a_chosen_video_track_that_is_missing_is_refused_and_a_missing_audio_track_is_said() -> None:
    streams = {"stage": {"a": {**HERE, "video_track": 3}, "b": {**HERE, "key": "b", "audio_track": 3}}}
    relay = Relay(streams)
    relay.start()

    assert relay.plan("a").detail == "the stream has no video track 3"
    assert relay.plan("b").state == ""
    assert relay.warned("b") == ["audio-track"]
    assert relay.plan("b").warnings == ("the stream has no audio track 3; the destination gets no sound",)


def test_missing_sound_is_made_up_or_said() -> None:
    streams = {
        "stage": {
            "face": {"preset": "facebook", "key": "1"},
            "mute": {"preset": "facebook", "key": "2", "silent_audio": "off"},
            "tube": {"preset": "youtube", "key": "3", "silent_audio": "off"},
            "any": HERE,
            "meant": {**HERE, "key": "4", "silent_audio": "off"},
        }
    }
    relay = Relay(streams)
    sink = relay.start(tracks=VIDEO_ONLY)
    for n in range(10):
        sink.write(avc_frame(n * 40, keyframe=n == 0))

    def kinds(name: str) -> set[MediaKind]:
        return {packet.kind for packet in relay.pushes.of(name).written}

    assert kinds("face") == {MediaKind.VIDEO, MediaKind.AUDIO}
    assert kinds("mute") == kinds("any") == {MediaKind.VIDEO}
    assert relay.warned("mute") == relay.warned("tube") == relay.warned("any") == ["no-audio"]
    assert relay.warned("face") == relay.warned("meant") == []


def test_what_cannot_be_flattened_is_said() -> None:
    relay = Relay({"stage": {"flat": {**HERE, "enhanced_rtmp": "flatten"}, "any": {**HERE, "key": "2"}}})
    sink = relay.start()
    assert relay.warned("flat") == []

    sink.configure(HEVC)

    assert relay.plan("flat").warnings == ("HEVC has no form without Enhanced RTMP; sent as it is",)
    assert relay.warned("any") == []


def test_further_tracks_cannot_be_flattened_either() -> None:
    one = track_set()
    relay = Relay({"stage": {"flat": {**HERE, "enhanced_rtmp": "flatten"}}})
    relay.start(tracks=replace(one, tracks=(*one.tracks, replace(one.tracks[0], track_id=1))))

    (text,) = relay.plan("flat").warnings
    assert 'tracks = "default" leaves them out' in text


def frames(seconds: float, *, gop_s: float = 2.0, kbps: int = 1000, start: int = 0) -> Iterator[Packet]:
    size = kbps * 1000 // 8 // 25
    for n in range(int(seconds * 25)):
        yield avc_frame(start + n * 40, keyframe=n % int(gop_s * 25) == 0, size=size)


def test_keyframes_that_are_too_far_apart_are_said_once_until_it_is_mended() -> None:
    relay = Relay({"stage": {"twitch": {"preset": "twitch", "key": "k"}, "any": HERE}})
    sink = relay.start()
    for packet in frames(31, gop_s=6):
        sink.write(packet)

    assert relay.warned("twitch") == relay.warned("any") == ["keyframes"]
    assert relay.plan("any").warnings[0].startswith("keyframes come every 6.0 s; most platforms want one every 2 s")
    (text,) = relay.plan("twitch").warnings
    assert text.startswith("keyframes come every 6.0 s; Twitch wants one every 2 s")
    for packet in frames(31, start=31_000):
        sink.write(packet)
    assert relay.plan("twitch").warnings == ()
    for packet in frames(31, gop_s=6, start=62_000):
        sink.write(packet)
    assert relay.warned("twitch") == ["keyframes", "keyframes"]


@pytest.mark.parametrize(("kbps", "said"), [(6000, []), (6500, []), (7000, ["video-rate"])])
def test_a_bit_rate_above_the_platforms_is_said(kbps: int, said: list[str]) -> None:
    relay = Relay({"stage": {"twitch": {"preset": "twitch", "key": "k"}}})
    sink = relay.start()
    for packet in frames(11, kbps=kbps):
        sink.write(packet)

    assert relay.warned("twitch") == said


def test_the_end_of_a_session_is_announced() -> None:
    relay = Relay({"stage": {"twitch": {"preset": "twitch", "key": "k"}}})
    sink = relay.start()
    relay.clock.advance(47.6 * 3600)
    for packet in frames(11):
        sink.write(packet)

    assert relay.warned("twitch") == ["session"]


def test_the_same_address_and_key_twice_is_refused_until_the_first_is_gone() -> None:
    relay = Relay({"stage": {"one": HERE}, "other": {"two": HERE, "three": {**HERE, "key": "three-key-0003"}}})
    relay.start()
    second = relay.start("other")

    assert set(relay.pushes.targets) == {"one", "three"}
    plan = relay.plan("two", "other")
    assert (plan.state, plan.reason) == ("refused", "duplicate")
    assert plan.detail == "target one of stream stage pushes to the same address with the same key"
    relay.control.stop("stage", "one")
    assert set(relay.pushes.targets) == {"two", "three"}
    second.close()
    relay.control.start("stage", "one")
    assert "one" in relay.pushes.targets


def test_the_same_address_and_key_twice_in_the_file_is_said_at_the_start() -> None:
    lines: list[str] = []
    globalLogPublisher.addObserver(observe := lambda line: lines.append(formatEvent(line)))
    try:
        Relay({"stage": {"one": HERE}, "other": {"two": HERE, "three": {**HERE, "key": "three-key-0003"}}})
    finally:
        globalLogPublisher.removeObserver(observe)

    (line,) = [line for line in lines if "same address and key" in line]
    assert "targets stage/one and other/two" in line


# Failures of our own.


def test_a_push_that_raises_stops_its_own_targets_only() -> None:
    relay = Relay({"stage": {"one": HERE, "flat": {**HERE, "key": "2", "tracks": "default"}}})
    sink = relay.start()

    def fail(packet: Packet) -> None:
        raise RuntimeError("no")

    relay.pushes.of("flat").write = fail  # type: ignore[method-assign]
    good = relay.pushes.of("one")
    for packet in packets(0.2):
        sink.write(packet)

    assert len(good.written) == len(list(packets(0.2)))
    assert (relay.plan("flat").state, relay.plan("flat").reason) == ("stopped", "error")
    relay.control.start("stage", "flat")
    assert relay.plan("flat").state == "", "a person may try again"


def test_no_key_is_in_what_is_said() -> None:
    relay = Relay({"stage": {"one": HERE, "twitch": {"preset": "twitch", "key": KEY}}})
    relay.start(tracks=HEVC)
    relay.put("one", url=HERE["url"], key=KEY + "-2", delay_s=1.0)

    assert KEY not in repr(relay.events)
    assert KEY not in repr(relay.control.targets("stage"))
    assert KEY not in repr(relay.pushes.targets)


def test_an_unknown_preset_is_answered_with_a_near_one() -> None:
    with pytest.raises(ConfigFileError, match="did you mean youtube"):
        Relay({"stage": {"one": {"preset": "yutube", "key": "k"}}})
