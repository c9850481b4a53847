"""What the relay gives a plugin: `Context`, and nothing else of ours.

May import the floors below the plugin host. The rule it guards: a plugin reaches the relay through these few doors,
each of which is counted, isolated and bound to the plugin's name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Generic, Literal, Protocol

from typing_extensions import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from relay.config import TEMPLATE
from relay.config_file import ConfigModel
from relay.decisions import Decision, Deny, PlayRequest
from relay.errors import ConfigError
from relay.events import Event
from relay.hookspecs import StreamInfo
from relay.secret import Secret
from relay.secretref import SecretRef
from relay.stream.judge import Fault, Level
from relay.stream.sinks import Sink

Network = IPv4Network | IPv6Network

StreamConfigT = TypeVar("StreamConfigT", bound=ConfigModel, default=ConfigModel)


ReadNumbers = Callable[[], Mapping[str, float]]
"""Returns a plugin's own numbers by name, now. It must not wait."""

FaultLevel = Literal["suspect", "bad", "dead"]
"""How bad a fault is: it can still be watched, something is missing, there is nothing to see."""

CloseStyle = Literal["clean", "abrupt"]
"""Send what waits, unpublish, close; or break the connection off, so that the destination holds the broadcast."""

BACKUP_SUFFIX = ".backup"
"""What the push to the second address of a target is called when both are pushed to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushTarget:
    """A place to push a stream to. *url* never holds the key; *ca_file* is trusted beside the system's CAs.

    *allow_networks* is None for an address that the operator wrote. For any other, every address of the host must be
    public or in one of these networks; what is connected to is what was checked.
    """

    name: str
    url: str
    key: Secret
    user: str = ""
    password: Secret | None = None
    """With *user*: who we are, for servers that ask for a login (Adobe's and Limelight's way)."""
    ca_file: Path | None = None
    crl_file: Path | None = None
    """Revocation lists of every CA on the way to the root (rtmps)."""
    fingerprint: bytes | None = None
    """SHA-256 of the only certificate that is good, instead of what CAs say (rtmps)."""
    allow_networks: Sequence[Network] | None = None
    redirect_networks: Sequence[Network] = ()
    """Networks beside the public ones that a server may be in which the destination sends us to."""
    announce_enhanced: bool = False
    """Say in `connect` that we speak Enhanced RTMP and follow requests to reconnect; a few servers refuse that."""
    retry_s: float = 0.0
    """Least seconds between two attempts at an address, for platforms that punish haste."""
    backup_url: str | None = None
    """A second address for the same key."""
    backup_mode: Literal["failover", "both"] = "failover"
    """Use it while *url* does not work, or push the same to both: then it is a push of its own, named with
    `BACKUP_SUFFIX`, that lives and dies with the target."""
    close: CloseStyle = "clean"
    """How to leave when that was planned: the encoder said goodbye, or the target is removed."""
    close_on_fault: CloseStyle = "clean"
    """How to leave when the programme was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceToCheck:
    """What `rtmp-relay check` asks a plugin about one of its targets or presets.

    *test_query* goes behind the key where a platform has a way to test without broadcasting.
    """

    title: str
    urls: Sequence[str]
    """Its addresses: the one that is used, then the second one if it has one."""
    key: SecretRef | None = None
    ca_file: Path | None = None
    crl_file: Path | None = None
    fingerprint: bytes | None = None
    user: str = ""
    password: SecretRef | None = None
    test_query: str = ""
    video_kbps: int | None = None
    note: str = ""


