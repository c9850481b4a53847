"""Pictures that were encoded elsewhere, made to fit the parameter sets of a running H.265 stream.

As `relay.media.h264_refit`, with IDR pictures only: a slice header of theirs says hardly anything, and behind it the
coded blocks stay byte for byte as they are. What blocks depend on (sizes, transforms, quantisers, how substreams are
cut) must agree; `misfit` says what does not. Filters after decoding need not: no other picture is predicted from these.

The rule it guards: what comes out decodes with the stream's own parameter sets, or `MediaError` says why it cannot be.
It takes pictures as x265 writes them with one slice: IDR, without sample adaptive offset (H.265 7.3.2, 7.3.6).
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import asdict, dataclass, fields

from relay.media import hevc
from relay.media import nal as nals
from relay.media.bits import BitReader, BitWriter, escape, unescape
from relay.media.errors import MediaError

_IDR = (hevc.IDR_W_RADL, hevc.IDR_W_RADL + 1)
_I = 2
PLAIN_PROFILES = frozenset({1, 2, 3})
"""Main, Main 10, Main Still Picture: 4:2:0 and no extensions of the parameter sets (H.265 A.3)."""

OUR_PROFILES = frozenset({*PLAIN_PROFILES, 4})
"""What x265 calls its work when every picture is a keyframe: Main Intra, which it codes as Main."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What coded blocks depend on in a sequence parameter set."""

    width: int
    height: int
    """As coded, cropping not applied."""
    depth: int
    smallest_block: int
    largest_block: int
    smallest_transform: int
    largest_transform: int
    """Sizes as powers of two."""
    transform_depth: int
    smoothing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks(Sizes):
    """What coded blocks depend on in both parameter sets: must be equal."""

    sign_hiding: bool
    transform_skip: bool
    qp_delta_depth: int | None
    """None: the quantiser does not change within a picture."""
    chroma_offsets: tuple[int, int]
    bypass: bool
    wavefront: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The parameter sets that a stream's slices refer to."""

    blocks: Blocks
    set_id: int
    quantiser: int
    sample_offset: bool
    output_flag: bool
    reserved_bits: int
    slice_chroma_offsets: bool
    deblocking_override: bool
    deblocking: bool
    across_slices: bool
    extension: bool
    left_or_top_cropped: bool

    @classmethod
    def of(cls, record: bytes, profiles: Container[int] = PLAIN_PROFILES) -> Parameters:
        """Read a decoder configuration record of one of these *profiles*: its first SPS, and its first PPS for that."""
        config = hevc.parse_config(record)
        sps_id, sps = _read_sps(config.units(hevc.SPS)[0], profiles)
        for unit in config.units(hevc.PPS):
            reader = BitReader(unescape(unit)[2:])
            set_id = reader.ue(63)
            if reader.ue(15) == sps_id:
                return _read_pps(reader, set_id, sps)
        raise MediaError("media.bad_config", "no PPS for the SPS")


def misfit(source: Parameters, target: Parameters) -> str:
    """Say why pictures of *source* cannot be made to fit *target*; empty when they can."""
    if source.sample_offset or source.reserved_bits or source.extension or source.output_flag:
        return "the encoder did not do as told"
    ours, theirs = source.blocks, target.blocks
    wrong = [one.name for one in fields(Blocks) if getattr(ours, one.name) != getattr(theirs, one.name)]
    return "these differ: " + ", ".join(name.replace("_", " ") for name in wrong) if wrong else ""


