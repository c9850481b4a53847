"""What can be said about a target: in the configuration file, through the API, and what it comes to.

The rule it guards: a target from the file is the operator's own; one from the API names no file of this machine, and
its address is checked before anything connects to it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from relay.api import (
    BACKUP_SUFFIX,
    AuthorityFile,
    ConfigError,
    ConfigModel,
    RevocationFile,
    SecretRef,
    Tailoring,
    is_public_name,
    is_user_name,
    parse_url,
)

from .presets import Preset, find_preset, presets

MAX_DELAY_S = 900.0
"""A delay is for a broadcaster's dump button or for spoilers; longer ones are recordings."""

MAX_NAME = 64

MAX_KEY_BYTES = 4096
"""Of a key or password that comes by the API: signed ones with an expiry have 500, a token 2,000; and 10,000 of them
are kept."""

TrackId = Annotated[int, Field(ge=0, le=255)]


class TargetOptions(ConfigModel):
    """What the file and the API can say about a target."""

    preset: str | None = None
    """A service by name (`rtmp-relay presets` lists them): its address, what it takes, and its manners."""
    url: str | None = None
    """``rtmp://HOST[:PORT]/APP`` or ``rtmps://HOST[:PORT]/APP``, without the key; wins over the preset's address."""
    key: SecretRef
    """The stream key the platform gives, exactly as it is."""
    user: str | None = None
    """User name for servers that ask for one, in Adobe's way (FMS, Wowza, Akamai) or Limelight's; with `password`."""
    password: SecretRef | None = None
    """The password of `user`. It is never sent, only a digest of it, and only to a server that asks."""
    backup_url: str | None = None
    """A second address for the same key; wins over the preset's, which is used only if `backup_mode` is written."""
    backup_mode: Literal["failover", "both"] | None = None
    """``failover``, the default with `backup_url`: use it while the first address does not work. ``both``: push the
    same to both all the time."""
    close: Literal["auto", "clean", "abrupt"] = "auto"
    """How to leave. ``clean``: unpublish and close. ``abrupt``: break off, so that the platform holds the broadcast.
    ``auto``: clean, but after a fault as the preset says."""
    fingerprint: str | None = None
    """SHA-256 of the certificate, in hex with or without colons: this very certificate, instead of one that a CA signed
    for the host (rtmps only)."""
    enabled: bool = True
    """Whether to push when the stream is live."""
    audio_track: TrackId | None = None
    """Send this audio track of a multitrack stream, as the only one. A stream without it is sent without sound."""
    video_track: TrackId | None = None
    """Send this video track of a multitrack stream, as the only one. A stream without it is not sent."""
    tracks: Literal["auto", "all", "default"] = "auto"
    """All tracks as they come, or the default ones only. ``auto``: what the preset takes; all without a preset."""
    enhanced_rtmp: Literal["auto", "keep", "flatten"] = "auto"
    """Keep Enhanced RTMP, or write H.264 and AAC in the old form. ``auto``: what the preset reads."""
    silent_audio: Literal["auto", "on", "off"] = "auto"
    """A silent track when there would be no sound. ``auto``: if the preset's platform wants sound."""
    metadata: Literal["correct", "keep", "strip"] = "correct"
    """onMetaData: corrected where this target's tracks differ, as it comes, or only what the tracks prove."""
    delay_s: Annotated[float, Field(ge=0, le=MAX_DELAY_S)] = 0.0
    """Send the programme this much later; `dump` throws away what waits."""
    new_format: Literal["inline", "reconnect", "refuse"] = "inline"
    """When codec, picture size, sampling rate or the set of tracks change, as at a switch to an encoder with other
    settings. ``inline``: new headers on the same connection. ``reconnect``: a new connection, for servers that take the
    format of its beginning for granted. ``refuse``: not sent until the first format is back."""

    @field_validator("preset")
    @classmethod
    def _check_preset(cls, name: str | None) -> str | None:
        if name is not None and name not in presets():
            near = difflib.get_close_matches(name, presets(), n=1)
            hint = f" (did you mean {near[0]}?)" if near else "; `rtmp-relay presets` lists them"
            raise ValueError(f"no preset of this name{hint}")
        return name

    @field_validator("url", "backup_url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url is not None:
            try:
                parse_url(url)
            except ConfigError as error:
                raise ValueError(error.message) from error
        return url

    @model_validator(mode="after")
    def _check_address(self) -> TargetOptions:
        if self.url is None and self.preset is None:
            raise PydanticCustomError("address", "needs url or preset")
        if self.url is None and find_preset(self.preset).url is None:
            raise ValueError(f"the preset {self.preset} has no address of its own; write url as the platform gives it")
        return self

    @model_validator(mode="after")
    def _check_login(self) -> TargetOptions:
        if (self.user is None) != (self.password is None):
            raise ValueError("write user and password together")
        if self.user is not None and not is_user_name(self.user):
            raise ValueError("user has 1 to 255 printable characters, without blanks and & ? #")
        return self

    @model_validator(mode="after")
    def _check_backup(self) -> TargetOptions:
        if self.backup_mode is not None and self.backup is None:
            raise ValueError("backup_mode needs backup_url, or a preset that has a second address")
        if self.backup is not None and self.backup == (self.url or find_preset(self.preset).url):
            raise ValueError("backup_url is the first address again")
        return self

    @field_validator("fingerprint")
    @classmethod
    def _check_fingerprint(cls, text: str | None) -> str | None:
        if text is not None and not re.fullmatch(r"[0-9A-Fa-f]{64}", text.replace(":", "")):
            raise ValueError("must be 64 hex digits, with or without colons: the SHA-256 of the certificate")
        return text

    @model_validator(mode="after")
    def _check_pinned_addresses(self) -> TargetOptions:
        urls = [self.url or find_preset(self.preset).url, self.backup]
        if self.fingerprint is not None and not all(url.startswith("rtmps:") for url in urls if url):
            raise ValueError("fingerprint is for rtmps:// only")
        return self

    @property
    def backup(self) -> str | None:
        """The second address, if one is used."""
        if self.backup_url is not None or self.backup_mode is None:
            return self.backup_url
        return find_preset(self.preset).backup_url


class Target(TargetOptions):
    """``[streams.S.restream.T]``: one place to push to."""

    ca_file: AuthorityFile | None = None
    """PEM file with CAs to trust beside the system's, for a server with a certificate of your own (rtmps only)."""

    crl_file: RevocationFile | None = None
    """PEM file with a current revocation list (CRL) of every CA between the server's certificate and the root: what
    they revoked is refused, and so is everything when a list is missing or has expired (rtmps only)."""

    @model_validator(mode="after")
    def _check_trust(self) -> Target:
        if (self.ca_file or self.crl_file) is not None and self.fingerprint is not None:
            raise ValueError("write fingerprint, or ca_file and crl_file: with a fingerprint no CA is asked")
        return self


def _plain(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be the secret itself, as a string")
    if len(value.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        raise ValueError(f"must have at most {MAX_KEY_BYTES} bytes")
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in value):
        raise ValueError("holds a line break or another control character: copy it alone")
    return value


def _plain_or_none(value: object) -> object:
    return None if value is None else _plain(value)


class ApiTarget(TargetOptions):
    """What ``PUT .../targets/T`` takes.

    Key and password are strings: a name of a file or variable would let callers read it.
    """

    key: Annotated[SecretRef, BeforeValidator(_plain, json_schema_input_type=str)]
    """The stream key the platform gives, exactly as it is. It is never given out again."""
    password: Annotated[SecretRef | None, BeforeValidator(_plain_or_none, json_schema_input_type=str | None)] = None
    """The password of `user`, itself."""


class Targets(ConfigModel):
    """``[streams.S.restream]``: targets by name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Target] = Field(init=False)

    @model_validator(mode="after")
    def _check_names(self) -> Targets:
        for name in self.by_name:
            if not is_public_name(name) or "/" in name or len(name) > MAX_NAME:
                raise ValueError(f"a target's name has A-Z a-z 0-9 _ . - and up to {MAX_NAME} characters")
        twice = clash(self.by_name)
        if twice is not None:
            raise ValueError(f"{twice} is what the push to the second address of another target is called")
        return self

    @property
    def by_name(self) -> Mapping[str, Target]:
        """Every target, in the order of the file."""
        return self.__pydantic_extra__


def clash(targets: Mapping[str, TargetOptions]) -> str | None:
    """Return the name of a target that is also what the backup of another one is called."""
    backups = (name + BACKUP_SUFFIX for name, target in targets.items() if target.backup_mode == "both")
    return next((name for name in backups if name in targets), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A target as it should be. *trusted*: the operator wrote its address. *by* says who stopped it, if it is."""

    name: str
    options: TargetOptions
    trusted: bool
    by: str = "configuration"

    @property
    def enabled(self) -> bool:
        """Whether it should run."""
        return self.options.enabled

    @property
    def preset(self) -> Preset:
        """What is known about its platform."""
        return find_preset(self.options.preset)

    @property
    def fingerprint(self) -> bytes | None:
        """SHA-256 of the only certificate that is good."""
        text = self.options.fingerprint
        return None if text is None else bytes.fromhex(text.replace(":", ""))

    @property
    def close(self) -> Literal["clean", "abrupt"]:
        """How to leave at a planned end."""
        return "clean" if self.options.close == "auto" else self.options.close

    @property
    def close_on_fault(self) -> Literal["clean", "abrupt"]:
        """How to leave when the programme was lost."""
        return self.preset.end_on_fault if self.options.close == "auto" else self.options.close

    @property
    def title(self) -> str:
        """What to call the destination in a sentence."""
        return self.preset.title if self.options.preset is not None else "the destination"

    @property
    def ca_file(self) -> Path | None:
        """CAs to trust beside the system's."""
        return self.options.ca_file if isinstance(self.options, Target) else None

    @property
    def crl_file(self) -> Path | None:
        """What the CAs on the way have revoked."""
        return self.options.crl_file if isinstance(self.options, Target) else None

    @property
    def tailoring(self) -> Tailoring:
        """What it gets of the stream."""
        options, preset = self.options, self.preset
        return Tailoring(
            multitrack=preset.multitrack if options.tracks == "auto" else options.tracks == "all",
            legacy=not preset.enhanced if options.enhanced_rtmp == "auto" else options.enhanced_rtmp == "flatten",
            video_track=options.video_track,
            audio_track=options.audio_track,
            silent_audio=preset.silent_audio if options.silent_audio == "auto" else options.silent_audio == "on",
            metadata=options.metadata,
        )

    def url(self, nearest: str | None = None) -> str:
        """Return its address: its own, the platform's *nearest* ingest, or the preset's."""
        found = self.options.url or nearest or self.preset.url
        assert found is not None  # noqa: S101 - TargetOptions refuses a target without address
        return found

    def switched(self, on: bool, by: str) -> Wanted:
        """Return the same target, running or not."""
        options = self.options.model_copy(update={"enabled": on})
        return Wanted(name=self.name, options=options, trusted=self.trusted, by=by)

    def pushes_like(self, other: Wanted) -> bool:
        """Whether a push for *other* does what this one wants."""
        return self.switched(True, "") == other.switched(True, "")
