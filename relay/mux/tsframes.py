"""How each codec's frames stand in a transport stream: Annex B with delimiters, ADTS, or as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from relay.media import aac, h264, hevc
from relay.media.errors import MediaError
from relay.media.nal import START_CODE
from relay.media.packets import Codec, Packet, Track
from relay.mux.lane import Sample
from relay.mux.units import Fit, fit_for

MAX_AUDIO_FRAME = 60_000
"""The length of an audio PES packet has 16 bits."""
_MAX_AAC_FRAME = aac.MAX_ADTS_FRAME - 7

Write = Callable[[Sample], list[bytes | memoryview]]
"""Returns the pieces that a frame is in the stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How the frames of a track are written and announced."""

    stream_type: int
    stream_id: int
    write: Write
    fit: Fit
    descriptors: bytes = b""


def form_for(track: Track) -> Form:
    """Return the form of a track. Raises `MediaError` when the stream has none for its codec or configuration."""
    make = _FORMS.get(track.codec)
    if make is None:
        raise MediaError("media.no_ts_form", f"{track.codec.value} has no place in a transport stream")
    return make(track)


def _avc(track: Track) -> Form:
    config = h264.parse_config(track.config)
    sets = [START_CODE + unit for unit in (*config.sps, *config.pps)]
    write = _annexb(config.length_size, b"\x09\xf0", sets, lambda first: first & 0x1F, (h264.AUD, h264.SPS, h264.PPS))
    return Form(stream_type=0x1B, stream_id=0xE0, write=write, fit=fit_for(track))


def _hevc(track: Track) -> Form:
    config = hevc.parse_config(track.config)
    sets = [START_CODE + unit for kind in (hevc.VPS, hevc.SPS, hevc.PPS) for unit in config.units(kind)]
    special = (hevc.AUD, hevc.SPS, hevc.PPS)
    write = _annexb(config.length_size, b"\x46\x01\x50", sets, lambda first: first >> 1 & 0x3F, special)
    return Form(stream_type=0x24, stream_id=0xE0, write=write, fit=fit_for(track), descriptors=b"\x05\x04HEVC")


def _annexb(
    size: int, delimiter: bytes, sets: list[bytes], kind: Callable[[int], int], special: tuple[int, int, int]
) -> Write:
    """Return the writer of access units: a delimiter, the parameter sets before keyframes that lack them, the units.

    *special* are the NAL unit types of a delimiter, of which one is enough, and of the parameter sets SPS and PPS.
    """
    delimiter = START_CODE + delimiter
    aud, sps, pps = special

    def write(sample: Sample) -> list[bytes | memoryview]:
        data = sample[3]
        units: list[bytes | memoryview] = []
        position, end = 0, len(data)
        seen = set()
        while position < end:
            start = position + size
            position = start + int.from_bytes(data[position:start], "big")
            found = kind(data[start])
            if found != aud:
                seen.add(found)
                units += (START_CODE, data[start:position])
        if sample[2] and not (sps in seen and pps in seen):
            return [delimiter, *sets, *units]
        return [delimiter, *units]

    return write


def _aac(track: Track) -> Form:
    config = aac.parse_config(track.config)
    if not 1 <= config.object_type <= 4:
        raise MediaError("media.no_ts_form", f"AAC object type {config.object_type} has no ADTS form")
    empty = int.from_bytes(aac.adts_header(track.config, 0), "big")

    def write(sample: Sample) -> list[bytes | memoryview]:
        return [(empty + (len(sample[3]) << 13)).to_bytes(7, "big"), sample[3]]

    return Form(stream_type=0x0F, stream_id=0xC0, write=write, fit=_at_most(_MAX_AAC_FRAME, track))


def _as_it_is(stream_type: int, stream_id: int, name: bytes) -> Callable[[Track], Form]:
    """Return the form of audio whose frames begin with their own sync word."""

    def make(track: Track) -> Form:
        descriptors = b"\x05\x04" + name if name else b""
        fit = _at_most(MAX_AUDIO_FRAME, track)
        return Form(
            stream_type=stream_type, stream_id=stream_id, write=lambda s: [s[3]], fit=fit, descriptors=descriptors
        )

    return make


def _at_most(limit: int, track: Track) -> Fit:
    """Return the check of a track's frames with a limit to their size."""
    fit = fit_for(track)

    def bounded(packet: Packet) -> bytes | memoryview:
        data = fit(packet)
        if len(data) > limit:
            raise MediaError("mux.too_long", f"a frame of more than {limit} bytes")
        return data

    return bounded


_FORMS: dict[Codec, Callable[[Track], Form]] = {
    Codec.AVC: _avc,
    Codec.HEVC: _hevc,
    Codec.AAC: _aac,
    Codec.MP3: _as_it_is(0x03, 0xC0, b""),
    Codec.AC3: _as_it_is(0x81, 0xBD, b"AC-3"),
    Codec.EAC3: _as_it_is(0x87, 0xBD, b"EAC3"),
}
