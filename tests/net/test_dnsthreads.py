from __future__ import annotations

from threading import Event
from typing import Any

from twisted.internet.address import IPv4Address

from relay.net.addresses import Collector
from relay.net.dnsthreads import DnsThreads, SharedLookUps
from tests.helpers.reactor import NetTestCase, reactor, until


class Names:
    """A resolver that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.receivers: list[Any] = []

    def resolveHostName(self, receiver: Any, *question: Any) -> None:
        self.asked.append(question)
        self.receivers.append(receiver)

    def answer(self, address: str) -> None:
        receiver = self.receivers.pop(0)
        receiver.addressResolved(IPv4Address("TCP", address, 1935))
        receiver.resolutionComplete()


def ask(names: SharedLookUps, host: str, port: int = 1935) -> list[list[str]]:
    """Look a name up; what was found is in the list when the answer is there."""
    answers: list[list[str]] = []
    names.resolveHostName(Collector(lambda found: answers.append([one.host for one in found])), host, port)
    return answers


def test_who_asks_for_a_name_that_is_being_looked_up_gets_the_same_answer() -> None:
    inner = Names()
    names = SharedLookUps(inner)

    first, second, other = ask(names, "a.example"), ask(names, "a.example"), ask(names, "b.example")
    assert len(inner.asked) == 2
    inner.answer("192.0.2.7")

    assert first == second == [["192.0.2.7"]]
    assert other == []


def test_a_name_is_looked_up_afresh_when_its_last_look_up_is_over() -> None:
    inner = Names()
    names = SharedLookUps(inner)
    ask(names, "a.example")
    inner.answer("192.0.2.7")

    again = ask(names, "a.example")
    inner.answer("192.0.2.8")

    assert again == [["192.0.2.8"]]


def test_another_port_is_another_question() -> None:
    inner = Names()
    names = SharedLookUps(inner)

    ask(names, "a.example", 1935)
    ask(names, "a.example", 443)

    assert len(inner.asked) == 2


class HangingNameTests(NetTestCase):
    async def test_a_name_that_hangs_holds_one_thread_however_often_it_is_asked_for(self) -> None:
        over = Event()

        def look_up(host: str, *more: Any) -> list[Any]:
            if host == "hangs.example":
                over.wait(10)
            return []

        threads = DnsThreads(reactor, getaddrinfo=look_up)
        threads.start()
        try:
            for _ in range(200):
                reactor.nameResolver.resolveHostName(Collector(lambda found: None), "hangs.example", 1935)
            answers: list[int] = []
            reactor.nameResolver.resolveHostName(Collector(lambda found: answers.append(len(found))), "well.example", 1)
            await until(lambda: answers == [0], "the answer for another name")
        finally:
            over.set()
            threads.stop()

    async def test_what_is_no_name_is_answered_too(self) -> None:
        threads = DnsThreads(reactor)
        threads.start()
        try:
            answers: list[int] = []
            for _ in range(2):
                reactor.nameResolver.resolveHostName(Collector(lambda found: answers.append(len(found))), "a" * 70, 1)
            await until(lambda: answers == [0, 0], "both answers")
        finally:
            threads.stop()
