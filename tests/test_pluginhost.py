"""The plugin host: a plugin can fail itself only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

import pluggy
import pytest

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.web.resource import Resource

from relay.api import (
    Allow,
    ConfigError,
    ConfigModel,
    Context,
    Deny,
    Event,
    FeedStarted,
    PlayRequest,
    PublishRequest,
    PushTarget,
    Secret,
    SecretRef,
    Sink,
    StreamEnded,
    StreamInfo,
    hookimpl,
)
from relay.config import Config, parse
from relay.config_file import ConfigFileError, Source
from relay.errors import PluginError
from relay.pluginfind import InstalledPlugin, plugin_from_class
from relay.pluginhost import DECIDE_BUDGET_S, MAX_EVENTS_IN_FLIGHT, PluginHost
from relay.testing import FakePush, RecordingSink, host_for, play_request, publish_request, result_of, stream_info

Answer = Callable[[PublishRequest], object]


class Plain:
    """A plugin with no options."""

    def __init__(self, config: ConfigModel, context: Context) -> None:
        self.context = context


def decider(answer: Answer) -> type:
    """Return a plugin class whose authorize_publish is *answer*."""

    class Decider(Plain):
        @hookimpl
        def authorize_publish(self, request: PublishRequest) -> object:
            return answer(request)

    return Decider


def observer(told: Callable[[Event], object]) -> type:
    class Observer(Plain):
        @hookimpl
        def on_event(self, event: Event) -> object:
            return told(event)

    return Observer


def opener(opened: Callable[[StreamInfo], object]) -> type:
    class Opener(Plain):
        @hookimpl
        def open_sinks(self, stream: StreamInfo) -> object:
            return opened(stream)

    return Opener


def host_of(clock: Clock | None = None, **plugins: type) -> PluginHost:
    """Return a host with these plugins, in this order."""
    return PluginHost(
        Config(plugins={name: {} for name in plugins}),
        clock=clock or Clock(),
        installed={name: [plugin_from_class(name, plugin)] for name, plugin in plugins.items()},
        wall_clock=lambda: 1_000.0,
    )


def ask(host: PluginHost) -> Allow | Deny:
    return result_of(host.authorize_publish(publish_request("key")))


def raising(error: BaseException) -> Callable[..., object]:
    def fail(*_: object) -> object:
        raise error

    return fail


def allow(name: str = "stage") -> Answer:
    return lambda request: Allow(stream_name=name)


@pytest.fixture
def logged() -> Iterator[list[dict[str, object]]]:
    with capturedLogs() as events:
        yield events


def lines(events: list[dict[str, object]], level: LogLevel) -> list[str]:
    return [formatEvent(event) for event in events if event["log_level"] == level]


# Decide.


def test_nobody_decides_means_no() -> None:
    assert isinstance(ask(host_of()), Deny)
    assert isinstance(result_of(host_of().authorize_play(play_request("a"))), Deny)


def test_the_first_answer_in_the_order_of_the_configuration_wins() -> None:
    quiet, first, second = decider(lambda request: None), decider(allow("first")), decider(allow("second"))

    assert ask(host_of(a=quiet, b=first, c=second)) == Allow(stream_name="first")
    assert ask(host_of(c=second, b=first)) == Allow(stream_name="second")
    assert isinstance(ask(host_of(a=decider(lambda request: Deny()), b=first)), Deny)


def test_an_answer_may_come_later_from_a_coroutine_or_a_deferred() -> None:
    clock = Clock()
    waiting: Deferred[None] = Deferred()

    async def slowly(request: PublishRequest) -> Allow:
        await waiting
        return Allow(stream_name="late")

    answers: list[object] = []
    Deferred.fromCoroutine(host_of(clock, a=decider(slowly)).authorize_publish(publish_request())).addCallback(
        answers.append
    )
    clock.advance(4.9)
    waiting.callback(None)

    assert answers == [Allow(stream_name="late")]
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "answer",
    [
        raising(RuntimeError("boom")),
        raising(CancelledError()),
        raising(SystemExit(1)),
        raising(AssertionError()),
        lambda request: True,
        lambda request: "stage",
        lambda request: Allow,
        lambda request: Allow(stream_name=""),
        lambda request: Allow(stream_name="../x"),
        lambda request: Allow(stream_name="a", feed="a/b"),
    ],
    ids=["raises", "cancelled", "exits", "asserts", "bool", "str", "class", "no-name", "bad-name", "bad-feed"],
)
def test_a_plugin_that_fails_to_decide_means_no_even_if_the_next_would_allow(
    answer: Answer, logged: list[dict[str, object]]
) -> None:
    host = host_of(broken=decider(answer), other=decider(allow()))

    assert isinstance(ask(host), Deny)
    assert host.stats["authorize_publish", "broken"].errors == 1
    assert host.stats["authorize_publish", "other"].calls == 0
    assert "broken" in lines(logged, LogLevel.error)[0]


def test_a_plugin_that_fails_later_means_no(logged: list[dict[str, object]]) -> None:
    async def later(request: PublishRequest) -> Allow:
        raise RuntimeError("boom")

    assert isinstance(ask(host_of(a=decider(later))), Deny)


def test_an_awaited_cancellation_of_the_plugins_own_work_means_no(logged: list[dict[str, object]]) -> None:
    def cancelled(request: PublishRequest) -> Deferred[Allow]:
        waiting: Deferred[Allow] = Deferred()
        waiting.cancel()
        return waiting

    assert isinstance(ask(host_of(a=decider(cancelled))), Deny)


def test_a_plugin_that_never_answers_is_a_no_after_five_seconds(logged: list[dict[str, object]]) -> None:
    clock = Clock()
    host = host_of(clock, silent=decider(lambda request: Deferred()))
    answers: list[object] = []
    Deferred.fromCoroutine(host.authorize_publish(publish_request())).addCallback(answers.append)
    clock.advance(DECIDE_BUDGET_S - 0.01)
    assert answers == []
    clock.advance(0.01)

    assert [type(answer) for answer in answers] == [Deny]
    stats = host.stats["authorize_publish", "silent"]
    assert (stats.calls, stats.errors, stats.timeouts, stats.seconds) == (1, 1, 1, 5.0)


def test_a_plugin_that_ignores_its_cancellation_cannot_hold_the_answer(logged: list[dict[str, object]]) -> None:
    clock = Clock()

    async def stubborn(request: PublishRequest) -> Allow:
        while True:
            try:
                await Deferred()
            except CancelledError:
                continue

    answers: list[object] = []
    host = host_of(clock, stubborn=decider(stubborn))
    Deferred.fromCoroutine(host.authorize_publish(publish_request())).addCallback(answers.append)
    clock.advance(DECIDE_BUDGET_S)

    assert [type(answer) for answer in answers] == [Deny]


def test_all_plugins_share_the_five_seconds(logged: list[dict[str, object]]) -> None:
    clock = Clock()
    waiting: Deferred[None] = Deferred()
    host = host_of(clock, a=decider(lambda request: waiting), b=decider(lambda request: Deferred()))
    answers: list[object] = []
    Deferred.fromCoroutine(host.authorize_publish(publish_request())).addCallback(answers.append)
    clock.advance(3)
    waiting.callback(None)
    clock.advance(2)

    assert [type(answer) for answer in answers] == [Deny]


def test_a_connection_that_goes_away_takes_its_question_along() -> None:
    clock = Clock()
    inner: list[object] = []
    waiting: Deferred[Allow] = Deferred(inner.append)
    question = Deferred.fromCoroutine(
        host_of(clock, a=decider(lambda request: waiting)).authorize_publish(publish_request())
    )
    outcome: list[object] = []
    question.addErrback(lambda failure: outcome.append(failure.check(CancelledError)))
    question.cancel()

    assert inner == [waiting]
    assert outcome == [CancelledError]
    assert clock.getDelayedCalls() == []


def test_an_awaitable_of_another_event_loop_is_a_no_not_a_crash(logged: list[dict[str, object]]) -> None:
    loop = asyncio.new_event_loop()
    try:
        assert isinstance(ask(host_of(a=decider(lambda request: loop.create_future()))), Deny)
    finally:
        loop.close()


def test_play_is_decided_by_the_same_rules() -> None:
    class Player(Plain):
        @hookimpl
        async def authorize_play(self, request: PlayRequest) -> Allow | None:
            return Allow() if request.stream_name == "open" else None

    host = host_of(a=Player)

    assert result_of(host.authorize_play(play_request("open"))) == Allow()
    assert isinstance(result_of(host.authorize_play(play_request("closed"))), Deny)


# Collect.


def test_sinks_of_all_plugins_are_joined_with_the_name_of_their_plugin() -> None:
    first, second = RecordingSink(), RecordingSink()
    host = host_of(
        a=opener(lambda stream: [first]), b=opener(lambda stream: iter((second,))), c=opener(lambda stream: None)
    )

    assert [(opened.plugin, opened.sink) for opened in host.open_sinks(stream_info())] == [("a", first), ("b", second)]


def test_a_plugin_that_fails_to_open_sinks_gives_none_and_its_half_opened_ones_are_closed(
    logged: list[dict[str, object]],
) -> None:
    half, good = RecordingSink(), RecordingSink()

    def fails_half_way(stream: StreamInfo) -> Iterator[Sink]:
        yield half
        raise OSError("disk full")

    host = host_of(a=opener(fails_half_way), b=opener(lambda stream: [good]))

    assert [opened.sink for opened in host.open_sinks(stream_info())] == [good]
    assert half.closed == 1
    assert host.stats["open_sinks", "a"].errors == 1


@pytest.mark.parametrize("answer", [5, [object()], [RecordingSink], "x"], ids=str)
def test_what_is_not_a_sink_is_refused(answer: object, logged: list[dict[str, object]]) -> None:
    host = host_of(a=opener(lambda stream: answer))

    assert host.open_sinks(stream_info()) == []
    assert host.stats["open_sinks", "a"].errors == 1


def test_an_async_open_sinks_is_refused_without_a_warning_of_python(logged: list[dict[str, object]]) -> None:
    async def opens(stream: StreamInfo) -> Iterable[Sink]:
        return []

    host = host_of(a=opener(opens))

    assert host.open_sinks(stream_info()) == []
    assert host.stats["open_sinks", "a"].errors == 1


def test_a_hook_that_takes_more_than_50_ms_is_named(logged: list[dict[str, object]]) -> None:
    clock = Clock()

    def blocks(seconds: float) -> Callable[[StreamInfo], list[Sink]]:
        def opens(stream: StreamInfo) -> list[Sink]:
            clock.advance(seconds)
            return []

        return opens

    host = host_of(clock, fast=opener(blocks(0.05)), slow=opener(blocks(0.051)))
    host.open_sinks(stream_info())

    assert lines(logged, LogLevel.warn) == ["plugin slow blocked the reactor for 51 ms in open_sinks"]
    assert host.stats["open_sinks", "slow"].seconds == pytest.approx(0.051)


@pytest.mark.parametrize("end", [None, RuntimeError("the database did not answer")])
def test_so_is_a_decision_that_is_made_without_waiting_or_ends_in_an_error(
    logged: list[dict[str, object]], end: Exception | None
) -> None:
    clock = Clock()

    def decides(request: object) -> None:
        clock.advance(2)
        if end is not None:
            raise end

    ask(host_of(clock, slow=decider(decides)))

    assert lines(logged, LogLevel.warn) == ["plugin slow blocked the reactor for 2000 ms in authorize_publish"]


def test_a_plugin_that_fails_five_times_in_a_minute_is_left_alone_for_a_minute(logged: list[dict[str, object]]) -> None:
    clock = Clock()
    host = host_of(clock, bad=opener(raising(OSError())), good=opener(lambda stream: [RecordingSink()]))
    for _ in range(6):
        assert len(host.open_sinks(stream_info())) == 1
        clock.advance(1)
    stats = host.stats["open_sinks", "bad"]

    assert (stats.calls, stats.dropped) == (5, 1)
    clock.advance(60)
    host.open_sinks(stream_info())
    assert (stats.calls, stats.dropped) == (6, 1)


def test_services_and_resources_are_collected() -> None:
    service, page = Service(), Resource()

    class Server(Plain):
        @hookimpl
        def services(self) -> Iterable[Service]:
            return [service]

        @hookimpl
        def http_resources(self) -> Mapping[str, Resource]:
            return {"hls": page}

    host = host_of(a=Server)

    assert host.services() == [service]
    assert host.http_resources() == {"hls": page}
    with pytest.raises(PluginError, match="plugin b: wants /hls, which another plugin serves already"):
        host_of(a=Server, b=Server).http_resources()


@pytest.mark.parametrize("answer", [[object()], 5, {"a/b": Resource()}, {"a": object()}, {"": Resource()}], ids=str)
def test_a_wrong_service_or_resource_stops_the_start(answer: object) -> None:
    class Server(Plain):
        @hookimpl
        def services(self) -> object:
            return answer

        @hookimpl
        def http_resources(self) -> object:
            return answer

    host = host_of(a=Server)
    with pytest.raises(PluginError, match="plugin a: http_resources failed"):
        host.http_resources()
    with pytest.raises(PluginError, match="plugin a: services failed"):
        host.services()


# Observe.


def test_every_plugin_hears_of_an_event_whatever_the_others_do(logged: list[dict[str, object]]) -> None:
    heard: list[Event] = []
    core: list[Event] = []
    host = host_of(a=observer(raising(RuntimeError())), b=observer(heard.append))
    host.observers.append(core.append)
    host.emit(StreamEnded(stream="a", reason="closed"))

    assert heard == core == [StreamEnded(stream="a", reason="closed")]
    assert heard[0].at == 1_000.0
    assert host.stats["on_event", "a"].errors == 1


def test_an_event_keeps_the_time_it_was_given() -> None:
    heard: list[Event] = []
    host_of(a=observer(heard.append)).emit(StreamEnded(stream="a", reason="x", at=5.0))

    assert heard[0].at == 5.0


def test_a_plugin_that_cannot_keep_up_loses_events_and_they_are_counted() -> None:
    waiting: list[Deferred[None]] = []

    def told(event: Event) -> Awaitable[None]:
        waiting.append(Deferred())
        return waiting[-1]

    host = host_of(a=observer(told))
    for _ in range(MAX_EVENTS_IN_FLIGHT + 3):
        host.emit(StreamEnded(stream="a", reason="x"))
    stats = host.stats["on_event", "a"]

    assert (stats.calls, stats.dropped) == (MAX_EVENTS_IN_FLIGHT, 3)
    waiting[0].callback(None)
    host.emit(StreamEnded(stream="a", reason="x"))
    assert (stats.calls, stats.dropped) == (MAX_EVENTS_IN_FLIGHT + 1, 3)


def test_an_observer_that_never_ends_gives_its_place_back(logged: list[dict[str, object]]) -> None:
    clock = Clock()
    host = host_of(clock, a=observer(lambda event: Deferred()))
    host.emit(StreamEnded(stream="a", reason="x"))
    clock.advance(30)

    assert host.plugins[0].in_flight == 0
    assert host.stats["on_event", "a"].timeouts == 1
    assert clock.getDelayedCalls() == []


def test_events_that_answer_events_for_ever_come_to_an_end(logged: list[dict[str, object]]) -> None:
    class Echo(Plain):
        @hookimpl
        def on_event(self, event: Event) -> None:
            self.context.emit(event)

    host = host_of(a=Echo)
    host.emit(StreamEnded(stream="a", reason="x"))

    assert host.stats["on_event", "a"].calls == 4
    assert len(lines(logged, LogLevel.error)) == 1


def test_a_plugin_that_fails_on_every_event_does_not_fill_the_log(logged: list[dict[str, object]]) -> None:
    host = host_of(a=observer(raising(RuntimeError("x"))))
    for _ in range(1_000):
        host.emit(StreamEnded(stream="a", reason="x"))

    assert len(lines(logged, LogLevel.error)) <= 11


# Work in the background.


def test_work_in_the_background_is_counted_and_its_failure_is_logged(logged: list[dict[str, object]]) -> None:
    async def work() -> None:
        raise RuntimeError("boom")

    host = host_of(a=observer(lambda event: None))
    context = host.plugins[0].instance.context  # type: ignore[attr-defined]
    result_of(context.run_in_background("look for updates", work()))
    stats = host.stats["background", "a"]

    assert (stats.calls, stats.errors) == (1, 1)
    assert lines(logged, LogLevel.error) == ["plugin a failed in look for updates: RuntimeError: boom"]


def test_a_plugins_numbers_are_its_own_and_one_that_fails_has_none(logged: list[dict[str, object]]) -> None:
    class Counting(Plain):
        def __init__(self, config: ConfigModel, context: Context) -> None:
            context.report_numbers(lambda: {"jobs_total": 3, "gone": True})

        @hookimpl
        def on_event(self, event: Event) -> None: ...

    class Failing(Counting):
        def __init__(self, config: ConfigModel, context: Context) -> None:
            context.report_numbers(lambda: {"jobs_total": 1 / 0})

    assert host_for(Counting).numbers() == {"tested": {"jobs_total": 3.0, "gone": 1.0}}
    assert host_for(Failing).numbers() == {}
    assert "ZeroDivisionError" in str(logged)


def test_work_in_the_background_ends_with_the_relay(logged: list[dict[str, object]]) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await Deferred()
        finally:
            ended.append("cleaned up")

    host = host_of(a=observer(lambda event: None))
    host.plugins[0].instance.context.run_in_background("wait", work())  # type: ignore[attr-defined]
    host.stop()

    assert ended == ["cleaned up"]
    assert host.plugins[0].background == set()
    assert lines(logged, LogLevel.error) == []


# Finding and checking.


def problems_of(text: str, **plugins: type) -> list[str]:
    config, problems = parse(Source(text, file="relay.toml"))
    assert config is not None, problems
    with pytest.raises(ConfigFileError) as caught:
        PluginHost(
            config,
            clock=Clock(),
            installed={name: [plugin_from_class(name, plugin)] for name, plugin in plugins.items()},
        )
    return str(caught.value).splitlines()


def test_only_configured_plugins_are_imported() -> None:
    imported: list[str] = []

    def installed(name: str) -> list[InstalledPlugin]:
        def load() -> object:
            imported.append(name)
            return Plain

        return [InstalledPlugin(name=name, distribution="d", version="1", load=load)]

    PluginHost(Config(plugins={"b": {}}), clock=Clock(), installed={name: installed(name) for name in "abc"})

    assert imported == ["b"]


def test_a_plugin_that_is_not_installed_is_named_with_what_is() -> None:
    assert problems_of("[plugins.strem]\n", stream=Plain) == [
        'relay.toml:1: plugins.strem: is not installed (did you mean "stream"?)'
    ]


def test_a_plugin_that_cannot_be_imported_is_refused_with_the_reason() -> None:
    broken = InstalledPlugin(name="x", distribution="relay-x", version="2", load=raising(ImportError("no module y")))
    config = Config(plugins={"x": {}})
    with pytest.raises(ConfigFileError, match=r"plugins\.x: relay-x 2 cannot be imported: ImportError: no module y"):
        PluginHost(config, clock=Clock(), installed={"x": [broken]})


def test_two_plugins_with_one_name_are_refused_with_both_distributions() -> None:
    two = [
        InstalledPlugin(name="x", distribution=name, version="1", load=lambda: Plain) for name in ("relay-x", "other-x")
    ]
    with pytest.raises(ConfigFileError, match="provided twice, by relay-x 1 and other-x 1"):
        PluginHost(Config(plugins={"x": {}}), clock=Clock(), installed={"x": two})


class Misspelt(Plain):
    @hookimpl
    def authorise_publish(self, request: PublishRequest) -> None: ...


class Unmarked(Plain):
    def authorize_publish(self, request: PublishRequest) -> None: ...


class Wrapping(Plain):
    @hookimpl(wrapper=True)
    def on_event(self, event: Event) -> Iterator[None]:
        yield


class OldWrapping(Plain):
    @hookimpl(hookwrapper=True)
    def on_event(self, event: Event) -> Iterator[None]:
        yield


class WrongArgument(Plain):
    @hookimpl
    def on_event(self, evnt: Event) -> None: ...


class TooNew(Plain):
    requires_api = (1, 99)


class TooOld(Plain):
    requires_api = (0, 1)


class ForeignConfig(Plain):
    class Config:
        pass


class Exploding:
    def __init__(self, config: ConfigModel, context: Context) -> None:
        raise KeyError("surprise")


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (Misspelt, 'there is no hook called authorise_publish (did you mean "authorize_publish"?)'),
        (Unmarked, "authorize_publish is a hook but is not marked with @hookimpl"),
        (Wrapping, "on_event is a hook wrapper"),
        (OldWrapping, "on_event is a hook wrapper"),
        (WrongArgument, "the plugin cannot be built: PluginValidationError"),
        (TooNew, "needs relay.api 1.99, this is 1.0"),
        (TooOld, "needs relay.api 0.1, this is 1.0"),
        (ForeignConfig, "its Config must be a subclass of relay.api.ConfigModel"),
        (Exploding, "the plugin cannot be built: KeyError: 'surprise'"),
    ],
)
def test_a_plugin_that_would_not_work_is_refused_at_the_start(plugin: type, message: str) -> None:
    (problem,) = problems_of("\n[plugins.tested]\n", tested=plugin)

    assert problem.startswith(f"relay.toml:2: plugins.tested: {message}")


def test_an_entry_point_that_is_not_a_class_is_refused() -> None:
    module = InstalledPlugin(name="x", distribution="d", version="1", load=lambda: pluggy)
    with pytest.raises(ConfigFileError, match="must be a class, not module"):
        PluginHost(Config(plugins={"x": {}}), clock=Clock(), installed={"x": [module]})


def test_a_hook_of_a_newer_relay_may_be_optional() -> None:
    class Forward(Plain):
        @hookimpl(optionalhook=True)
        def hook_of_the_future(self, thing: object) -> None: ...

    assert host_of(a=Forward).plugins[0].calls == {}


# Options.


class Optioned:
    """A plugin with options of its own and of streams."""

    class Config(ConfigModel):
        directory: str = "/tmp"
        segment_s: int = 4
        key: SecretRef | None = None

    class StreamConfig(ConfigModel):
        segment_s: int = 4
        name: str = ""
        key: SecretRef | None = None

    def __init__(self, config: Config, context: Context[StreamConfig]) -> None:
        self.config = config
        self.context = context
        if config.directory == "bad":
            raise ConfigError("directory", "is bad")
        if (stage := context.stream_config("stage")) and stage.name == "bad":
            raise ConfigError("streams.stage.tested.name", "is bad")

    @hookimpl
    def on_event(self, event: Event) -> None: ...


def optioned(text: str) -> Optioned:
    config, problems = parse(Source(text, file="relay.toml"))
    assert config is not None, problems
    host = PluginHost(config, clock=Clock(), installed={"tested": [plugin_from_class("tested", Optioned)]})
    (plugin,) = host.plugins
    assert isinstance(plugin.instance, Optioned)
    return plugin.instance


def test_the_options_of_a_stream_stand_over_the_plugins_defaults() -> None:
    plugin = optioned("""
