"""Telling systemd that the relay runs, by sd_notify(3): datagrams to the socket that `NOTIFY_SOCKET` names.

With `Type=notify` a start has succeeded when the listeners are open, not when the process is there. With `WatchdogSec`
systemd restarts a relay whose reactor stands still, which the relay itself cannot do: whatever holds up the reactor
holds up everything that could end it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger


class Notifier(Service):
    """Says when the relay is ready, that it still runs, and that it stops. Without systemd it does nothing."""

    log = Logger(namespace="relay.systemd")

    def __init__(self, clock: IReactorTime, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._every_s = _watchdog_s(environ) / 2
        self._beat = LoopingCall(self._say, "WATCHDOG=1")
        self._beat.clock = clock

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._say("READY=1")
        if self._address and self._every_s:
            self._beat.start(self._every_s)

    def stopService(self) -> None:
        """Say that it stops. This comes last: what stops before it is still watched."""
        if self._beat.running:
            self._beat.stop()
        self._say("STOPPING=1")
        super().stopService()  # type: ignore[no-untyped-call]

    def _say(self, word: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto(word.encode(), address)
        except OSError as error:
            self.log.warn("systemd was not told {word}: {error}", word=word, error=str(error))


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """Return how often systemd wants to hear of this process; 0: not at all."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0  # meant for whoever started us
    try:
        return max(int(environ.get("WATCHDOG_USEC", "0")), 0) / 1e6
    except ValueError:
        return 0.0
