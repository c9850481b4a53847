"""How ffmpeg is told to encode an operator's slate: as the decoders of one stream need it.

Imports the media floor and the child. The rule it guards: what the encoder cannot be told is refused with the reason;
what it writes into its headers is replaced anyway (`relay.media.h264_refit`, `hevc_refit`).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from relay.media import aac, configs, h264_refit, hevc_refit
from relay.media.errors import MediaError
from relay.media.facts import VideoFacts
from relay.media.packets import Codec, MediaKind, Track, TrackSet
from relay.net.encoderchild import ChildError, EncoderChild
from relay.stream.clip import Clip, make_clip

MAX_CLIP_S = 30
"""Longer clips are cut: a slate is for the minute of a hold."""

PICTURE_S = 2
"""A picture that does not move is a clip of this length."""

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
"""By these names a file is a picture; anything else is a clip."""

DEFAULT_FPS, MAX_FPS = 30.0, 60.0

HEVC_PICTURES_PER_S = 2.0
"""Of a picture that does not move: each is a keyframe, and as many come as of the slate that needs no encoder."""


def find_ffmpeg() -> str:
    """Return the ffmpeg of the `[ffmpeg]` extra, else the system's. Raises `ChildError`."""
    try:
        import imageio_ffmpeg  # type: ignore[import-untyped]

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        found = shutil.which("ffmpeg")
    if found is None:
        raise ChildError("there is no ffmpeg: pip install 'rtmp-relay[ffmpeg]' or apt-get install ffmpeg")
    return found


def encode_file(child: EncoderChild, path: Path, tracks: TrackSet) -> Clip:
    """Encode *path* for *tracks*; blocks. Raises `ChildError` or `MediaError`."""
    video = tracks.find(MediaKind.VIDEO)
    facts = None if video is None else configs.video_facts(video)
    if video is None or facts is None:
        raise MediaError("media.misfit", "the stream's parameters cannot be read")
    fps = min(float(facts.fps), MAX_FPS) if facts.fps and facts.fps >= 1 else DEFAULT_FPS
    if video.codec is Codec.HEVC and _is_still(path):
        fps = HEVC_PICTURES_PER_S
    picture = _hevc(facts, video, fps) if video.codec is Codec.HEVC else _h264(facts, video, fps)
    args = [find_ffmpeg(), *_input(path), "-map", "0:v:0", *picture, *_sound(path, tracks)]
    data = child.run([*args, "-f", "flv", "-flvflags", "no_duration_filesize", "pipe:1"])
    return make_clip(data, tracks, fps=fps)


def _is_still(path: Path) -> bool:
    return path.suffix.lower() in PICTURES


def _input(path: Path) -> list[str]:
    """Local files only, whatever the file says about others."""
    args = ["-nostdin", "-hide_banner", "-loglevel", "error", "-protocol_whitelist", "file,pipe"]
    still = _is_still(path)
    args += ["-xerror", "-loop", "1", "-framerate", "30"] if still else []
    return [*args, "-i", f"file:{path}", "-t", str(PICTURE_S if still else MAX_CLIP_S)]


def _graph(facts: VideoFacts, fps: float, *more: str) -> str:
    """The whole picture in the stream's size, colours and rate; *more* comes last."""
    size = f"{facts.width}:{facts.height}"
    colours = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020"}
    matrix = colours.get(facts.matrix, "bt709" if facts.height >= 720 else "bt601")
    span = "pc" if facts.full_range else "tv"
    scale = f"scale={size}:force_original_aspect_ratio=decrease:out_color_matrix={matrix}:out_range={span}"
    return ",".join([scale, f"pad={size}:-1:-1", "setsar=1", f"fps={fps:.6f}", *more])


def _options(options: dict[str, int | str]) -> str:
    return ":".join(f"{name}={value}" for name, value in options.items())


def _rate(facts: VideoFacts) -> list[str]:
    rate = "4M" if facts.height >= 720 else "1500k"
    return ["-maxrate", rate, "-bufsize", rate]