class Refit:
    """Rewrites the pictures of one encoder for the parameter sets of a stream."""

    def __init__(self, source: Parameters, target: Parameters, *, length_size: int = 4) -> None:
        """Prepare; *length_size* is the stream's. Raises `MediaError` when it cannot be."""
        why = misfit(source, target)
        if why:
            raise MediaError("media.misfit", why)
        self._source = source
        self._target = target
        self._length_size = length_size

    def picture(self, units: Iterable[bytes]) -> bytes:
        """Return one access unit, length-prefixed, of the slice among *units*."""
        slices = [unit for unit in units if len(unit) > 2 and hevc.nal_type(unit) < hevc.VPS]
        if len(slices) != 1 or hevc.nal_type(slices[0]) not in _IDR:
            raise MediaError("media.misfit", "a picture that is no IDR in one slice")
        raw = unescape(slices[0])
        reader, writer = BitReader(raw[2:]), BitWriter()
        self._header(reader, writer)
        if not reader.flag():
            raise MediaError("media.misfit", "a slice header does not end where it should")
        start = 2 + -(-reader.position // 8)
        writer.bits(1, 1)
        return nals.join([raw[:2] + escape(writer.to_bytes() + raw[start:])], self._length_size)

    def _header(self, reader: BitReader, writer: BitWriter) -> None:
        """Read a slice segment header of the source, write it for the target (7.3.6.1)."""
        source, target = self._source, self._target
        if not reader.flag():
            raise MediaError("media.misfit", "a slice that does not begin its picture")
        writer.bits(1, 1)
        writer.bits(reader.bits(1), 1)  # no_output_of_prior_pics_flag
        reader.ue(63)
        writer.ue(target.set_id)
        writer.bits(0, target.reserved_bits)
        if reader.ue(2) != _I:
            raise MediaError("media.misfit", "a slice that is not intra")
        writer.ue(_I)
        if target.output_flag:
            writer.bits(1, 1)
        if target.sample_offset:
            writer.bits(0, 2)
        writer.se(source.quantiser + reader.se() - target.quantiser)
        if source.slice_chroma_offsets and (reader.se(), reader.se()) != (0, 0):
            raise MediaError("media.misfit", "chroma quantisers of a slice's own")
        if target.slice_chroma_offsets:
            writer.se(0).se(0)
        deblocking = source.deblocking
        if source.deblocking_override and reader.flag():
            deblocking = not reader.flag()
            if deblocking:
                reader.se()
                reader.se()
        if source.across_slices and deblocking:
            reader.skip(1)
        if target.deblocking_override:
            writer.bits(0, 1)
        if target.across_slices and target.deblocking:
            writer.bits(1, 1)
        if source.blocks.wavefront:
            self._entry_points(reader, writer)
        if target.extension:
            writer.ue(0)

    def _entry_points(self, reader: BitReader, writer: BitWriter) -> None:
        """Where substreams begin; they are counted from the end of the header, so they stay."""
        count = reader.ue(440 * 64)
        writer.ue(count)
        if count:
            bits = reader.ue(31) + 1
            writer.ue(bits - 1)
            for _ in range(count):
                writer.bits(reader.bits(bits), bits)


@dataclass(slots=True, kw_only=True)
class _Sps:
    sizes: Sizes
    cropped: bool
    sample_offset: bool


def _refuse(wrong: bool, why: str) -> None:
    if wrong:
        raise MediaError("media.misfit", why)


def _read_sps(unit: bytes, profiles: Container[int]) -> tuple[int, _Sps]:
    """Read a sequence parameter set up to what blocks depend on (7.3.2.2.1); return its id too."""
    reader = BitReader(unescape(unit)[2:])
    reader.skip(4)
    sub_layers = reader.bits(3)
    reader.skip(1)
    profile, _ = hevc.profile_tier_level(reader, sub_layers)
    _refuse(profile not in profiles, "the stream's profile is neither Main nor Main 10")
    set_id = reader.ue(15)
    _refuse(reader.ue(3) != 1, "the stream is not 4:2:0")
    width, height = reader.ue(16384), reader.ue(16384)
    left = top = 0
    if reader.flag():
        left, _, top, _ = (reader.ue(16384) for _ in range(4))
    depth, depth_c = 8 + reader.ue(8), 8 + reader.ue(8)
    _refuse(depth != depth_c, "luma and chroma differ in depth")
    order_bits = reader.ue(12) + 4
    for _ in range(sub_layers + 1 if reader.flag() else 1):
        for _ in range(3):
            reader.ue()
    block = 3 + reader.ue(3)
    largest = block + reader.ue(3)
    transform = 2 + reader.ue(3)
    largest_transform = transform + reader.ue(3)
    reader.ue(4)
    transform_depth = reader.ue(4)
    _refuse(reader.flag(), "the stream has scaling lists")
    reader.skip(1)
    sample_offset = reader.flag()
    _refuse(reader.flag(), "the stream has raw blocks")
    hevc.reference_sets(reader)
    if reader.flag():
        for _ in range(reader.ue(32)):
            reader.skip(order_bits + 1)
    reader.skip(1)
    sizes = Sizes(
        width=width,
        height=height,
        depth=depth,
        smallest_block=block,
        largest_block=largest,
        smallest_transform=transform,
        largest_transform=largest_transform,
        transform_depth=transform_depth,
        smoothing=reader.flag(),
    )
    return set_id, _Sps(sizes=sizes, cropped=bool(left or top), sample_offset=sample_offset)


def _read_pps(reader: BitReader, set_id: int, sps: _Sps) -> Parameters:
    """Read a picture parameter set behind its ids (7.3.2.3.1)."""
    reader.skip(1)
    output_flag, reserved = reader.flag(), reader.bits(3)
    sign_hiding = reader.flag()
    reader.skip(1)
    reader.ue(14)
    reader.ue(14)
    quantiser = 26 + reader.se()
    reader.skip(1)
    skip = reader.flag()
    delta_depth = reader.ue(3) if reader.flag() else None
    chroma = reader.se(), reader.se()
    slice_chroma = reader.flag()
    reader.skip(2)
    bypass, tiles, wavefront = reader.flag(), reader.flag(), reader.flag()
    _refuse(tiles, "the stream has tiles")
    across = reader.flag()
    override, deblocking = False, True
    if reader.flag():
        override, deblocking = reader.flag(), not reader.flag()
        if deblocking:
            reader.se()
            reader.se()
    _refuse(reader.flag(), "the stream has scaling lists")
    reader.skip(1)
    reader.ue(4)
    return Parameters(
        blocks=Blocks(
            **asdict(sps.sizes),
            sign_hiding=sign_hiding,
            transform_skip=skip,
            qp_delta_depth=delta_depth,
            chroma_offsets=chroma,
            bypass=bypass,
            wavefront=wavefront,
        ),
        set_id=set_id,
        quantiser=quantiser,
        sample_offset=sps.sample_offset,
        output_flag=output_flag,
        reserved_bits=reserved,
        slice_chroma_offsets=slice_chroma,
        deblocking_override=override,
        deblocking=deblocking,
        across_slices=across,
        extension=reader.flag(),
        left_or_top_cropped=sps.cropped,
    )
