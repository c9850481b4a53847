"""A destination that keeps what it receives, with the moment of arrival: all that the checkers of failover look at.

Threads and blocking sockets on this machine, no reactor: it can stand beside any test or measurement.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import socket
import threading
import time
from dataclasses import dataclass, field
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from relay.media import flvfile
from relay.rtmp.errors import RemoteProtocolError
from relay.rtmp.events import ConnectRequested, Message, PublishEnded, PublishRequested
from relay.rtmp.server import ServerConnection
from tests.helpers.listener import ThreadedListener
from tests.helpers.programme import Programme, coded, mark_of


@dataclass(slots=True)
class Tag:
    """One media message."""

    at: float
    kind: int
    timestamp: int
    body: bytes

    @property
    def header(self) -> bool:
        """Whether it is a sequence header."""
        return self.kind in (8, 9) and len(self.body) > 1 and self.body[1] == 0

    @property
    def frame(self) -> bool:
        """Whether it is a picture or a frame of sound."""
        return self.kind in (8, 9) and len(self.body) > 2 and self.body[1] == 1

    @property
    def keyframe(self) -> bool:
        """Whether it is a picture to start with."""
        return self.kind == 9 and self.body[0] >> 4 == 1

    @property
    def mark(self) -> tuple[str, int] | None:
        """Who made the picture, and its number."""
        return mark_of(self.body) if self.kind == 9 and self.frame else None


@dataclass(slots=True)
class Session:
    """One connection."""

    name: str = ""
    tags: list[Tag] = field(default_factory=list)
    clean: bool = False
    closed: bool = False
    error: str = ""

    def pictures(self) -> list[Tag]:
        """Every picture."""
        return [tag for tag in self.tags if tag.kind == 9 and tag.frame]

    def sounds(self) -> list[Tag]:
        """Every frame of sound."""
        return [tag for tag in self.tags if tag.kind == 8 and tag.frame]

    def write(self, path: Path) -> Path:
        """Write what came as an FLV file."""
        tags = [flvfile.tag(tag.kind, tag.timestamp, tag.body) for tag in self.tags if tag.kind in (8, 9)]
        path.write_bytes(flvfile.file_header() + b"".join(tags))
        return path


class Destination(ThreadedListener):
    """Takes every publish."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        super().__init__()

    @property
    def url(self) -> str:
        """Where a target goes."""
        return f"rtmp://127.0.0.1:{self.port}/live"

    def of(self, name: str) -> list[Session]:
        """Sessions that published as *name*."""
        return [session for session in list(self.sessions) if session.name == name]

    def _welcome(self, wire: socket.socket) -> None:
        threading.Thread(target=self._serve, args=(wire,), daemon=True).start()

    def _serve(self, wire: socket.socket) -> None:
        session = Session()
        rtmp = ServerConnection(random=os.urandom)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while data := wire.recv(262144):
                at = time.monotonic()
                self._take(session, rtmp, rtmp.receive_data(data, at), at)
                answer = rtmp.data_to_send()
                if answer:
                    wire.sendall(answer)
        except (OSError, RemoteProtocolError) as error:
            session.error = f"{type(error).__name__}: {error}"
        session.closed = True

    def _take(self, session: Session, rtmp: ServerConnection, events: list[object], at: float) -> None:  # type: ignore[type-arg]
        for event in events:
            match event:
                case Message():
                    session.tags.append(Tag(at, event.type_id, event.timestamp, event.payload))
                case ConnectRequested():
                    self._take(session, rtmp, rtmp.accept_connect(), at)  # type: ignore[arg-type]
                case PublishRequested():
                    session.name = event.name.reveal()
                    self.sessions.append(session)
                    self._take(session, rtmp, rtmp.accept_publish(event.stream_id), at)  # type: ignore[arg-type]
                case PublishEnded():
                    session.clean = True
                case _:
                    pass


# --- checking --------------------------------------------------------------------------------------------------------


def backward_steps(session: Session) -> int:
    """Frames whose time is not after that of the frame before, in either track."""
    return sum(
        after.timestamp <= before.timestamp
        for track in (session.pictures(), session.sounds())
        for before, after in itertools.pairwise(track)
    )


@dataclass(frozen=True, slots=True)
class Cut:
    """A change of encoder, as the destination saw it.

    Attributes:
        keyframe: the first picture behind it is one to start with.
        gap_ms: between the arrivals of the last picture before and the first behind it.
        step_ms: between their times.
        repeated: pictures that show what was shown before already.
        missed: pictures that nobody showed.
        shift_ms: by how much sound and picture moved against each other; None when the sound says nothing.
    """

    before: str
    after: str
    at: float
    keyframe: bool
    gap_ms: float
    step_ms: int
    repeated: int
    missed: int
    shift_ms: float | None = None


