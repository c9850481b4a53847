"""The webhook plugin against real HTTP servers, good and bad ones (reliability.md cases 151 to 154)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from relay.api import Allow, Decision, Deny, SecretRef
from relay.net.tls import ReloadingCertificate
from relay.testing import play_request, publish_request
from relay_webhook.asking import CONCURRENCY, LIMIT_S, NOT_NOW, Asker
from relay_webhook.client import MAX_BODY, NOT_NEAR, TOO_LARGE, Client, ServiceError
from relay_webhook.options import read_place
from relay_webhook.wire import signature
from tests.helpers.reactor import NetTestCase, reactor, turns, until
from tests.helpers.tls import Authority, tls_factory
from tests.helpers.webservices import Asked, RawService, WebService, site

SLACK_S = 5.0
"""For a machine with other work; the services under test are silent for ever."""

KEY = "canary-key-1234567890"
ALLOW = b'{"allow": true, "stream_name": "townhall"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def answering(status: int, body: bytes) -> Callable[[Asked], tuple[int, bytes]]:
    return lambda _: (status, body)


class WebhookTestCase(NetTestCase):
    """A client and an asker for a service on a port of this machine."""

    def serve(self, service: WebService) -> WebService:
        self.port = self.listen(site(service))
        return service

    def client(self, url: str = "", **more: Any) -> Client:
        url = url or f"http://127.0.0.1:{self.port}/hook"
        return Client(reactor, read_place(url, "url", plain_http=bool(more.get("plain_http"))), **more)

    def asker(self, url: str = "", **more: Any) -> Asker:
        return Asker(self.client(url, **more), place="http://service", clock=reactor, log=Logger())

    async def ask(self, url: str = "", **more: Any) -> Decision:
        return await self.asker(url, **more).decide(publish_request(KEY))

    async def fault(self, url: str = "", **more: Any) -> str:
        """Why the answer is no; the encoder is told nothing of it, and the key is not in it."""
        started = time.monotonic()
        decision = await self.ask(url, **more)

        assert isinstance(decision, Deny), decision
        assert decision.public == NOT_NOW
        assert KEY not in decision.reason
        assert time.monotonic() - started < LIMIT_S + SLACK_S
        return decision.reason.partition("did not decide: ")[2]


class AskingTest(WebhookTestCase):
    async def test_the_service_decides_stream_and_feed(self) -> None:
        answer = {"allow": True, "stream_name": "townhall", "feed": "backup", "priority": 1}
        service = self.serve(WebService(answering(200, json.dumps(answer).encode())))

        assert await self.ask() == Allow(stream_name="townhall", feed="backup", priority=1)
        (asked,) = service.asked
        assert asked.json == {
            "version": 1,
            "ask": "publish",
            "connection_id": "c1",
            "peer": "192.0.2.1",
            "tls": False,
            "app": "live",
            "stream_key": KEY,
            "query": {},
        }
        assert asked.path == "/hook"
        assert KEY not in str(asked.headers)

    async def test_requests_are_signed(self) -> None:
        service = self.serve(WebService(answering(200, ALLOW)))
        secret = SecretRef.of("the secret of both")

        await self.ask(secret=secret, wall_clock=lambda: 1796040000.9)

        (asked,) = service.asked
        assert asked.headers["x-relay-signature"] == signature(secret.secret, 1796040000, asked.body)
        assert "the secret of both" not in str(asked)

    async def test_the_certificate_is_verified(self) -> None:
        authority = Authority(self.tmp_path)
        service = WebService(answering(200, ALLOW))
        port = self.listen(tls_factory(ReloadingCertificate(*authority.issue()), site(service)))

        assert await self.ask(f"https://localhost:{port}/", ca_file=authority.file) == Allow(stream_name="townhall")
        assert "not signed by a CA we trust (see ca_file)" in await self.fault(f"https://localhost:{port}/")
        assert "another host name" in await self.fault(f"https://127.0.0.1:{port}/", ca_file=authority.file)
        assert "ca_file" in await self.fault(f"https://localhost:{port}/", ca_file=self.tmp_path / "none.pem")
        assert len(service.asked) == 1, "nothing is sent before the certificate is good"

    async def test_a_public_address_is_not_asked_in_the_clear(self) -> None:
        client = self.client("http://relay.invalid:1/")
        names = {"relay.invalid": "198.41.0.4"}
        client._reactor = Names(names)

        with self.assertRaises(ServiceError) as raised:  # noqa: PT027 - no fixtures on the real reactor
            await client.post(b"{}")

        assert raised.exception.reason == NOT_NEAR

    async def test_an_answer_may_have_64_kib(self) -> None:
        for size, chunked in ((MAX_BODY - 1, False), (MAX_BODY, False), (MAX_BODY, True)):
            body = ALLOW.ljust(size)
            head = b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % size
            if chunked:
                body = b"".join(b"1\r\n%c\r\n" % char for char in body) + b"0\r\n\r\n"
            self.port = self.listen(RawService(OK + head + body))

            assert await self.ask() == Allow(stream_name="townhall")

    async def test_an_answer_may_not_have_more(self) -> None:
        self.serve(WebService(answering(200, ALLOW.ljust(MAX_BODY + 1))))

        assert await self.fault() == TOO_LARGE

    async def test_a_gigabyte_is_not_read(self) -> None:
        for head in (OK + b"Content-Length: 1000000000\r\n\r\n", OK + b"\r\n", b"HTTP/1.1 200 OK\r\n"):
            more = b"x" * 65_536 if head.endswith(b"\r\n\r\n") else b"X-More: %s\r\n" % (b"x" * 10_000)
            service = RawService(head, more)
            self.port = self.listen(service)

            assert await self.fault() == TOO_LARGE
            await until(lambda service=service: not service.made[0].transport.connected, "the end of the connection")
            assert service.made[0].sent < 20_000_000, "what the sockets hold, and no more"

    async def test_it_fails_closed_whatever_is_answered(self) -> None:
        for status, body, words in (
            (500, b"oops", "HTTP status 500 instead of 200"),
            (503, ALLOW, "HTTP status 503"),
            (204, b"", "HTTP status 204 instead of 200"),
            (201, ALLOW, "HTTP status 201 instead of 200"),
            (404, ALLOW, "HTTP status 404 instead of 200"),
            (200, b"", "it answered no JSON"),
            (200, b"allow", "it answered no JSON"),
            (200, b"[" * 60_000, "it answered no JSON"),
            (200, b"true", "it answered JSON that is no answer: the document"),
            (200, b'{"allow": "true"}', "it answered JSON that is no answer: allow"),
            (200, b'{"allow": true, "stream": "a"}', "it answered JSON that is no answer: stream"),
        ):
            self.serve(WebService(answering(status, body)))

            assert (await self.fault()).startswith(words), (status, body)

    async def test_redirects_are_not_followed(self) -> None:
        elsewhere = WebService(answering(200, ALLOW))
        port = self.listen(site(elsewhere))
        service = WebService(answering(302, ALLOW), headers={b"location": b"http://127.0.0.1:%d/" % port})
        self.serve(service)

        assert await self.fault() == "HTTP status 302: redirects are not followed"
        assert elsewhere.asked == []

    async def test_what_is_no_http_is_said_so(self) -> None:
        for sent in (b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 100_000):
            self.port = self.listen(RawService(sent))

            assert await self.fault() in ("the answer is no HTTP", "the connection was closed without an answer")

    async def test_https_to_a_server_without_it_is_said_so(self) -> None:
        self.port = self.listen(RawService(b"HTTP/1.1 400 Bad Request\r\n\r\n"))

        assert "TLS failed: wrong version number" in await self.fault(f"https://127.0.0.1:{self.port}/")

    async def test_the_service_has_twenty_connections_at_most(self) -> None:
        service = self.serve(WebService(lambda _: None))
        asker = self.asker()
        asking = [Deferred.fromCoroutine(asker.decide(publish_request(f"k{number}"))) for number in range(25)]
        await until(lambda: len(service.waiting) == CONCURRENCY, "twenty questions")
        await turns(5)
        assert len(service.waiting) == CONCURRENCY
        while len(service.asked) < 25 or service.waiting:
            for request in tuple(service.waiting):
                request.write(ALLOW)
                request.finish()
                service.waiting.remove(request)
            await turns(1)

        assert [await one for one in asking] == [Allow(stream_name="townhall")] * 25

    async def test_a_compressed_answer_is_refused(self) -> None:
        self.port = self.listen(RawService(OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"))

        assert "compressed" in await self.fault()

    async def test_nobody_listens(self) -> None:
        self.port = self.listen(site(WebService(answering(200, ALLOW))))
        for cleanup in reversed(self._cleanups[-1:]):
            await cleanup[0](*cleanup[1], **cleanup[2])

        assert await self.fault() == "connection refused: nothing listens there"

    async def test_silence_and_a_byte_a_second_end_after_three_seconds(self) -> None:
        services = [
            RawService(),
            RawService(b"H"),
            RawService(OK + b"Content-Length: 1000\r\n\r\n", b" ", 0.5),
            RawService(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.5),
            RawService(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", 0.1),
        ]
        ports = [self.listen(service) for service in services]
        urls = [*(f"http://127.0.0.1:{port}/" for port in ports), f"https://127.0.0.1:{ports[0]}/"]
        started = time.monotonic()
        faults = [Deferred.fromCoroutine(self.fault(url)) for url in urls]
        faults.append(Deferred.fromCoroutine(self.fault_of_a_name_that_never_resolves()))

        for fault in faults:
            assert await fault == "no answer within 3 s"
        assert LIMIT_S - 0.1 < time.monotonic() - started < LIMIT_S + SLACK_S
        made = [connection for service in services for connection in service.made]
        assert len(made) == len(urls)
        await until(lambda: not any(connection.transport.connected for connection in made), "the end of all of them")

    async def fault_of_a_name_that_never_resolves(self) -> str:
        client = self.client("https://relay.invalid/")
        client._reactor = names = Names({})
        self.later(names.end)
        decision = await Asker(client, place="x", clock=reactor, log=Logger()).decide(publish_request(KEY))
        assert isinstance(decision, Deny)
        return decision.reason.partition("did not decide: ")[2]

    async def test_a_question_that_nobody_waits_for_ends_its_connection(self) -> None:
        service = self.serve(WebService(lambda _: None))
        asking = Deferred.fromCoroutine(self.asker().decide(publish_request(KEY)))
        await until(lambda: service.waiting, "the question")

        asking.addErrback(lambda _: None)
        asking.cancel()

        await until(lambda: not service.waiting, "the end of the connection")

    async def test_a_player_is_asked_about_by_its_stream(self) -> None:
        service = self.serve(WebService(answering(200, b'{"allow": true}')))

        decision = await self.asker().decide(play_request("townhall", token="t"))

        assert decision == Allow(stream_name="townhall")
        assert service.asked[0].json["ask"] == "play"
        assert service.asked[0].json["stream_name"] == "townhall"
        assert service.asked[0].json["query"] == {"token": "t"}


class Names:
    """A reactor that knows some names, and is silent about all others."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names
        self._calls: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def callLater(self, *what: Any) -> Any:
        self._calls.append(reactor.callLater(*what))
        return self._calls[-1]

    def end(self) -> None:
        for call in self._calls:
            if call.active():
                call.cancel()

    @property
    def nameResolver(self) -> Any:
        return self

    def resolveHostName(self, receiver: Any, name: str, port: int = 0, *more: Any, **named: Any) -> Any:
        receiver.resolutionBegan(None)
        if name in self._names:
            receiver.addressResolved(IPv4Address("TCP", self._names[name], port))
            receiver.resolutionComplete()
