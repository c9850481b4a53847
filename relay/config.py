"""The core's own tables of the configuration. Plugins bring the models of theirs; `relay.pluginhost` joins both.

The rule it guards: every option has a default that is safe on the open internet, and a reason beside it.
"""

from __future__ import annotations

import ipaddress
import re
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from relay.config_file import (
    ConfigModel,
    Problem,
    Source,
    Table,
    count_from_file,
    read_source,
    validate,
)
from relay.config_limits import Limits
from relay.localfiles import LocalFile
from relay.rtmp.names import is_public_name
from relay.secret import redact_url
from relay.secretref import SecretRef
from relay.stream.policy import CleanEnd, Failback, FailoverOptions, Mode, Splice

BUILT_IN = """\
[[listen]]
url = "rtmp://127.0.0.1:1935"

[http]
listen = "127.0.0.1:8080"

[plugins.streamkeys]
any_key = "loopback"

[plugins.hls]

[plugins.restream]

[plugins.record]
directory = "var/recordings"
enabled = false
"""
"""The configuration without a file: any key from this machine, which is then the stream's name.

Nothing is recorded and nothing pushed until somebody asks for it by the API: a trial must not fill a disk.
"""

TEMPLATE = "*"
"""``[streams."*"]`` holds what applies to streams that are not declared."""

_LISTEN_URL = re.compile(r"(rtmps?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?/?")
_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_SITE = re.compile(r"\*|https?://(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]{1,5})?")
_DEFAULT_PORTS = {"rtmp": 1935, "rtmps": 443}


def _stream_name(name: str) -> str:
    if name != TEMPLATE and not is_public_name(name):
        raise ValueError(
            "not a stream name: A-Z a-z 0-9 _ . - in 1 to 4 segments, no segment starts with a dot, at most 255 bytes"
        )
    return name


def _app_name(name: str) -> str:
    if "/" in name or not is_public_name(name):
        raise ValueError("not an app: A-Z a-z 0-9 _ . - are allowed, no slash, no dot at the start")
    return name


StreamName = Annotated[str, AfterValidator(_stream_name)]
AppName = Annotated[str, AfterValidator(_app_name)]


def is_loopback(host: str) -> bool:
    """Whether *host* can only be reached from this machine. A name other than ``localhost`` is not believed."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _clash(one: str, other: str) -> bool:
    """Whether nobody can listen on *one* while somebody listens on the same port of *other*."""
    hosts = {"127.0.0.1" if host == "localhost" else host for host in (one, other)}
    every_v4 = "0.0.0.0" in hosts and not any(":" in host for host in hosts)  # noqa: S104 - compared, not bound
    return len(hosts) == 1 or "::" in hosts or every_v4


class Listen(ConfigModel):
    """``[[listen]]``: an address that encoders and players connect to."""

    url: str
    """``rtmp://HOST[:PORT]`` or ``rtmps://HOST[:PORT]``; 0.0.0.0 or [::] means every address of this machine."""
    certificate: LocalFile | None = None
    """PEM file with the certificate and its chain (rtmps only); read again when it is renewed."""
    private_key: LocalFile | None = None
    """PEM file with the private key (rtmps only)."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        found = _LISTEN_URL.fullmatch(url)
        if found is None:
            raise ValueError(f'must be rtmp://HOST[:PORT] or rtmps://HOST[:PORT] (got "{redact_url(url)}")')
        if found[3] and int(found[3]) > 65_535:
            raise ValueError("the port must be at most 65535")
        return url

    @model_validator(mode="after")
    def _check_certificate(self) -> Listen:
        if self.tls and (self.certificate is None or self.private_key is None):
            raise ValueError("rtmps needs both certificate and private_key")
        if not self.tls and (self.certificate is not None or self.private_key is not None):
            raise ValueError("certificate and private_key are for rtmps:// only; this listener is rtmp://")
        return self

    @property
    def tls(self) -> bool:
        """Whether this is an RTMPS listener."""
        return self.url.startswith("rtmps:")

    @property
    def host(self) -> str:
        """The address to bind, without brackets."""
        return self._parts()[1].strip("[]")

    @property
    def port(self) -> int:
        """The port to bind; 0 lets the kernel choose."""
        scheme, _, port = self._parts()
        return int(port) if port else _DEFAULT_PORTS[scheme]

    def _parts(self) -> tuple[str, str, str | None]:
        found = _LISTEN_URL.fullmatch(self.url)
        assert found is not None  # noqa: S101 - the validator matched it
        return found[1], found[2], found[3]


class Http(ConfigModel):
    """``[http]``: dashboard, API, metrics and what plugins serve."""

    listen: str = "127.0.0.1:8080"
    """``HOST:PORT``. Loopback by default: the API can stop a show."""
    token: SecretRef | None = None
    """What ``Authorization: Bearer`` must hold. Needed to listen beyond loopback."""
    embed_in: tuple[str, ...] = ("*",)
    """Sites that may show the watch page in a frame: ``https://www.example``, ``https://*.example``; ``*`` is every
    site, an empty list none. No other page can be framed."""

    @field_validator("embed_in")
    @classmethod
    def _check_embed_in(cls, sites: tuple[str, ...]) -> tuple[str, ...]:
        for site in sites:
            if _SITE.fullmatch(site) is None:
                raise ValueError('must hold sites such as "https://www.example", without a path, or "*"')
        return sites

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, listen: str) -> str:
        found = _HOST_PORT.fullmatch(listen)
        if found is None or int(found[2]) > 65_535:
            raise ValueError('must be HOST:PORT, for example "127.0.0.1:8080"')
        return listen

    @model_validator(mode="after")
    def _check_token(self) -> Http:
        if self.token is None and not is_loopback(self.host):
            raise ValueError(f'a token is needed to listen on {self.listen}: add token = {{ file = "..." }}')
        return self

    @property
    def host(self) -> str:
        """The address to bind, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port to bind; 0 lets the kernel choose."""
        return int(self.listen.rpartition(":")[2])


class Rtmp(ConfigModel):
    """``[rtmp]``: the addresses below the listeners."""

    apps: tuple[AppName, ...] = ("live",)
    """First path segments that are served: ``rtmp://HOST/APP/...``. An empty list serves every app."""


