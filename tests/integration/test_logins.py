"""Logins with a foreign client: FFmpeg, old and new, at the server's side that our fake platforms have."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from twisted.internet.utils import getProcessOutputAndValue

from relay.secret import Secret
from relay.testing import FakePlatform, LoginGuard
from tests.helpers.reactor import NetTestCase, reactor
from tests.integration.harness import Program, ffmpeg5, ffmpeg9, free_port, wait_for

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


def test_the_fake_platform_as_a_program_asks_for_a_login_and_sends_elsewhere() -> None:
    def program(*options: str) -> Program:
        args = [sys.executable, "-m", "relay.fakeplatform", "--listen", f"rtmp://127.0.0.1:{free_port()}/live"]
        return Program([*args, *options], env={"FAKE_PASSWORD": "hunter2"})

    def url(running: Program) -> str:
        line = wait_for(lambda: next((line for line in running.out if "platform on" in line), ""), "the platform")
        return line.split()[-1].strip()

    login = ["--authmod", "adobe", "--user", "bob", "--password-env", "FAKE_PASSWORD"]
    with program(*login) as last, program("--redirect", url(last)) as first:
        address = url(first)
        bob = url(last).replace("://", "://bob:hunter2@") + "/key"
        subprocess.run([ffmpeg5(), "-loglevel", "error", *SOURCE, bob], check=True, timeout=30)
        refused = subprocess.run([ffmpeg5(), "-loglevel", "error", *SOURCE, f"{address}/key"], check=False, timeout=30)

        assert refused.returncode != 0, "FFmpeg follows no redirects"
        wait_for(lambda: "on air" in last.text, "the programme")
        assert "refused" in first.text
        assert "hunter2" not in last.text

    with program("--authmod", "adobe") as broken:
        assert broken.wait() == 2
        assert "--password-env" in broken.text
