"""One file while it is written: what the reactor's thread and the disk's threads know of it.

The rule it guards: every attribute is written by one thread only, so that nobody waits for a lock to read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Recording:
    """A programme on disk: its files have one id and one sidecar.

    *stem* and *number* belong to the writer's thread: which names are free is known to the disk only.
    """

    stream: str
    format: str
    started_at: float
    """Wall clock, for names and people."""
    stem: str = ""
    """The id, and what its files' names begin with; empty until the first file is open."""
    number: int = 0
    adopt_s: float = -1
    """Continue what an earlier relay left, if it was at work less than so many seconds ago; below 0: do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackFacts:
    """What the sidecar says of a track."""

    kind: str
    track_id: int
    codec: str
    codec_string: str
    config: str
    """The decoder's configuration, in hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFacts:
    """What the sidecar says of a file's content, as far as it is known."""

    first_ms: int = 0
    last_ms: int = 0
    video_frames: int = 0
    audio_frames: int = 0
    dropped_packets: int = 0
    tracks: Sequence[TrackFacts] = ()


@dataclass(slots=True, eq=False)
class PartFile:
    """A file that is being written."""

    recording: Recording
    suffix: str
    started_at: float
    """Wall clock, for people."""

    pending: bool = False
    """Something is to be done with it when it is finished: another file made, a program run."""

    # The reactor's.
    handed: int = 0
    """Bytes handed over so far."""
    facts: PartFacts = field(default_factory=PartFacts)

    # The writer's.
    folder: int = -1
    """Descriptor of the stream's folder."""
    fd: int = -1
    name: str = ""
    """Its final name; until it is whole it is called so with `.part` behind it."""
    taken: int = 0
    """Bytes of those handed over that wait no longer: written, or given up."""
    size: int = 0
    """Bytes written."""

    # The keeper's.
    synced: int = 0
    """Bytes that survive a loss of power."""
    told: int = -1
    """How many of them the sidecar knows of."""
    placed: bool = False
    """Its name survives a loss of power, too."""
    told_at: float = 0.0
    """When the sidecar was last told about it."""
    finished: bool = False

    # Whoever is first.
    error: OSError | None = None
    """Why nothing is written any more."""

    @property
    def queued(self) -> int:
        """Bytes that wait for the disk."""
        return self.handed - self.taken