class Checker:
    """Knows the programmes of all makers."""

    def __init__(self, programmes: dict[str, Programme]) -> None:
        self._sounds: dict[bytes, tuple[str, float]] = {}
        self._slices: dict[bytes, tuple[str, int]] = {}
        for maker, programme in programmes.items():
            for unit in programme.units:
                if unit.kind == 8:
                    self._sounds[_digest(unit.body)] = (maker, unit.due_ms + programme.shift * 1000 / 30)
                else:
                    self._slices[_digest(coded(unit.body))] = (maker, (unit.number + programme.shift) % 480)

    def spoilt(self, session: Session) -> int:
        """Pictures whose slices are not those of the encoder, for the number they carry."""
        count = 0
        for tag in session.pictures():
            mark = tag.mark
            known = self._slices.get(_digest(coded(tag.body)))
            count += mark is None or known is None or known != (mark[0], mark[1] % 480)
        return count

    def cuts(self, session: Session) -> list[Cut]:
        """Return every change of encoder."""
        found = []
        pictures = [(tag, tag.mark) for tag in session.pictures() if tag.mark is not None]
        newest = -1
        for (before, was), (tag, mark) in itertools.pairwise(pictures):
            assert was is not None
            assert mark is not None
            repeat = was[1] < newest  # the slate: its picture is an older one than the sound around it
            newest = max(newest, was[1])
            if was[0] == mark[0]:
                continue
            shifts = [None] if repeat else [self._shift(session, one) for one in (before, tag)]
            found.append(
                Cut(
                    was[0],
                    mark[0],
                    tag.at,
                    tag.keyframe,
                    (tag.at - before.at) * 1000,
                    tag.timestamp - before.timestamp,
                    max(newest + 1 - mark[1], 0),
                    max(mark[1] - newest - 1, 0),
                    None if None in shifts else round(shifts[1] - shifts[0], 1),  # type: ignore[operator]
                )
            )
        return found

    def sound_faults(self, session: Session) -> int:
        """Frames of sound that do not follow the one before them in the programme."""
        times = [self._sounds.get(_digest(tag.body)) for tag in session.sounds()]
        steps = [
            (after[1] - before[1]) % 16000 if before is not None and after is not None else -1.0
            for before, after in itertools.pairwise(times)
        ]
        return sum(abs(step - 1024 / 48) > 0.01 for step in steps)

    def _shift(self, session: Session, picture: Tag) -> float | None:
        """How far the sound around *picture* is behind it, against the programme."""
        mark = picture.mark
        assert mark is not None
        index = session.tags.index(picture)
        near = [tag for tag in session.tags[max(index - 40, 0) : index + 40] if tag.kind == 8 and tag.frame]
        near = [tag for tag in near if abs(tag.timestamp - picture.timestamp) <= 200]  # the slate is silent
        ranked = sorted(near, key=lambda tag: abs(tag.timestamp - picture.timestamp))
        for sound in ranked:
            known = self._sounds.get(_digest(sound.body))
            if known is not None and known[0] == mark[0]:
                apart = (known[1] - mark[1] * 1000 / 30) % 16000
                apart = apart - 16000 if apart > 8000 else apart
                return sound.timestamp - picture.timestamp - apart
        return None


def missing(session: Session) -> tuple[int, int]:
    """Pictures that are missing between the first and the last, and those that came more than once."""
    numbers = [tag.mark[1] for tag in session.pictures() if tag.mark is not None]
    seen = set(numbers)
    return (max(seen) - min(seen) + 1 - len(seen), len(numbers) - len(seen)) if seen else (0, 0)


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=8).digest()


# --- in a process of its own -----------------------------------------------------------------------------------------


class Desk:
    """What may be asked of a destination that runs in another process."""

    def __init__(self) -> None:
        self._destination = Destination()

    def url(self) -> str:
        """Where a target goes."""
        return self._destination.url

    def count(self, name: str) -> int:
        """Sessions of this name so far."""
        return len(self._destination.of(name))

    def on_air(self, name: str) -> str:
        """Maker of the newest picture."""
        return next((mark[0] for mark in self._marks(name)), "")

    def newest(self, name: str) -> int:
        """The highest number among the newest pictures."""
        return max((mark[1] for mark in self._marks(name)), default=-1)

    def seen(self, name: str, maker: str, number: int) -> float | None:
        """When the first keyframe of *maker* after picture *number* arrived."""
        for session in self._destination.of(name):
            for tag in session.tags[-400:]:
                mark = tag.mark
                if tag.keyframe and mark is not None and mark[0] == maker and mark[1] > number:
                    return tag.at
        return None

    def finish(self) -> list[Session]:
        """Hear nothing any more; return everything."""
        self._destination.close()
        time.sleep(0.1)
        return self._destination.sessions

    def _marks(self, name: str) -> list[tuple[str, int]]:
        sessions = self._destination.of(name)
        tags = sessions[0].tags[-200:] if sessions else []
        return [mark for tag in reversed(tags) if (mark := tag.mark) is not None]


def _answer(conversation: Connection) -> None:
    desk = Desk()
    with contextlib.suppress(EOFError):
        while True:
            what, arguments = conversation.recv()
            conversation.send(getattr(desk, what)(*arguments))


class RemoteDesk:
    """A `Desk` in a process of its own, so that arrivals are noted at their moment whatever else is measured."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._conversation, theirs = Pipe()
        self._process = Process(target=_answer, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, what: str, *arguments: object) -> Any:
        """Call one method of the desk."""
        with self._lock:
            self._conversation.send((what, arguments))
            return self._conversation.recv()

    def __enter__(self) -> RemoteDesk:
        return self

    def __exit__(self, *_: object) -> None:
        self._conversation.close()
        self._process.join(5)
        self._process.kill()
