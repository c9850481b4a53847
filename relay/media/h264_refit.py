"""Pictures that were encoded elsewhere, made to fit the parameter sets of a running H.264 stream.

A decoder reads a picture with the SPS and PPS it has. Two encoders hardly ever write the same ones, though most of what
they say concerns the slice header only: how long a frame number is, how pictures are ordered, where the quantiser
starts. So the slice header is written anew for the other parameter sets, and the coded macroblocks behind it stay as
they are. What macroblocks depend on (size, entropy coder, transforms, chroma offsets, intra prediction) must agree;
`misfit` says what does not.

The rule it guards: what comes out decodes with the stream's own parameter sets, or `MediaError` says why it cannot be.
It takes pictures as x264 writes them with one slice, one reference and no B-frames: IDR and P (H.264 7.3.2 to 7.3.4).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relay.media import h264
from relay.media import nal as nals
from relay.media.bits import BitReader, BitWriter, escape, unescape
from relay.media.errors import MediaError

_HIGH = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_P, _I = 0, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Sps:
    """What a slice depends on in a sequence parameter set."""

    set_id: int
    chroma_format: int
    depth: int
    plain: bool
    """No scaling matrices, no separate planes, no lossless transform."""
    frame_number_bits: int
    order_type: int
    order_bits: int
    references: int
    width: int
    height: int
    """In macroblocks."""
    frames_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pps:
    """What a slice depends on in a picture parameter set."""

    set_id: int
    sps_id: int
    cabac: bool
    bottom_order: bool
    slice_groups: int
    references: int
    """Reference pictures of a P slice that does not say otherwise."""
    weighted: bool
    quantiser: int
    chroma_offsets: tuple[int, int]
    deblocking: bool
    constrained_intra: bool
    redundant: bool
    transform_8x8: bool
    scaling: bool


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameter sets that a stream's slices refer to."""

    sps: Sps
    pps: Pps

    @classmethod
    def of(cls, record: bytes) -> Parameters:
        """Read a decoder configuration record: its first SPS, and the first PPS that refers to it."""
        config = h264.parse_config(record)
        sps = _read_sps(config.sps[0])
        for unit in config.pps:
            pps = _read_pps(unit)
            if pps.sps_id == sps.set_id:
                return cls(sps, pps)
        raise MediaError("media.bad_config", "no PPS for the SPS")


def misfit(source: Parameters, target: Parameters) -> str:
    """Say why pictures of *source* cannot be made to fit *target*; empty when they can."""
    ours, theirs = source.sps, target.sps
    for wrong, why in (
        (not theirs.frames_only, "the stream is interlaced"),
        (theirs.order_type == 1, "the stream orders its pictures in a rare way (type 1)"),
        (not theirs.plain or target.pps.scaling, "the stream has scaling matrices"),
        (target.pps.slice_groups > 1, "the stream has slice groups"),
        (theirs.references == 0, "the stream has no reference pictures"),
        (
            (ours.width, ours.height, ours.chroma_format, ours.depth)
            != (theirs.width, theirs.height, theirs.chroma_format, theirs.depth),
            "size, chroma format or bit depth differ",
        ),
        (source.pps.cabac != target.pps.cabac, "the entropy coders differ"),
        (source.pps.transform_8x8 != target.pps.transform_8x8, "the transforms differ"),
        (source.pps.chroma_offsets != target.pps.chroma_offsets, "the chroma quantisers differ"),
        (source.pps.constrained_intra != target.pps.constrained_intra, "the intra predictions differ"),
        (not ours.frames_only or not ours.plain or source.pps.slice_groups > 1, "the encoder did not do as told"),
    ):
        if wrong:
            return why
    return ""


