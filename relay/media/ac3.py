"""AC-3 and E-AC-3: the sync frame (ETSI TS 102 366 4.3, E.1.2) and the dac3 and dec3 boxes made from it (F.4, F.6).

Enhanced RTMP carries no configuration for these codecs (FFmpeg sends an empty one), so the first frame is it.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.media.bits import BitReader, BitWriter
from relay.media.errors import MediaError
from relay.media.facts import AudioFacts

_RATES = (48_000, 44_100, 32_000)
_BITRATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_CHANNELS = (2, 1, 2, 3, 3, 4, 4, 5)
"""Full-bandwidth channels by acmod."""
MAX_FRAMES = 64
"""Sync frames of one packet: six blocks of eight independent substreams, and room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncFrame:
    """The head of a sync frame. *enhanced* is E-AC-3."""

    enhanced: bool
    fscod: int
    sample_rate: int
    bsid: int
    bsmod: int
    acmod: int
    lfe: bool
    bit_rate: int
    """kbit/s."""
    rate_code: int
    """bit_rate_code of dac3; 0 for E-AC-3."""
    samples: int

    @property
    def channels(self) -> int:
        """Channels with the low frequency one."""
        return _CHANNELS[self.acmod] + self.lfe


def parse_frame(frame: bytes) -> SyncFrame:
    """Read the head of an AC-3 or E-AC-3 sync frame."""
    if len(frame) < 8 or not frame.startswith(b"\x0b\x77"):
        raise MediaError("media.bad_frame", "AC-3 sync word missing")
    bsid = frame[5] >> 3
    if bsid > 16:
        raise MediaError("media.bad_frame", f"AC-3 bitstream id {bsid}")
    return _parse_eac3(frame, bsid) if bsid > 10 else _parse_ac3(frame, bsid)


def _parse_ac3(frame: bytes, bsid: int) -> SyncFrame:
    fscod, size_code = frame[4] >> 6, frame[4] & 0x3F
    if fscod == 3 or size_code >= 2 * len(_BITRATES):
        raise MediaError("media.bad_frame", "AC-3 reserved rate")
    reader = BitReader(frame[5:])
    reader.skip(5)
    bsmod, acmod = reader.bits(3), reader.bits(3)
    if acmod & 1 and acmod != 1:
        reader.skip(2)
    if acmod & 4:
        reader.skip(2)
    if acmod == 2:
        reader.skip(2)
    return SyncFrame(
        enhanced=False,
        fscod=fscod,
        sample_rate=_RATES[fscod] >> max(0, bsid - 8),
        bsid=bsid,
        bsmod=bsmod,
        acmod=acmod,
        lfe=reader.flag(),
        bit_rate=_BITRATES[size_code >> 1],
        rate_code=size_code >> 1,
        samples=1536,
    )


def _parse_eac3(frame: bytes, bsid: int) -> SyncFrame:
    reader = BitReader(frame[2:])
    reader.skip(5)
    size = (reader.bits(11) + 1) * 2
    fscod, second = reader.bits(2), reader.bits(2)
    if fscod == 3 and second == 3:
        raise MediaError("media.bad_frame", "E-AC-3 reserved rate")
    rate, blocks = (_RATES[second] // 2, 6) if fscod == 3 else (_RATES[fscod], (1, 2, 3, 6)[second])
    acmod, lfe = reader.bits(3), reader.flag()
    samples = 256 * blocks
    return SyncFrame(
        enhanced=True,
        fscod=fscod,
        sample_rate=rate,
        bsid=bsid,
        bsmod=0,
        acmod=acmod,
        lfe=lfe,
        bit_rate=size * 8 * rate // (samples * 1000),
        rate_code=0,
        samples=samples,
    )


def facts(frame: bytes) -> AudioFacts:
    """Return the facts of a sync frame."""
    head = parse_frame(frame)
    return AudioFacts(sample_rate=head.sample_rate, channels=head.channels, samples_per_frame=head.samples)


def packet_samples(packet: bytes) -> int:
    """Return how many samples a packet decodes to. One of E-AC-3 may hold several sync frames (ETSI TS 102 366 E.1.3):
    independent substream 0 counts, the other substreams sound at the same time."""
    head = parse_frame(packet)
    if not head.enhanced:
        return head.samples
    samples = position = 0
    for _ in range(MAX_FRAMES):
        if position >= len(packet):
            break
        frame = packet[position : position + 8]
        if len(frame) < 8 or not frame.startswith(b"\x0b\x77"):
            break
        if frame[2] >> 6 != 1 and frame[2] >> 3 & 7 == 0:
            samples += parse_frame(frame).samples
        position += ((frame[2] & 7) << 8 | frame[3]) * 2 + 2
    return samples or head.samples


def box_payload(frame: bytes) -> bytes:
    """Return the payload of dac3 or dec3 for a track whose first frame this is."""
    head = parse_frame(frame)
    writer = BitWriter()
    if head.enhanced:
        writer.bits(head.bit_rate, 13).bits(0, 3)
        writer.bits(head.fscod, 2).bits(head.bsid, 5).bits(0, 2).bits(head.bsmod, 3)
        return writer.bits(head.acmod, 3).bits(head.lfe, 1).bits(0, 3).bits(0, 4).bits(0, 1).to_bytes()
    writer.bits(head.fscod, 2).bits(head.bsid, 5).bits(head.bsmod, 3)
    return writer.bits(head.acmod, 3).bits(head.lfe, 1).bits(head.rate_code, 5).bits(0, 5).to_bytes()
