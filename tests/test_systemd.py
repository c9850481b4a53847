from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from relay.systemd import Notifier
from tests.integration.harness import relay, wait_for


class Systemd:
    """The socket that systemd listens on."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self.heard: list[str] = []

    def hear(self) -> list[str]:
        while True:
            try:
                self.heard.append(self.socket.recv(100).decode())
            except BlockingIOError:
                return self.heard


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    there = Systemd(str(tmp_path / "notify"))
    yield there
    there.socket.close()


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    found: list[str] = []

    def note(event: dict[str, object]) -> None:
        if str(event.get("log_namespace")).startswith("relay.systemd"):
            found.append(str(event.get("word")))

    globalLogPublisher.addObserver(note)
    yield found
    globalLogPublisher.removeObserver(note)


def test_it_says_when_it_is_ready_and_when_it_stops(tmp_path: Path, systemd: Systemd) -> None:
    clock = Clock()
    notifier = Notifier(clock, {"NOTIFY_SOCKET": str(tmp_path / "notify")})
    assert systemd.hear() == []

    notifier.startService()
    assert systemd.hear() == ["READY=1"]
    notifier.stopService()
    assert systemd.hear() == ["READY=1", "STOPPING=1"]
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("meant_for", [{}, {"WATCHDOG_PID": str(os.getpid())}])
def test_it_is_heard_twice_in_the_time_that_the_watchdog_waits(
    tmp_path: Path, systemd: Systemd, meant_for: dict[str, str]
) -> None:
    clock = Clock()
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000", **meant_for}
    notifier = Notifier(clock, environ)
    notifier.startService()
    assert systemd.hear() == ["READY=1", "WATCHDOG=1"]

    clock.advance(14.9)
    assert systemd.hear().count("WATCHDOG=1") == 1
    clock.advance(0.1)
    assert systemd.hear().count("WATCHDOG=1") == 2

    notifier.stopService()
    clock.advance(60)
    assert systemd.hear()[3:] == ["STOPPING=1"]
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
)
def test_no_watchdog_is_no_beat(tmp_path: Path, systemd: Systemd, wanted: dict[str, str]) -> None:
    clock = Clock()
    Notifier(clock, {"NOTIFY_SOCKET": str(tmp_path / "notify"), **wanted}).startService()

    clock.advance(60)

    assert systemd.hear() == ["READY=1"]
    assert clock.getDelayedCalls() == []


def test_an_address_without_a_file_is_heard_too() -> None:
    name = f"relay-test-{os.getpid()}"
    there = Systemd(f"\0{name}")
    try:
        Notifier(Clock(), {"NOTIFY_SOCKET": f"@{name}"}).startService()
        assert there.hear() == ["READY=1"]
    finally:
        there.socket.close()


def test_without_systemd_nothing_happens(warnings: list[str]) -> None:
    clock = Clock()
    notifier = Notifier(clock, {"WATCHDOG_USEC": "1000000"})
    notifier.startService()
    assert clock.getDelayedCalls() == []
    notifier.stopService()
    assert warnings == []


def test_a_systemd_that_does_not_listen_is_no_reason_to_stop(tmp_path: Path, warnings: list[str]) -> None:
    notifier = Notifier(Clock(), {"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    notifier.startService()
    notifier.stopService()

    assert warnings == ["READY=1", "STOPPING=1"]


def test_the_relay_itself_tells(tmp_path: Path, systemd: Systemd) -> None:
    told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    with relay(tmp_path, env=told) as running:
        wait_for(lambda: "READY=1" in systemd.hear(), "the start")
        socket.create_connection(("127.0.0.1", running.port), 5).close()
        wait_for(lambda: systemd.hear().count("WATCHDOG=1") >= 3, "some beats")

        running.program.signal(signal.SIGTERM)
        assert running.program.wait(8) == 0, running.program.tail

    assert systemd.hear()[-1] == "STOPPING=1"
