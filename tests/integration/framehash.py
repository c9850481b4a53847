"""Is what arrived what was sent? Compared packet by packet with FFmpeg's framehash."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.harness import ffmpeg9


@dataclass
class Hashes:
    """What `-f framehash` says of a file: per track its configuration and its packets."""

    configs: dict[int, str] = field(default_factory=dict)
    packets: dict[int, list[tuple[int, int, str]]] = field(default_factory=dict)
    """Track to (dts, size, hash), in order."""

    @property
    def count(self) -> int:
        """Packets in all."""
        return sum(map(len, self.packets.values()))


def framehash(path: Path) -> Hashes:
    """Hash every packet of a file."""
    args = [ffmpeg9(), "-hide_banner", "-loglevel", "error", "-i", str(path), "-map", "0:v?", "-map", "0:a?"]
    args += ["-c", "copy", "-f", "framehash", "-"]
    done = subprocess.run(args, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{path} ({path.stat().st_size} bytes): {done.stderr}"
    return parse_framehash(done.stdout)


def recorded(path: Path) -> Hashes:
    """Hash a recording of nginx-rtmp, which writes the AAC header twice; FFmpeg then loses the first sound."""
    data = path.read_bytes()
    kept, at, headers = [data[:13]], 13, set()
    while at + 11 <= len(data):
        end = at + 15 + int.from_bytes(data[at + 1 : at + 4], "big")
        tag, body = data[at:end], data[at + 11 : end - 4]
        if body[:2] not in (b"\xaf\x00", b"\x17\x00") or body not in headers:
            kept.append(tag)
            headers.add(body)
        at = end
    single = path.with_suffix(".single")
    single.write_bytes(b"".join(kept))
    return framehash(single)


def parse_framehash(text: str) -> Hashes:
    """Read the output of `-f framehash`; the last line may be torn."""
    hashes = Hashes()
    for line in text.splitlines():
        if line.startswith("#extradata"):
            track, _, config = line.removeprefix("#extradata ").partition(",")
            hashes.configs[int(track)] = " ".join(config.split())
        elif line and not line.startswith("#"):
            fields = [part.strip() for part in line.split(",")]
            if len(fields) == 6 and len(fields[5]) == 64:
                hashes.packets.setdefault(int(fields[0]), []).append((int(fields[1]), int(fields[4]), fields[5]))
    return hashes


@dataclass
class Difference:
    """How a capture differs from its source."""

    first: dict[int, int] = field(default_factory=dict)
    """Per track: packets of the source before the capture began."""
    behind: dict[int, int] = field(default_factory=dict)
    """Per track: packets of the source after the capture ended."""
    faults: list[str] = field(default_factory=list)


def compare(source: Hashes, capture: Hashes, *, tolerance_ms: int = 0) -> Difference:
    """Compare track by track: the capture must be one unbroken piece of the source, at the same distances in time."""
    found = Difference()
    if source.packets.keys() != capture.packets.keys():
        found.faults.append(f"tracks {sorted(capture.packets)} instead of {sorted(source.packets)}")
    shifts = set()
    for track in source.packets.keys() & capture.packets.keys():
        if source.configs.get(track) != capture.configs.get(track):
            found.faults.append(
                f"track {track}: configuration {capture.configs.get(track)}, not {source.configs.get(track)}"
            )
        shifts |= _compare_track(track, source.packets[track], capture.packets[track], found)
    if shifts and max(shifts) - min(shifts) > tolerance_ms:
        found.faults.append(f"timestamps are shifted by {min(shifts)} to {max(shifts)} ms")
    return found


def _compare_track(
    track: int, source: list[tuple[int, int, str]], capture: list[tuple[int, int, str]], found: Difference
) -> set[int]:
    wanted, have = [packet[2] for packet in source], [packet[2] for packet in capture]
    start = next((at for at in range(len(wanted)) if wanted[at : at + 3] == have[:3]), None)
    if start is None:
        found.faults.append(f"track {track}: its beginning is nowhere in the source")
        return set()
    found.first[track], found.behind[track] = start, len(wanted) - start - len(have)
    if wanted[start : start + len(have)] != have:
        at = next(at for at, value in enumerate(have) if wanted[start + at : start + at + 1] != [value])
        missing = [f"{time} ms" for time, _, value in source[start : start + len(have)] if value not in set(have)]
        extra = sum(value not in set(wanted) for value in have)
        found.faults.append(
            f"track {track}: differs from packet {at} of {len(have)} on; {len(missing)} missing ({missing[:10]}), "
            f"{extra} that the source has not, {len(have) - len(set(have))} doubled"
        )
    return {
        have_time - time
        for (time, _, value), (have_time, _, other) in zip(source[start:], capture, strict=False)
        if value == other
    }


def assert_same(
    source: Hashes, capture: Hashes, *, skipped_s: float = 0.0, cut_s: float = 0.0, what: str = "capture"
) -> None:
    """Fail unless *capture* is the source, but for at most so many seconds at its beginning and its end."""
    found = compare(source, capture)
    assert not found.faults, f"{what}: {found.faults}"
    for track, packets in source.packets.items():
        start, end = found.first[track], len(packets) - found.behind[track]
        assert packets[start][0] - packets[0][0] <= skipped_s * 1000, (
            f"{what}: track {track} misses its first {start} packets"
        )
        lost = packets[-1][0] - packets[end - 1][0]
        assert lost <= cut_s * 1000, f"{what}: track {track} misses its last {found.behind[track]} packets"