[plugins.tested]
segment_s = 6
[streams.a.tested]
[streams.b.tested]
segment_s = 2
[streams.c]
[streams."*".tested]
name = "template"
""")
    found = {name: plugin.context.stream_config(name) for name in "abcd"}

    assert {name: one and one.segment_s for name, one in found.items()} == {"a": 6, "b": 2, "c": 6, "d": 6}
    assert {name: one and one.name for name, one in found.items()} == {"a": "", "b": "", "c": "", "d": "template"}
    assert list(plugin.context.configured_streams) == ["a", "b", "*"]
    assert [plugin.context.is_declared(name) for name in "acd"] == [True, True, False]


def test_options_that_need_a_value_have_no_defaults() -> None:
    class Strict(Plain):
        class StreamConfig(ConfigModel):
            url: str

    host = host_for(Strict)
    context = host.plugins[0].instance.context  # type: ignore[attr-defined]

    assert context.stream_config("any") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[plugins.tested]\nsegment = 1", '2: plugins.tested.segment: unknown key (did you mean "segment_s"?)'),
        (
            "[plugins.tested]\nsegment_s = '4s'",
            "2: plugins.tested.segment_s: must be a whole number; the unit is in the key's name",
        ),
        ("[plugins.tested]\ndirectory = 'bad'", "2: plugins.tested.directory: is bad"),
        ("[plugins.tested]\n[streams.stage.tested]\nname = 'bad'", "3: streams.stage.tested.name: is bad"),
        ("[plugins.tested]\n[streams.stage.tested]\nsegment_s = true", "3: streams.stage.tested.segment_s: must be"),
        (
            "[plugins.tested]\n[streams.stage.testd]",
            "2: streams.stage.testd: nothing reads this table; the tables of a stream belong to enabled plugins "
            '(did you mean "tested"?)',
        ),
        (
            "[streams.stage.tested]",
            "1: streams.stage.tested: the plugin tested is not enabled: add a table [plugins.tested]",
        ),
        ("[plugins.plain]\n[streams.stage.plain]", "2: streams.stage.plain: the plugin plain has no options for a"),
        ("[plugins.plain]\nx = 1", "2: plugins.plain.x: unknown key"),
        (
            "[plugins.tested]\nkey = { env = 'RELAY_UNSET' }",
            "2: plugins.tested.key: the environment variable RELAY_UNSET is",
        ),
        ("[plugins.tested]\n[streams.a.tested]\nkey = {file='/nonexistent'}", "3: streams.a.tested.key: cannot read"),
    ],
)
def test_wrong_options_are_refused_with_line_and_path(text: str, problem: str) -> None:
    (said,) = problems_of(text, tested=Optioned, plain=Plain)

    assert said.startswith(f"relay.toml:{problem}")


def test_problems_of_all_plugins_come_together() -> None:
    said = problems_of("[plugins.a]\nx = 1\n[plugins.b]\ny = 1\n[plugins.c]\n", a=Plain, b=Plain)

    assert [line.partition(": ")[0] for line in said] == ["relay.toml:2", "relay.toml:4", "relay.toml:5"]


def test_a_plugin_reaches_push_streams_clock_and_log_through_its_context() -> None:
    push = FakePush()
    live: dict[str, StreamInfo] = {}
    clock = Clock()
    host = host_for(Plain, clock=clock, push=push, live=live)
    context = host.plugins[0].instance.context  # type: ignore[attr-defined]
    live["stage"] = stream_info()
    sink = context.push("stage", [PushTarget(name="t", url="rtmp://h/app", key=Secret("k"))])

    assert (context.name, context.clock, context.streams) == ("tested", clock, live)
    assert context.log.namespace == "plugin.tested"
    assert [(stream, opened) for stream, _, opened in push.opened] == [("stage", sink)]


def test_a_relay_without_push_says_so() -> None:
    host = host_of(a=observer(lambda event: None))
    context = host.plugins[0].instance.context  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="cannot push"):
        context.push("s", [PushTarget(name="t", url="rtmp://h/app", key=Secret("k"))])


def test_an_event_of_a_plugin_reaches_the_others() -> None:
    heard: list[Event] = []

    class Emitter(Plain):
        @hookimpl
        def authorize_publish(self, request: PublishRequest) -> None:
            self.context.emit(FeedStarted(stream="s", feed="f", connection_id="c", peer="p"))

    ask(host_of(a=Emitter, b=observer(heard.append)))

    assert [type(event) for event in heard] == [FeedStarted]


def test_the_plugin_of_a_module_is_the_one_whose_package_it_is_in() -> None:
    homes = {"first": "acme_first", "second": "acme.second.plugin", "third": "acme.third"}
    classes = {name: type("Made", (), {"__init__": lambda self, config, context: None}) for name in homes}
    for name, home in homes.items():
        classes[name].__module__ = home
    host = host_of(**classes)

    asked = (
        "acme_first",
        "acme_first.client.http",
        "acme.second.sink",
        "acme.third",
        "acme.shared",
        "acme_firstborn",
        "time",
        "",
    )
    found = ["first", "first", "second", "third", "second or third", "", "", ""]
    assert [host.plugin_of(module) for module in asked] == found
