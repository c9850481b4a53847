"""Opening the listeners of the configuration, and saying in plain words when one cannot be opened."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from relay.config import Listen
from relay.errors import RelayError
from relay.net.accept import CalmPort, IngestFactory, SecureFactory
from relay.net.door import Door
from relay.net.expiry import Expiry, worry
from relay.net.tls import ReloadingCertificate

BACKLOG = 1024
"""Connections the kernel may hold before we accept them; Twisted's 50 loses players when a show begins."""


class ListenError(RelayError):
    """A listener could not be opened; the message says which and what to do."""


class Listener:
    """One open address."""

    log = Logger(namespace="relay.listen")

    def __init__(self, reactor: Any, door: Door, config: Listen, *, in_thread: Callable[..., Any]) -> None:
        self.config = config
        self.expiry: Expiry | None = None
        self.error = ""
        self._reactor = reactor
        self._factory: Any = IngestFactory(door, tls=config.tls)
        self._port: Any = None
        if config.certificate is not None and config.private_key is not None:
            certificate = ReloadingCertificate(config.certificate, config.private_key)
            self.expiry = Expiry(config.certificate, in_thread=in_thread)
            self._factory = SecureFactory(certificate, False, self._factory)

    @property
    def up(self) -> bool:
        """Whether the address is open."""
        return self._port is not None

    @property
    def port(self) -> int:
        """The port that is open; it differs from the configured one when that is 0."""
        return self.config.port if self._port is None else int(self._port.getHost().port)

    @property
    def url(self) -> str:
        """The address for logs and the API."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"{'rtmps' if self.config.tls else 'rtmp'}://{host}:{self.port}"

    def open(self) -> None:
        """Bind. Raises ListenError with what to do about it."""
        try:
            self._port = open_port(self._reactor, self.config.host, self.config.port, self._factory, self.url)
        except ListenError as error:
            self.error = str(error)
            raise
        self.log.info("listening on {url}", url=self.url)
        said = "" if self.expiry is None else worry(self.expiry.not_after, time.time())
        if said:
            self.log.warn("the certificate of {url} {said}", url=self.url, said=said)

    def close(self) -> Deferred[None]:
        """Stop accepting; open connections stay."""
        port, self._port = self._port, None
        done: Deferred[None] = maybeDeferred(port.stopListening if port is not None else lambda: None)
        return done


def open_port(reactor: Any, host: str, port: int, factory: Any, url: str) -> Any:
    """Bind *host*:*port*. Raises ListenError."""
    opened = CalmPort(port, factory, BACKLOG, "127.0.0.1" if host == "localhost" else host, reactor)
    try:
        opened.startListening()
    except CannotListenError as failure:
        # No colon after the address: the log would take it for a part of it, and hide what it cannot read.
        raise ListenError(f"cannot listen on {url} ({_advice(failure.socketError, port)})") from failure
    return opened


def _advice(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"the port is in use; find who has it with: ss -ltnp 'sport = :{port}'"
    if error.errno == errno.EACCES:
        return "no permission for ports below 1024; give the service CAP_NET_BIND_SERVICE (etc/rtmp-relay.service does)"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; use 0.0.0.0 or [::] for all of them"
    return str(error)


def open_all(listeners: Sequence[Listener]) -> None:
    """Open every listener or none."""
    opened: list[Listener] = []
    try:
        for listener in listeners:
            listener.open()
            opened.append(listener)
    except ListenError:
        for listener in opened:
            listener.close()
        raise
