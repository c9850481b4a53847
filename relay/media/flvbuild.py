"""Packets back to RTMP message bodies: legacy and Enhanced RTMP, other track ids, flattening to what platforms take.

Relaying never comes here: a packet keeps its body. This is for outputs that need another form than the one that came
in (a platform that takes the default track only, in legacy form) and for packets made by ourselves.
"""

from __future__ import annotations

from relay.media import enhanced
from relay.media.enhanced import COMPOSED_CODECS
from relay.media.errors import MediaError
from relay.media.packets import Codec, MediaKind, Packet, Role

_LEGACY_VIDEO = {Codec.AVC: 7, Codec.MPEG4: 9}
_PLAIN_VIDEO = {Codec.H263: 2}
_LEGACY_AUDIO = {Codec.AAC: 10, Codec.MP3: 2, Codec.SPEEX: 11, Codec.G711A: 7, Codec.G711U: 8}
LEGACY_CODECS = frozenset({*_LEGACY_VIDEO, *_PLAIN_VIDEO, *_LEGACY_AUDIO})
"""Codecs that the FLV specification (and, for MPEG-4, FFmpeg) gives a legacy form."""

_FLATTENED = (Role.FRAME, Role.HEADER, Role.END)

SOUND = 0x0F
"""SoundRate, SoundSize and SoundType of AAC: always 44 kHz, 16 bit, stereo, whatever the truth (FLV E.4.2.1)."""

_VIDEO_TYPES = {Role.HEADER: enhanced.SEQUENCE_START, Role.END: enhanced.SEQUENCE_END, Role.SIDE: enhanced.METADATA}
_AUDIO_TYPES = {
    Role.HEADER: enhanced.SEQUENCE_START,
    Role.FRAME: enhanced.CODED_FRAMES,
    Role.END: enhanced.SEQUENCE_END,
    Role.SIDE: enhanced.MULTICHANNEL_CONFIG,
}


def legacy_video(
    codec: Codec, payload: bytes, *, role: Role = Role.FRAME, keyframe: bool = False, cts: int = 0
) -> bytes:
    """Write a legacy video body (FLV E.4.3). Raises `MediaError` when the codec or role has no legacy form."""
    first = (1 if keyframe or role in (Role.HEADER, Role.END) else 2) << 4
    if codec in _PLAIN_VIDEO and role is Role.FRAME:
        return bytes((first | _PLAIN_VIDEO[codec],)) + payload
    kind = {Role.HEADER: 0, Role.FRAME: 1, Role.END: 2}.get(role)
    if codec not in _LEGACY_VIDEO or kind is None:
        raise MediaError("media.no_legacy_form", f"{codec.value} {role.name} has no legacy form")
    return bytes((first | _LEGACY_VIDEO[codec], kind)) + _s24(cts) + payload


def legacy_audio(codec: Codec, payload: bytes, *, role: Role = Role.FRAME, sound: int = SOUND) -> bytes:
    """Write a legacy audio body (FLV E.4.2); *sound* is the low nibble of its first byte."""
    if codec not in _LEGACY_AUDIO or role not in (Role.FRAME, Role.HEADER):
        raise MediaError("media.no_legacy_form", f"{codec.value} {role.name} has no legacy form")
    first = bytes((_LEGACY_AUDIO[codec] << 4 | sound,))
    if codec is Codec.AAC:
        return first + (b"\x00" if role is Role.HEADER else b"\x01") + payload
    if role is Role.HEADER:
        raise MediaError("media.no_legacy_form", f"{codec.value} has no sequence header")
    return first + payload


def enhanced_video(
    codec: Codec, payload: bytes, *, role: Role = Role.FRAME, keyframe: bool = False, cts: int = 0, track: int = 0
) -> bytes:
    """Write an enhanced video body: OneTrack for any track but 0 (E-RTMP v2 §ExVideoTagHeader)."""
    composed = b""
    if role is Role.FRAME:
        packet_type = enhanced.CODED_FRAMES
        if codec in COMPOSED_CODECS:
            packet_type = enhanced.CODED_FRAMES if cts else enhanced.CODED_FRAMES_X
            composed = _s24(cts) if cts else b""
    else:
        packet_type = _type_of(_VIDEO_TYPES, role)
    frame_type = 1
    if role is Role.FRAME and not keyframe:
        frame_type = 2
    elif role is Role.SIDE and track == 0:
        frame_type = enhanced.COMMAND_FRAME  # as FFmpeg; behind a multitrack byte it would mean a seek command
    return _wrap(0x80 | frame_type << 4, enhanced.MULTITRACK, packet_type, codec, track, composed + payload)


def enhanced_audio(codec: Codec, payload: bytes, *, role: Role = Role.FRAME, track: int = 0) -> bytes:
    """Write an enhanced audio body: OneTrack for any track but 0 (E-RTMP v2 §ExAudioTagHeader)."""
    return _wrap(0x90, enhanced.AUDIO_MULTITRACK, _type_of(_AUDIO_TYPES, role), codec, track, payload)


