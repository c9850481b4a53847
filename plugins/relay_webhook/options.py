"""What the operator writes into ``[plugins.webhook]``, checked before anything is sent.

The rule it guards: stream keys leave this machine over https, or in the clear to a neighbour only.
"""

from __future__ import annotations

import inspect
import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from pydantic import field_validator

import relay.api
from relay.api import AddressPolicy, AuthorityFile, ConfigError, ConfigModel, Event, SecretRef

PORTS = {"http": 80, "https": 443}

EVENTS = {
    name: found
    for name, found in vars(relay.api).items()
    if inspect.isclass(found) and issubclass(found, Event) and found is not Event
}
"""Every event of the relay by its name."""

_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


class Options(ConfigModel):
    """``[plugins.webhook]``"""

    url: str
    """Where the service is asked, and told: an address that takes POST."""
    events_url: str = ""
    """Where it is told, if that is another address."""
    secret: SecretRef | None = None
    """Signs every request, so that the service knows that it is from this relay."""
    ask: tuple[Literal["publish", "play"], ...] = ("publish", "play")
    """What the service decides. The rest is left to other plugins; an empty list: it is told events only."""
    events: tuple[str, ...] = (
        "StreamStarted",
        "StreamEnded",
        "StreamHeld",
        "FeedStarted",
        "FeedEnded",
        "FeedSwitched",
        "FailoverLocked",
        "TargetStateChanged",
        "TargetWarning",
        "RecordingFinished",
        "RecordingFailed",
    )
    """The events that it is told. An empty list: none."""
    ca_file: AuthorityFile | None = None
    """A file of PEM certificates that are trusted beside the system's CAs (https)."""
    plain_http: bool = False
    """Send to public addresses in the clear too: stream keys and events can be read, and answers forged, on the way."""

    @field_validator("events")
    @classmethod
    def _check_events(cls, events: tuple[str, ...]) -> tuple[str, ...]:
        for name in events:
            if name not in EVENTS:
                raise ValueError(f"{name!r} is no event; there are {', '.join(sorted(EVENTS))}")
        return events


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An address of the service. *display* is safe to print: a path or query may be a secret."""

    url: str
    tls: bool
    host: str
    port: int
    display: str


def read_place(text: str, path: str, *, plain_http: bool) -> Place:
    """Read ``http[s]://HOST[:PORT]/PATH``; raise ConfigError at *path* with what to write instead."""
    if not text.isascii() or any(char <= " " or char in "\x7f\\" for char in text):
        raise ConfigError(path, "an address is ASCII without spaces, control characters or backslashes")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigError(path, "not an address; write https://HOST[:PORT]/PATH") from None
    if parts.scheme not in PORTS:
        raise ConfigError(path, "must start with https:// (or http:// on this machine or network)")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(path, "holds a user name or password; requests are signed with `secret` instead")
    if parts.fragment:
        raise ConfigError(path, "holds a '#', which no server is ever sent")
    host, literal = parts.hostname or "", _address(parts.hostname or "")
    if literal is None and not _HOST.fullmatch(host):
        raise ConfigError(path, "names no host; write https://HOST[:PORT]/PATH")
    if port == 0:
        raise ConfigError(path, "port 0 cannot be connected to")
    tls = parts.scheme == "https"
    if not tls and not plain_http and literal is not None and not NEARBY.permits(host):
        raise ConfigError(path, "would send stream keys in the clear; use https://, or set plain_http = true")
    number = PORTS[parts.scheme] if port is None else port
    shown = f"[{host}]" if ":" in host else host
    display = f"{parts.scheme}://{shown}" + ("" if number == PORTS[parts.scheme] else f":{number}")
    return Place(url=text, tls=tls, host=host, port=number, display=display)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


class Neighbours(AddressPolicy):
    """Permits what is no public address: this machine and private networks."""

    def permits(self, address: str) -> bool:
        """Whether *address* is near enough for plain http."""
        return _address(address.partition("%")[0]) is not None and not AddressPolicy.permits(self, address)


NEARBY = Neighbours()
