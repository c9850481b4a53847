"""The record plugin without threads and with a disk that fails when it is told to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger

from relay.api import Context, Event, Packet, TrackSet
from relay.media import flvfile
from relay.testing import packets, stream_info, track_set
from relay_record.archive import Archive
from relay_record.book import TICK_S, RecordingBook
from relay_record.disk import PosixDisk
from relay_record.options import Options, StreamOptions
from relay_record.recorder import Recorder
from relay_record.worker import Worker

WALL = 1_796_000_000.0


class Crash(BaseException):
    """The process dies here."""


CALLS = tuple(name for name in vars(PosixDisk) if not name.startswith("_"))


class FaultyDisk(PosixDisk):
    """The real disk, whose calls are counted and fail by plan."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.total = 0
        self.fail: Callable[[str, int], BaseException | None] = lambda name, number: None
        self.most_at_once: int | None = None
        self.free: int | None = None
        self.open_fds: set[int] = set()

    def die(self) -> None:
        """What the kernel does when a process is gone."""
        for fd in self.open_fds:
            os.close(fd)
        self.open_fds.clear()

    def sync_data(self, fd: int) -> None:
        """Wait for no disk: no test here survives a loss of power."""
        os.fstat(fd)

    def sync(self, fd: int) -> None:
        """The same."""
        os.fstat(fd)

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in CALLS:
            return found

        def call(*arguments: Any) -> Any:
            self.counts[name] += 1
            self.total += 1
            error = self.fail(name, self.total)
            if name == "close" and not isinstance(error, Crash):
                self.open_fds.discard(*arguments)
                found(*arguments)  # Linux closes, whatever it says
            if error is not None:
                raise error
            if name == "close":
                return None
            if name == "write" and self.most_at_once is not None:
                return found(arguments[0], bytes(arguments[1][: self.most_at_once]))
            if name == "room" and self.free is not None:
                return self.free, 100_000_000_000
            result = found(*arguments)
            if name in ("create", "open", "open_root", "open_folder"):
                self.open_fds.add(result)
            return result

        return call


def errno_once(at: int, number: int) -> Callable[[str, int], OSError | None]:
    """Fail the call with this number in the row."""
    return lambda name, count: OSError(number, os.strerror(number)) if count == at else None


class Rig:
    """A book with everything around it."""

    def __init__(
        self,
        directory: Path,
        *,
        streams: Mapping[str, Mapping[str, Any]] | None = None,
        disk: Callable[[Callable[[], float]], FaultyDisk] | None = None,
        **options: Any,
    ) -> None:
        self.directory = directory
        self.clock = Clock()
        self.clock.advance(1000)
        self.jump = 0.0
        self.disk = FaultyDisk() if disk is None else disk(self.clock.seconds)
        self.events: list[Event] = []
        self.hung = self.working = False
        config = Options.model_validate({"directory": directory, "min_free_mb": 0, "format": "flv", **options})
        shared = {key: value for key, value in config.model_dump().items() if key in StreamOptions.model_fields}
        own = {name: StreamOptions.model_validate({**shared, **table}) for name, table in (streams or {}).items()}
        context = Context(
            name="record",
            clock=self.clock,
            log=Logger(namespace="test"),
            streams={},
            emit=self.events.append,
            run_in_background=lambda description, work: Deferred.fromCoroutine(work),  # type: ignore[arg-type]
            _stream_configs=own,
            _declared=frozenset(own),
            _stream_defaults=StreamOptions.model_validate(shared),
        )
        self.archive = Archive(directory, disk=self.disk, wall_clock=self.wall)
        self.book = RecordingBook(config, context, self.archive, self.wall)
        self.book.start()

    def wall(self) -> float:
        """The time of day."""
        return WALL + self.clock.seconds() + self.jump

    def open(self, name: str = "town", tracks: TrackSet | None = None) -> Recorder:
        """Begin a stream."""
        recorder = self.book.open(stream_info(name))
        recorder.configure(tracks or track_set())
        return recorder

    def work(self) -> None:
        """Let the threads do what waits."""
        if self.hung:
            return
        self.working = True
        for _ in range(3):
            for worker in self.archive.workers:
                worker.run_waiting()
                while worker.faults:
                    raise worker.faults.popleft()
        self.working = False

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / TICK_S)):
            self.clock.advance(TICK_S)
            self.work()

    def play(self, recorder: Recorder, seconds: float, start: int = 0, **how: Any) -> list[Packet]:
        """Let a programme come in, in time; return it."""
        sent, now = list(packets(seconds, start=start, **how)), float(start)
        for packet in sent:
            while packet.dts >= now + TICK_S * 1000:
                now += TICK_S * 1000
                self.wait(TICK_S)
            recorder.write(packet)
        self.wait(TICK_S)
        return sent

    def close(self, recorder: Recorder) -> None:
        """End a stream."""
        recorder.close()
        self.wait(4 * TICK_S)

    # What is on the disk.

    def files(self, stream: str = "town") -> list[Path]:
        """Finished files."""
        folder = self.directory / stream
        return sorted(path for path in folder.glob("*") if path.suffix in (".flv", ".mp4", ".ts"))

    def torn(self, stream: str = "town") -> list[Path]:
        """Files that are not finished."""
        return sorted((self.directory / stream).glob("*.part"))

    def bodies(self, stream: str = "town") -> list[bytes]:
        """The frames of all finished FLV files."""
        return [body for path in self.files(stream) for body in frames(path)]


def frames(path: Path) -> list[bytes]:
    """The frames of an FLV file, which must be whole to its last byte."""
    data = path.read_bytes()
    tags = flvfile.read(data)
    assert sum(len(tag.body) + 15 for tag in tags) + 13 == len(data), f"{path.name} is torn"
    headers = (b"\x17\x00", b"\xaf\x00", b"\x90h")
    return [tag.body for tag in tags if tag.type_id != 18 and tag.body[:2] not in headers]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Rig]:
    """Make rigs that record below the test's directory."""
    monkeypatch.setattr(Worker, "start", lambda self: None)
    made: list[Rig] = []

    def make(**options: Any) -> Rig:
        made.append(Rig(options.pop("directory", tmp_path / "rec"), **options))
        return made[-1]

    return make
