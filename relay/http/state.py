"""What the HTTP floor wants to know, as plain data; `relay.service` fills it in.

Imports nothing of ours but what a plugin says of a recording, which is plain data too. The rule it guards: a view is a
copy made when somebody asks. It holds no key, no token, no target address with credentials and no object that lives on;
so it can go to a browser, a scrape or a log as it is.
Times of day are seconds since the epoch (`..._at`, `since`), spans are milliseconds unless the name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from relay.context import RecordingPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackView:
    """One elementary stream of a stream.

    *codec* is the FourCC where there is one; *codec_string* is RFC 6381 (``avc1.64001F``), empty while unknown.
    """

    kind: str
    track_id: int
    codec: str
    codec_string: str = ""
    width: int = 0
    height: int = 0
    sample_rate: int = 0
    channels: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultView:
    """One thing that is wrong with a feed: what was measured, and what it may be at most (or at least)."""

    trigger: str
    measured: float
    threshold: float
    unit: str = "ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedView:
    """One encoder that publishes, with its health.

    *state*: ``live``, ``merged`` (carries the same frames as the live one), ``armed`` (goes live at its next keyframe),
    ``standby``, ``stalled``. *health*: ``good``, ``suspect``, ``bad``, ``dead``; *faults* say why, the worst first.
    """

    name: str
    state: str
    priority: int = 0
    connection_id: str = ""
    peer: str = ""
    encoder: str = ""
    connected_at: float = 0.0
    last_packet_age_ms: int | None = None
    bytes_in: int = 0
    frames_in: int = 0
    bitrate_kbps: float = 0.0
    fps: float = 0.0
    keyframe_interval_ms: int | None = None
    timeline_resets: int = 0
    timestamps_clamped: int = 0
    health: str = "good"
    faults: Sequence[FaultView] = ()
    clean_s: float = 0.0
    """Seconds without a fault."""
    odd: Mapping[str, int] = field(default_factory=dict)
    """Oddities that were tolerated, by code such as ``media.empty``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkView:
    """One receiver of a stream other than RTMP players: recorder, packager, target. *state*: ``open``, ``failed``."""

    name: str
    plugin: str
    state: str = "open"
    bytes_out: int = 0
    dropped_gops: int = 0
    detail: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Its plugin's own: a name that ends in ``_total`` counts, any other is of now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetView:
    """One configured place to push to.

    *state*: ``waiting``, ``connecting``, ``live``, ``backing-off``, ``refused``, ``stopped``. *destination* is scheme,
    host, port and app: never the key. *rtt_ms*, *retransmits* and *unacked_bytes* are the kernel's, of the current
    connection; None when there is none, or where the kernel does not tell. *enabled* is what is wanted, *warnings* say
    what the destination may not like.

    *delivery* is how far delivery is known while live: ``connected`` (the publish was accepted), ``accepted`` (the
    destination takes what is sent), ``confirmed`` or ``denied`` (the platform says so, by the plugin *confirmed_by*).
    """

    name: str
    state: str
    enabled: bool = True
    since: float = 0.0
    reason: str = ""
    detail: str = ""
    destination: str = ""
    attempts: int = 0
    bytes_sent: int = 0
    bytes_acked: int = 0
    queue_ms: int = 0
    dropped_gops: int = 0
    rtt_ms: float | None = None
    retransmits: int | None = None
    unacked_bytes: int | None = None
    delivery: str = ""
    delivery_detail: str = ""
    confirmed_by: str = ""
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingView(RecordingPlan):
    """The recording of one stream.

    *state*: ``off``, ``waiting`` (for the stream, or for a keyframe), ``recording``, ``degraded`` (the disk failed,
    tried again), ``full`` (the disk is, down to the reserve). *recording* is the id, *file* what is written now,
    *duration_ms* how long that is. The other numbers are the stream's since the relay's start, but for *queue_bytes*,
    which wait now.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamView:
    """One stream. *state*: ``live``, ``slate`` (no feed is live, viewers see the slate), ``waiting`` (no feed)."""

    name: str
    state: str
    live_feed: str | None = None
    started_at: float | None = None
    feeds: Sequence[FeedView] = ()
    tracks: Sequence[TrackView] = ()
    sinks: Sequence[SinkView] = ()
    targets: Sequence[TargetView] = ()
    recording: RecordingView | None = None
    """None without a plugin that records."""
    players: int = 0
    players_dropped: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    frames: Mapping[str, int] = field(default_factory=dict)
    """Frames published so far, by kind: ``video``, ``audio``, ``data``."""
    switches: int = 0
    locked_s: float = 0.0
    """The live feed is left only when it dies for so many seconds more: it was changed too often."""
    copies: int = 0
    """Frames left out because a merged feed had brought them already."""
    last_dts_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchView:
    """The answer to a switch by hand. *state*: ``live`` (it is on air), ``armed`` (from its next keyframe on)."""

    stream: str
    feed: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerView:
    """One listener. *error* says why it is not up."""

    url: str
    up: bool
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookView:
    """Calls of one hook of one plugin since the start."""

    plugin: str
    hook: str
    calls: int = 0
    errors: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LagView:
    """How late the reactor runs its timers, over the last minute."""

    p99_ms: float = 0.0
    max_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Numbers of the whole process, accumulated since the start. Keys are stable codes."""

    accepted: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    """Connections closed for a protocol error or a limit, by code: ``chunk.size_zero``, ``limit.connections``."""
    auth: Mapping[str, int] = field(default_factory=dict)
    """Answers to encoders and players: ``publish-allowed``, ``publish-denied``, ``play-allowed``, ``play-denied``."""
    certificates: Mapping[str, float] = field(default_factory=dict)
    """Listener or certificate name -> notAfter in seconds since the epoch."""
    log_lines_dropped: int = 0
    """Lines of the log that nobody took: its reader stalls or its disk is full."""


class RelayState(Protocol):
    """The running relay as HTTP sees it. Every call comes from the reactor thread and must be quick."""

    @property
    def ready(self) -> bool:
        """Whether every configured listener is up."""
        ...

    @property
    def connections(self) -> Mapping[str, int]:
        """Open RTMP connections now, by role: ``publisher``, ``player``, ``undecided``."""
        ...

    def streams(self) -> Sequence[StreamView]:
        """Return every known stream, configured or live, sorted by name."""
        ...

    def stream(self, name: str) -> StreamView | None:
        """Return one stream by its public name."""
        ...

    def switch(self, stream: str, feed: str) -> SwitchView | None:
        """Put a feed on air; None when the stream has no such feed."""
        ...

    def kick(self, stream: str, feed: str, cooloff_s: float) -> bool:
        """End the publish of a feed and keep it out for so long; False when nobody publishes it."""
        ...

    def recording(self, stream: str) -> RecordingView | None:
        """Return what is known of a stream's recording, live or not; None without a plugin that records."""
        ...

    def listeners(self) -> Sequence[ListenerView]:
        """Return every configured listener."""
        ...

    def counters(self) -> Counters:
        """Return the process counters."""
        ...

    def hooks(self) -> Sequence[HookView]:
        """Return what each plugin's hooks cost."""
        ...

    def plugin_numbers(self) -> Mapping[str, Mapping[str, float]]:
        """Return the numbers of plugins that belong to no stream, by plugin and name."""
        ...

    def lag(self) -> LagView:
        """Return how late the reactor runs."""
        ...