class Refit:
    """Rewrites the pictures of one encoder, in order, for the parameter sets of a stream."""

    def __init__(self, source: Parameters, target: Parameters, *, length_size: int = 4) -> None:
        """Prepare; *length_size* is the stream's. Raises `MediaError` when it cannot be."""
        why = misfit(source, target)
        if why:
            raise MediaError("media.misfit", why)
        self._source = source
        self._target = target
        self._length_size = length_size
        self._number = -1
        self._turn = 0

    def picture(self, units: Iterable[bytes]) -> bytes:
        """Return one access unit, length-prefixed, of the slices among *units*."""
        slices = [unit for unit in units if unit[0] & 0x1F in (h264.SLICE, h264.IDR)]
        if not slices:
            raise MediaError("media.misfit", "a picture without slices")
        if slices[0][0] & 0x1F == h264.IDR:
            self._number, self._turn = 0, self._turn ^ 1
        elif self._number < 0:
            raise MediaError("media.misfit", "the first picture is no keyframe")
        else:
            self._number += 1
        return nals.join([self._slice(unit) for unit in slices], self._length_size)

    def _slice(self, unit: bytes) -> bytes:
        raw = unescape(unit)
        reader, writer = BitReader(raw[1:]), BitWriter()
        self._header(reader, writer, idr=raw[0] & 0x1F == h264.IDR, reference=raw[0] >> 5 & 3)
        body = raw[1:]
        if self._source.pps.cabac:
            start = -(-reader.position // 8)
            coded = writer.bits((1 << (-writer.count % 8)) - 1, -writer.count % 8).to_bytes() + body[start:]
        else:
            coded = _append(writer, body, reader.position)
        return bytes((raw[0],)) + escape(coded)

    def _header(self, reader: BitReader, writer: BitWriter, *, idr: bool, reference: int) -> None:
        """Read a slice header of the source, write it for the target (7.3.3)."""
        sps, pps, theirs, target = self._source.sps, self._source.pps, self._target.sps, self._target.pps
        if not reference:
            raise MediaError("media.misfit", "a picture that nothing may refer to")
        writer.ue(reader.ue())  # first_mb_in_slice
        kind = reader.ue(9)
        if kind % 5 not in (_P, _I):
            raise MediaError("media.misfit", f"slice type {kind}")
        writer.ue(kind)
        reader.ue(255)
        writer.ue(target.set_id)
        reader.skip(sps.frame_number_bits)
        writer.bits(self._number, theirs.frame_number_bits)
        if idr:
            reader.ue(65535)
            writer.ue(self._turn)  # idr_pic_id differs between keyframes that follow each other (7.4.3)
        if sps.order_type == 0:
            reader.skip(sps.order_bits)
            if pps.bottom_order:
                reader.se()
        if theirs.order_type == 0:
            writer.bits(2 * self._number, theirs.order_bits)
            if target.bottom_order:
                writer.se(0)
        if pps.redundant:
            reader.ue()
        if target.redundant:
            writer.ue(0)
        if kind % 5 == _P:
            self._references(reader, writer)
        if idr:
            writer.bits(reader.bits(2), 2)
        else:
            if reader.flag():
                raise MediaError("media.misfit", "reference pictures are marked one by one")
            writer.bits(0, 1)
        if target.cabac and kind % 5 != _I:
            writer.ue(reader.ue(2))
        writer.se(pps.quantiser + reader.se() - target.quantiser)
        self._deblocking(reader, writer)

    def _references(self, reader: BitReader, writer: BitWriter) -> None:
        """One reference picture, the one before; no weights (7.3.3.1, 7.3.3.2)."""
        count = reader.ue(31) + 1 if reader.flag() else self._source.pps.references
        if count != 1 or reader.flag() or self._source.pps.weighted:
            raise MediaError("media.misfit", "a picture with several reference pictures or weights")
        if self._target.pps.references == 1:
            writer.bits(0, 1)
        else:
            writer.bits(1, 1).ue(0)
        writer.bits(0, 1)
        if self._target.pps.weighted:
            writer.ue(0)
            if self._target.sps.chroma_format:
                writer.ue(0)
            writer.bits(0, 2 if self._target.sps.chroma_format else 1)

    def _deblocking(self, reader: BitReader, writer: BitWriter) -> None:
        """The filter as the encoder wants it. x264 turns it off where the quantiser is so low that it does nothing."""
        idc = alpha = beta = 0
        if self._source.pps.deblocking:
            idc = reader.ue(2)
            if idc != 1:
                alpha, beta = reader.se(), reader.se()
        if self._target.pps.deblocking:
            writer.ue(idc)
            if idc != 1:
                writer.se(alpha)
                writer.se(beta)
        elif (alpha, beta) != (0, 0) or idc == 2:
            raise MediaError("media.misfit", "the stream does not say how to filter")


def _read_sps(unit: bytes) -> Sps:
    """Read a sequence parameter set up to what slices depend on (7.3.2.1.1)."""
    reader = BitReader(unescape(unit)[1:])
    profile = reader.bits(8)
    reader.skip(16)
    set_id = reader.ue(31)
    chroma, depth, plain = 1, 8, True
    if profile in _HIGH:
        chroma = reader.ue(3)
        separate = chroma == 3 and reader.flag()
        depth = 8 + reader.ue(6)
        depth_c = 8 + reader.ue(6)
        plain = not reader.flag() and not reader.flag() and not separate and depth_c == depth
        if not plain:
            raise MediaError("media.misfit", "the stream has scaling matrices or planes of their own")
    number_bits = reader.ue(12) + 4
    order = reader.ue(2)
    order_bits = reader.ue(12) + 4 if order == 0 else 0
    if order == 1:
        raise MediaError("media.misfit", "the stream orders its pictures in a rare way (type 1)")
    references = reader.ue(16)
    reader.skip(1)
    width, height = reader.ue(1023) + 1, reader.ue(1023) + 1
    return Sps(
        set_id=set_id,
        chroma_format=chroma,
        depth=depth,
        plain=plain,
        frame_number_bits=number_bits,
        order_type=order,
        order_bits=order_bits,
        references=references,
        width=width,
        height=height,
        frames_only=reader.flag(),
    )


def _read_pps(unit: bytes) -> Pps:
    """Read a picture parameter set (7.3.2.2)."""
    raw = unescape(unit)[1:]
    reader = BitReader(raw)
    set_id, sps_id = reader.ue(255), reader.ue(31)
    cabac, bottom = reader.flag(), reader.flag()
    groups = reader.ue(7) + 1
    if groups > 1:
        raise MediaError("media.misfit", "the stream has slice groups")
    references = reader.ue(31) + 1
    reader.ue(31)
    weighted = reader.flag()
    reader.skip(2)
    quantiser = 26 + reader.se()
    reader.se()
    chroma = reader.se()
    deblocking, constrained, redundant = reader.flag(), reader.flag(), reader.flag()
    transform = scaling = False
    second = chroma
    if reader.position < _stop_bit(raw):
        transform, scaling = reader.flag(), reader.flag()
        second = chroma if scaling else reader.se()
    return Pps(
        set_id=set_id,
        sps_id=sps_id,
        cabac=cabac,
        bottom_order=bottom,
        slice_groups=groups,
        references=references,
        weighted=weighted,
        quantiser=quantiser,
        chroma_offsets=(chroma, second),
        deblocking=deblocking,
        constrained_intra=constrained,
        redundant=redundant,
        transform_8x8=transform,
        scaling=scaling,
    )


def _stop_bit(raw: bytes) -> int:
    """Position of the last bit that is set: behind it there is padding only (7.2, more_rbsp_data)."""
    value = int.from_bytes(raw, "big")
    return len(raw) * 8 - (value & -value).bit_length() if value else 0


def _append(writer: BitWriter, body: bytes, position: int) -> bytes:
    """Return what was written and the bits of *body* from *position* on, padded behind its own stop bit."""
    count = _stop_bit(body) + 1 - position
    value = int.from_bytes(body, "big") >> (len(body) * 8 - position - count)
    return writer.bits(value, count).to_bytes()
