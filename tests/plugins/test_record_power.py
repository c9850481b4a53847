"""Power fails at any moment while streams are recorded (promise P19): at most the last 1.2 s are gone.

A programme is recorded on a disk that remembers what was asked of it (`powerdisk`). Then, for every moment, one of the
states that a power failure may leave is made, the relay starts on it, and what is there is compared with what was sent.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from relay.amf0 import decode
from relay.api import MediaKind, Packet
from relay.media import flvfile
from relay.mux import recover
from relay.testing import packets
from tests.mux import boxreader, tsreader
from tests.plugins.powerdisk import PowerDisk, Step, lose_power
from tests.plugins.recordrig import Rig, rig

__all__ = ["rig"]

Make = Callable[..., Rig]

LONG = os.environ.get("RELAY_LONG") == "1"
MOMENTS = 100_000 if LONG else 30
"""How many of the moments are tried for each format."""
MAX_LOST_S = 1.2
_NO_ZEROS = bytes([1, *range(1, 256)])


@dataclass
class Programme:
    """What was recorded, and when."""

    log: list[Step]
    sent: list[tuple[float, Packet]] = field(default_factory=list)
    finished: dict[str, tuple[float, int]] = field(default_factory=dict)
    """When each file had its name for good, and its size."""


def media(seconds: float, start: int, rng: Random) -> Iterator[Packet]:
    """A programme of pictures larger than a block, none of which holds zeros, and no two frames alike."""
    for packet in packets(seconds, start=start):
        if packet.kind is MediaKind.VIDEO:
            size = 20_000 if packet.keyframe else rng.randrange(500, 6_000)
            head = packet.body[:5] + size.to_bytes(4, "big") + packet.body[9:10]
            packet.body = head + rng.randbytes(size - 1).translate(_NO_ZEROS)
        else:
            packet.body = packet.body[:2] + rng.randbytes(150).translate(_NO_ZEROS)
        yield packet


def record(rig: Make, directory: Path, form: str) -> Programme:
    """Record three files; the encoder goes in the middle and comes back."""
    made = rig(directory=directory, format=form, segment_s=2, disk=PowerDisk)
    assert isinstance(made.disk, PowerDisk)
    programme, rng = Programme(made.disk.log), Random(form)
    for start, seconds in ((0, 3.5), (4000, 1.5)):
        recorder = made.open()
        now = start
        for packet in media(seconds, start, rng):
            while packet.dts >= now + 80:
                now += 80
                made.wait(0.08)
            programme.sent.append((made.clock.seconds(), packet))
            recorder.write(packet)
        made.close(recorder)
    for number, step in enumerate(programme.log):
        if step.what == "rename" and step.other.endswith((".flv", ".mp4", ".ts")):
            synced = next(n for n in range(number, len(programme.log)) if is_sync(programme.log[n], step.node))
            programme.finished[step.other] = (synced, (directory / "town" / step.other).stat().st_size)
    assert len(programme.finished) >= 3
    return programme


def is_sync(step: Step, node: int) -> bool:
    return step.what == "sync" and step.node == node


def frames_of(path: Path, *, torn_end: bool) -> dict[MediaKind, list[bytes]]:
    """What a file holds of each track, as `payload_of` has it. *torn_end*: a TS file may end in half a frame."""
    data = path.read_bytes()
    if path.suffix == ".flv":
        tags = flvfile.read(data)
        assert sum(len(tag.body) + 15 for tag in tags) + 13 == len(data), f"{path.name} is torn"
        _, values = decode(tags[0].body)
        assert isinstance(values, dict)
        assert float(len(data)) == values["filesize"], f"{path.name} does not know itself"
        return {
            kind: [tag.body[skip:] for tag in tags if tag.type_id == kind and tag.body[1]]
            for kind, skip in ((MediaKind.VIDEO, 9), (MediaKind.AUDIO, 2))
        }
    if path.suffix == ".mp4":
        whole = recover.whole_fmp4(lambda offset, size: data[offset : offset + size])
        assert whole == len(data) or data[whole + 4 : whole + 8] == b"mfra", f"{path.name} is torn"
        tracks = boxreader.tracks(data)
        samples = boxreader.read(data)
        return {
            MediaKind.VIDEO if tracks[number].handler == "vide" else MediaKind.AUDIO: [
                sample.data[4:] if tracks[number].handler == "vide" else sample.data for sample in found
            ]
            for number, found in samples.items()
        }
    assert len(data) % 188 == 0
    assert set(data[::188]) <= {0x47}, f"{path.name} is torn"
    video: list[bytes] = []
    audio: list[bytes] = []
    for stream in tsreader.read(data, torn=torn_end).streams.values():
        for unit in stream.units:
            if stream.stream_type == 0x1B:
                video.append(unit.payload.rpartition(b"\0\0\0\1")[2])
            else:
                audio += tsreader.adts_frames(unit.payload)
    return {MediaKind.VIDEO: video, MediaKind.AUDIO: audio}


def opens(path: Path) -> None:
    """Whether FFmpeg finds every frame that we do."""
    ffprobe = shutil.which("ffprobe")
    if ffprobe is None:
        return
    args = [ffprobe, "-loglevel", "quiet", "-show_entries", "packet=codec_type", "-of", "csv=p=0", str(path)]
    done = subprocess.run(args, capture_output=True, text=True, timeout=30, check=True)
    wanted = len(frames_of(path, torn_end=True)[MediaKind.AUDIO])
    # A PES packet holds 8 frames, and the last one may be torn.
    assert abs(done.stdout.replace(",", " ").split().count("audio") - wanted) <= (9 if path.suffix == ".ts" else 0), (
        path.name
    )


def payload_of(packet: Packet) -> bytes:
    return packet.body[9:] if packet.kind is MediaKind.VIDEO else packet.body[2:]


def check(made: Rig, programme: Programme, steps: int, moment: str, *, twice: bool = False) -> None:
    """Whether what the next start made of a directory is what was promised."""
    now = programme.log[min(steps, len(programme.log) - 1)].at  # just before the next step
    assert not made.torn(), moment
    documents = [json.loads(path.read_text()) for path in sorted((made.directory / "town").glob("*.json"))]
    parts = {part["file"]: part for document in documents for part in document["parts"]}
    found: set[bytes] = set()
    for path in made.files():
        assert path.name in parts, f"{moment}: no sidecar has {path.name}"
        recovered = twice or parts[path.name]["state"] == "recovered"
        for kind, frames in frames_of(path, torn_end=recovered).items():
            row = [payload_of(packet) for _, packet in programme.sent if packet.kind is kind]
            begin = row.index(frames[0]) if frames else 0
            assert frames == row[begin : begin + len(frames)], f"{moment}: {path.name} is no piece of what was sent"
            found.update(frames)
    for name, (at, size) in programme.finished.items():
        if at < steps:
            path = made.directory / "town" / name
            assert path.exists(), f"{moment}: {name} was finished and is gone"
            assert twice or len(parts[name]["tracks"]) == 2, f"{moment}: its sidecar was lost"
            assert path.stat().st_size == size, f"{moment}: {name} was finished and is another"
    lost = [at for at, packet in programme.sent if at <= now and payload_of(packet) not in found]
    assert not lost or now - lost[0] <= MAX_LOST_S, f"{moment}: {now - lost[0]:.2f} s are lost"


def moments(programme: Programme, rng: Random) -> list[int]:
    """After how many steps power fails."""
    every = range(1, len(programme.log) + 1)
    return list(every) if len(every) <= MOMENTS else sorted(rng.sample(every, MOMENTS))


@pytest.mark.parametrize("form", ["flv", "fmp4", "ts"])
def test_a_power_failure_costs_1200_ms_at_most(rig: Make, tmp_path: Path, form: str) -> None:
    programme = record(rig, tmp_path / "source", form)
    for number, steps in enumerate(moments(programme, Random(f"moments {form}"))):
        for seed in range(8 if LONG else 2):
            moment = f"{form}, {steps} steps, seed {seed}"
            directory = tmp_path / f"{form}-{steps}-{seed}"
            lose_power(programme.log[:steps], directory, Random(moment))
            for name, (at, size) in programme.finished.items():
                if at < steps:
                    assert (directory / "town" / name).stat().st_size == size, f"{moment}: {name} was finished"
            again = rig(directory=directory, format=form)
            again.wait(0.2)

            check(again, programme, steps, moment)
            if not (number + seed) % 20:
                for path in again.files():
                    opens(path)


@pytest.mark.parametrize("form", ["flv", "fmp4", "ts"])
def test_a_power_failure_while_files_are_mended_costs_nothing_more(rig: Make, tmp_path: Path, form: str) -> None:
    programme = record(rig, tmp_path / "source", form)
    rng = Random(f"twice {form}")
    for number, steps in enumerate(moments(programme, rng)[: None if LONG else 12]):
        moment, directory = f"{form}, {steps} steps", tmp_path / f"{form}-{number}"
        lose_power(programme.log[:steps], directory, Random(moment))
        mending = rig(directory=directory, format=form, disk=PowerDisk)
        assert isinstance(mending.disk, PowerDisk)
        mending.wait(0.2)
        log = mending.disk.log
        begins = mending.disk.found
        cut = rng.randint(begins, len(log))
        lose_power(log[:cut], tmp_path / f"{form}-{number}-again", rng)
        again = rig(directory=tmp_path / f"{form}-{number}-again", format=form)
        again.wait(0.2)

        check(again, programme, steps, f"{moment}, then {cut - begins}", twice=True)
