"""What side packets say: colorInfo of video (E-RTMP v1 §Metadata Frame), channel layout of audio (E-RTMP v2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from relay import amf0
from relay.media.packets import MediaKind, Packet, Role

_MASTERING = (
    *("redX", "redY", "greenX", "greenY", "blueX", "blueY", "whitePointX", "whitePointY"),
    *("maxLuminance", "minLuminance"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorInfo:
    """Colour of a video track; code points are those of ISO/IEC 23091-4, 2 where unspecified."""

    bit_depth: int = 0
    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    max_cll: int = 0
    max_fall: int = 0
    mastering: tuple[float, ...] = ()
    """Red, green, blue and white x and y, maximum and minimum luminance in cd/m²; empty when not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelLayout:
    """Multichannel configuration of an audio track."""

    order: int
    """0 unspecified, 1 native (see *flags*), 2 custom (see *mapping*)."""
    channels: int
    flags: int = 0
    """Bit i is speaker i, in the order of WAVEFORMATEXTENSIBLE and 22.2."""
    mapping: bytes = b""


def color_info(packet: Packet) -> ColorInfo | None:
    """Read a colorInfo packet; None for anything else, and for the empty one that FFmpeg sends for SDR."""
    if packet.role is not Role.SIDE or packet.kind is not MediaKind.VIDEO:
        return None
    try:
        values = amf0.decode(packet.payload)
    except amf0.AmfError:
        return None
    if len(values) < 2 or values[0] != "colorInfo":
        return None
    config, light, display = (_object(values[1], key) for key in ("colorConfig", "hdrCll", "hdrMdcv"))
    mastering = tuple(_number(display, key, 0.0) for key in _MASTERING)
    info = ColorInfo(
        bit_depth=int(_number(config, "bitDepth", 0.0)),
        primaries=int(_number(config, "colorPrimaries", 2.0)),
        transfer=int(_number(config, "transferCharacteristics", 2.0)),
        matrix=int(_number(config, "matrixCoefficients", 2.0)),
        max_cll=int(_number(light, "maxCLL", 0.0)),
        max_fall=int(_number(light, "maxFall", 0.0)),
        mastering=mastering if any(mastering) else (),
    )
    return None if info == ColorInfo() else info


def _object(value: amf0.Value, key: str) -> Mapping[str, amf0.Value]:
    inner = value.get(key) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def _number(values: Mapping[str, amf0.Value], key: str, default: float) -> float:
    value = values.get(key)
    return value if isinstance(value, float) and 0 <= value <= 1e6 else default


def channel_layout(packet: Packet) -> ChannelLayout | None:
    """Read a multichannel configuration packet; None for anything else or one that is too short."""
    body = packet.payload
    if packet.role is not Role.SIDE or packet.kind is not MediaKind.AUDIO or len(body) < 2:
        return None
    order, channels = body[0], body[1]
    if order == 1:
        return ChannelLayout(order=1, channels=channels, flags=int.from_bytes(body[2:6], "big")) if body[5:] else None
    if order == 2:
        mapping = body[2 : 2 + channels]
        return ChannelLayout(order=2, channels=channels, mapping=mapping) if len(mapping) == channels else None
    return ChannelLayout(order=order, channels=channels)
