"""Logins with a foreign client: FFmpeg, old and new, at the server's side that our fake platforms have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from twisted.internet.utils import getProcessOutputAndValue

from relay.secret import Secret
from relay.testing import FakePlatform, LoginGuard
from tests.helpers.reactor import NetTestCase, reactor
from tests.integration.harness import ffmpeg5, ffmpeg9

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