def build(packet: Packet, *, sound: int = SOUND) -> bytes:
    """Write a packet's body in the form of FFmpeg and OBS: legacy where there is one, else (or for tracks) enhanced."""
    if packet.kind is MediaKind.DATA:
        return packet.body
    plain = packet.track == 0 and packet.codec in LEGACY_CODECS and packet.role is not Role.SIDE
    role, payload = packet.role, packet.payload
    if packet.kind is MediaKind.VIDEO:
        if plain:
            return legacy_video(packet.codec, payload, role=role, keyframe=packet.keyframe, cts=packet.cts)
        return enhanced_video(
            packet.codec, payload, role=role, keyframe=packet.keyframe, cts=packet.cts, track=packet.track
        )
    if plain and role is not Role.END:
        return legacy_audio(packet.codec, payload, role=role, sound=sound)
    return enhanced_audio(packet.codec, payload, role=role, track=packet.track)


def retrack(packet: Packet, track: int) -> Packet:
    """Return the packet as one of another track: for ``audio_track``/``video_track`` of a target, or to join feeds."""
    if packet.track == track or packet.kind is MediaKind.DATA or packet.role is Role.OTHER:
        return packet
    return _with_body(packet, track, build(_with_body(packet, track, packet.body, packet.offset)))


def to_default_track(packet: Packet) -> Packet:
    """Return the packet as track 0 in the form every platform takes: legacy for avc1 and mp4a, else plain enhanced."""
    return flatten(retrack(packet, 0))


def unwrap(packet: Packet) -> Packet:
    """Return a packet of track 0 without multitrack and ModEx headers, which single-track peers do not read."""
    if packet.track or packet.role is Role.OTHER:
        return packet
    first = packet.body[0] if packet.body else 0
    if packet.kind is MediaKind.VIDEO:
        wrapped = first & 0x80 and first & 0x0F in (enhanced.MULTITRACK, enhanced.MODEX)
    else:
        wrapped = first >> 4 == 9 and first & 0x0F in (enhanced.AUDIO_MULTITRACK, enhanced.MODEX)
    return _with_body(packet, 0, build(packet)) if wrapped else packet


def flatten(packet: Packet) -> Packet:
    """Return an enhanced avc1, mp4a or .mp3 packet of track 0 in legacy form; anything else as it is.

    Side packets of these codecs have no legacy form and stay enhanced: see `is_legacy`.
    """
    if packet.track or packet.codec not in LEGACY_CODECS or packet.role not in _FLATTENED or is_legacy(packet):
        return packet
    if packet.kind is MediaKind.AUDIO and packet.role is not Role.FRAME and packet.codec is not Codec.AAC:
        return packet
    if packet.kind is MediaKind.AUDIO and packet.role is Role.END:
        return packet
    return _with_body(packet, 0, build(packet))


def is_legacy(packet: Packet) -> bool:
    """Whether the packet's body is one that peers without Enhanced RTMP understand."""
    if packet.kind is MediaKind.VIDEO:
        return not packet.body[0] & 0x80
    return packet.kind is MediaKind.DATA or packet.body[0] >> 4 != 9


def end_of_sequence(codec: Codec, track: int = 0) -> bytes:
    """Write the end of sequence of a video track."""
    if track == 0 and codec in _LEGACY_VIDEO:
        return legacy_video(codec, b"", role=Role.END)
    return enhanced_video(codec, b"", role=Role.END, track=track)


def _with_body(packet: Packet, track: int, body: bytes, offset: int | None = None) -> Packet:
    if offset is None:
        offset = len(body) - (len(packet.body) - packet.offset)
    return Packet(packet.kind, track, packet.codec, packet.role, packet.keyframe, packet.dts, packet.cts, body, offset)


def _wrap(first: int, multitrack: int, packet_type: int, codec: Codec, track: int, data: bytes) -> bytes:
    fourcc = codec.value.encode()
    if fourcc not in enhanced.VIDEO_FOURCCS and fourcc not in enhanced.AUDIO_FOURCCS:
        raise MediaError("media.no_enhanced_form", f"{codec.value} has no FourCC")
    if track == 0:
        return bytes((first | packet_type,)) + fourcc + data
    head = bytes((first | multitrack, enhanced.ONE_TRACK << 4 | packet_type))
    return b"".join((head, fourcc, bytes((track,)), data))


def _type_of(types: dict[Role, int], role: Role) -> int:
    try:
        return types[role]
    except KeyError:
        raise MediaError("media.no_enhanced_form", f"{role.name} has no enhanced form") from None


def _s24(value: int) -> bytes:
    return max(-0x800000, min(value, 0x7FFFFF)).to_bytes(3, "big", signed=True)
