"""A small reader of MP4 boxes, written without a look at the writer: what the tests see is what a stranger sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import unpack_from

CONTAINERS = {"moov", "trak", "mdia", "minf", "stbl", "mvex", "moof", "traf", "dinf", "mfra", "edts"}
ENTRY_FIXED = {"vide": 78, "soun": 28}


@dataclass(frozen=True)
class Box:
    """One box: its type, where it starts and ends in the file, where its content starts."""

    name: str
    start: int
    body: int
    stop: int
    data: bytes

    @property
    def content(self) -> bytes:
        return self.data[self.body : self.stop]

    def children(self) -> list[Box]:
        return list(boxes(self.data, self.body, self.stop))

    def all(self, *path: str) -> list[Box]:
        """All boxes at a path below this one."""
        found = [self]
        for name in path:
            found = [child for box in found for child in box.children() if child.name == name]
        return found

    def one(self, *path: str) -> Box:
        """The only box at a path below this one."""
        (found,) = self.all(*path)
        return found


def boxes(data: bytes, start: int = 0, stop: int | None = None) -> Iterator[Box]:
    """The boxes of a stretch, which they must fill exactly."""
    stop = len(data) if stop is None else stop
    while start < stop:
        size, body = int.from_bytes(data[start : start + 4], "big"), start + 8
        if size == 1:
            size, body = int.from_bytes(data[start + 8 : start + 16], "big"), start + 16
        assert size >= body - start, f"box at {start} of size {size}"
        assert start + size <= stop, f"box at {start} runs past its parent"
        yield Box(data[start + 4 : start + 8].decode("latin-1"), start, body, start + size, data)
        start += size


@dataclass(frozen=True)
class TrackInfo:
    """What moov says of a track."""

    number: int
    handler: str
    scale: int
    entry: str
    config: dict[str, bytes]
    width: int
    height: int
    channels: int
    rate: int
    enabled: bool


@dataclass(frozen=True)
class Sample:
    """One sample, as a player would see it."""

    track: int
    time: int
    duration: int
    offset: int
    sync: bool
    data: bytes


def tracks(init: bytes) -> dict[int, TrackInfo]:
    """The tracks of a moov."""
    (moov,) = [box for box in boxes(init) if box.name == "moov"]
    found = {}
    for trak in moov.all("trak"):
        tkhd = trak.one("tkhd").content
        mdhd = trak.one("mdia", "mdhd").content
        handler = trak.one("mdia", "hdlr").content[8:12].decode()
        stsd = trak.one("mdia", "minf", "stbl", "stsd")
        assert stsd.content[:8] == bytes(7) + b"\x01"
        (entry,) = boxes(stsd.data, stsd.body + 8, stsd.stop)
        fixed = entry.content
        inner = boxes(entry.data, entry.body + ENTRY_FIXED[handler], entry.stop)
        number, scale_at = unpack_from(">I", tkhd, 12 if tkhd[0] == 0 else 20)[0], 12 if mdhd[0] == 0 else 20
        found[number] = TrackInfo(
            number=number,
            handler=handler,
            scale=unpack_from(">I", mdhd, scale_at)[0],
            entry=entry.name,
            config={box.name: box.content for box in inner},
            width=unpack_from(">H", fixed, 24)[0] if handler == "vide" else 0,
            height=unpack_from(">H", fixed, 26)[0] if handler == "vide" else 0,
            channels=unpack_from(">H", fixed, 16)[0] if handler == "soun" else 0,
            rate=unpack_from(">I", fixed, 24)[0] >> 16 if handler == "soun" else 0,
            enabled=bool(tkhd[3] & 1),
        )
    return found


def fragment_samples(data: bytes, moof: Box) -> Iterator[Sample]:
    """The samples of one moof (ISO/IEC 14496-12 8.8)."""
    for traf in moof.all("traf"):
        tfhd = traf.one("tfhd").content
        flags = int.from_bytes(tfhd[1:4], "big")
        assert flags & 0x020000, "offsets must count from the moof"
        assert not flags & 0x1, "no base data offset beside default-base-is-moof"
        track, position = unpack_from(">I", tfhd, 4)[0], 8
        defaults = {}
        for bit in (0x2, 0x8, 0x10, 0x20):
            if flags & bit:
                defaults[bit] = unpack_from(">I", tfhd, position)[0]
                position += 4
        tfdt = traf.one("tfdt").content
        time = unpack_from(">Q" if tfdt[0] else ">I", tfdt, 4)[0]
        for trun in traf.all("trun"):
            run = trun.content
            version, bits = run[0], int.from_bytes(run[1:4], "big")
            count, position = unpack_from(">I", run, 4)[0], 8
            at = moof.start
            if bits & 0x1:
                at += unpack_from(">i", run, position)[0]
                position += 4
            first = None
            if bits & 0x4:
                first = unpack_from(">I", run, position)[0]
                position += 4
            for index in range(count):
                row = {}
                for bit, default in ((0x100, 0x8), (0x200, 0x10), (0x400, 0x20), (0x800, 0)):
                    if bits & bit:
                        row[bit] = unpack_from(">i" if bit == 0x800 and version else ">I", run, position)[0]
                        position += 4
                    else:
                        row[bit] = defaults.get(default, 0)
                sample_flags = first if index == 0 and first is not None else row[0x400]
                sync = not sample_flags & 0x10000
                assert at + row[0x200] <= len(data), "sample runs past the file"
                yield Sample(track, time, row[0x100], row[0x800], sync, data[at : at + row[0x200]])
                at += row[0x200]
                time += row[0x100]
            assert position == len(run), "trun is longer than its samples"


def read(data: bytes) -> dict[int, list[Sample]]:
    """All samples of a fragmented file by track."""
    found: dict[int, list[Sample]] = {}
    for box in boxes(data):
        if box.name == "moof":
            for sample in fragment_samples(data, box):
                found.setdefault(sample.track, []).append(sample)
    return found
