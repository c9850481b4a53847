"""Whether a platform will like what it gets: said before it goes wrong, in words an operator can act on.

Arithmetic over packets and tracks; no clock and no I/O. A finding that *refuses* is certain to fail; any other is worth
a warning.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relay.api import Codec, MediaKind, Packet, Role, Track, TrackSet, video_facts

from .options import Wanted

WINDOW_MS = 10_000
"""Stream time that rates are measured over: several keyframe intervals of any sane encoder."""

TOLERANCE = 1.1
"""Encoders miss their target a little, and platforms forgive that."""

ANY_KEYFRAME_S = 4.1
"""Seconds between keyframes that the operator hears of when nothing is known about a destination: no large platform
takes more than 4 s, and whoever joins waits so long for a picture."""

_NAMES = {
    Codec.AVC: "H.264",
    Codec.HEVC: "HEVC",
    Codec.AV1: "AV1",
    Codec.VP8: "VP8",
    Codec.VP9: "VP9",
    Codec.VVC: "VVC",
    Codec.AAC: "AAC",
    Codec.MP3: "MP3",
    Codec.OPUS: "Opus",
    Codec.FLAC: "FLAC",
    Codec.AC3: "AC-3",
    Codec.EAC3: "E-AC-3",
}

_ENHANCED_ONLY = frozenset(_NAMES) - {Codec.AVC, Codec.AAC, Codec.MP3}
"""Codecs that have no form in RTMP as it was before Enhanced RTMP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something a platform does not like. *code* is stable, *text* is for the operator."""

    code: str
    text: str
    refuses: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured over the last window."""

    video_kbps: float
    audio_kbps: float
    keyframe_s: float
    fps: float
    b_frames: bool


class Meter:
    """Measures what a destination gets, by stream time."""

    __slots__ = ("_audio", "_b_frames", "_frames", "_gap", "_keyframe", "_start", "_video", "figures")

    def __init__(self) -> None:
        self.figures: Figures | None = None
        self._keyframe: int | None = None
        self._start: int | None = None
        self._begin()

    def _begin(self) -> None:
        self._video = self._audio = self._frames = self._gap = 0
        self._b_frames = False

    def add(self, packet: Packet) -> bool:
        """Count *packet*; True when a window is over and `figures` are new."""
        if packet.role is not Role.FRAME:
            return False
        dts = packet.dts
        if self._start is None:
            self._start = dts
        over = dts - self._start >= WINDOW_MS
        if over:
            self._close(dts)
        if packet.kind is MediaKind.VIDEO:
            self._video += len(packet.body)
            self._frames += packet.track == 0
            self._b_frames |= packet.cts != 0
            if packet.keyframe:
                if self._keyframe is not None:
                    self._gap = max(self._gap, dts - self._keyframe)
                self._keyframe = dts
        else:
            self._audio += len(packet.body)
        return over

    def _close(self, dts: int) -> None:
        took = max(dts - (self._start or 0), 1)
        gap = self._gap if self._keyframe is None else max(self._gap, dts - self._keyframe)
        self.figures = Figures(
            video_kbps=self._video * 8 / took,
            audio_kbps=self._audio * 8 / took,
            keyframe_s=gap / 1000 if self._frames else 0.0,
            fps=self._frames * 1000 / took,
            b_frames=self._b_frames,
        )
        self._start = dts
        self._begin()


def of_tracks(wanted: Wanted, tracks: TrackSet) -> list[Finding]:
    """Return what is wrong with *tracks*, which are those that the target gets."""
    preset, findings = wanted.preset, []
    for kind, takes, word in ((MediaKind.VIDEO, preset.video, "video"), (MediaKind.AUDIO, preset.audio, "audio")):
        for track in tracks.tracks:
            if track.kind is kind and takes and track.codec.value not in takes:
                text = f"{wanted.title} takes {_named(takes)} {word}, and this stream's is {_name(track.codec)}"
                findings.append(Finding(code=f"{word}-codec", text=text, refuses=True))
    if wanted.options.video_track is not None and not tracks.has_video:
        text = f"the stream has no video track {wanted.options.video_track}"
        findings.append(Finding(code="video-track", text=text, refuses=True))
    elif not tracks.has_video and wanted.options.preset is not None:
        findings.append(Finding(code="no-video", text=f"{wanted.title} gets no picture"))
    return findings + _of_form(wanted, tracks) + _of_sound(wanted, tracks) + _of_pictures(wanted, tracks)


