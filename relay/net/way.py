"""Where to push, and where that leads: one attempt may need logins and redirects, each over a connection of its own.

No sockets here. The rules it guards (reliability.md cases 158 and 159): a server sends us to rtmp or rtmps only, never
from TLS to plain, at most `MAX_HOPS` times; another server's addresses are checked like those that come through the
API, its certificate like the first one's, and the key is named to the last server of the way only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

from relay.context import CloseStyle
from relay.errors import ConfigError, DestinationError
from relay.net.addresses import AddressPolicy
from relay.net.endpoints import RtmpUrl, parse_url
from relay.net.trust import SYSTEM, Trust
from relay.rtmp.auth import Credentials, Login, asks_for_login
from relay.rtmp.client import FLASH_VER, ClientConnection
from relay.rtmp.events import ConnectRejected
from relay.rtmp.names import MAX_ADDRESS
from relay.secret import Secret

MAX_HOPS = 3
"""Redirects of one attempt: a balancer and its spare need one each; more is a loop."""

REDIRECT_REFUSED = "redirect-refused"
AUTH_NEEDED = "auth-needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PushPlace:
    """Where to push: an address, a key, and whom to trust."""

    url: RtmpUrl
    key: Secret
    backup: RtmpUrl | None = None
    """Where to push instead while *url* does not work."""
    login: Credentials | None = None
    """Who we are, for servers that ask (Adobe's and Limelight's way)."""
    trust: Trust = SYSTEM
    policy: AddressPolicy | None = None
    """Which addresses the host may have; None when the operator wrote it into the configuration file."""
    redirects: AddressPolicy = field(default_factory=AddressPolicy)
    """Which addresses a server may have that another one sends us to."""
    retry_s: float = 0.0
    """Least seconds between two attempts."""
    enhanced: bool = False
    """Announce Enhanced RTMP, and with it that we follow a request to reconnect."""
    close: CloseStyle = "clean"
    close_on_fault: CloseStyle = "clean"


class Way:
    """The way of one attempt.

    Attributes:
        url: where the next connection goes.
        policy: which addresses its host may have; None when the operator wrote it.
    """

    def __init__(
        self,
        place: PushPlace,
        url: RtmpUrl,
        random: Callable[[int], bytes],
        own_name: Callable[[], str] = lambda: FLASH_VER,
    ) -> None:
        """Begin at *url*; *own_name* says what we call ourselves when a connection begins."""
        self.url = url
        self.policy = place.policy
        self._place = place
        self._random = random
        self._own_name = own_name
        self._hops = 0
        self._login = self._new_login()

    def again(self) -> Way:
        """Return a new way that begins where this one has led."""
        way = Way(self._place, self.url, self._random, self._own_name)
        way.policy = self.policy
        return way

    def connection(self) -> ClientConnection:
        """Return the RTMP side of the next connection."""
        query = "" if self._login is None else self._login.query.reveal()
        url = self.url.with_query(query) if query else self.url
        return ClientConnection(
            role="publish",
            app=url.app.reveal(),
            tc_url=url.tc_url,
            name=self._place.key,
            random=self._random,
            flash_ver=self._own_name(),
            enhanced=self._place.enhanced,
        )

    def rejected(self, event: ConnectRejected) -> None:
        """Go on as a rejected `connect` says. Raises DestinationError when it says no more than no."""
        if asks_for_login(event.description):
            if self._login is None:
                raise DestinationError(AUTH_NEEDED, "the destination asks for a user name; write user and password")
            self._login.go_on(event.description)
            return
        where = redirect_of(event.info)
        if not where:
            raise DestinationError("connect-rejected", said(event.code, event.description))
        self.follow(where)

    def follow(self, where: str) -> None:
        """Go where a server sends us; *where* may be relative, and empty for itself. Raises DestinationError."""
        self._hops += 1
        if self._hops > MAX_HOPS:
            raise DestinationError(REDIRECT_REFUSED, f"the destination sends us elsewhere more than {MAX_HOPS} times")
        url = _join(self.url, where)
        if self.url.tls and not url.tls:
            raise DestinationError(REDIRECT_REFUSED, "the destination sends us from rtmps to rtmp, which shows the key")
        if (url.scheme, url.host, url.port) != (self.url.scheme, self.url.host, self.url.port):
            self.policy = self._place.redirects
        self.url = url
        self._login = self._new_login()

    def _new_login(self) -> Login | None:
        login = self._place.login
        app = self.url.app.reveal().partition("?")[0]
        return None if login is None else Login(login, app, self._random)


def leads_on(event: ConnectRejected, login: Credentials | None) -> bool:
    """Whether a rejected `connect` is a step on the way: then the server is well."""
    return bool(login is not None and asks_for_login(event.description)) or bool(redirect_of(event.info))


def redirect_of(info: Mapping[str, Any]) -> str:
    """Return where a rejected `connect` sends us (Adobe's and SRS's ``ex.redirect``, a tcUrl); empty for nowhere."""
    more = info.get("ex")
    where = more.get("redirect") if isinstance(more, Mapping) else None
    return where if isinstance(where, str) else ""


def said(code: str, description: str) -> str:
    """What the destination said; the target makes it fit to be read."""
    return f"the destination said {code or 'no'}: {description}"


def _join(base: RtmpUrl, where: str) -> RtmpUrl:
    """Read *where* as a server at *base* means it. Raises DestinationError, which never repeats it."""
    app = base.app.reveal()
    if not where:
        return base
    try:
        if len(where) > MAX_ADDRESS:
            raise ValueError
        if "://" not in where:
            joined = urljoin(f"http://{base.authority}/{app}", where)  # urllib joins the schemes that it knows
            where = base.scheme + joined.removeprefix("http") if joined.startswith("http:") else joined
        parts = urlsplit(where)
        if not parts.path.strip("/"):
            where = f"{parts.scheme}://{parts.netloc}/{app}"
        return parse_url(where, "")
    except (ConfigError, ValueError):
        raise DestinationError(
            REDIRECT_REFUSED, "the destination sends us to something that is no rtmp:// or rtmps:// address"
        ) from None
