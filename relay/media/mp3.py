"""MPEG audio, layers I to III: the frame header (ISO/IEC 11172-3 2.4.1.3, 13818-3 2.4.2.3). It has no other."""

from __future__ import annotations

from relay.media.errors import MediaError
from relay.media.facts import AudioFacts

_RATES = (44_100, 48_000, 32_000)


def facts(frame: bytes) -> AudioFacts:
    """Return the facts of a frame."""
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        raise MediaError("media.bad_frame", "MPEG audio sync word missing")
    version, layer, rate = frame[1] >> 3 & 3, frame[1] >> 1 & 3, frame[2] >> 2 & 3
    if version == 1 or layer == 0 or rate == 3:
        raise MediaError("media.bad_frame", "MPEG audio reserved version, layer or rate")
    halvings = {3: 0, 2: 1, 0: 2}[version]
    samples = 384 if layer == 3 else 576 if halvings and layer == 1 else 1152
    channels = 1 if frame[3] >> 6 == 3 else 2
    return AudioFacts(sample_rate=_RATES[rate] >> halvings, channels=channels, samples_per_frame=samples)
