"""A programme made by ourselves: a grey H.264 picture with noise in it, and silence, at an exact bit rate.

It is for trying out a line before the show (`rtmp-relay check`), where what matters is that a platform takes it for a
programme and that nothing on the way can make it smaller. So the bits are in the picture: macroblocks whose samples are
written as they are (I_PCM) and are random. Every frame decodes; nothing here needs an encoder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.media import metadata
from relay.media.bits import BitWriter
from relay.media.flvbuild import legacy_audio, legacy_video
from relay.media.nal import join
from relay.media.packets import Codec, MediaKind, Packet, Role, Track, TrackSet
from relay.media.silence import silence_for

FPS = 30
GOP_FRAMES = 60
"""A keyframe every 2 s, as platforms ask for."""
WIDTH, HEIGHT = 1280, 720
MAX_KBPS = 300_000
"""Enough for a dozen destinations at 25 Mbit/s; a picture of this size can hold no more noise than that."""

_COLUMNS, _ROWS = WIDTH // 16, HEIGHT // 16
_BLOCKS = _COLUMNS * _ROWS
_BLOCK_BYTES = 384
"""Samples of a macroblock: 256 of luma, 64 of each colour."""
_NEXT_BLOCK = b"\x87\xc0"
"""No macroblock skipped, mb_type I_PCM in a P slice (ue 30), zeros up to the whole byte (H.264 7.3.4, 7.3.5)."""
_GREY_BLOCK = b"\x27"
"""In an I slice: Intra_16x16 predicted by the mean, which is grey without neighbours, and nothing coded (7.3.5)."""
_FILLER_LEAST = 4 + 2
"""Length, header and stop bit of a filler data NAL unit (7.3.2.7)."""
_SOUND_CONFIG = b"\x11\x90"
"""AAC-LC, 48 kHz, stereo (14496-3 1.6.2.1)."""
_EMULATION = re.compile(rb"\x00\x00(?=[\x00-\x03])")


class Snow:
    """Makes the programme, packet by packet.

    Attributes:
        tracks: what a sink is configured with.
    """

    def __init__(self, kbps: int, noise: bytes) -> None:
        """Prepare a programme.

        Args:
            kbps: bit rate of picture and sound together.
            noise: random bytes, some tens of kilobytes at least; used again and again.
        """
        if not 0 < kbps <= MAX_KBPS:
            raise ValueError(f"a rate of 1 to {MAX_KBPS} kbit/s can be made")
        self._bytes_per_ms = kbps / 8
        self._noise = noise.replace(b"\x00", b"\x01") * (2 * _BLOCK_BYTES // len(noise) + 1)
        self._noise_at = 0
        self._frame = 0
        self._sound = 0
        self._made = 0
        audio = Track(
            kind=MediaKind.AUDIO, track_id=0, codec=Codec.AAC, header=_packet(_sound_header(), 0, Role.HEADER)
        )
        video = Track(kind=MediaKind.VIDEO, track_id=0, codec=Codec.AVC, header=_packet(_header(), 0, Role.HEADER))
        silence = silence_for(audio)
        assert silence is not None  # noqa: S101 - it can make AAC-LC
        self._silence = legacy_audio(Codec.AAC, silence.payload)
        self._sound_ms = silence.duration
        tracks = TrackSet((video, audio))
        values = metadata.describe(tracks) | {"videodatarate": float(kbps)}
        self.tracks = TrackSet((video, audio), metadata.packet(values))

    def until(self, ms: float) -> Iterator[Packet]:
        """Yield what is due before *ms* and was not made yet, in order of time."""
        while True:
            picture_at = 1000 * self._frame // FPS
            sound_at = int(self._sound * self._sound_ms)
            if min(picture_at, sound_at) >= ms:
                return
            yield self._next_picture(picture_at) if picture_at <= sound_at else self._next_sound(sound_at)

    def _next_sound(self, dts: int) -> Packet:
        self._sound += 1
        self._made += len(self._silence)
        return _packet(self._silence, dts)

    def _next_picture(self, dts: int) -> Packet:
        number = self._frame % GOP_FRAMES
        self._frame += 1
        wanted = int(self._bytes_per_ms * 1000 * self._frame / FPS) - self._made
        nals = [_idr(self._frame // GOP_FRAMES)] if number == 0 else [self._inter(number, wanted)]
        spare = wanted - sum(len(nal) + 4 for nal in nals)
        if spare >= _FILLER_LEAST:
            nals.append(b"\x0c" + b"\xff" * (spare - _FILLER_LEAST) + b"\x80")
        body = legacy_video(Codec.AVC, join(nals), keyframe=number == 0)
        self._made += len(body)
        return _packet(body, dts, keyframe=number == 0)

    def _inter(self, number: int, wanted: int) -> bytes:
        """Return a P slice of nearly *wanted* bytes, or of as many as fit."""
        blocks = min(max(wanted - 32, 0) // (_BLOCK_BYTES + len(_NEXT_BLOCK)), _BLOCKS)
        head = _slice(5, number).bits(0b000, 3)  # references as they are, no marking
        _signed_zero(head)
        _unsigned(head, 1)  # no deblocking
        if not blocks:
            _unsigned(head, _BLOCKS)
            return b"\x41" + _escape(_stopped(head))
        first = number * _COLUMNS % (_BLOCKS - blocks + 1)
        _unsigned(head, first)
        _unsigned(head, 30)
        tail = BitWriter()
        if _BLOCKS - first - blocks:
            _unsigned(tail, _BLOCKS - first - blocks)
        pieces = [head.to_bytes()]
        for block in range(blocks):
            pieces += [_NEXT_BLOCK if block else b"", self._samples()]
        return b"\x41" + _escape(b"".join([*pieces, _stopped(tail)]))

    def _samples(self) -> bytes:
        at = self._noise_at
        if at + _BLOCK_BYTES > len(self._noise):
            at = (at + 7) % 61  # not the same blocks again
        self._noise_at = at + _BLOCK_BYTES
        return self._noise[at : at + _BLOCK_BYTES]


def _packet(body: bytes, dts: int, role: Role = Role.FRAME, *, keyframe: bool = False) -> Packet:
    sound = body[0] >> 4 == 10
    kind, codec = (MediaKind.AUDIO, Codec.AAC) if sound else (MediaKind.VIDEO, Codec.AVC)
    return Packet(kind, 0, codec, role, keyframe, dts, 0, body, 2 if sound else 5)


def _sound_header() -> bytes:
    return legacy_audio(Codec.AAC, _SOUND_CONFIG, role=Role.HEADER)


def _header() -> bytes:
    """Return the sequence header with its AVCDecoderConfigurationRecord (14496-15 5.3.3.1)."""
    sps, pps = _sps(), _pps()
    record = b"\x01" + sps[1:4] + b"\xff\xe1" + len(sps).to_bytes(2, "big") + sps
    return legacy_video(Codec.AVC, record + b"\x01" + len(pps).to_bytes(2, "big") + pps, role=Role.HEADER)


def _sps() -> bytes:
    """Constrained Baseline 4.2, pictures in decoding order, one reference, timing (H.264 7.3.2.1.1, E.1.1)."""
    writer = BitWriter().bits(66, 8).bits(0xC0, 8).bits(42, 8)
    for value in (0, 0, 2, 1):  # id, 4 bits of frame_num, pic_order_cnt_type, max_num_ref_frames
        _unsigned(writer, value)
    writer.bits(0, 1)
    _unsigned(writer, _COLUMNS - 1)
    _unsigned(writer, _ROWS - 1)
    writer.bits(0b1101, 4)  # frames only, direct_8x8_inference, no cropping, VUI
    writer.bits(0b0000_1, 5).bits(1, 32).bits(2 * FPS, 32).bits(1, 1)  # nothing but timing, at a fixed rate
    return b"\x67" + _escape(_stopped(writer.bits(0, 4)))


def _pps() -> bytes:
    writer = BitWriter()
    _unsigned(writer, 0)
    _unsigned(writer, 0)
    writer.bits(0, 2)  # CAVLC
    for _ in range(3):
        _unsigned(writer, 0)
    writer.bits(0, 3)
    for _ in range(3):
        _signed_zero(writer)
    return b"\x68" + _escape(_stopped(writer.bits(0b100, 3)))  # deblocking is said in each slice


def _idr(number: int) -> bytes:
    writer = _slice(7, 0)
    _unsigned(writer, number % 2)
    writer.bits(0, 2)
    _signed_zero(writer)
    _unsigned(writer, 1)
    writer.bits(int.from_bytes(_GREY_BLOCK * _BLOCKS, "big"), 8 * _BLOCKS)
    return b"\x65" + _escape(_stopped(writer))


def _slice(kind: int, frame_num: int) -> BitWriter:
    writer = BitWriter()
    for value in (0, kind, 0):
        _unsigned(writer, value)
    return writer.bits(frame_num % 16, 4)


def _unsigned(writer: BitWriter, value: int) -> None:
    """ue(v): H.264 9.1."""
    size = (value + 1).bit_length()
    writer.bits(value + 1, 2 * size - 1)


def _signed_zero(writer: BitWriter) -> None:
    """se(v) of 0."""
    writer.bits(1, 1)


def _stopped(writer: BitWriter) -> bytes:
    return writer.bits(1, 1).to_bytes()


def _escape(rbsp: bytes) -> bytes:
    """Put emulation prevention bytes in (H.264 7.4.1)."""
    return _EMULATION.sub(b"\x00\x00\x03", rbsp)
