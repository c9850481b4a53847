"""What the multivariant playlist says of the renditions that are on.

Pure. The rule it guards: it says what was seen and measured, never what an encoder has only announced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from relay.api import MediaKind, Track, audio_facts, codec_string, video_facts

from .cutting import Cutter
from .plan import Planned
from .playlists import Alternative, Picture, Variant
from .rendition import Rendition
from .sounds import Sound, Sounds

_RATES = (24_000 / 1001, 24, 25, 30_000 / 1001, 30, 48, 50, 60_000 / 1001, 60, 100, 120_000 / 1001, 120)


@dataclass(slots=True, eq=False)
class Output:
    """A rendition and what it carries."""

    planned: Planned
    rendition: Rendition
    cutter: Cutter


def describe(outputs: Sequence[Output], sounds: Sounds, prefix: str = "") -> tuple[list[Variant], list[Alternative]]:
    """Describe what is on, by what was measured; every address begins with *prefix*."""
    heard = [o for o in outputs if not o.planned.has_video]
    pictures = [o for o in outputs if o.planned.has_video]
    groups: dict[str, list[Output]] = {}
    if len(outputs) > 1:
        for output in heard:
            groups.setdefault(_codec(output.planned.lead), []).append(output)
    variants = [
        _variant(prefix, output, group, members)
        for output in pictures or heard[:1]
        for group, members in (groups or {"": []}).items()
    ]
    called = sounds.called(output.planned.lead.track_id for output in heard)
    return variants, [one for group, members in groups.items() for one in _alternatives(prefix, group, members, called)]


def _variant(prefix: str, output: Output, group: str, sounds: Sequence[Output]) -> Variant:
    planned = output.planned
    own = [codec for track in planned.tracks if (codec := _codec(track))]
    codecs = dict.fromkeys([*own, group] if group else own)
    others = [sound.rendition for sound in sounds if sound.rendition is not output.rendition]
    return Variant(
        uri=f"{prefix}{output.rendition.name}.m3u8",
        peak_bps=output.rendition.peak_bps + max((r.peak_bps for r in others), default=0),
        average_bps=output.rendition.average_bps + max((r.average_bps for r in others), default=0),
        codecs=tuple(codecs),
        picture=_picture(planned.lead, output.cutter.mean_interval_ms) if planned.has_video else None,
        audio_group=_group_id(group) if group else "",
    )


def _alternatives(
    prefix: str, group: str, sounds: Sequence[Output], called: Mapping[int, Sound]
) -> Iterator[Alternative]:
    for index, sound in enumerate(sounds):
        facts = audio_facts(sound.planned.lead)
        known = called[sound.planned.lead.track_id]
        yield Alternative(
            uri=f"{prefix}{sound.rendition.name}.m3u8",
            group=_group_id(group),
            name=known.name,
            language=known.language,
            channels=0 if facts is None else facts.channels,
            default=index == 0,
        )


def _group_id(codec: str) -> str:
    return "audio-" + codec.replace(".", "-").lower()


def _codec(track: Track) -> str:
    return codec_string(track) or ""


def _picture(track: Track, interval_ms: float) -> Picture:
    facts = video_facts(track) if track.kind is MediaKind.VIDEO else None
    rate = frame_rate(interval_ms)
    if facts is None:
        return Picture(width=0, height=0, frame_rate=rate, video_range="SDR")
    return Picture(width=facts.width, height=facts.height, frame_rate=rate, video_range=facts.video_range)


def frame_rate(interval_ms: float) -> float:
    """Return the pictures a second that an interval means: the usual rate, if it is near one."""
    if interval_ms <= 0:
        return 0.0
    measured = 1000 / interval_ms
    nearest = min(_RATES, key=lambda rate: abs(rate - measured))
    return nearest if abs(nearest - measured) < 0.002 * nearest else round(measured, 3)
