"""Media playlists and the multivariant playlist as text (RFC 8216bis).

Pure functions over renditions. The rule it guards: names come from our own grammar and numbers from our own counters,
so nothing that an encoder or a viewer sent can become a line of a playlist.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .rendition import Rendition
from .segments import File, Segment

LIVE_VERSION = 7
"""EXT-X-MAP in playlists that are not of I-frames only needs 6, fMP4 7."""
DELTA_VERSION = 9
"""EXT-X-SKIP."""
TS_VERSION = 3
"""Durations with fractions."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What all playlists of a stream have in common."""

    target_duration: int
    part_target_ms: float
    """0: no low-latency HLS."""

    @property
    def part_target_s(self) -> float:
        """EXT-X-PART-INF, rounded up. It must never change in a playlist (RFC 8216bis 6.2.1)."""
        return math.ceil(self.part_target_ms * 100) / 100_000

    @property
    def skip_s(self) -> int:
        """CAN-SKIP-UNTIL: at least six target durations."""
        return 6 * self.target_duration


def media_playlist(rendition: Rendition, terms: Terms, others: Sequence[Rendition] = (), *, skip: bool = False) -> str:
    """Return a media playlist; with *skip* without the segments that the player has already, if there are any."""
    low_latency = bool(terms.part_target_ms) and rendition.form.parts
    listed = tuple(rendition.listed)
    skipped = _skippable(listed, rendition, terms) if skip and low_latency else 0
    lines = [*_head(rendition, terms, listed, low_latency)]
    if skipped:
        lines.append(f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}")
    lines += _segments(listed[skipped:], terms, _first_with_parts(listed, terms) if low_latency else None)
    if rendition.over:
        lines.append("#EXT-X-ENDLIST")
    elif low_latency:
        lines += _growing(rendition, listed, terms)
        lines += _reports(others)
    return "\n".join(lines) + "\n"


def _head(rendition: Rendition, terms: Terms, listed: Sequence[Segment], low_latency: bool) -> Iterator[str]:
    yield "#EXTM3U"
    version = LIVE_VERSION if rendition.form.extension != "ts" else TS_VERSION
    yield f"#EXT-X-VERSION:{DELTA_VERSION if low_latency else version}"
    yield f"#EXT-X-TARGETDURATION:{terms.target_duration}"
    if low_latency:
        target = terms.part_target_s
        hold_back = math.ceil(target * 3000) / 1000
        control = f"CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={hold_back:.3f},CAN-SKIP-UNTIL={terms.skip_s}"
        yield f"#EXT-X-SERVER-CONTROL:{control}"
        yield f"#EXT-X-PART-INF:PART-TARGET={target:.5f}"
    yield f"#EXT-X-MEDIA-SEQUENCE:{listed[0].number if listed else rendition.last_number + 1}"
    yield f"#EXT-X-DISCONTINUITY-SEQUENCE:{rendition.first_discontinuity}"
    if all(segment.independent for segment in listed):
        yield "#EXT-X-INDEPENDENT-SEGMENTS"


def _segments(listed: Sequence[Segment], terms: Terms, with_parts_from: int | None) -> Iterator[str]:
    init: File | None = None
    for segment in listed:
        yield from _opening(segment, init)
        init = segment.init
        parts = with_parts_from is not None and segment.number >= with_parts_from
        lines = segment.lines.get(parts)
        if lines is None:
            lines = segment.lines[parts] = _complete(segment, terms if parts else None)
        yield lines


def _opening(segment: Segment, init: File | None) -> Iterator[str]:
    if segment.discontinuity:
        yield "#EXT-X-DISCONTINUITY"
    if segment.init is not None and (segment.init is not init or segment.discontinuity):
        yield f'#EXT-X-MAP:URI="{segment.init.name}"'


def _complete(segment: Segment, with_parts: Terms | None) -> str:
    lines = [_date(segment)]
    if with_parts is not None:
        lines += _parts(segment, with_parts)
    lines.append(f"#EXTINF:{segment.duration_ms / 1000:.5f},")
    lines.append(segment.name)
    return "\n".join(lines)


def _parts(segment: Segment, terms: Terms) -> Iterator[str]:
    """Yield the parts. One picture may stay for longer than a part may last, as a slate's do; players go by the times
    in the media, but refuse a playlist with a part that is too long: so it says the most that it may."""
    for part in segment.parts:
        independent = ",INDEPENDENT=YES" if part.independent else ""
        duration = min(part.duration_ms / 1000, terms.part_target_s)
        yield f'#EXT-X-PART:DURATION={duration:.5f},URI="{part.file.name}"{independent}'