class PushSink(Sink, Protocol):
    """A sink that pushes, whose targets come and go while it runs. No call touches another target."""

    def add(self, target: PushTarget, /) -> None:
        """Push to *target* too, from the next keyframe on when the programme is on already.

        Raises KeyError when there is a target of this name, ConfigError when its address is wrong.
        """
        ...

    def stream_ending(self, reason: str, /) -> None:
        """Note why the stream ends (`relay.stream.sinks.HearsReason`)."""
        ...

    def remove(self, name: str, /) -> Awaitable[object]:
        """Stop pushing to a target; fires when its connection is gone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPlan:
    """What a plugin knows about a target beside what its push does.

    *state* is empty while there is a push: then the push's own holds. Otherwise it is ``waiting``, ``stopped`` or
    ``refused``, with *reason*, *detail* and since when on the relay's clock.
    """

    name: str
    destination: str
    enabled: bool = True
    state: str = ""
    reason: str = ""
    detail: str = ""
    since: float = 0.0
    warnings: Sequence[str] = ()


class TargetControl(Protocol):
    """A plugin whose targets can be changed while streams are live. The API asks it; it never waits for a push.

    Every call says what should be, so repeating it, or making it before the stream is live, is fine.
    """

    @property
    def options(self) -> type[ConfigModel]:
        """The model of what `put` takes. It holds no path of a file: the caller may be on another machine."""
        ...

    def streams(self) -> Iterable[str]:
        """Return the streams that have targets, live or not."""
        ...

    def targets(self, stream: str) -> Sequence[TargetPlan]:
        """Return every target of a stream, in order."""
        ...

    def put(self, stream: str, name: str, options: ConfigModel) -> Awaitable[None]:
        """Let there be this target, as *options* say. Raises ConfigError with the option that is wrong."""
        ...

    def delete(self, stream: str, name: str) -> None:
        """Let there be no such target."""
        ...

    def start(self, stream: str, name: str) -> bool:
        """Let this target run; False when there is none of the name."""
        ...

    def stop(self, stream: str, name: str) -> bool:
        """Let this target stand still; False when there is none of the name."""
        ...

    def dump(self, stream: str, name: str) -> bool:
        """Throw away what waits in this target's delay; False when there is none of the name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingPlan:
    """What a plugin knows of the recording of one stream.

    *state*: ``off`` (nobody wants it), ``waiting`` (for the stream, or for a keyframe), ``recording``, ``degraded``
    (the disk failed, tried again) or ``full`` (the disk is, down to the reserve), the last two with *reason*.
    *recording* is the id, *file* the name of the file that is written now. Numbers are the stream's since the relay's
    start, but for *duration_ms*, the file's, and *queue_bytes*, what waits for the disk now.
    """

    state: str
    enabled: bool = True
    reason: str = ""
    recording: str = ""
    file: str = ""
    format: str = ""
    duration_ms: int = 0
    bytes_written: int = 0
    queue_bytes: int = 0
    files: int = 0
    failures: int = 0
    dropped_packets: int = 0
    dropped_gops: int = 0


class RecordingControl(Protocol):
    """A plugin whose recordings can be started and stopped while streams are live. The API asks it; it never waits.

    Every call says what should be, so repeating it, or making it before the stream is live, is fine.
    """

    def streams(self) -> Iterable[str]:
        """Return the streams that are recorded or have options of their own, live or not."""
        ...

    def recording(self, stream: str) -> RecordingPlan:
        """Return what is known of a stream's recording."""
        ...

    def begin(self, stream: str) -> None:
        """Let the stream be recorded, from its next keyframe on. Raises ConfigError when that cannot be."""
        ...

    def end(self, stream: str) -> None:
        """Let the stream not be recorded. Raises ConfigError when that cannot be."""
        ...


class Push(Protocol):
    """Opens RTMP pushes. The sink connects, reconnects and reports each target's state by events until it is closed."""

    def __call__(self, stream: str, targets: Sequence[PushTarget], /, *, merge_ms: int = 0) -> PushSink:
        """Return the sink that pushes *stream* to all of *targets*."""
        ...


