"""For authors of plugins: fakes, packets, and `PluginContract`, the suite that every shipped plugin passes.

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
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from relay.api import (
    Allow,
    Codec,
    ConfigModel,
    Deny,
    Event,
    MediaKind,
    Packet,
    PlayRequest,
    PublishRequest,
    Push,
    PushTarget,
    Role,
    Secret,
    Sink,
    StreamInfo,
    Track,
    TrackSet,
)
from relay.config import Config
from relay.config_file import ConfigFileError
from relay.pluginfind import import_plugin, plugin_from_class
from relay.pluginhost import PluginHost

_SECRET_NAME = re.compile(r"(^|_)(key|keys|token|secret|password)$")

T = TypeVar("T")
Tables = Mapping[str, object]

# Packets.

AVC_CONFIG = bytes.fromhex("0142c01effe100196742c01ed900a02ff97011000003000100000300320f162e4801000568cb83cb20")
"""avcC record of a 640x360 baseline stream."""
HEVC_CONFIG = bytes.fromhex("0101600000000000000000005af000fcfdf8f800000f00")
"""hvcC record without parameter sets."""
AAC_CONFIG = b"\x11\x90"
"""AudioSpecificConfig: AAC-LC, 48 kHz, stereo."""


def avc_header(config: bytes = AVC_CONFIG) -> Packet:
    """Return an H.264 sequence header (FLV legacy form)."""
    body = b"\x17\x00\x00\x00\x00" + config
    return _packet(MediaKind.VIDEO, Codec.AVC, Role.HEADER, 0, body, 5)


def hevc_header(config: bytes = HEVC_CONFIG) -> Packet:
    """Return an HEVC sequence header (E-RTMP v2 §ExVideoTagHeader)."""
    return _packet(MediaKind.VIDEO, Codec.HEVC, Role.HEADER, 0, b"\x90hvc1" + config, 5)


def aac_header(config: bytes = AAC_CONFIG) -> Packet:
    """Return an AAC sequence header."""
    return _packet(MediaKind.AUDIO, Codec.AAC, Role.HEADER, 0, b"\xaf\x00" + config, 2)


def avc_frame(dts: int, *, keyframe: bool = False, size: int = 200, cts: int = 0) -> Packet:
    """Return an H.264 picture with one NAL unit of *size* bytes."""
    nal = (b"\x65" if keyframe else b"\x41") + bytes(max(size - 1, 0))
    head = (b"\x17" if keyframe else b"\x27") + b"\x01" + cts.to_bytes(3, "big", signed=True)
    body = head + len(nal).to_bytes(4, "big") + nal
    return _packet(MediaKind.VIDEO, Codec.AVC, Role.FRAME, dts, body, 5, keyframe=keyframe, cts=cts)


def hevc_frame(dts: int, *, keyframe: bool = False, size: int = 200) -> Packet:
    """Return an HEVC picture (E-RTMP v2, packet type CodedFramesX)."""
    nal = (b"\x26\x01" if keyframe else b"\x02\x01") + bytes(max(size - 2, 0))
    body = (b"\x93" if keyframe else b"\xa3") + b"hvc1" + len(nal).to_bytes(4, "big") + nal
    return _packet(MediaKind.VIDEO, Codec.HEVC, Role.FRAME, dts, body, 5, keyframe=keyframe)


def aac_frame(dts: int, *, size: int = 100) -> Packet:
    """Return an AAC frame."""
    return _packet(MediaKind.AUDIO, Codec.AAC, Role.FRAME, dts, b"\xaf\x01" + bytes(size), 2)


def _packet(
    kind: MediaKind,
    codec: Codec,
    role: Role,
    dts: int,
    body: bytes,
    offset: int,
    *,
    keyframe: bool = False,
    cts: int = 0,
) -> Packet:
    return Packet(
        kind=kind, track=0, codec=codec, role=role, keyframe=keyframe, dts=dts, cts=cts, body=body, offset=offset
    )


def track_set(video: Packet | None = None, audio: Packet | None = None, *, generation: int = 1) -> TrackSet:
    """Return the tracks of a stream with these sequence headers: H.264 and AAC unless said otherwise."""
    headers = (video or avc_header(), audio or aac_header())
    tracks = tuple(Track(kind=one.kind, track_id=0, codec=one.codec, header=one) for one in headers)
    return TrackSet(tracks=tracks, generation=generation)


def packets(
    seconds: float = 2.0, *, start: int = 0, fps: int = 25, gop: int = 25, codec: Codec = Codec.AVC
) -> Iterator[Packet]:
    """Yield the frames of a programme in order of time: pictures with a keyframe every *gop*, and AAC at 48 kHz."""
    picture = hevc_frame if codec is Codec.HEVC else avc_frame
    video = [(start + 1000 * n // fps, 0, n) for n in range(int(seconds * fps))]
    audio = [(start + 1024 * n // 48, 1, n) for n in range(int(seconds * 48_000 / 1024))]
    for dts, is_audio, number in sorted(video + audio):
        yield aac_frame(dts) if is_audio else picture(dts, keyframe=number % gop == 0)


# Fakes.


@dataclass
class RecordingSink:
    """A sink that keeps what it is told and insists that it is told in the right order."""

    configured: list[TrackSet] = field(default_factory=list)
    written: list[Packet] = field(default_factory=list)
    closed: int = 0

    def configure(self, tracks: TrackSet) -> None:
        """Keep the tracks."""
        assert not self.closed, "configured after close"
        self.configured.append(tracks)

    def write(self, packet: Packet) -> None:
        """Keep the packet."""
        assert self.configured, "written to before configure"
        assert not self.closed, "written to after close"
        assert packet.role is not Role.HEADER, "sequence headers go to configure"
        self.written.append(packet)

    def close(self) -> None:
        """Count the close."""
        self.closed += 1


@dataclass
class FakePush:
    """Stands in for the relay's push: keeps the targets and gives out recording sinks."""

    opened: list[tuple[PushTarget, RecordingSink]] = field(default_factory=list)

    def __call__(self, target: PushTarget, /) -> Sink:
        """Return a sink that records."""
        sink = RecordingSink()
        self.opened.append((target, sink))
        return sink