class Play(ConfigModel):
    """``[play]``: how RTMP players are served."""

    merge_ms: int = Field(default=0, ge=0, le=5_000)
    """Collect packets this long before writing them to all players. 0: write at the end of the reactor turn. 50 halves
    the cost of many players and adds 50 ms of delay."""


class Failover(ConfigModel):
    """``[streams.S.failover]``: several encoders, one programme; in ``[streams."*"]`` for streams not declared."""

    mode: Mode = "auto"
    """``auto``: switch between feeds, and merge those that carry the same frames once that is proved twice. ``switch``:
    never merge. ``merge``: the feeds are two paths of one encoder, so the first proof is enough."""
    splice: Splice = "fast"
    """``fast``: the other feed starts at its keyframe before the cut, so nothing is missed, and catches up at no more
    than twice the speed. ``clean``: it starts at its next keyframe."""
    video_stall_ms: int = Field(default=1000, ge=100, le=60_000)
    """A feed without a picture for this long is dead; below 10 fps its own frame interval is added, or it is four."""
    audio_stall_ms: int = Field(default=3000, ge=100, le=60_000)
    """A feed that had sound and has none for this long is bad."""
    bitrate_percent: int = Field(default=30, ge=0, le=90)
    """A feed below this share of its own median of a minute, for 5 s, is suspect. 0: never."""
    skew_ms: int = Field(default=2000, ge=0, le=60_000)
    """Sound and picture apart by more than this for 3 s are bad. 0: never."""
    keyframe_intervals: int = Field(default=3, ge=0, le=100)
    """No keyframe for so many of the feed's own keyframe intervals (and 4 s) is suspect. 0: never."""
    frozen_picture_s: float = Field(default=5.0, ge=0, le=3600)
    """Pictures of less than 200 bytes for this long may be a frozen camera; only a decoder could tell. 0: never."""
    failback: Failback = "stay"
    """``stay``: whoever is on air stays there while it is well. ``prefer-primary``: back to the better priority after
    `clear_s` and `dwell_s`. ``manual``: back only by hand, or when the feed on air is dead."""
    clear_s: float = Field(default=10.0, ge=0, le=3600)
    """A feed must be without fault for this long before ``prefer-primary`` goes back to it."""
    dwell_s: float = Field(default=30.0, ge=0, le=3600)
    """The feed on air must have been there for this long before ``prefer-primary`` leaves it."""
    hold_s: float = Field(default=60.0, ge=0, le=1800)
    """Without any feed destinations and players stay connected for this long. 0: the stream ends at once."""
    slate: str = "auto"
    """What they get meanwhile. ``auto``: the last keyframe again and again, and silence. ``none``: nothing. Or the
    path of a picture or clip of your own, which ffmpeg encodes once to what the stream's decoders expect
    (H.264 and HEVC; see docs/operations.md)."""
    on_clean_end: CleanEnd = "failover"
    """When the encoder on air is stopped by its operator: ``failover`` to one that is well, or else end; or ``end``."""

    @field_validator("slate")
    @classmethod
    def _check_slate(cls, slate: str, info: ValidationInfo) -> str:
        if slate in ("auto", "none"):
            return slate
        if "." not in slate and "/" not in slate:  # a misspelt word must not pass for a file
            raise ValueError('must be "auto", "none", or a picture or clip such as "/srv/slate.png"')
        return str(count_from_file(Path(slate), info))

    def options(self) -> FailoverOptions:
        """The same for the stream floor."""
        return FailoverOptions(**self.model_dump())


