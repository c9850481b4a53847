"""RTMP message bodies (FLV tag bodies), legacy and Enhanced RTMP v1/v2, to packets.

The rule: bad media never raises and never ends a connection. It is counted in `FlvDemuxer.odd` under a stable code,
and dropped or passed on untouched (role OTHER) when we merely do not understand it. Coded frames take the hot path:
one dictionary lookup on the first bytes, no look inside.

Counted codes: media.empty (no payload), media.short (header ends early), media.command (seek commands),
media.bad_config, media.inband_config (sequence header made from a keyframe), media.annexb, media.adts,
media.unknown_codec, media.unknown_fourcc, media.unknown_type, media.modex, media.multitrack, media.tracks (more than
16 tracks), media.data (data message without a name), media.clear.
"""

from __future__ import annotations

from collections import Counter
from struct import Struct

from relay.media import aac, configs, enhanced, flac, metadata, nal
from relay.media.enhanced import AUDIO_FOURCCS, COMPOSED_CODECS, MAX_TRACKS, VIDEO_FOURCCS, ExHeader
from relay.media.errors import MediaError
from relay.media.metadata import metadata_values
from relay.media.packets import Codec, MediaKind, Packet, Role

__all__ = ["FlvDemuxer", "metadata_values"]

_AUDIO, _VIDEO, _DATA = MediaKind.AUDIO, MediaKind.VIDEO, MediaKind.DATA
_FRAME, _HEADER, _SIDE, _END, _OTHER = Role.FRAME, Role.HEADER, Role.SIDE, Role.END, Role.OTHER
_AAC = Codec.AAC
_START_CODE = nal.START_CODE
_u32_at = Struct(">I").unpack_from

_AVC_LIKE = {7: Codec.AVC, 9: Codec.MPEG4, 12: Codec.HEVC, 13: Codec.AV1, 14: Codec.VVC}
"""Legacy video codec ids with an AVCPacketType and a composition time; all but 7 are outside the FLV specification."""
_PLAIN_VIDEO = {2: (Codec.H263, 1), 4: (Codec.VP6, 2), 5: (Codec.VP6, 2)}
"""Other legacy video codec ids, and where their data starts (VP6 has an adjustment byte)."""
_PLAIN_AUDIO = {
    0: Codec.PCM,
    1: Codec.ADPCM,
    2: Codec.MP3,
    3: Codec.PCM,
    4: Codec.NELLYMOSER,
    5: Codec.NELLYMOSER,
    6: Codec.NELLYMOSER,
    7: Codec.G711A,
    8: Codec.G711U,
    11: Codec.SPEEX,
    14: Codec.MP3,
}

_Form = tuple[Codec, bool]
_LEGACY_FRAMES: dict[bytes, _Form] = {
    bytes((frame_type << 4 | codec_id, 1)): (codec, frame_type == 1)
    for codec_id, codec in _AVC_LIKE.items()
    for frame_type in (1, 2, 3, 4)
}
"""First two bytes of a legacy coded frame -> codec, keyframe."""
_EX_FRAMES: dict[bytes, tuple[Codec, bool, int]] = {
    bytes((0x80 | frame_type << 4 | packet_type,)) + fourcc: (
        codec,
        frame_type == 1,
        8 if packet_type == enhanced.CODED_FRAMES and codec in COMPOSED_CODECS else 5,
    )
    for fourcc, codec in VIDEO_FOURCCS.items()
    for packet_type in (enhanced.CODED_FRAMES, enhanced.CODED_FRAMES_X)
    for frame_type in (1, 2, 3, 4)
}
"""First five bytes of an enhanced coded frame -> codec, keyframe, where the coded data starts."""
_EX_AUDIO_FRAMES = {b"\x91" + fourcc: codec for fourcc, codec in AUDIO_FOURCCS.items()}
_AAC_FRAMES = frozenset(bytes((0xA0 | flags, 1)) for flags in range(16))
_RECOVERABLE = (Codec.AVC, Codec.HEVC, Codec.AV1)
"""Codecs whose configuration can be made from a keyframe."""


