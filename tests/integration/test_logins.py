"""Logins with a foreign client: FFmpeg, old and new, at the server's side that our fake platforms have."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twisted.internet.utils import getProcessOutputAndValue

from relay.secret import Secret
from relay.testing import FakePlatform, LoginGuard
from tests.helpers.reactor import NetTestCase, reactor
from tests.integration.harness import Program, ffmpeg5, ffmpeg9, free_port, publisher, relay, stream_table, wait_for

pytestmark = pytest.mark.integration

SOURCE = [
    "-f",
    "lavfi",
    "-i",
    "testsrc=size=128x72:rate=25",
    "-f",
    "lavfi",
    "-i",
    "sine",
    "-t",
    "1",
    "-c:v",
    "flv1",
    "-c:a",
    "aac",
    "-f",
    "flv",
]


KEY = "canary-5b9d1f3a7c2e"
PASSWORD = "canary-hunter2-77aa"
LOGIN = ["--authmod", "adobe", "--user", "bob", "--password-env", "FAKE_PASSWORD"]


class FfmpegLogsIn(NetTestCase):
    timeout = 60

    async def publish(self, guard: LoginGuard, ffmpeg: str, *, user: str = "bob", app: str = "live") -> FakePlatform:
        """Let FFmpeg publish a second with a user name and a password."""
        platform = FakePlatform(reactor, guard=guard, app=app)
        platform.start()
        self.later(platform.stop)
        url = f"rtmp://{user}:hunter2@127.0.0.1:{platform.port}/{app}/key"
        await getProcessOutputAndValue(ffmpeg, ["-loglevel", "error", *SOURCE, url], env={}, reactor=reactor)
        return platform

    async def check_both(self, guard: Callable[[], LoginGuard], **options: Any) -> None:
        for ffmpeg in (ffmpeg9(), ffmpeg5()):
            platform = await self.publish(guard(), ffmpeg, **options)

            assert [session.live_at is not None for session in platform.sessions] == [False, False, True]
            assert len(platform.sessions[-1].frames) > 20

    async def test_adobes_way(self) -> None:
        await self.check_both(lambda: LoginGuard("adobe", "bob", Secret("hunter2")))

    async def test_adobes_way_without_an_opaque_value(self) -> None:
        await self.check_both(lambda: LoginGuard("adobe", "bob", Secret("hunter2"), opaque=False))

    async def test_limelights_way(self) -> None:
        await self.check_both(lambda: LoginGuard("llnw", "bob", Secret("hunter2")))

    async def test_a_wrong_password_is_refused(self) -> None:
        platform = await self.publish(LoginGuard("adobe", "bob", Secret("another")), ffmpeg9())

        assert len(platform.sessions) == 3
        assert not any(session.live_at for session in platform.sessions)


def program(*options: str) -> Program:
    """Start a fake platform."""
    args = [sys.executable, "-m", "relay.fakeplatform", "--listen", f"rtmp://127.0.0.1:{free_port()}/live"]
    return Program([*args, *options], env={"FAKE_PASSWORD": PASSWORD})


def url_of(running: Program) -> str:
    """Where it listens."""
    line = wait_for(lambda: next((line for line in running.out if "platform on" in line), ""), "the platform", 30)
    return line.split()[-1].strip()


def test_a_relay_logs_in_where_a_redirect_leads(tmp_path: Path, small: Path) -> None:
    with program(*LOGIN) as last, program("--redirect", url_of(last)) as first:
        table = stream_table("town", KEY, targets={"out": url_of(first)}, more='user = "bob"\n')
        table += 'password = { env = "OUT_PASSWORD" }\n'
        allow = 'allow_networks = ["127.0.0.0/8"]\n'
        with relay(tmp_path, table, extra=allow, env={"OUT_PASSWORD": PASSWORD}) as running:
            with publisher(running.publish_url(KEY), small) as encoder:
                wait_for(lambda: "on air" in last.text, "the programme behind the redirect and the login", 20)
                (target,) = running.stream("town")["targets"]  # type: ignore[misc]
                assert encoder.wait(30) == 0
            assert (target["state"], target["attempts"]) == ("live", 1)
            assert target["destination"] == url_of(last)
            wait_for(lambda: "over (clean)" in last.text, "the goodbye")
            said = running.program.text + last.text + first.text
        assert PASSWORD not in said
        assert "on air" not in first.text


def test_the_fake_platform_as_a_program_asks_for_a_login_and_sends_elsewhere() -> None:
    with program(*LOGIN) as last, program("--redirect", url_of(last)) as first:
        address = url_of(first)
        bob = url_of(last).replace("://", f"://bob:{PASSWORD}@") + "/key"
        subprocess.run([ffmpeg5(), "-loglevel", "error", *SOURCE, bob], check=True, timeout=30)
        refused = subprocess.run([ffmpeg5(), "-loglevel", "error", *SOURCE, f"{address}/key"], check=False, timeout=30)

        assert refused.returncode != 0, "FFmpeg follows no redirects"
        wait_for(lambda: "on air" in last.text, "the programme")
        assert "refused" in first.text
        assert PASSWORD not in last.text

    with program("--authmod", "adobe") as broken:
        assert broken.wait() == 2
        assert "--password-env" in broken.text
