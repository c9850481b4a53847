"""What happened, for `on_event`, the log and the API. New classes may appear in minor releases."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events. *at* is wall-clock time in seconds since the epoch, filled in when it is emitted."""

    at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStarted(Event):
    """A stream has a live feed and its tracks are known."""

    stream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnded(Event):
    """The last feed of a stream is gone."""

    stream: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedStarted(Event):
    """An encoder publishes."""

    stream: str
    feed: str
    connection_id: str
    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEnded(Event):
    """An encoder stopped. *reason*: ``unpublished``, ``closed``, ``idle``, ``taken-over``, ``shutdown`` or a code."""

    stream: str
    feed: str
    connection_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSwitched(Event):
    """Another feed is live now.

    *reason* is a trigger (``no-video``...), how the previous feed ended (``closed``...), ``failback``, ``manual`` or
    ``returned``. *trigger* fired when *measured* reached *threshold*. *how*: ``fast``, ``clean`` or ``merged``. The
    last frame before the cut has stream time *cut_from_ms*, the first one behind it *cut_ms*; for *gap_ms* nothing of
    a feed was sent; *replayed_ms* of content were shown again, *missed_ms* never. *fit* says whether decoders notice:
    ``same``, ``headers`` (other parameters), ``class`` (another codec or size).
    """

    stream: str
    previous: str
    feed: str
    reason: str
    trigger: str = ""
    measured: float = 0.0
    threshold: float = 0.0
    unit: str = ""
    how: str = ""
    cut_from_ms: int = 0
    cut_ms: int = 0
    gap_ms: int = 0
    replayed_ms: int = 0
    missed_ms: int = 0
    fit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedHealthChanged(Event):
    """A feed became better or worse: ``good``, ``suspect``, ``bad`` or ``dead``. *trigger* is its worst fault."""

    stream: str
    feed: str
    health: str
    trigger: str = ""
    measured: float = 0.0
    threshold: float = 0.0
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedMerged(Event):
    """A feed carries the same frames as the live one and is merged with it, or is not any more."""

    stream: str
    feed: str
    merged: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverLocked(Event):
    """Feeds changed too often: *feed* stays live for *seconds* unless it dies."""

    stream: str
    feed: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHeld(Event):
    """No feed is left. Subscribers are kept for *hold_s*, with the last picture and silence when *slate* is true."""

    stream: str
    reason: str
    hold_s: float
    slate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SlatePrepared(Event):
    """The slate file of a stream is ready to be shown; or *problem* says why the last picture will be, instead."""

    stream: str
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRefused(Event):
    """An encoder was refused. Never holds the key it tried."""

    connection_id: str
    peer: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayerJoined(Event):
    """A player was admitted."""

    stream: str
    connection_id: str
    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayerLeft(Event):
    """A player is gone. *reason*: ``closed``, ``stalled``, ``ended``..."""

    stream: str
    connection_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRefused(Event):
    """A connection was closed for a protocol error or a limit. *code* is stable, for example ``chunk.size_zero``."""

    connection_id: str
    peer: str
    phase: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetStateChanged(Event):
    """A restream target changed state (design: waiting connecting live backing-off refused stopped)."""

    stream: str
    target: str
    state: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetDeliveryChanged(Event):
    """More or less is known about what a live target delivers.

    *delivery*: ``connected`` (the publish was accepted), ``accepted`` (the destination takes what we send),
    ``confirmed`` or ``denied`` (plugin *by* asked the platform, which said *detail*).
    """

    stream: str
    target: str
    delivery: str
    detail: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetWarning(Event):
    """A restream target may not like what it gets. Told once until it is over; *code* is stable: ``keyframes``..."""

    stream: str
    target: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingFinished(Event):
    """A file of a recording is whole, on the disk, and has its final name.

    *recording* is the id that it shares with the other files of the programme. *suspect*: the disk reported an error.
    """

    stream: str
    recording: str
    path: str
    size: int
    duration_ms: int
    suspect: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingRecovered(Event):
    """A file that was torn, because the relay or the disk died, is whole again up to its last good frame."""

    stream: str
    recording: str
    path: str
    size: int
    duration_ms: int
    suspect: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingFailed(Event):
    """A recording has no file to write to. It is tried again until it works; the stream goes on."""

    stream: str
    recording: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkFailed(Event):
    """A sink raised and was detached; the stream goes on."""

    stream: str
    plugin: str
    error: str
