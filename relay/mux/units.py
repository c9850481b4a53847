"""Is a coded frame fit for a file? What must not get into one is taken out here, or the frame is refused.

The rule: a frame goes in bit for bit as the encoder sent it (captions in SEI included), except for what no file may
hold: empty NAL units and AV1 temporal delimiters.
"""

from __future__ import annotations

from collections.abc import Callable

from relay.media import h264, hevc, nal
from relay.media.errors import MediaError
from relay.media.packets import Codec, Packet, Track

Fit = Callable[[Packet], bytes | memoryview]
"""Returns what to write of a packet's payload. Raises `MediaError` with a code of this floor when it is not usable."""


def plain(packet: Packet) -> bytes | memoryview:
    """Take the payload as it is."""
    data = memoryview(packet.body)[packet.offset :]
    if not data:
        raise MediaError("mux.empty", "no coded data")
    return data


def without_delimiters(packet: Packet) -> bytes | memoryview:
    """Take an AV1 temporal unit without its temporal delimiters (AV1-ISOBMFF 2.4)."""
    body, start = packet.body, packet.offset
    while body.startswith(b"\x12\x00", start):
        start += 2
    data = memoryview(body)[start:]
    if not data:
        raise MediaError("mux.empty", "no coded data")
    return data


def with_whole_nals(length_size: int) -> Fit:
    """Return the check of NAL unit lengths: they must fill the access unit exactly (reliability case 96)."""

    def fit(packet: Packet) -> bytes | memoryview:
        body, start = packet.body, packet.offset
        position, end, units = start, len(body), 0
        while position < end and units < nal.MAX_NALS:
            size = int.from_bytes(body[position : position + length_size], "big")
            if not size:
                return _without_empty(packet, length_size)
            position += length_size + size
            units += 1
        if position != end or not units:
            raise MediaError("mux.nal_length" if units else "mux.empty", "NAL unit lengths do not fill the access unit")
        return memoryview(body)[start:]

    return fit


def _without_empty(packet: Packet, length_size: int) -> bytes:
    """Leave empty NAL units out: DJI cameras send them, and browsers stop at them."""
    try:
        units = nal.split(packet.payload, length_size)
    except MediaError as error:
        raise MediaError("mux.nal_length", error.text) from None
    if not units:
        raise MediaError("mux.empty", "no coded data")
    return nal.join(units, length_size)


def length_size(track: Track) -> int:
    """Return the size of the NAL unit lengths of an AVC or HEVC track."""
    if track.codec is Codec.AVC:
        return h264.parse_config(track.config).length_size
    return hevc.parse_config(track.config).length_size


def fit_for(track: Track) -> Fit:
    """Return the check for a track's frames. Raises `MediaError` when its configuration cannot be read."""
    if track.codec in (Codec.AVC, Codec.HEVC):
        return with_whole_nals(length_size(track))
    return without_delimiters if track.codec is Codec.AV1 else plain