def _growing(rendition: Rendition, listed: Sequence[Segment], terms: Terms) -> Iterator[str]:
    segment = rendition.open
    if segment is None:
        return
    if segment.parts:
        yield from _opening(segment, listed[-1].init if listed else None)
        yield _date(segment)
        yield from _parts(segment, terms)
    yield f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{segment.hint}"'


def _reports(others: Iterable[Rendition]) -> Iterator[str]:
    for other in others:
        growing = other.open
        if growing is not None and growing.parts:
            msn, part = growing.number, len(growing.parts) - 1
        elif other.listed:
            msn, part = other.listed[-1].number, len(other.listed[-1].parts) - 1
        else:
            continue
        yield f'#EXT-X-RENDITION-REPORT:URI="{other.name}.m3u8",LAST-MSN={msn},LAST-PART={part}'


def _first_with_parts(listed: Sequence[Segment], terms: Terms) -> int:
    """The first segment that is listed with its parts: those within three target durations of the end."""
    behind, first = 0.0, listed[-1].number + 1 if listed else 0
    for segment in reversed(listed):
        if behind >= 3000 * terms.target_duration:
            break
        first = segment.number
        behind += segment.duration_ms
    return first


def _skippable(listed: Sequence[Segment], rendition: Rendition, terms: Terms) -> int:
    """How many segments are further from the end of the playlist than the skip boundary."""
    behind = rendition.open.duration_ms if rendition.open is not None else 0.0
    for index in range(len(listed) - 1, -1, -1):
        behind += listed[index].duration_ms
        if behind > 1000 * terms.skip_s:
            return index
    return 0


def _date(segment: Segment) -> str:
    return f"#EXT-X-PROGRAM-DATE-TIME:{date_time(segment.at_ms)}"


def date_time(at_ms: float) -> str:
    """Return a time of day as ISO 8601 has it, in UTC, with ms."""
    moment = _EPOCH + timedelta(milliseconds=round(at_ms))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What a variant's line says about video."""

    width: int
    height: int
    frame_rate: float
    video_range: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One line of the multivariant playlist."""

    uri: str
    peak_bps: float
    average_bps: float
    codecs: Sequence[str]
    picture: Picture | None = None
    audio_group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """An audio rendition of its own."""

    uri: str
    group: str
    name: str
    language: str = ""
    channels: int = 0
    default: bool = False


def multivariant_playlist(variants: Sequence[Variant], alternatives: Sequence[Alternative] = ()) -> str:
    """Return the playlist of playlists."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:7"]
    lines += [f"#EXT-X-MEDIA:{_joined(_media(one))}" for one in alternatives]
    for variant in variants:
        lines += [f"#EXT-X-STREAM-INF:{_joined(_stream(variant))}", variant.uri]
    return "\n".join(lines) + "\n"


def _joined(attributes: Iterable[tuple[str, str]]) -> str:
    return ",".join(f"{name}={value}" for name, value in attributes)


def _media(one: Alternative) -> Iterator[tuple[str, str]]:
    yield "TYPE", "AUDIO"
    yield "GROUP-ID", f'"{one.group}"'
    yield "NAME", f'"{one.name}"'
    if one.language:
        yield "LANGUAGE", f'"{one.language}"'
    yield "DEFAULT", "YES" if one.default else "NO"
    yield "AUTOSELECT", "YES"
    if one.channels:
        yield "CHANNELS", f'"{one.channels}"'
    yield "URI", f'"{one.uri}"'


def _stream(variant: Variant) -> Iterator[tuple[str, str]]:
    yield "BANDWIDTH", str(max(math.ceil(variant.peak_bps * 1.1), 1))
    yield "AVERAGE-BANDWIDTH", str(max(math.ceil(variant.average_bps), 1))
    if variant.codecs:
        yield "CODECS", '"' + ",".join(variant.codecs) + '"'
    picture = variant.picture
    if picture is not None:
        if picture.width:
            yield "RESOLUTION", f"{picture.width}x{picture.height}"
        if picture.frame_rate:
            yield "FRAME-RATE", f"{picture.frame_rate:.3f}"
        yield "VIDEO-RANGE", picture.video_range
    if variant.audio_group:
        yield "AUDIO", f'"{variant.audio_group}"'
    # No CLOSED-CAPTIONS: captions are in the pictures or not, and may begin in the middle of a show. NONE would tell
    # players not to look.
