"""Files to publish, encoded once per directory with FFmpeg 9."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.integration.harness import SOURCE_SECONDS, ffmpeg9

_PICTURE = "testsrc2=size={size}:rate={rate}"
_SOUND = "sine=frequency=440:sample_rate=48000"


def make_source(
    directory: Path, name: str, seconds: float, *codecs: str, size: str = "320x180", rate: int = 30
) -> Path:
    """Encode a test picture and a tone into FLV; *codecs* are FFmpeg options. Made once per directory."""
    path = directory / f"{name}.flv"
    if not path.exists():
        made = path.with_suffix(".part")
        args = [ffmpeg9(), "-hide_banner", "-loglevel", "error", "-y", "-f", "lavfi", "-i"]
        args += [_PICTURE.format(size=size, rate=rate), "-f", "lavfi", "-i", _SOUND, "-t", str(seconds), *codecs]
        subprocess.run([*args, "-f", "flv", str(made)], check=True, timeout=60 + 4 * seconds)
        made.rename(path)
    return path


def h264_aac(directory: Path, seconds: float = SOURCE_SECONDS) -> Path:
    """1080p30 at 6 Mbit/s, a keyframe each second, B-frames as encoders make them."""
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-b:v", "6M", "-maxrate", "6M", "-bufsize", "6M"]
    codecs += ["-g", "30", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "128k"]
    return make_source(directory, f"h264-aac-{seconds}", seconds, *codecs, size="1920x1080")


def small_h264_aac(directory: Path, seconds: float = SOURCE_SECONDS) -> Path:
    """The same, small: for tests about timing, not about load."""
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-b:v", "400k", "-g", "15", "-pix_fmt", "yuv420p"]
    return make_source(directory, f"small-{seconds}", seconds, *codecs, "-c:a", "aac", "-b:a", "96k")


def hevc_opus(directory: Path, seconds: float = SOURCE_SECONDS) -> Path:
    """HEVC and Opus: enhanced RTMP."""
    codecs = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=30:min-keyint=30"]
    return make_source(directory, f"hevc-{seconds}", seconds, *codecs, "-c:a", "libopus", "-b:a", "96k")


def av1_opus(directory: Path, seconds: float = SOURCE_SECONDS) -> Path:
    """AV1 and Opus: enhanced RTMP."""
    codecs = ["-c:v", "libsvtav1", "-preset", "12", "-g", "30", "-svtav1-params", "lp=1", "-c:a", "libopus"]
    return make_source(directory, f"av1-{seconds}", seconds, *codecs)


def multitrack(directory: Path, seconds: float = SOURCE_SECONDS) -> Path:
    """Two video and two audio tracks: enhanced RTMP v2."""
    codecs = ["-map", "0:v", "-map", "0:v", "-map", "1:a", "-map", "1:a", "-c:v", "libx264", "-preset", "ultrafast"]
    codecs += ["-g", "30", "-pix_fmt", "yuv420p", "-b:v:0", "400k", "-b:v:1", "150k", "-s:v:1", "160x90"]
    return make_source(
        directory, f"multitrack-{seconds}", seconds, *codecs, "-c:a", "aac", "-b:a:0", "96k", "-b:a:1", "48k"
    )
