"""What is known about public services: `presets.toml` as objects.

The rule it guards: facts about services are data. No code knows a service by name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import Field

from relay.api import ConfigModel


class Preset(ConfigModel):
    """One service. What is not known is None and never complained about."""

    title: str
    url: str | None = None
    """Where to publish. None: each account, channel or event has its own address."""
    backup_url: str | None = None
    """The service's second address for the same programme."""
    ingests: str | None = None
    """Where the service publishes the list of its ingest servers, nearest first, in the form that Twitch uses."""
    ingest_domains: tuple[str, ...] = ()
    """What the hosts in that list end with."""
    video: tuple[str, ...] = ("avc1",)
    """FourCCs of the video codecs it takes; empty: unknown, so nothing is refused."""
    audio: tuple[str, ...] = ("mp4a",)
    """The same for audio."""
    enhanced: bool = False
    """It reads Enhanced RTMP; otherwise it gets legacy messages only."""
    multitrack: bool = False
    """It takes more than one track of a kind; otherwise it gets the default tracks only."""
    keyframe_s: float | None = None
    """Seconds between keyframes that it asks for."""
    keyframe_max_s: float | None = None
    """Seconds between keyframes above which it complains or refuses."""
    video_kbps: int | None = None
    audio_kbps: int | None = None
    fps: int | None = None
    height: int | None = None
    b_frames: bool = True
    """It takes B-frames."""
    needs_audio: bool = False
    """It refuses a programme without sound."""
    silent_audio: bool = False
    """It is better served with silence than without sound."""
    session_h: float | None = None
    """It ends a broadcast after so many hours."""
    test_query: str = ""
    """What goes behind the key so that the service tests the line and broadcasts nothing."""
    retry_s: float = 0.0
    """Least seconds between two attempts."""
    end_on_fault: Literal["clean", "abrupt"] = "clean"
    """How to leave when the encoder is lost: a clean end would end the broadcast on some services."""
    note: str = ""
    """What an operator should know."""
    source: str

    @property
    def keyframe_limit_s(self) -> float | None:
        """Seconds between keyframes above which an operator should know; encoders miss a whole number by a picture."""
        if self.keyframe_max_s is not None:
            return self.keyframe_max_s
        return None if self.keyframe_s is None else self.keyframe_s * 1.25


class PresetFile(ConfigModel):
    """The whole of `presets.toml`."""

    checked: str
    """Year and month in which the sources were read."""
    presets: Mapping[str, Preset] = Field(min_length=1)


GENERIC = "generic"
"""The preset of a target that names none: any RTMP server, about which nothing is assumed."""


@cache
def preset_file() -> PresetFile:
    """Return the data, read once."""
    text = files(__package__).joinpath("presets.toml").read_text("utf-8")
    data = tomllib.loads(text)
    for preset in data["presets"].values():
        preset |= {name: tuple(preset[name]) for name in ("video", "audio", "ingest_domains") if name in preset}
    return PresetFile.model_validate(data)


def presets() -> Mapping[str, Preset]:
    """Return every preset by its name in the configuration."""
    return preset_file().presets


def find_preset(name: str | None) -> Preset:
    """Return the preset of this name; None means `generic`. Raises KeyError for a name that there is not."""
    return presets()[name or GENERIC]