CORE_TABLES: dict[str, type[ConfigModel]] = {"failover": Failover}
"""Sub-tables of a stream that belong to the core; the others belong to plugins."""


class Log(ConfigModel):
    """``[log]``: one line per event on standard output."""

    format: Literal["auto", "text", "json"] = "auto"
    """``auto`` means text on a terminal and under systemd's journal, JSON lines otherwise."""
    level: Literal["debug", "info", "warn", "error"] = "info"
    """The least important level that is written."""


class Config(ConfigModel):
    """The whole file. The tables of plugins and of streams are kept as they are, their plugins validate them."""

    listen: tuple[Listen, ...] = (Listen(url="rtmp://127.0.0.1:1935"),)
    """Addresses that encoders and players connect to."""
    http: Http = Field(default=Http(), validate_default=True)
    rtmp: Rtmp = Rtmp()
    play: Play = Play()
    limits: Limits = Limits()
    log: Log = Log()
    plugins: dict[str, Table] = Field(default_factory=dict, repr=False)
    """A table enables the plugin of that name and holds its options; the order of tables is the order of decisions."""
    streams: dict[StreamName, dict[str, Table]] = Field(default_factory=dict, repr=False)
    """By public name. A sub-table belongs to the plugin of its name, ``failover`` to the core; ``"*"`` is for streams
    that are not declared."""

    _source: Source | None = PrivateAttr(default=None)

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, listen: tuple[Listen, ...]) -> tuple[Listen, ...]:
        if not listen:
            raise ValueError("at least one [[listen]] is needed")
        for one, other in combinations(listen, 2):
            if one.port and one.port == other.port and _clash(one.host, other.host):
                hosts = one.host if one.host == other.host else f"{one.host} and {other.host},"
                raise ValueError(f"two listeners on {hosts} port {one.port}")
        return listen

    @field_validator("http")
    @classmethod
    def _check_http(cls, http: Http, info: ValidationInfo) -> Http:
        for one in info.data.get("listen", ()):
            if one.port and one.port == http.port and _clash(one.host, http.host):
                raise ValueError(f"port {http.port} of {http.host}, where HTTP would listen, is taken by {one.url}")
        return http

    def failover(self, stream: str) -> Failover:
        """Return ``[streams.S.failover]``; a stream that is not declared has the template's."""
        tables = self.streams.get(stream, self.streams.get(TEMPLATE, {}))
        return Failover.model_validate(tables.get("failover", {}), context={"directory": self.source.directory})

    @property
    def source(self) -> Source:
        """The text this came from, for messages with a line. A configuration made in code has an empty one."""
        if self._source is None:
            self._source = Source("", file="configuration")
        return self._source


def parse(source: Source) -> tuple[Config | None, list[Problem]]:
    """Validate the core's tables; return the configuration and what is wrong, None when it cannot be used at all."""
    config, problems = validate(Config, source.data, source)
    if source.mend(Config.model_fields.keys()):
        problems = list(dict.fromkeys([*problems, *validate(Config, source.data, source)[1]]))
    problems += _core_problems(source)
    if config is not None:
        config._source = source
    return config, problems


def _core_problems(source: Source) -> list[Problem]:
    """Say what is wrong with the core's own sub-tables of streams."""
    problems: list[Problem] = []
    for stream, tables in source.table("streams").items():
        for name, model in CORE_TABLES.items():
            table = tables.get(name) if isinstance(tables, dict) else None
            if isinstance(table, dict):
                problems += validate(model, table, source, ("streams", stream, name))[1]
    return problems


def open_source(path: Path | None) -> Source:
    """Read a configuration file, or the built-in configuration when there is none."""
    return Source(BUILT_IN, file="built-in configuration") if path is None else read_source(path)