class FlvDemuxer:
    """Reads the media messages of one publishing encoder.

    Attributes:
        odd: how often each kind of odd media was seen.
        more: packets that belong after the one `read` just returned; see there.
    """

    __slots__ = ("_configured", "_records", "_tracks", "more", "odd")

    def __init__(self) -> None:
        self.odd: Counter[str] = Counter()
        self.more: list[Packet] = []
        self._configured: Codec | None = None
        self._records: dict[tuple[MediaKind, int], tuple[Codec, bytes]] = {}
        self._tracks: set[tuple[MediaKind, int]] = set()

    def read(self, type_id: int, timestamp: int, payload: bytes) -> Packet | None:
        """Read one message body; None when there is nothing to pass on.

        Rarely one body makes several packets (ManyTracks, several ADTS frames, a header recovered from a keyframe):
        the first is returned and the others stand in `more` until the next such body. Test `more` after every
        packet and collect it with `take`, or call `read_many`.
        """
        if type_id == 9:
            form = _LEGACY_FRAMES.get(payload[:2])
            if form is not None and len(payload) > 5:
                codec, key = form
                cts = _u32_at(payload, 1)[0] & 0xFFFFFF
                if cts & 0x800000:
                    cts -= 0x1000000
                if (key and codec is not self._configured) or payload.startswith(_START_CODE, 5):
                    return self._unusual(Packet(_VIDEO, 0, codec, _FRAME, key, timestamp, cts, payload, 5))
                return Packet(_VIDEO, 0, codec, _FRAME, key, timestamp, cts, payload, 5)
            wide = _EX_FRAMES.get(payload[:5])
            if wide is not None:
                codec, key, offset = wide
                if len(payload) > offset:
                    cts = 0
                    if offset == 8:
                        cts = _u32_at(payload, 4)[0] & 0xFFFFFF
                        if cts & 0x800000:
                            cts -= 0x1000000
                    packet = Packet(_VIDEO, 0, codec, _FRAME, key, timestamp, cts, payload, offset)
                    if key and codec is not self._configured:
                        return self._unusual(packet)
                    return packet
        elif type_id == 8:
            if payload[:2] in _AAC_FRAMES and len(payload) > 2:
                if payload[2] == 0xFF:
                    return self._maybe_adts(timestamp, payload)
                return Packet(_AUDIO, 0, _AAC, _FRAME, False, timestamp, 0, payload, 2)
            audio = _EX_AUDIO_FRAMES.get(payload[:5])
            if audio is not None and len(payload) > 5:
                return Packet(_AUDIO, 0, audio, _FRAME, False, timestamp, 0, payload, 5)
        return self._read_rare(type_id, timestamp, payload)

    def read_many(self, type_id: int, timestamp: int, payload: bytes) -> list[Packet]:
        """Read one message body into all its packets; `read` and `more` in one."""
        packet = self.read(type_id, timestamp, payload)
        return [] if packet is None else [packet, *self.take()]

    def take(self) -> list[Packet]:
        """Return what stands in `more` and clear it."""
        more = self.more
        self.more = []
        return more

    def _several(self, packets: list[Packet]) -> Packet | None:
        self.more = packets[1:]
        return packets[0] if packets else None

    def _drop(self, code: str) -> Packet | None:
        self.odd[code] += 1
        return None

    # -- everything but coded frames of track 0 ------------------------------------------------------------------

    def _read_rare(self, type_id: int, timestamp: int, payload: bytes) -> Packet | None:
        if not payload:
            return self._drop("media.empty")
        if type_id == 9:
            if payload[0] & 0x80:
                return self._read_enhanced(_VIDEO, timestamp, payload)
            return self._read_legacy_video(timestamp, payload)
        if type_id == 8:
            if payload[0] >> 4 == 9:
                return self._read_enhanced(_AUDIO, timestamp, payload)
            return self._read_legacy_audio(timestamp, payload)
        return self._read_data(type_id, timestamp, payload)

    def _read_legacy_video(self, timestamp: int, payload: bytes) -> Packet | None:
        frame_type, codec_id = payload[0] >> 4, payload[0] & 0x0F
        if frame_type == enhanced.COMMAND_FRAME:
            return self._drop("media.command")
        key = frame_type == 1
        codec = _AVC_LIKE.get(codec_id)
        if codec is None:
            codec, offset = _PLAIN_VIDEO.get(codec_id, (Codec.UNKNOWN, 1))
            if len(payload) <= offset:
                return self._drop("media.empty")
            if codec is Codec.UNKNOWN:
                self.odd["media.unknown_codec"] += 1
                return Packet(_VIDEO, 0, codec, _OTHER, False, timestamp, 0, payload, offset)
            return Packet(_VIDEO, 0, codec, _FRAME, key, timestamp, 0, payload, offset)
        if len(payload) < 2:
            return self._drop("media.short")
        if payload[1] == 2:
            return Packet(_VIDEO, 0, codec, _END, False, timestamp, 0, payload, min(5, len(payload)))
        if len(payload) <= 5:
            return self._drop("media.empty" if len(payload) == 5 else "media.short")
        if payload[1] == 0:
            return self._read_header(Packet(_VIDEO, 0, codec, _HEADER, False, timestamp, 0, payload, 5))
        self.odd["media.unknown_type"] += 1
        return Packet(_VIDEO, 0, codec, _OTHER, False, timestamp, 0, payload, 2)

    def _read_legacy_audio(self, timestamp: int, payload: bytes) -> Packet | None:
        sound_format = payload[0] >> 4
        if sound_format == 10:
            if len(payload) <= 2:
                return self._drop("media.empty" if len(payload) == 2 else "media.short")
            if payload[1] == 0:
                return self._read_header(Packet(_AUDIO, 0, _AAC, _HEADER, False, timestamp, 0, payload, 2))
            self.odd["media.unknown_type"] += 1
            return Packet(_AUDIO, 0, _AAC, _OTHER, False, timestamp, 0, payload, 2)
        if len(payload) < 2:
            return self._drop("media.empty")
        codec = _PLAIN_AUDIO.get(sound_format)
        if codec is None:
            self.odd["media.unknown_codec"] += 1
            return Packet(_AUDIO, 0, Codec.UNKNOWN, _OTHER, False, timestamp, 0, payload, 1)
        return Packet(_AUDIO, 0, codec, _FRAME, False, timestamp, 0, payload, 1)

    def _read_enhanced(self, kind: MediaKind, timestamp: int, payload: bytes) -> Packet | None:
        try:
            headers = enhanced.parse(payload, video=kind is _VIDEO)
        except MediaError as error:
            return self._drop(error.code)
        if len(headers) == 1 and headers[0].multitrack in (None, enhanced.ONE_TRACK):
            return self._read_track(kind, timestamp, payload, headers[0])
        packets = []
        for header in headers:
            body = enhanced.one_track_body(payload, header)
            alone = enhanced.parse(body, video=kind is _VIDEO)[0]
            packet = self._read_track(kind, timestamp, body, alone)
            if packet is not None:
                packets.append(packet)
                packets += self.take()
        return self._several(packets)

    def _read_track(self, kind: MediaKind, timestamp: int, body: bytes, header: ExHeader) -> Packet | None:
        """Make the packet of one track's enhanced body."""
        if not header.fourcc:
            return self._drop("media.command")
        if header.multitrack is not None and not self._admit(kind, header.track):
            return self._drop("media.tracks")
        codec = (VIDEO_FOURCCS if kind is _VIDEO else AUDIO_FOURCCS).get(header.fourcc)
        packet = Packet(kind, header.track, codec or Codec.UNKNOWN, _OTHER, False, timestamp, 0, body, header.start)
        if codec is None:
            self.odd["media.unknown_fourcc"] += 1
            return packet
        packet_type = header.packet_type
        if packet_type == enhanced.SEQUENCE_START:
            packet.role = _HEADER
            return self._read_header(packet)
        if packet_type == enhanced.SEQUENCE_END:
            packet.role = _END
        elif packet_type == enhanced.CODED_FRAMES or (packet_type == enhanced.CODED_FRAMES_X and kind is _VIDEO):
            packet.role = _FRAME
            packet.keyframe = header.frame_type == 1
            return self._read_frame(packet, composed=packet_type == enhanced.CODED_FRAMES and codec in COMPOSED_CODECS)
        elif packet_type == enhanced.METADATA or (packet_type == enhanced.TS_SEQUENCE_START and kind is _VIDEO):
            packet.role = _SIDE  # type 4 is MultichannelConfig for audio
            if header.start >= len(body):
                return self._drop("media.empty")
        else:
            self.odd["media.unknown_type"] += 1
        return packet

    def _read_frame(self, packet: Packet, *, composed: bool) -> Packet | None:
        """Finish a coded frame that did not take the hot path: multitrack, ModEx or empty."""
        if composed:
            start = packet.offset
            if len(packet.body) < start + 3:
                return self._drop("media.short")
            packet.cts = int.from_bytes(packet.body[start : start + 3], "big", signed=True)
            packet.offset = start + 3
        if packet.offset >= len(packet.body):
            return self._drop("media.empty")
        return packet

    def _admit(self, kind: MediaKind, track: int) -> bool:
        key = (kind, track)
        if key not in self._tracks:
            if len(self._tracks) >= MAX_TRACKS:
                return False
            self._tracks.add(key)
        return True

    # -- sequence headers and their repair -----------------------------------------------------------------------

    def _read_header(self, packet: Packet) -> Packet | None:
        """Check a sequence header. A bad one is repaired or dropped: the decoders behind us must not get it."""
        codec, key = packet.codec, (packet.kind, packet.track)
        if codec is Codec.FLAC:
            packet.offset += flac.streaminfo_offset(packet.payload)
        record = packet.payload
        if self._records.get(key) == (codec, record):
            return packet
        try:
            configs.check(codec, record)
        except MediaError as error:
            self.odd[error.code] += 1
            repaired = configs.repair(codec, record)
            if repaired is None:
                return None
            record = repaired
            packet.body = packet.body[: packet.offset] + record
        self._remember(packet, record)
        return packet

    def _remember(self, packet: Packet, record: bytes) -> None:
        self._records[(packet.kind, packet.track)] = (packet.codec, record)
        if packet.kind is _VIDEO and packet.track == 0:
            self._configured = packet.codec

    def _unusual(self, packet: Packet) -> Packet | None:
        """Mend a frame in Annex B, and find the parameter sets in a keyframe that came before any sequence header."""
        codec = packet.codec
        if codec in (Codec.AVC, Codec.HEVC) and nal.is_annexb(packet.body, packet.offset):
            self.odd["media.annexb"] += 1
            try:
                units = nal.split_annexb(packet.payload)
            except MediaError as error:
                return self._drop(error.code)
            if not units:
                return self._drop("media.empty")
            packet.body = packet.body[: packet.offset] + nal.join(units)
        if not packet.keyframe or codec is self._configured or codec not in _RECOVERABLE:
            return packet
        record = configs.from_keyframe(codec, packet.payload)
        if record is None:
            return packet
        self.odd["media.inband_config"] += 1
        first = packet.body[0]
        head = b"\x90" + packet.body[1:5] if first & 0x80 else bytes((first, 0, 0, 0, 0))
        header = Packet(_VIDEO, 0, codec, _HEADER, False, packet.dts, 0, head + record, len(head))
        self._remember(header, record)
        return self._several([header, packet])

    def _maybe_adts(self, timestamp: int, payload: bytes) -> Packet | None:
        """Take AAC out of ADTS, which some encoders put into type 1 bodies, often without any sequence header."""
        if not aac.looks_like_adts(payload, 2):
            return Packet(_AUDIO, 0, _AAC, _FRAME, False, timestamp, 0, payload, 2)
        self.odd["media.adts"] += 1
        try:
            frames = aac.split_adts(payload[2:])
            facts = aac.facts(frames[0].config)
        except MediaError as error:
            return self._drop(error.code)
        packets = []
        if (_AUDIO, 0) not in self._records:
            header = Packet(_AUDIO, 0, _AAC, _HEADER, False, timestamp, 0, payload[:1] + b"\0" + frames[0].config, 2)
            self._remember(header, frames[0].config)
            packets.append(header)
        for index, frame in enumerate(frames):
            dts = (timestamp + index * 1024 * 1000 // facts.sample_rate) & 0xFFFFFFFF
            packets.append(Packet(_AUDIO, 0, _AAC, _FRAME, False, dts, 0, payload[:2] + frame.raw, 2))
        return self._several(packets)

    # -- data ----------------------------------------------------------------------------------------------------

    def _read_data(self, type_id: int, timestamp: int, payload: bytes) -> Packet | None:
        """Read an AMF0 data message (18), or an AMF3 one (15) whose values are AMF0 behind a zero byte."""
        if type_id == 15 and payload[0] == 0:
            payload = payload[1:]
        name, body = metadata.canonical(payload)
        if not name:
            return self._drop("media.data")
        if name == b"@clearDataFrame":
            return self._drop("media.clear")
        role = Role.METADATA if name == b"onMetaData" else _OTHER
        return Packet(_DATA, 0, Codec.AMF, role, False, timestamp, 0, body, 0)
