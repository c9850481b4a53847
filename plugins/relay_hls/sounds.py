"""What the sounds of a stream are called in its multivariant playlist.

The operator's word counts first, then what the encoder says in onMetaData, then a number. The rule it guards: a name
comes from a stranger and stands in a line of a playlist and in a menu: it is short, printable text without quotation
marks, and no other sound of the stream has it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import Field

from relay.api import ConfigModel, MediaKind, TrackSet, metadata_values

LONGEST_NAME = 64
"""Characters of a name: more than a menu shows."""
MAX_SOUNDS = 16
"""Tracks that can be named: as many as are packaged."""

_TRACKS = "audioTrackIdInfoMap"
_NAME_KEYS = ("name", "title", "label")
_LANGUAGE_KEYS = ("language", "lang")
"""E-RTMP v2 keeps a map of properties for each further track and names none of these; encoders that say more use the
words of the containers they know."""
_LANGUAGE = re.compile(r"(?!und\b)[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8}){0,4}")
"""RFC 5646, as far as a sound needs it; ``und`` is what nobody knows."""


class SoundOptions(ConfigModel):
    """``[streams.S.hls]``: what the sounds of one stream are called, track 0 first."""

    audio_names: tuple[str, ...] = Field(default=(), max_length=MAX_SOUNDS)
    """What viewers choose from when the encoder sends several sounds. An empty name leaves it to the encoder."""
    audio_languages: tuple[str, ...] = Field(default=(), max_length=MAX_SOUNDS)
    """Their languages, as ``"en"`` or ``"pt-BR"``: players choose their viewer's own."""


@dataclass(frozen=True, slots=True)
class Sound:
    """What one sound is called; empty where nobody said."""

    name: str = ""
    language: str = ""


@dataclass(slots=True)
class Sounds:
    """The names of one stream's sounds."""

    options: SoundOptions
    _said: Mapping[int, Sound] = field(default_factory=dict)

    def told(self, tracks: TrackSet) -> None:
        """Take what the encoder says about its tracks."""
        values = {} if tracks.metadata is None else metadata_values(tracks.metadata)
        described = values.get(_TRACKS)
        maps = described if isinstance(described, dict) else {}
        found = {0: Sound(language=_language(_first(values, _LANGUAGE_KEYS)))}  # the title at the top is the show's
        for track in tracks.tracks:
            own = maps.get(str(track.track_id))
            if track.kind is MediaKind.AUDIO and isinstance(own, dict):
                found[track.track_id] = Sound(_name(_first(own, _NAME_KEYS)), _language(_first(own, _LANGUAGE_KEYS)))
        self._said = found

    def called(self, track_ids: Iterable[int]) -> dict[int, Sound]:
        """Return what these tracks are called, each by another name."""
        given: dict[int, Sound] = {}
        taken: set[str] = set()
        for number in track_ids:
            said = self._said.get(number, Sound())
            language = _language(_at(self.options.audio_languages, number)) or said.language
            name = _name(_at(self.options.audio_names, number)) or said.name or _fallback(number, language)
            if name in taken:
                name = f"{name} ({number + 1})"
            while name in taken:
                name += "'"
            taken.add(name)
            given[number] = Sound(name, language)
        return given


def _fallback(number: int, language: str) -> str:
    return f"Audio {number + 1} ({language})" if language else f"Audio {number + 1}"


def _at(values: tuple[str, ...], number: int) -> str:
    return values[number] if 0 <= number < len(values) else ""


def _first(values: Mapping[str, object], keys: Iterable[str]) -> str:
    return next((text for key in keys if isinstance(text := values.get(key), str) and text), "")


def _name(text: str) -> str:
    """Return *text* as it may stand in a quoted string and a menu: whatever does not print, or turns the writing
    round, is a space."""
    kept = text[: 4 * LONGEST_NAME].replace('"', "'")
    printable = "".join(" " if unicodedata.category(one)[0] in "CZ" else one for one in kept)
    return " ".join(printable.split())[:LONGEST_NAME].strip()


def _language(text: str) -> str:
    return text if _LANGUAGE.fullmatch(text) else ""
