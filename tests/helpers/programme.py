"""A programme whose every frame can be told: real H.264 and AAC with numbers in the picture and in the bitstream.

The picture's number is burned in, sixteen bars across its top, and stands in a SEI message in front of its slices
together with the letter of the encoder that made it. So a checker of what a destination received knows which encoder
each picture is from and which moment it shows, and a decoder can confirm it. The sound is noise: no two frames of one
turn are alike, so that a frame of it is known by its bytes.

The programme repeats every `TURN_S`. Moments are counted on from an epoch that all encoders share: picture *n* is due
at the epoch plus *n* / 30 s, whoever sends it.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from relay.media import flvfile, nal

FPS = 30
TURN_S = 16
"""750 frames of sound and 480 pictures: both fit without a remainder."""
PICTURES = TURN_S * FPS
SOUNDS = TURN_S * 48000 // 1024
GOP_S = 2

BARS = 16
BAR_WIDTH = 20
WIDTH, HEIGHT, BAR_HEIGHT = BARS * BAR_WIDTH, 176, 32

MARK = b"rtmp-relay-frame"
"""The UUID of our SEI messages."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One frame of the file: when it is due after the start of a turn, and its FLV tag."""

    due_ms: float
    kind: int
    body: bytes
    keyframe: bool
    number: int
    """Within the turn."""


@dataclass(frozen=True, slots=True)
class Programme:
    """One encoder's version of the programme."""

    video_header: bytes
    audio_header: bytes
    units: tuple[Unit, ...]
    shift: int
    """Pictures by which the encoder is ahead in the programme when its file begins: it moves the keyframes."""


def encode(ffmpeg: str, path: Path, *, shift: int = 0, gop_s: float = GOP_S, options: tuple[str, ...] = ()) -> Path:
    """Encode one turn into *path*; more *options* go to the video encoder."""
    if path.exists():
        return path
    bars = f"255*mod(floor(mod(N+{shift}\\,{PICTURES})/pow(2\\,floor(X/{BAR_WIDTH})))\\,2)"
    graph = (
        f"testsrc2=size={WIDTH}x{HEIGHT - BAR_HEIGHT}:rate={FPS},format=yuv420p[below];"
        f"color=black:size={WIDTH}x{BAR_HEIGHT}:rate={FPS},format=yuv420p,geq=lum='{bars}':cb=128:cr=128[bars];"
        "[bars][below]vstack[v];"
        f"anoisesrc=color=pink:amplitude=0.3:sample_rate=48000:seed={shift + 1}[a]"
    )
    made = path.with_suffix(".part")
    args = [ffmpeg, "-hide_banner", "-loglevel", "error", "-y", "-filter_complex", graph, "-map", "[v]", "-map", "[a]"]
    args += ["-t", str(TURN_S + 0.2), "-frames:v", str(PICTURES), "-c:v", "libx264", "-preset", "veryfast"]
    args += ["-b:v", "400k", "-g", str(round(gop_s * FPS)), "-sc_threshold", "0", "-pix_fmt", "yuv420p", *options]
    args += ["-c:a", "aac", "-b:a", "64k", "-ac", "1", "-f", "flv", str(made)]
    subprocess.run(args, check=True, timeout=120)
    made.rename(path)
    return path


def load(path: Path, *, shift: int = 0) -> Programme:
    """Read what `encode` wrote."""
    headers: dict[int, bytes] = {}
    pictures: list[tuple[int, bytes]] = []
    sounds: list[bytes] = []
    for tag in flvfile.read(path.read_bytes()):
        if tag.type_id not in (8, 9) or len(tag.body) <= 5:
            continue
        if tag.body[1] == 0:
            headers.setdefault(tag.type_id, tag.body)
        elif tag.type_id == 9:
            pictures.append((tag.timestamp, tag.body))
        else:
            sounds.append(tag.body)
    assert len(pictures) == PICTURES, f"{len(pictures)} pictures"
    assert len(sounds) >= SOUNDS, f"{len(sounds)} frames of sound"
    units = [Unit(number * 1000 / FPS, 9, body, body[0] >> 4 == 1, number) for number, (_, body) in enumerate(pictures)]
    units += [Unit(number * 1024 / 48, 8, body, False, number) for number, body in enumerate(sounds[:SOUNDS])]
    units.sort(key=lambda unit: (unit.due_ms, -unit.kind))
    return Programme(headers[9], headers[8], tuple(units), shift)


def numbered(body: bytes, maker: str, number: int) -> bytes:
    """Put the SEI message with *maker* and *number* in front of a picture."""
    payload = MARK + maker.encode() + b"%010d" % number
    unit = bytes((6, 5, len(payload))) + payload + b"\x80"
    return body[:5] + len(unit).to_bytes(4, "big") + unit + body[5:]


def mark_of(body: bytes) -> tuple[str, int] | None:
    """Return maker and number of a picture, None when it has no mark."""
    at = body.find(MARK, 5, 200)
    if at < 0:
        return None
    at += len(MARK)
    return chr(body[at]), int(body[at + 1 : at + 11])


def coded(body: bytes) -> bytes:
    """Return a picture's slices, without what stands in front of them."""
    return b"".join(unit for unit in nal.split(body[5:], 4) if unit[0] & 31 in (1, 5))


def burned_in(ffmpeg: str, path: Path) -> list[int]:
    """Decode a file; return the numbers that are burned into its pictures, in the order of presentation.

    FFmpeg must not complain about a single one.
    """
    crop = f"crop={WIDTH}:2:0:{BAR_HEIGHT // 2},scale={BARS}:1:flags=area,format=gray"
    args = [ffmpeg, "-hide_banner", "-v", "error", "-xerror", "-i", str(path), "-an", "-vf", crop]
    done = subprocess.run(
        [*args, "-fps_mode", "passthrough", "-enc_time_base", "1:1000", "-f", "rawvideo", "-"],
        capture_output=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode(errors="replace")
    rows = done.stdout
    return [
        sum(1 << bar for bar, luma in enumerate(rows[at : at + BARS]) if luma > 127) for at in range(0, len(rows), BARS)
    ]