def publish_request(
    key: str = "", /, *, peer: str = "192.0.2.1", app: str = "live", tls: bool = False, **query: str
) -> PublishRequest:
    """Return an encoder's question."""
    secrets = {name: Secret(value) for name, value in query.items()}
    return PublishRequest(connection_id="c1", peer=peer, tls=tls, app=app, stream_key=Secret(key), query=secrets)


def play_request(
    stream: str, /, *, peer: str = "192.0.2.1", app: str = "live", tls: bool = False, **query: str
) -> PlayRequest:
    """Return a player's question."""
    secrets = {name: Secret(value) for name, value in query.items()}
    return PlayRequest(connection_id="c1", peer=peer, tls=tls, app=app, stream_name=stream, query=secrets)


def stream_info(name: str = "stage", tracks: TrackSet | None = None) -> StreamInfo:
    """Return a stream that has just started."""
    return StreamInfo(name=name, tracks=tracks or track_set(), live_feed="primary", started_at=1_767_225_600.0)


def result_of(awaitable: Awaitable[T]) -> T:
    """Return the result of something that is done; raise its error, or AssertionError when it still waits."""

    async def wait() -> T:
        return await awaitable

    results: list[T | Failure] = []
    Deferred.fromCoroutine(wait()).addBoth(results.append)
    assert results, "still waiting"
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result


def host_for(
    plugin: type[object],
    *,
    name: str = "tested",
    config: Tables | None = None,
    streams: Mapping[str, Tables] | None = None,
    clock: Clock | None = None,
    push: Push | None = None,
    live: Mapping[str, StreamInfo] | None = None,
) -> PluginHost:
    """Return a host with one plugin, enabled as *name*. *streams* holds the plugin's sub-table of each stream."""
    tables = {stream: {name: dict(table)} for stream, table in (streams or {}).items()}
    return PluginHost(
        Config(plugins={name: dict(config or {})}, streams=tables),
        clock=clock or Clock(),
        installed={name: [plugin_from_class(name, plugin)]},
        push=push or FakePush(),
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
        """An option that holds a key, a token or a password is a `SecretRef`: never printed, and it may come from a file."""
        for model in _models(self.plugin, self.name):
            for option, about in model.model_fields.items():
                if _SECRET_NAME.search(option):
                    assert "SecretRef" in str(about.annotation), f"{option} must be a SecretRef"

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
