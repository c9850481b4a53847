"""onMetaData: find it, read it, build it, and put ``@setDataFrame`` on and off.

The rule: inside the relay a METADATA packet's body always begins with ``onMetaData``; that is what players and files
get. Servers get `for_servers`. Metadata is information only: nobody sets a decoder up from it, it is wrong too often.
"""

from __future__ import annotations

from collections.abc import Mapping

from relay import amf0
from relay.media import configs
from relay.media.packets import Codec, MediaKind, Packet, Role, TrackSet

ON_METADATA = "onMetaData"
SET_DATA_FRAME = amf0.encode("@setDataFrame")

_MAX_LEADING_NUMBERS = 4
"""Uniview cameras write two numbers in front of the name."""

_CODECS_BY_NUMBER = {
    MediaKind.VIDEO: {2: Codec.H263, 4: Codec.VP6, 7: Codec.AVC, 9: Codec.MPEG4, 12: Codec.HEVC, 13: Codec.AV1},
    MediaKind.AUDIO: {2: Codec.MP3, 7: Codec.G711A, 8: Codec.G711U, 10: Codec.AAC, 11: Codec.SPEEX, 14: Codec.MP3},
}


def canonical(payload: bytes) -> tuple[bytes, bytes]:
    """Return a data message's name, empty if it has none, and its body from the name on without ``@setDataFrame``."""
    position = 0
    for _ in range(_MAX_LEADING_NUMBERS):
        if payload[position : position + 1] != b"\x00":
            break
        position += 9
    name, following = _string(payload, position)
    if name == b"@setDataFrame":
        position = following
        name, _ = _string(payload, position)
    return name, payload[position:]


def _string(payload: bytes, position: int) -> tuple[bytes, int]:
    """Return the short AMF0 string at *position* and where it ends; empty when there is none."""
    if payload[position : position + 1] != b"\x02" or position + 3 > len(payload):
        return b"", position
    start = position + 3
    stop = start + int.from_bytes(payload[position + 1 : start], "big")
    return (payload[start:stop], stop) if stop <= len(payload) else (b"", position)


def for_servers(body: bytes) -> bytes:
    """Return a data message as servers want it: with ``@setDataFrame`` in front, once."""
    return body if body.startswith(SET_DATA_FRAME) else SET_DATA_FRAME + body


def for_players(body: bytes) -> bytes:
    """Return a data message as players and files want it: without ``@setDataFrame``."""
    return body[len(SET_DATA_FRAME) :] if body.startswith(SET_DATA_FRAME) else body


def metadata_values(packet: Packet) -> dict[str, amf0.Value]:
    """Return the properties of an onMetaData packet; empty when they cannot be read."""
    try:
        values = amf0.decode(packet.body)
    except amf0.AmfError:
        return {}
    for value in values[1:]:
        if isinstance(value, dict):
            return dict(value)
    return {}


def build(values: Mapping[str, amf0.Value]) -> bytes:
    """Write the body of an onMetaData message for players and files."""
    return amf0.encode(ON_METADATA, amf0.EcmaArray(values))


def packet(values: Mapping[str, amf0.Value], dts: int = 0) -> Packet:
    """Make an onMetaData packet."""
    return Packet(MediaKind.DATA, 0, Codec.AMF, Role.METADATA, False, dts, 0, build(values), 0)


def codec_named(kind: MediaKind, value: amf0.Value) -> Codec | None:
    """Return the codec that videocodecid or audiocodecid means: a number, a FourCC as number, or a string."""
    if isinstance(value, str):
        name = {"hev1": "hvc1", "avc": "avc1", "aac": "mp4a"}.get(value, value)
    elif isinstance(value, float) and 0 <= value < 2**32:
        number = int(value)
        known = _CODECS_BY_NUMBER.get(kind, {}).get(number)
        if known is not None:
            return known
        name = number.to_bytes(4, "big").decode("latin-1")
    else:
        return None
    try:
        return Codec(name)
    except ValueError:
        return None


def describe(tracks: TrackSet) -> dict[str, amf0.Value]:
    """Return the onMetaData properties that the sequence headers prove, for streams whose encoder sent none."""
    values: dict[str, amf0.Value] = {}
    video, audio = tracks.find(MediaKind.VIDEO), tracks.find(MediaKind.AUDIO)
    if video is not None:
        values["videocodecid"] = _codec_number(video.codec, MediaKind.VIDEO)
        facts = configs.video_facts(video)
        if facts is not None:
            values |= {"width": float(facts.width), "height": float(facts.height)}
            if facts.fps is not None:
                values["framerate"] = float(facts.fps)
    if audio is not None:
        values["audiocodecid"] = _codec_number(audio.codec, MediaKind.AUDIO)
        sound = configs.audio_facts(audio)
        if sound is not None:
            values |= {"audiosamplerate": float(sound.sample_rate), "audiochannels": float(sound.channels)}
            values["stereo"] = sound.channels == 2
    return values


def _codec_number(codec: Codec, kind: MediaKind) -> float:
    legacy = {Codec.AVC: 7, Codec.AAC: 10, Codec.MP3: 2, Codec.G711A: 7, Codec.G711U: 8, Codec.SPEEX: 11, Codec.H263: 2}
    known = legacy.get(codec)
    return float(known if known is not None else int.from_bytes(codec.value.encode(), "big"))