def _h264(facts: VideoFacts, video: Track, fps: float) -> list[str]:
    """x264 told to do what the stream's decoder expects."""
    if facts.bit_depth != 8 or facts.chroma_format != 1:
        raise MediaError("media.misfit", "the stream is not 8 bit 4:2:0")
    target = h264_refit.Parameters.of(video.config)
    keyint = max(int(fps), 1)
    options: dict[str, int | str] = {
        "cabac": int(target.pps.cabac),
        "8x8dct": int(target.pps.transform_8x8),
        "chroma-qp-offset": target.pps.chroma_offsets[0],
        "constrained-intra": int(target.pps.constrained_intra),
        "keyint": keyint,
        "min-keyint": keyint,
        "scenecut": 0,
        "ref": 1,
        "bframes": 0,
        "weightp": 0,
        "psy": 0,
        "deblock": "0,0",
        "slices": 1,
        "sliced-threads": 0,
        "threads": 1,
        "open-gop": 0,
    }
    graph = _graph(facts, fps, "format=yuv420p")
    args = ["-vf", graph, "-c:v", "libx264", "-preset", "medium", "-crf", "23", "-x264-params", _options(options)]
    return [*args, *_rate(facts)]


def _hevc(facts: VideoFacts, video: Track, fps: float) -> list[str]:
    """x265 told the same; every picture is a keyframe, because then hardly anything is left that must agree."""
    if facts.video_range != "SDR" or facts.bit_depth not in (8, 10):
        raise MediaError("media.misfit", "the stream is HDR or of an unusual depth")
    target = hevc_refit.Parameters.of(video.config)
    blocks = target.blocks
    if target.left_or_top_cropped or blocks.smallest_transform != 2:
        raise MediaError("media.misfit", "the stream is cropped or transformed in a rare way")
    quantiser_group = blocks.largest_block - (blocks.qp_delta_depth or 0)
    options: dict[str, int | str] = {
        "ctu": 1 << blocks.largest_block,
        "min-cu-size": 1 << blocks.smallest_block,
        "max-tu-size": 1 << blocks.largest_transform,
        "tu-intra-depth": blocks.transform_depth + 1,
        "strong-intra-smoothing": int(blocks.smoothing),
        "signhide": int(blocks.sign_hiding),
        "tskip": int(blocks.transform_skip),
        "aq-mode": int(blocks.qp_delta_depth is not None),
        "qg-size": 1 << quantiser_group,
        "cbqpoffs": blocks.chroma_offsets[0],
        "crqpoffs": blocks.chroma_offsets[1],
        "cu-lossless": int(blocks.bypass),
        "wpp": int(blocks.wavefront),
        "sao": 0,
        "cutree": 0,
        "keyint": 1,
        "bframes": 0,
        "slices": 1,
        "frame-threads": 1,
        "log-level": "error",
    }
    graph = _graph(facts, fps, f"pad={blocks.width}:{blocks.height}:0:0", f"format={_FORMATS[facts.bit_depth]}")
    args = ["-vf", graph, "-c:v", "libx265", "-preset", "medium", "-crf", "26", "-x265-params", _options(options)]
    return [*args, *(_rate(facts) if blocks.qp_delta_depth is not None else [])]


_FORMATS = {8: "yuv420p", 10: "yuv420p10le"}


def _sound(path: Path, tracks: TrackSet) -> list[str]:
    """The clip's own sound, if it has any and the stream's is AAC-LC; silence is made elsewhere."""
    sound = tracks.find(MediaKind.AUDIO)
    if sound is None or sound.codec is not Codec.AAC or _is_still(path):
        return ["-an"]
    try:
        config = aac.parse_config(sound.config)
    except MediaError:
        return ["-an"]
    if config.object_type != aac.LC or config.sbr or not config.channels:
        return ["-an"]
    args = ["-map", "0:a:0?", "-c:a", "aac", "-b:a", "128k", "-ar", str(config.sample_rate)]
    return [*args, "-ac", str(config.channels)]
