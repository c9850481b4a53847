"""`rtmp-relay switch` against an HTTP server that answers as the relay does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from relay.cli import main

TOKEN = "a-token-nobody-guesses"


class Asked(BaseHTTPRequestHandler):
    """Answers like `/api/v1/streams/.../switch` and remembers what it was asked."""

    seen: ClassVar[list[tuple[str, str | None, object]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, self.headers["Authorization"], body))
        known = body["feed"] == "backup"
        answer = {"state": "armed"} if known else {"code": "feed.unknown", "detail": "No such feed."}
        data = json.dumps(answer).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    Asked.seen = []
    server = HTTPServer(("127.0.0.1", 0), Asked)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    (tmp_path / "token").write_text(TOKEN)
    file = tmp_path / "relay.toml"
    file.write_text(f'[http]\nlisten = "127.0.0.1:{server.server_port}"\ntoken = {{ file = "token" }}\n')
    yield file
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_running_relay_is_asked_with_its_token(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["switch", "big/show", "backup", "--config", str(config)])

    assert code == 0
    assert capsys.readouterr() == ("feed backup of big/show goes on air at its next keyframe\n", "")
    assert Asked.seen == [("/api/v1/streams/big%2Fshow/switch", f"Bearer {TOKEN}", {"feed": "backup"})]


def test_what_the_relay_says_is_repeated(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["switch", "show", "nobody", "-c", str(config)]) == 1
    assert capsys.readouterr() == ("", "No such feed.\n")


def test_a_relay_that_does_not_run_is_said_without_the_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "relay.toml"
    file.write_text('[http]\nlisten = "127.0.0.1:1"\n')

    assert main(["switch", "show", "backup", "-c", str(file)]) == 1
    assert "no answer from the relay at 127.0.0.1:1" in capsys.readouterr().err
