"""Fake platforms: RTMP(S) destinations with the manners of YouTube, Twitch and Facebook, and with faults on order.

    platform = FakePlatform(reactor, manners=TWITCH, keys={"live_1_abc"})
    url = platform.start()                  # rtmp://127.0.0.1:PORT/app
    ...                                     # push to it
    platform.inject("stall")                # now, and for whoever comes later
    platform.clear()
    platform.sessions[-1].media             # what came
    await platform.stop()

`rtmp-relay fake-platform` runs one as a program. The manners are what the vendors' documents and other people's
packet captures say, exaggerated where that makes a mistake visible.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory

from relay.net.tls import ReloadingCertificate, load_context
from relay.secret import Secret
from relay.testing_certificates import Authority
from relay.testing_faults import CERTIFICATE_FAULTS, Fault, Stage
from relay.testing_logins import LoginGuard
from relay.testing_received import Broadcast, Session
from relay.testing_sessions import SLOW_BUFFER, PlatformConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How a platform behaves.

    Attributes:
        name: what to call it.
        app: the app of its address; any other is refused. Empty: any app will do.
        live_only: the publish type must be ``live``.
        default_port_in_tc_url: a tcUrl may name the scheme's own port.
        audio_within_s: closes when no sound came by then; 0 for never.
        wrong_key: ``status`` (NetStream.Publish.BadName, then close) or ``close`` (grants, and closes without a word).
        wrong_key_s: seconds until that close.
        second: a second publisher of a name is refused (``refuse``), takes the place (``replace``) or is let in
            (``allow``).
        hold_s: after an unclean end the broadcast waits so long for its publisher.
        backup: the query ``backup=1`` of the app is a place of its own.
    """

    name: str
    app: str = ""
    live_only: bool = False
    default_port_in_tc_url: bool = True
    audio_within_s: float = 0.0
    wrong_key: str = "status"
    wrong_key_s: float = 1.0
    second: str = "allow"
    hold_s: float = 0.0
    backup: bool = False


GENERIC = Manners(name="generic")
"""Takes everything."""
NGINX = Manners(name="nginx", second="refuse")
"""nginx-rtmp: a second publisher gets BadName until the first is gone."""
YOUTUBE = Manners(name="youtube", app="live2", live_only=True, backup=True, second="replace", hold_s=60.0)
"""The publish type must be ``live``; ``?backup=1`` is the second address of the same broadcast."""
TWITCH = Manners(name="twitch", app="app", wrong_key="close", second="replace", hold_s=90.0)
"""A wrong key is closed without a word a second after the publish; an unclean end is held for about 90 s."""
FACEBOOK = Manners(name="facebook", app="rtmp", default_port_in_tc_url=False, audio_within_s=5.0, hold_s=60.0)
"""A tcUrl that names port 443 is refused; a broadcast without sound is closed."""

MANNERS = {one.name: one for one in (GENERIC, NGINX, YOUTUBE, TWITCH, FACEBOOK)}
"""Every set of manners by name."""


