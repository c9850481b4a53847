"""For authors of plugins: fakes (of platforms too), packets, and `PluginContract`, the suite shipped plugins pass.

    class TestGreeting(PluginContract):
        name = "greeting"
        plugin = GreetingPlugin
        config = {"text": "hello"}
        bad_configs = (({"text": 5}, "plugins.greeting.text"),)

Imports nothing that is not needed to run a plugin; pytest finds the class by its name. The rule it guards: what the
relay promises to plugins and expects of them is written down here as tests.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relay.api import (
    Allow,
    Codec,
    ConfigModel,
    Deny,
    Event,
    Packet,
    Push,
    Sink,
    StreamInfo,
)
from relay.config import Config
from relay.config_file import ConfigFileError
from relay.pluginfind import import_plugin, plugin_from_class
from relay.pluginhost import PluginHost
from relay.testing_certificates import Authority
from relay.testing_fakes import (
    FakePush,
    RecordingPush,
    RecordingSink,
    play_request,
    publish_request,
    result_of,
    stream_info,
)
from relay.testing_faults import Fault
from relay.testing_logins import LoginGuard
from relay.testing_packets import (
    AAC_CONFIG,
    AVC_CONFIG,
    HEVC_CONFIG,
    aac_frame,
    aac_header,
    avc_frame,
    avc_header,
    hevc_frame,
    hevc_header,
    packets,
    track_set,
)
from relay.testing_platforms import FACEBOOK, GENERIC, NGINX, TWITCH, YOUTUBE, FakePlatform, Manners
from relay.testing_received import Broadcast, Received, Session

__all__ = [
    "AAC_CONFIG",
    "AVC_CONFIG",
    "FACEBOOK",
    "GENERIC",
    "HEVC_CONFIG",
    "NGINX",
    "TWITCH",
    "YOUTUBE",
    "Authority",
    "Broadcast",
    "FakePlatform",
    "FakePush",
    "Fault",
    "LoginGuard",
    "Manners",
    "PluginContract",
    "Received",
    "RecordingPush",
    "RecordingSink",
    "Session",
    "aac_frame",
    "aac_header",
    "avc_frame",
    "avc_header",
    "hevc_frame",
    "hevc_header",
    "host_for",
    "packets",
    "play_request",
    "publish_request",
    "result_of",
    "stream_info",
    "track_set",
]

_SECRET_NAME = re.compile(r"(^|_)(key|keys|token|secret|password)$")
_TEXT_TYPE = re.compile(r"\bstr\b")

Tables = Mapping[str, object]


def host_for(
    plugin: type[object],
    *,
    name: str = "tested",
    config: Tables | None = None,
    streams: Mapping[str, Tables] | None = None,
    clock: Clock | None = None,
    push: Push | None = None,
    live: Mapping[str, StreamInfo] | None = None,
    resolve: Callable[[str], Deferred[Sequence[str]]] | None = None,
) -> PluginHost:
    """Return a host with one plugin, enabled as *name*. *streams* holds the plugin's sub-table of each stream."""
    tables = {stream: {name: dict(table)} for stream, table in (streams or {}).items()}
    return PluginHost(
        Config(plugins={name: dict(config or {})}, streams=tables),
        clock=clock or Clock(),
        installed={name: [plugin_from_class(name, plugin)]},
        push=push or FakePush(),
        resolve=resolve,
        streams=live,
    )


# The contract.


@dataclass(frozen=True, slots=True, kw_only=True)
class _EventOfTheFuture(Event):
    """An event class that no plugin knows."""


