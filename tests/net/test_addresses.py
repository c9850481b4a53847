"""Addresses that may not be connected to, however they are written, and the way from a name to a connection."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest

from twisted.internet._resolver import GAIResolver
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.errors import DestinationError
from relay.net.addresses import MAX_ADDRESSES, AddressPolicy, CheckedReactor, resolve
from relay.net.endpoints import endpoint_for, parse_url

PUBLIC = AddressPolicy()


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
)
def test_public_addresses_are_permitted(address: str) -> None:
    assert PUBLIC.permits(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.1.2.3",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "2002:7f00:1::1",
        "2002:c0a8:101::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "100::1",
        "",
        "localhost",
        "127.1",
        "0x7f.1",
    ],
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not PUBLIC.permits(address)


def test_a_network_of_the_operators_own_is_allowed_and_nothing_beside_it() -> None:
    policy = AddressPolicy((ipaddress.ip_network("10.20.0.0/16"), ipaddress.ip_network("fd00:1::/32")))

    assert policy.permits("10.20.255.255")
    assert policy.permits("::ffff:10.20.0.1")
    assert policy.permits("fd00:1::5")
    assert not policy.permits("10.21.0.0")
    assert not policy.permits("fd00:2::5")
    assert not policy.permits("127.0.0.1")


@implementer(IHostnameResolver)
class Names:
    """Answers each look-up with the next list of addresses, as a name server under somebody's control may."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    def resolveHostName(self, receiver: Any, name: str, portNumber: int = 0, *more: Any) -> Any:
        receiver.resolutionBegan(None)
        for address in self.answers.pop(0):
            kind = IPv6Address if ":" in address else IPv4Address
            receiver.addressResolved(kind("TCP", address, portNumber))
        receiver.resolutionComplete()
        return None


class Inline:
    """A thread pool without threads."""

    def callInThreadWithCallback(self, done: Any, call: Any, *arguments: Any) -> None:
        try:
            result = call(*arguments)
        except Exception:
            done(False, Failure())
        else:
            done(True, result)


def connected_to(reactor: Any, names: Names, url: str, policy: AddressPolicy | None) -> list[str] | str:
    """Connect and return the hosts that were connected to, or the reason why not."""
    reactor.nameResolver = names
    endpoint = endpoint_for(reactor, parse_url(url), timeout_s=5, policy=policy)
    failures: list[Failure] = []
    endpoint.connect(Factory.forProtocol(Protocol)).addErrback(failures.append)
    reactor.advance(1)
    if failures:
        error = failures[0].value
        return error.reason if isinstance(error, DestinationError) else type(error).__name__
    return [client[0] for client in reactor.tcpClients]


def test_every_address_of_a_name_is_checked() -> None:
    url = "rtmp://ingest.example/live"

    assert connected_to(MemoryReactorClock(), Names(["8.8.8.8"]), url, PUBLIC) == ["8.8.8.8"]
    assert connected_to(MemoryReactorClock(), Names(["8.8.8.8", "10.0.0.1"]), url, PUBLIC) == "address-refused"
    assert connected_to(MemoryReactorClock(), Names(["8.8.8.8", "::1"]), url, PUBLIC) == "address-refused"
    assert connected_to(MemoryReactorClock(), Names([]), url, PUBLIC) == "DNSLookupError"
    assert connected_to(MemoryReactorClock(), Names(["10.0.0.1"]), url, None) == ["10.0.0.1"]


def test_the_same_for_tls() -> None:
    refused = connected_to(MemoryReactorClock(), Names(["127.0.0.1"]), "rtmps://ingest.example/live", PUBLIC)

    assert refused == "address-refused"


def test_a_name_that_changes_its_mind_is_checked_at_every_attempt_and_never_asked_twice() -> None:
    names = Names(["8.8.8.8"], ["127.0.0.1"])
    reactor = MemoryReactorClock()

    assert connected_to(reactor, names, "rtmp://rebinding.example/live", PUBLIC) == ["8.8.8.8"]
    assert len(names.answers) == 1, "asked once for the first attempt"
    assert connected_to(reactor, names, "rtmp://rebinding.example/live", PUBLIC) == "address-refused"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2130706433", "[::1]", "[::]", "0"])
def test_spellings_of_this_machine_are_found_out_by_resolving_them(host: str) -> None:
    reactor: Any = MemoryReactorClock()
    reactor.callFromThread = lambda call, *arguments: call(*arguments)
    resolver: Any = GAIResolver(reactor, Inline, socket.getaddrinfo)

    assert connected_to(reactor, resolver, f"rtmp://{host}/live", PUBLIC) in ("address-refused", "DNSLookupError")


@pytest.mark.parametrize(("url", "host"), [("rtmp://127.0.0.1/live", "127.0.0.1"), ("rtmps://[::1]/live", "::1")])
def test_an_address_is_connected_to_although_every_look_up_hangs(url: str, host: str) -> None:
    reactor = MemoryReactorClock()
    hanging: Any = _Hanging()

    assert connected_to(reactor, hanging, url, None) == [host]
    assert connected_to(reactor, hanging, url, PUBLIC) == "address-refused"


def test_looking_up_an_address_asks_nobody() -> None:
    reactor: Any = MemoryReactorClock()
    reactor.nameResolver = Names()
    found: list[Any] = []
    for host in ("192.0.2.1", "2001:db8::1"):
        resolve(reactor, host).addCallback(found.append)

    assert found == [["192.0.2.1"], ["2001:db8::1"]]


def test_looking_up_a_name_gives_its_addresses() -> None:
    reactor: Any = MemoryReactorClock()
    reactor.nameResolver = Names(["192.0.2.1", "2001:db8::1"], [])
    found: list[Any] = []
    resolve(reactor, "a.example").addCallback(found.append)
    resolve(reactor, "b.example").addCallback(found.append)

    assert found == [["192.0.2.1", "2001:db8::1"], []]


def test_a_thousand_addresses_are_not_all_tried() -> None:
    clock = MemoryReactorClock()
    names = Names([f"8.8.{number // 250}.{number % 250 + 1}" for number in range(1_000)])

    found: list[Any] = []
    CheckedReactor(_with(clock, names), None, lambda: None).nameResolver.resolveHostName(_Taker(found), "many.example")

    assert len(found) == MAX_ADDRESSES


def test_a_look_up_that_hangs_ends_after_five_seconds_and_its_answer_goes_to_nobody() -> None:
    clock = MemoryReactorClock()
    hanging = _Hanging()
    taker = _Taker([])
    CheckedReactor(_with(clock, hanging), None, lambda: None).nameResolver.resolveHostName(taker, "slow.example")
    clock.advance(4.9)
    assert taker.completed == 0

    clock.advance(0.2)
    hanging.receiver.addressResolved(IPv4Address("TCP", "8.8.8.8", 1935))
    hanging.receiver.resolutionComplete()

    assert (taker.completed, taker.found) == (1, [])
    assert not clock.getDelayedCalls()


def _with(reactor: Any, names: Any) -> Any:
    reactor.nameResolver = names
    return reactor


class _Taker:
    def __init__(self, found: list[Any]) -> None:
        self.found = found
        self.completed = 0

    def resolutionBegan(self, resolution: Any) -> None: ...

    def addressResolved(self, address: Any) -> None:
        self.found.append(address)

    def resolutionComplete(self) -> None:
        self.completed += 1


class _Hanging:
    receiver: Any

    def resolveHostName(self, receiver: Any, *more: Any) -> Any:
        self.receiver = receiver