class FakePlatform(Factory):
    """One fake destination. It listens on this machine only, unless told otherwise.

    Attributes:
        sessions: every connection, in order of arrival.
        broadcasts: every broadcast that was on air.
        authority: whose certificates it shows (TLS only); clients trust ``authority.ca_file``.
    """

    noisy = False

    def __init__(
        self,
        reactor: Any,
        *,
        manners: Manners = GENERIC,
        keys: Iterable[str | Secret] | None = None,
        faults: Iterable[str | Fault] = (),
        tls: bool = False,
        authority: Authority | None = None,
        app: str = "",
        guard: LoginGuard | None = None,
        redirect: str = "",
        on_event: Callable[[str, Session], None] = lambda _what, _session: None,
    ) -> None:
        """Prepare a platform.

        Args:
            reactor: where it runs.
            manners: how it behaves.
            keys: the stream keys it knows; None takes any.
            faults: see `relay.testing_faults.FAULTS`.
            tls: speak RTMPS.
            authority: signs its certificate; made when it is missing.
            app: the app of `url`, when the manners leave it open.
            guard: asks for a user name and a password.
            redirect: a tcUrl that every `connect` is sent to.
            on_event: called with ``live``, ``refused`` or ``closed`` and the session.
        """
        self.reactor = reactor
        self.manners = manners
        self.keys = None if keys is None else {key if isinstance(key, Secret) else Secret(key) for key in keys}
        self.tls = tls
        self.app = manners.app or app or "live"
        self.faults = tuple(one if isinstance(one, Fault) else Fault.parse(one) for one in faults)
        self.guard = guard
        self.redirect = redirect
        self.on_event = on_event
        self.sessions: list[Session] = []
        self.broadcasts: list[Broadcast] = []
        self.connections: dict[PlatformConnection, None] = {}
        self.authority = authority
        self.host, self.port = "127.0.0.1", 0
        self._listening: Any = None
        self._context: Any = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._holds: dict[Broadcast, Any] = {}

    # Being there.

    @property
    def url(self) -> str:
        """Where to push, without a key. Over TLS the host is one that the certificate names."""
        host = "localhost" if self.tls and self.host.startswith("127.") else self.host
        host = f"[{host}]" if ":" in host else host
        return f"{'rtmps' if self.tls else 'rtmp'}://{host}:{self.port}/{self.app}"

    @property
    def ca_file(self) -> Path:
        """What a client must trust to get through."""
        if self.authority is None:
            raise ValueError("this platform does not speak TLS")
        return self.authority.ca_file

    def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen; return `url`. A platform that was stopped may be started again on the same port."""
        self.host, self.port = host, port or self.port
        if self._has("refuse"):
            with socket.socket() as probe:
                probe.bind((host, self.port))
                self.port = int(probe.getsockname()[1])
            return self.url
        self._listening = self.reactor.listenTCP(self.port, self._secured(), interface=host, backlog=1024)
        self.port = int(self._listening.getHost().port)
        if any(fault.name in ("stall", "slow") for fault in self.faults):
            self._listening.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)
        return self.url

    def _secured(self) -> Any:
        if not self.tls:
            return self
        kind = next((fault.name for fault in self.faults if fault.name in CERTIFICATE_FAULTS), "")
        certificate, key = self._authority().issue(kind)
        if self._has("tls-garbage") or self._has("tls-cut"):
            self._context = load_context(certificate, key)
            return self
        factory = TLSMemoryBIOFactory(ReloadingCertificate(certificate, key), False, self)
        factory.noisy = False
        return factory

    def _authority(self) -> Authority:
        if self.authority is None:
            self._directory = tempfile.TemporaryDirectory(prefix="fakeplatform-")
            self.authority = Authority(Path(self._directory.name))
        return self.authority

    def _has(self, name: str) -> bool:
        return any(fault.name == name for fault in self.faults)

    def close_port(self) -> Deferred[Any]:
        """Stop listening; connections stay."""
        port, self._listening = self._listening, None
        return maybeDeferred(port.stopListening if port is not None else lambda: None)

    def stop(self) -> Deferred[Any]:
        """Stop listening and reset every connection; fires when all are gone."""
        waiting = [self.close_port()]
        for connection in tuple(self.connections):
            waiting.append(connection.gone)
            connection.end(abort=True)

        def clean(result: object) -> object:
            for hold in self._holds.values():  # the last connections begin theirs when they are gone
                hold.cancel()
            self._holds.clear()
            if self._directory is not None:
                self._directory.cleanup()
            return result

        return DeferredList(waiting).addCallback(clean)

    # Faults.

    def inject(self, fault: str | Fault) -> None:
        """Add a fault: for publishers that are on air at once, for connections that come at its stage."""
        parsed = fault if isinstance(fault, Fault) else Fault.parse(fault)
        self.faults = (*self.faults, parsed)
        if parsed.stage is Stage.LIVE:
            for connection in tuple(self.connections):
                connection.suffer(parsed)

    def clear(self) -> None:
        """Take every fault back; who was stalled or slowed down is read from again."""
        self.faults = ()
        for connection in tuple(self.connections):
            connection.recover()

    def ask_to_reconnect(self, tc_url: str = "", description: str = "Maintenance.") -> int:
        """Ask every publisher to come again, to *tc_url*; return how many understand that (E-RTMP)."""
        return sum(connection.ask_to_reconnect(description, tc_url) for connection in tuple(self.connections))

    def at(self, stage: Stage) -> list[Fault]:
        """Faults of one stage."""
        return [fault for fault in self.faults if fault.stage is stage]

    # What its connections ask.

    def buildProtocol(self, addr: IAddress | None) -> PlatformConnection:
        session = Session(number=len(self.sessions) + 1, opened_at=self.reactor.seconds())
        self.sessions.append(session)
        return PlatformConnection(self, session)

    def knows(self, key: Secret) -> bool:
        """Whether somebody may publish with this key."""
        return self.keys is None or key in self.keys

    def rivals(self, session: Session) -> list[PlatformConnection]:
        """Connections that publish in the place *session* asks for."""
        return [
            other
            for other in self.connections
            if other.session is not session
            and other.publishing
            and other.session.key == session.key
            and other.session.backup == session.backup
        ]

    def go_on_air(self, session: Session) -> None:
        """Begin a broadcast, or go on with the one that waits for this publisher."""
        for one in self.broadcasts:
            if not one.ended and one.key == session.key and one.backup == session.backup and one.test == session.test:
                hold = self._holds.pop(one, None)
                if hold is not None:
                    hold.cancel()
                one.sessions.append(session)
                return
        self.broadcasts.append(Broadcast(key=session.key, backup=session.backup, test=session.test, sessions=[session]))

    def go_off_air(self, session: Session, *, clean: bool) -> None:
        """A publisher left: the broadcast ends, or waits for it."""
        for one in self.broadcasts:
            if session not in one.sessions or one.ended or any(self._on_air(other) for other in one.sessions):
                continue
            if clean:
                one.ended = "unpublished"
                hold = self._holds.pop(one, None)
                if hold is not None:
                    hold.cancel()
            elif one not in self._holds:
                self._holds[one] = self.reactor.callLater(self.manners.hold_s, self._lost, one)

    def _lost(self, broadcast: Broadcast) -> None:
        self._holds.pop(broadcast, None)
        broadcast.ended = "lost"

    def half_hello(self, hello: bytes) -> bytes:
        """Return the first half of what a TLS server says to *hello*."""
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        connection.bio_write(hello)
        with contextlib.suppress(SSL.Error):
            connection.do_handshake()
        with contextlib.suppress(SSL.Error):
            whole = connection.bio_read(65536)
            return whole[: len(whole) // 2]
        return b""

    def _on_air(self, session: Session) -> bool:
        return any(one.session is session and one.publishing for one in self.connections)
