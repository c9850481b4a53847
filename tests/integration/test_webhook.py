"""A real relay asks a web service, which says no, says yes, dies while the stream is on air, and comes back."""

from __future__ import annotations

import hmac
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import LONG, Relay, free_port, player, publisher, relay, wait_for

pytestmark = pytest.mark.integration

KEY = "canary-7f3a9c51e2d4"
WRONG = "canary-wrong-000001"
LATE = "canary-late-0000001"
SECRET = "canary-secret-a41f"


class Service:
    """What stays while servers come and go: what was asked and told."""

    def __init__(self) -> None:
        self.port = free_port()
        self.asked: list[dict[str, Any]] = []
        self.told: list[dict[str, Any]] = []
        self.forged = 0

    def answer(self, document: dict[str, Any]) -> dict[str, object]:
        if "events" in document:
            self.told += document["events"]
            return {}
        self.asked.append(document)
        if document["ask"] == "play":
            return {"allow": True}
        if document["stream_key"] == KEY:
            return {"allow": True, "stream_name": "townhall", "feed": "primary"}
        return {"allow": False, "reason": f"unknown key {document['stream_key']}"}

    def events(self) -> list[str]:
        return [event["event"] for event in self.told]

    @contextmanager
    def running(self) -> Iterator[None]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                at, sign = self.headers["X-Relay-Signature"].split(",")
                signed = at.removeprefix("t=").encode() + b"." + body
                good = hmac.new(SECRET.encode(), signed, "sha256").hexdigest() == sign.removeprefix("v1=")
                service.forged += not good or abs(time.time() - int(at.removeprefix("t="))) > 60
                said = json.dumps(service.answer(json.loads(body))).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def bytes_in(running: Relay) -> int:
    feeds: Any = running.stream("townhall").get("feeds", ())
    return sum(feed["bytes_in"] for feed in feeds)


def watch(running: Relay, seconds: float) -> None:
    """Ask for the playlist as a viewer of HLS does."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert running.text("/hls/townhall/index.m3u8").startswith("#EXTM3U")
        time.sleep(0.5)


def test_a_service_decides_and_a_dead_one_harms_no_stream(tmp_path: Path, small: Path) -> None:
    service, frames = Service(), tmp_path / "frames"
    extra = f"""[plugins.webhook]
        url = "http://127.0.0.1:{service.port}/hook"
        secret = "{SECRET}"
        events = ["StreamStarted", "FeedStarted", "FeedEnded", "PublishRefused"]
    """
    with relay(tmp_path, extra=extra, plugins=("hls",)) as running, ExitStack() as programs:
        with service.running():
            refused = programs.enter_context(publisher(running.publish_url(WRONG), small))
            assert refused.wait(20) != 0
            running.wait_log("the refusal", lambda line: "the service refused: unknown key ***" in str(line))
            encoder = programs.enter_context(publisher(running.publish_url(KEY), small, before=("-stream_loop", "-1")))
            watching = programs.enter_context(player(running.play_url("townhall"), frames))
            wait_for(lambda: frames.exists() and frames.stat().st_size > 2_000, "the picture", 20)
            if LONG:
                watch(running, 1)
            wait_for(lambda: service.events() == ["PublishRefused", "FeedStarted", "StreamStarted"], "events")

        late = programs.enter_context(publisher(running.publish_url(LATE), small))
        assert late.wait(20) != 0
        running.wait_log("the fault", lambda line: "did not decide: connection refused" in str(line))
        if LONG:  # a viewer is asked about again after ten seconds
            watch(running, 15)
        seen, received = frames.stat().st_size, bytes_in(running)
        wait_for(lambda: frames.stat().st_size > seen + 4_000, "more pictures while the service is dead")
        assert bytes_in(running) > received
        assert encoder.running
        assert watching.running

        with service.running():
            wait_for(lambda: service.events()[3:] == ["PublishRefused"], "what happened meanwhile", 20)
            said = running.program.text + running.text("/metrics") + running.text("/api/v1/streams")
            running.program.signal(signal.SIGTERM)
            assert running.program.wait(20) == 0
            assert service.events()[4:] == ["FeedEnded"], "the end of the relay is told too"
        said += running.program.text

    assert service.forged == 0
    assert [event["sequence"] for event in service.told] == [1, 2, 3, 4, 5]
    for secret in (KEY, WRONG, LATE, SECRET):
        assert secret not in said
        assert secret not in json.dumps(service.told)
