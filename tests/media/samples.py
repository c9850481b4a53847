"""Media that several test modules need: the corpus files, and bodies built from hand-written bytes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from relay.media import flvfile
from relay.media.flv import FlvDemuxer
from relay.media.flvfile import Tag
from relay.media.packets import Packet, Role

CORPUS = Path(__file__).parents[1] / "corpus"
FLV_FILES = sorted(path.name for path in CORPUS.glob("ertmp_*.flv"))
# Configuration records written by FFmpeg 9 with x264, x265, SVT-AV1 and libvpx.
AVCC_1080P = bytes.fromhex(
    "01640028ffe1001d67640028acd940780227e5c05a808080a000007d20001d4c01e30632c001000668ebe3cb22c0fdf8f800"
)
AVCC_576I = bytes.fromhex("0164001effe100186764001eacd940b424d8088000000300800000190f8a14cb01000668fba3cb22c0fdf8f800")
AVCC_444_10BIT = bytes.fromhex(
    "01f4000dffe1001b67f4000d90d9b282833f1b8088000003000800000301e078a14cb001000668ebe3c44844fffafa00"
)
HVCC_HDR10 = bytes.fromhex(
    "01022000000090000000000078f000fcfdfafa00000f04200001001840010c01ffff022000000300900000030000030078959809"
    "210001002d420101022000000300900000030000030078a00280802d1365959a4932bc05a84880482000000300200000064122000100"
    "074401c172b46240270001000a4e019004000003000080"
)
HVCC_422_SCALING = bytes.fromhex(  # temporal layers, default scaling lists, display window, HRD
    "0104080000009d08000000003ff000fcfef8f800001b04200001001d40010c04ffff0408000003009d0800000300003f00009594aca565"
    "0240210001004c4201040408000003009d0800000300003f0000b005120171c93e59594aca565924e5780db5216db800000300080000"
    "0300c30064b2f0006ddc0006dddf0006ddc0006dddf0006ddc0006ddd922000100074401c172b4624027000100064e0181010f80"
)
AV1C_HDR10 = bytes.fromhex("81084c000a0f020000429533fecf00be1408082410")
VPCC_VP9 = bytes.fromhex("010000000015820202020000")


@cache
def tags(name: str) -> tuple[Tag, ...]:
    """Return the tags of a corpus file."""
    return tuple(flvfile.read((CORPUS / name).read_bytes()))


def packets(name: str) -> list[Packet]:
    """Return the packets of a corpus file, freshly demuxed."""
    demuxer = FlvDemuxer()
    return [packet for tag in tags(name) for packet in demuxer.read_many(tag.type_id, tag.timestamp, tag.body)]


def header(name: str, fourcc: str, track: int = 0) -> Packet:
    """Return the first sequence header of a codec in a corpus file."""
    return next(
        packet
        for packet in packets(name)
        if packet.role is Role.HEADER and packet.codec.value == fourcc and packet.track == track
    )


def record(name: str, fourcc: str) -> bytes:
    """Return the first configuration record of a codec in a corpus file."""
    return header(name, fourcc).payload