def _of_form(wanted: Wanted, tracks: TrackSet) -> list[Finding]:
    """What cannot be flattened is sent as it is, which whoever wants it flattened will not read."""
    if wanted.options.enhanced_rtmp != "flatten":
        return []
    texts = [f"{_name(track.codec)} has no form without Enhanced RTMP" for track in tracks.tracks if _is_new(track)]
    if any(track.track_id for track in tracks.tracks):
        texts.append('further tracks have no form without Enhanced RTMP; tracks = "default" leaves them out')
    return [Finding(code="enhanced", text=f"{'; '.join(dict.fromkeys(texts))}; sent as it is")] if texts else []


def _is_new(track: Track) -> bool:
    return track.codec in _ENHANCED_ONLY


def _of_sound(wanted: Wanted, tracks: TrackSet) -> list[Finding]:
    if any(track.kind is MediaKind.AUDIO for track in tracks.tracks):
        return []
    if wanted.options.audio_track is not None:
        text = f"the stream has no audio track {wanted.options.audio_track}; {wanted.title} gets no sound"
        return [Finding(code="audio-track", text=text)]
    if wanted.preset.needs_audio:
        text = f'{wanted.title} refuses a programme without sound; silent_audio = "on" adds silence'
        return [Finding(code="no-audio", text=text)]
    if wanted.preset.silent_audio:
        text = f'{wanted.title} wants sound, and this stream has none; silent_audio = "on" adds silence'
        return [Finding(code="no-audio", text=text)]
    if wanted.options.preset is None and wanted.options.silent_audio == "auto":
        text = (
            'the stream has no sound, which some platforms refuse; silent_audio = "on" adds silence, "off" is content'
        )
        return [Finding(code="no-audio", text=text)]
    return []


def _of_pictures(wanted: Wanted, tracks: TrackSet) -> list[Finding]:
    track, most = tracks.find(MediaKind.VIDEO), wanted.preset.height
    facts = None if track is None else video_facts(track)
    if facts is None or most is None or min(facts.width, facts.height) <= most:
        return []
    text = f"{wanted.title} shows up to {most} lines, and this stream has {facts.width}x{facts.height}"
    return [Finding(code="resolution", text=text)]


def of_figures(wanted: Wanted, figures: Figures) -> list[Finding]:
    """Return what is wrong with what was measured."""
    preset, title, findings = wanted.preset, wanted.title, []
    if figures.keyframe_s > (preset.keyframe_limit_s or ANY_KEYFRAME_S):
        who, every = (
            ("most platforms want", 2.0) if preset.keyframe_s is None else (f"{title} wants", preset.keyframe_s)
        )
        text = f"keyframes come every {figures.keyframe_s:.1f} s; {who} one every {every:g} s"
        findings.append(Finding(code="keyframes", text=f"{text}: set the encoder's keyframe interval"))
    for word, rate, most in (
        ("video", figures.video_kbps, preset.video_kbps),
        ("audio", figures.audio_kbps, preset.audio_kbps),
    ):
        if most is not None and rate > most * TOLERANCE:
            text = f"the {word} runs at {rate:.0f} kbit/s; {title} takes {most}"
            findings.append(Finding(code=f"{word}-rate", text=text))
    if preset.fps is not None and figures.fps > preset.fps * TOLERANCE:
        findings.append(
            Finding(code="frame-rate", text=f"{figures.fps:.0f} pictures a second; {title} shows {preset.fps}")
        )
    if figures.b_frames and not preset.b_frames:
        findings.append(Finding(code="b-frames", text=f"{title} takes no B-frames; set them to 0 in the encoder"))
    return findings


def of_session(wanted: Wanted, hours: float) -> list[Finding]:
    """Return a warning half an hour before the platform ends the broadcast."""
    most = wanted.preset.session_h
    if most is None or hours < most - 0.5:
        return []
    return [
        Finding(code="session", text=f"{wanted.title} ends a broadcast after {most:g} h; this one runs {hours:.1f} h")
    ]


def _named(codecs: Iterable[str]) -> str:
    return " or ".join(_name(Codec(one)) for one in codecs)


def _name(codec: Codec) -> str:
    return _NAMES.get(codec, codec.value)
