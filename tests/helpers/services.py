"""A whole relay in this process: every part that `twistd` would start, on ports that the kernel chooses."""

from __future__ import annotations

import gc
import json
import resource
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.logger import formatEvent, globalLogPublisher

from relay.config import Config, parse
from relay.config_file import Source
from relay.service import RelayService
from tests.helpers.reactor import NetTestCase, reactor, until
from tests.helpers.streams import End

CONFIG = """
[[listen]]
url = "rtmp://127.0.0.1:0"
[http]
listen = "127.0.0.1:0"
[plugins.streamkeys]
any_key = "loopback"
[plugins.restream]
merge_ms = 0
"""


def configuration(text: str = CONFIG) -> Config:
    """Read a configuration that must be good."""
    config, problems = parse(Source(text, file="test.toml"))
    assert config is not None, problems
    assert not problems
    return config


class ServiceTestCase(NetTestCase):
    """A running relay; it is stopped when the test is over."""

    def setUp(self) -> None:
        super().setUp()
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self._log)
        self.addCleanup(globalLogPublisher.removeObserver, self._log)
        thresholds, files = gc.get_threshold(), resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(gc.unfreeze)
        self.addCleanup(gc.set_threshold, *thresholds)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, files)
        self.stopped: Deferred[Any] | None = None

    def _log(self, event: Any) -> None:
        self.logged.append(formatEvent(event) or "")

    def build(self, text: str = CONFIG) -> RelayService:
        """Build a relay without starting it."""
        self.service = RelayService(configuration(text), reactor)
        return self.service

    def start(self, text: str = CONFIG) -> RelayService:
        """Start a relay."""
        service = self.build(text)
        service.privilegedStartService()
        service.startService()
        self.later(self.stop)
        return service

    def stop(self) -> Deferred[Any]:
        """Stop the relay, once."""
        if self.stopped is None:
            self.stopped = self.service.stopService()
        waiting: Deferred[Any] = Deferred()
        self.stopped.addBoth(lambda result: (waiting.callback(None), result)[1])
        return waiting

    @property
    def port(self) -> int:
        """The first listener's port."""
        return self.service.listeners[0].port

    async def get(self, path: str, *, token: str = "") -> tuple[int, str]:
        """Status and body of a GET."""
        end = End()
        port = self.service._http_port.getHost().port
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), end)
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
        head += f"Authorization: Bearer {token}\r\n" if token else ""
        end.transport.write(f"{head}\r\n".encode())
        await until(lambda: end.lost, f"the answer to {path}")
        head, _, body = end.received.decode().partition("\r\n\r\n")
        if "transfer-encoding: chunked" in head.lower():
            body = _dechunked(body)
        return int(head.split()[1]), body

    async def json(self, path: str) -> Any:
        """The JSON answer to a GET that must succeed."""
        status, body = await self.get(path)
        assert status == 200, body
        return json.loads(body)


def _dechunked(body: str) -> str:
    whole = ""
    while body:
        size, _, body = body.partition("\r\n")
        whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return whole
