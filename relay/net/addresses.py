"""Which addresses a destination may have that came through the API, a callback or a redirect (SSRF).

The rule it guards: the name is resolved first, every address is checked, and the connection goes to an address that
was checked; the name is never resolved a second time (reliability.md case 159, S15). Addresses in the configuration
file are the operator's own and are not checked.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from zope.interface import implementer

LOOK_UP_S = 5.0
"""For one look-up (reliability.md case 155). Its thread may hang on; nobody waits for it."""

MAX_ADDRESSES = 16
"""Addresses of one name that are tried; a name server may say a thousand."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Allows public addresses, and those of *allow*: networks of the operator's own that a destination may be in."""

    allow: tuple[Network, ...] = ()

    def permits(self, address: str) -> bool:
        """Whether a destination may have *address*, an IP address as text."""
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        meant = _meant(found)
        if any(one in network for one in (found, meant) for network in self.allow if one.version == network.version):
            return True
        return _is_public(found) and _is_public(meant)


def _meant(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    if inner is None and (address in _NAT64 or address in _COMPATIBLE) and int(address) > 1:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address if inner is None else inner


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address in _NAT64):
        return True  # what it stands for decides
    if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


@implementer(IResolutionReceiver)
class Collector:
    """Collects the addresses of one look-up."""

    def __init__(self, done: Callable[[list[IAddress]], None]) -> None:
        self._done = done
        self._found: list[IAddress] = []

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        """Nothing to do yet."""

    def addressResolved(self, address: IAddress) -> None:
        self._found.append(address)

    def resolutionComplete(self) -> None:
        self._done(self._found)


@implementer(IHostResolution)
class NamedLookUp:
    """Stands for a look-up that cannot be taken back, or is not needed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Its answer may be left unread."""


@implementer(IHostnameResolver)
class _CheckedResolver:
    """Hands out a name's addresses if all of them are permitted, else none; none as well when that takes too long."""

    def __init__(self, reactor: Any, policy: AddressPolicy | None, on_refused: Callable[[], None]) -> None:
        self._reactor = reactor
        self._policy = policy
        self._on_refused = on_refused

    def resolveHostName(self, resolutionReceiver: Any, hostName: str, portNumber: int = 0, *more: Any) -> Any:
        limit: IDelayedCall | None = None
        answered = False

        def done(found: list[IAddress]) -> None:
            nonlocal answered
            if answered:
                return
            answered = True
            if limit is not None and limit.active():
                limit.cancel()
            if self._policy is not None and any(not self._policy.permits(_host(address)) for address in found):
                self._on_refused()
                found = []
            for address in found[:MAX_ADDRESSES]:
                resolutionReceiver.addressResolved(address)
            resolutionReceiver.resolutionComplete()

        written = _as_written(hostName, portNumber)
        if written is not None:
            resolutionReceiver.resolutionBegan(NamedLookUp(hostName))
            done([written])
            return None
        resolution = self._reactor.nameResolver.resolveHostName(Collector(done), hostName, portNumber, *more)
        resolutionReceiver.resolutionBegan(resolution)
        if not answered:
            limit = self._reactor.callLater(LOOK_UP_S, done, [])
        return resolution


@implementer(IReactorPluggableNameResolver)
class CheckedReactor:
    """A reactor whose look-ups end in time and answer with permitted addresses; *on_refused* is told when one was not.

    Without a *policy* every address is permitted.
    """

    def __init__(self, reactor: Any, policy: AddressPolicy | None, on_refused: Callable[[], None]) -> None:
        self._reactor = reactor
        self._policy = policy
        self._on_refused = on_refused

    @property
    def nameResolver(self) -> _CheckedResolver:
        """The reactor's own resolver, behind the check."""
        return _CheckedResolver(self._reactor, self._policy, self._on_refused)

    def installNameResolver(self, resolver: Any) -> Any:
        """Not for callers of this object."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


def resolve(reactor: Any, host: str) -> Deferred[Sequence[str]]:
    """Look *host* up and return its addresses as text; empty when it has none."""
    if _as_written(host, 0) is not None:
        return succeed([host])
    result: Deferred[Sequence[str]] = Deferred()

    def done(found: Iterable[IAddress]) -> None:
        if not result.called:
            result.callback([_host(address) for address in found])

    reactor.nameResolver.resolveHostName(Collector(done), host)
    return result


def _as_written(host: str, port: int) -> IAddress | None:
    """Return the address that *host* is, if it is no name: it must not wait behind look-ups that hang."""
    if isIPAddress(host):
        return IPv4Address("TCP", host, port)
    if isIPv6Address(host) and "%" not in host:
        return IPv6Address("TCP", host, port)
    return None


def _host(address: IAddress) -> str:
    return address.host if isinstance(address, IPv4Address | IPv6Address) else ""