class Background(Protocol):
    """Runs a coroutine that nobody awaits."""

    def __call__(self, description: str, work: Coroutine[Deferred[object], object, object], /) -> Deferred[None]:
        """Start *work*; its failure is logged and counted under *description*. Cancel the result to stop it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Generic[StreamConfigT]):
    """The relay as one plugin sees it.

    Attributes:
        name: the plugin's name in the configuration.
        clock: the reactor's clock; every timer and deadline uses it, so that tests can turn it.
        log: bound to the plugin's name. Every secret of the configuration is hidden in what it writes.
        streams: the streams that are on now, by public name; read-only and always current.
        emit: tell everybody that something happened.
        run_in_background: start work that nobody awaits. It is cancelled when the relay stops.
    """

    name: str
    clock: IReactorTime
    log: Logger
    streams: Mapping[str, StreamInfo]
    emit: Callable[[Event], None]
    run_in_background: Background
    _push: Push | None = None
    _control_targets: Callable[[TargetControl], None] | None = None
    _control_recording: Callable[[RecordingControl], None] | None = None
    _report_numbers: Callable[[ReadNumbers], None] | None = None
    _opine: Callable[[str, str, str, Fault | None], bool] | None = None
    _confirm: Callable[[str, str, str, bool, str, float], bool] | None = None
    _resolve: Callable[[str], Deferred[Sequence[str]]] | None = None
    _authorize_play: Callable[[PlayRequest], Awaitable[Decision]] | None = None
    _stream_configs: Mapping[str, StreamConfigT] = field(default_factory=dict)
    _declared: frozenset[str] = frozenset()
    _stream_defaults: StreamConfigT | None = None

    @property
    def configured_streams(self) -> Mapping[str, StreamConfigT]:
        """The sub-tables of this plugin by stream name, in the order of the file; ``"*"`` is the template."""
        return self._stream_configs

    def is_declared(self, stream_name: str) -> bool:
        """Whether the configuration has a ``[streams.NAME]`` table, or any table below it, for *stream_name*."""
        return stream_name in self._declared

    def stream_config(self, stream_name: str) -> StreamConfigT | None:
        """Return what this plugin should do for a stream: its own sub-table over the plugin's defaults.

        A stream that is not declared gets the template's. Without a sub-table the plugin's defaults stand alone;
        None when they do not suffice, because the stream's options have required ones.
        """
        own = self._stream_configs.get(stream_name)
        if own is None and stream_name not in self._declared:
            own = self._stream_configs.get(TEMPLATE)
        return own if own is not None else self._stream_defaults

    def control_targets(self, control: TargetControl) -> None:
        """Let the API's target calls be answered by *control*. Raises ConfigError when another plugin does already."""
        if self._control_targets is not None:
            self._control_targets(control)

    def control_recording(self, control: RecordingControl) -> None:
        """Let the API's recording calls be answered by *control*. Raises ConfigError when another does already."""
        if self._control_recording is not None:
            self._control_recording(control)

    def report_numbers(self, read: ReadNumbers) -> None:
        """Show what *read* returns in `/metrics`, as ``rtmp_relay_PLUGIN_NAME``. A name with ``_total`` is a counter.

        Numbers of one stream belong into the `SinkStatus` of its sink. *read* is called at every scrape.
        """
        if self._report_numbers is not None:
            self._report_numbers(read)

    async def resolve(self, host: str) -> Sequence[str]:
        """Return the addresses of a host name, on the relay's own threads for DNS; empty when it has none."""
        return [] if self._resolve is None else await self._resolve(host)

    async def authorize_play(self, request: PlayRequest) -> Decision:
        """Ask the plugins that decide whether a viewer may play, as the relay does for RTMP players. Never raises."""
        if self._authorize_play is None:
            return Deny(reason="this relay has nobody who decides")
        return await self._authorize_play(request)

    def report_fault(
        self,
        stream: str,
        feed: str,
        trigger: str,
        *,
        level: FaultLevel = "suspect",
        measured: float = 0.0,
        threshold: float = 0.0,
        unit: str = "",
    ) -> bool:
        """Say that something is wrong with a feed that only a decoder can see, such as a black picture or silence.

        It counts like the relay's own triggers, as ``PLUGIN.TRIGGER``, until `clear_fault`. False: no such feed now.
        """
        fault = Fault(f"{self.name}.{trigger}", Level[level.upper()], measured, threshold, unit)
        return self._opine is not None and self._opine(stream, feed, fault.trigger, fault)

    def clear_fault(self, stream: str, feed: str, trigger: str) -> bool:
        """Take back what `report_fault` said. False: there is no such feed now."""
        return self._opine is not None and self._opine(stream, feed, f"{self.name}.{trigger}", None)

    def report_delivery(
        self, stream: str, target: str, *, confirmed: bool, detail: str = "", valid_s: float = 60.0
    ) -> bool:
        """Say what the platform itself says of a live target: that it has the programme, or that it has not.

        It is shown as ``confirmed`` or ``denied`` for *valid_s*, or until the connection ends; *detail* is for people.
        Ask when `TargetDeliveryChanged` says ``accepted``, and again before it runs out. False: no such target is live.
        """
        return self._confirm is not None and self._confirm(self.name, stream, target, confirmed, detail, valid_s)

    def push(self, stream: str, targets: Sequence[PushTarget], *, merge_ms: int = 0) -> PushSink:
        """Open RTMP pushes of *stream* to *targets*: each lives its own life, what they share is made once.

        Packets of *merge_ms* go out together; 0 sends at the end of each reactor turn.
        """
        if self._push is None:
            raise ConfigError("", "this relay cannot push")
        return self._push(stream, targets, merge_ms=merge_ms)