class PluginContract:
    """What every plugin must do. Subclass it, name it ``Test...``, fill in the attributes.

    pytest does not collect this class itself: its name does not begin with ``Test``.

    Attributes:
        name: the plugin's entry-point name.
        plugin: its class.
        config: a valid ``[plugins.NAME]`` table.
        streams: valid ``[streams.S.NAME]`` tables by stream name.
        bad_configs: wrong tables, each with the path that the error must name.
        bad_streams: wrong sub-tables of a stream called ``stage``, each with the path that the error must name.
    """

    name: ClassVar[str]
    plugin: ClassVar[type]
    config: ClassVar[Tables] = {}
    streams: ClassVar[Mapping[str, Tables]] = {}
    bad_configs: ClassVar[Sequence[tuple[Tables, str]]] = ()
    bad_streams: ClassVar[Sequence[tuple[Tables, str]]] = ()

    def host(self, clock: Clock | None = None) -> PluginHost:
        """Return a host with the plugin and its valid configuration."""
        return host_for(self.plugin, name=self.name, config=self.config, streams=self.streams, clock=clock)

    def test_it_loads_and_has_hooks(self) -> None:
        """The class is accepted and implements at least one hook."""
        (loaded,) = self.host().plugins

        assert loaded.calls

    def test_wrong_options_are_refused_with_their_path(self) -> None:
        """Every wrong table is refused before anything runs, and the message says where."""
        wrong = [({**self.config, "no_such_option": 1}, f"plugins.{self.name}.no_such_option"), *self.bad_configs]
        for table, path in wrong:
            paths = _refused_paths(self.plugin, self.name, table, self.streams)

            assert path in paths, f"{path} is not among {paths}"

    def test_wrong_options_of_a_stream_are_refused_with_their_path(self) -> None:
        """The same for the sub-tables of a stream."""
        for table, path in self.bad_streams:
            paths = _refused_paths(self.plugin, self.name, self.config, {"stage": table})

            assert path in paths, f"{path} is not among {paths}"

    def test_it_imports_nothing_of_the_relay_but_its_api(self) -> None:
        """Everything else may change at any time."""
        for file, module in _relay_imports(self.plugin):
            assert module == "relay.api", f"{file.name} imports {module}"

    def test_its_readme_lists_every_option(self) -> None:
        """README.md beside the package names each option in backticks."""
        readme = (_package(self.plugin) / "README.md").read_text("utf-8")
        missing = [option for option in _options(self.plugin, self.name) if f"`{option}`" not in readme]

        assert not missing

    def test_its_secrets_are_secrets(self) -> None:
        """An option that holds a key, a token or a password is a `SecretRef`: never printed, perhaps in a file."""
        for model in _models(self.plugin, self.name):
            for option, about in model.model_fields.items():
                is_text = _TEXT_TYPE.search(str(about.annotation))

                assert not (is_text and _SECRET_NAME.search(option)), f"{option} must be a SecretRef"

    def test_its_sinks_survive_a_codec_change(self) -> None:
        """H.264 becomes HEVC in mid-stream, as it does when another encoder takes over."""
        for sink in self._sinks():
            sink.configure(track_set())
            _write(sink, packets(0.5))
            sink.configure(track_set(hevc_header(), generation=2))
            _write(sink, packets(0.5, start=500, codec=Codec.HEVC))
            _wait_for(sink.close())

    def test_its_sinks_may_be_closed_twice_and_before_anything_was_written(self) -> None:
        """A stream may end at any moment."""
        for sink in self._sinks():
            _wait_for(sink.close())
            _wait_for(sink.close())

    def test_it_ignores_events_that_it_does_not_know(self) -> None:
        """New event classes appear in minor releases."""
        host = self.host()
        host.emit(_EventOfTheFuture())
        stats = host.stats.get(("on_event", self.name))

        assert stats is None or stats.errors == 0

    def test_its_decisions_are_decisions_whatever_is_asked(self) -> None:
        """Strange keys and names are refused or left to others; they never make the plugin fail."""
        host = self.host()
        for strange in ("", "x" * 1024, "ключ", "../../etc/passwd", "a/b/c/d/e", "'; drop", "\x00", "*"):
            answers = (
                result_of(host.authorize_publish(publish_request(strange, key=strange))),
                result_of(host.authorize_play(play_request(strange, token=strange))),
            )

            assert all(isinstance(answer, Allow | Deny) for answer in answers)
        assert not [place for place, stats in host.stats.items() if stats.errors]

    def _sinks(self) -> list[Sink]:
        name = next((stream for stream in self.streams if stream != "*"), "stage")
        return [opened.sink for opened in self.host().open_sinks(stream_info(name))]


def _write(sink: Sink, frames: Iterator[Packet]) -> None:
    for packet in frames:
        sink.write(packet)


def _wait_for(closing: Awaitable[None] | None) -> None:
    """Let a close run; it may take longer than the test, for example because it writes in a thread."""
    if closing is not None:

        async def wait() -> None:
            await closing

        Deferred.fromCoroutine(wait())


def _refused_paths(plugin: type, name: str, table: Tables, streams: Mapping[str, Tables]) -> list[str]:
    try:
        host_for(plugin, name=name, config=table, streams=streams)
    except ConfigFileError as error:
        return [problem.path for problem in error.problems]
    raise AssertionError(f"{dict(table)} was accepted")


def _package(plugin: type) -> Path:
    return Path(inspect.getfile(plugin)).parent


def _relay_imports(plugin: type) -> Iterator[tuple[Path, str]]:
    """Yield each module of ours that the plugin's package imports, from its syntax trees."""
    for file in sorted(_package(plugin).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
                if node.module == "relay":
                    modules = [f"relay.{alias.name}" for alias in node.names]
            for module in modules:
                if module == "relay" or module.startswith("relay."):
                    yield file, module


def _models(plugin: type, name: str) -> list[type[ConfigModel]]:
    checked = import_plugin(name, {name: [plugin_from_class(name, plugin)]})
    return [model for model in (checked.config, checked.stream_config) if model is not None]


def _options(plugin: type, name: str) -> list[str]:
    """Return every option of a plugin, those of nested tables too."""
    options: dict[str, None] = {}
    for model in _models(plugin, name):
        schema = model.model_json_schema()
        for part in (schema, *schema.get("$defs", {}).values()):
            options |= dict.fromkeys(part.get("properties", {}))
    return list(options)
