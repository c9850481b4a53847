"""FFmpeg as the judge: what it reads in a file, packet by packet, and whether it decodes all of it without a word."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest


@cache
def ffmpeg(version: str) -> str:
    """FFmpeg ``9`` (the wheel) or ``5`` (Debian 12's, which many players and editors are as old as)."""
    if version == "9":
        return str(pytest.importorskip("imageio_ffmpeg", reason="pip install 'rtmp-relay[test]'").get_ffmpeg_exe())
    found = shutil.which("ffmpeg")
    if found is None:
        pytest.skip("needs a system ffmpeg: apt-get install ffmpeg")
    return found


@dataclass
class Report:
    """What FFmpeg says of a file."""

    packets: dict[int, list[tuple[float, float, str]]] = field(default_factory=dict)
    """Track to (dts and pts in ms, SHA-256) of each packet."""
    frames: dict[int, list[str]] = field(default_factory=dict)
    """Track to the hash of each decoded frame, in the order of decoding."""
    words: str = ""
    """Warnings and errors."""

    def hashes(self, track: int) -> list[str]:
        return [sha for _, _, sha in self.packets.get(track, [])]


def inspect(path: Path, version: str = "9") -> Report:
    """Read and decode a whole file."""
    copied, decoded = path.with_suffix(f".copy{version}"), path.with_suffix(f".decode{version}")
    args = [ffmpeg(version), "-hide_banner", "-nostdin", "-v", "warning", "-copyts", "-i", str(path)]
    args += ["-map", "0", "-c", "copy", "-f", "framehash", "-y", str(copied)]
    args += ["-map", "0", "-fps_mode", "passthrough", "-f", "framehash", "-y", str(decoded)]
    done = subprocess.run(args, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    report = Report(words=done.stderr)
    bases: dict[int, float] = {}
    for line in copied.read_text().splitlines():
        if line.startswith("#tb"):
            number, _, base = line.removeprefix("#tb ").partition(": ")
            one, _, other = base.partition("/")
            bases[int(number)] = 1000 * int(one) / int(other)
        elif line[:1] != "#":
            track, dts, pts, _, _, sha = (part.strip() for part in line.split(",")[:6])
            base_ms = bases[int(track)]
            report.packets.setdefault(int(track), []).append((int(dts) * base_ms, int(pts) * base_ms, sha))
    for line in decoded.read_text().splitlines():
        if line[:1] != "#":
            fields = [part.strip() for part in line.split(",")]
            report.frames.setdefault(int(fields[0]), []).append(fields[5])
    return report


def encode(path: Path, *options: str, seconds: float = 4.3, rate: int = 30) -> Path:
    """Make an FLV file of a test picture and a tone with FFmpeg 9."""
    args = [ffmpeg("9"), "-hide_banner", "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i"]
    args += [f"testsrc2=size=192x108:rate={rate}", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]
    subprocess.run([*args, "-t", str(seconds), *options, "-f", "flv", str(path)], check=True, timeout=60)
    return path


def probe(path: Path, *what: str) -> dict[str, Any]:
    """What ffprobe says of a file."""
    found = shutil.which("ffprobe")
    if found is None:
        pytest.skip("needs ffprobe: apt-get install ffmpeg")
    args = [found, "-v", "error", "-of", "json", *what, str(path)]
    done = subprocess.run(args, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
