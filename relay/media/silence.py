"""Silent frames that fit what a decoder is configured for: AAC-LC and Opus, made bit by bit.

The rule it guards: nothing is guessed. For a configuration that we cannot serve there is no frame, and the caller sends
none.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from relay.media import aac, opus
from relay.media.bits import BitWriter
from relay.media.errors import MediaError
from relay.media.packets import Codec, Track

_SINGLE, _PAIR, _LOW, _END = 0, 1, 3, 7
"""Syntactic elements of a raw data block: one channel, two, the low frequency channel, the end (14496-3 table 4.85)."""

_ELEMENTS = {
    1: (_SINGLE,),
    2: (_PAIR,),
    3: (_SINGLE, _PAIR),
    4: (_SINGLE, _PAIR, _SINGLE),
    5: (_SINGLE, _PAIR, _PAIR),
    6: (_SINGLE, _PAIR, _PAIR, _LOW),
    7: (_SINGLE, _PAIR, _PAIR, _PAIR, _LOW),
}
"""What a frame of each channelConfiguration consists of (14496-3 table 1.19)."""

_GAIN = 100
"""global_gain; without any coefficient it scales nothing."""

OPUS_SAMPLES = 960
_OPUS_MONO, _OPUS_STEREO = b"\xf8\xff\xfe", b"\xfc\xff\xfe"
"""20 ms of CELT silence, as libopus writes it for digital silence (RFC 6716 3.1: configuration 31, one frame)."""


@dataclass(frozen=True, slots=True)
class Silence:
    """One silent frame and how long it lasts in milliseconds."""

    payload: bytes
    duration: Fraction


def silence_for(track: Track) -> Silence | None:
    """Return silence for an audio track, None when its codec or configuration has none that we can make."""
    try:
        if track.codec is Codec.AAC:
            return _aac(aac.parse_config(track.config))
        if track.codec is Codec.OPUS:
            return _opus(opus.parse_config(track.config))
    except MediaError:
        pass
    return None


def _aac(config: aac.AacConfig) -> Silence | None:
    elements = _ELEMENTS.get(config.channel_config)
    if config.object_type != aac.LC or elements is None:
        return None
    writer = BitWriter()
    numbers: dict[int, int] = {}
    for element in elements:
        tag = numbers[element] = numbers.get(element, -1) + 1
        writer.bits(element, 3).bits(tag, 4)
        if element == _PAIR:
            writer.bits(1, 1)  # common_window
            _ics_info(writer)
            writer.bits(0, 2)  # ms_mask_present
            _channel(writer)
            _channel(writer)
        else:
            writer.bits(_GAIN, 8)
            _ics_info(writer)
            writer.bits(0, 3)
    frame = writer.bits(_END, 3).to_bytes()
    return Silence(frame, Fraction(config.samples_per_frame * 1000, config.sample_rate))


def _ics_info(writer: BitWriter) -> None:
    """Write ics_info of one long window without any scale factor band (14496-3 table 4.6): nothing is coded."""
    writer.bits(0, 1).bits(0, 2).bits(0, 1).bits(0, 6).bits(0, 1)


def _channel(writer: BitWriter) -> None:
    """Write the stream of one channel of a pair: gain, then no pulses, no noise shaping, no gain control."""
    writer.bits(_GAIN, 8).bits(0, 3)


def _opus(config: opus.OpusConfig) -> Silence | None:
    if config.mapping_family and config.mapping[0] != 1:
        return None  # several streams in one packet
    return Silence(_OPUS_STEREO if config.channels > 1 else _OPUS_MONO, Fraction(OPUS_SAMPLES, 48))
