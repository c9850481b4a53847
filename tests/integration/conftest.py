"""What integration tests share: encoded sources and certificates, made once per session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import programme
from tests.integration import sources
from tests.integration.harness import Certificates, ffmpeg9, make_certificates


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for sources, which lives as long as the session."""
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(scope="session")
def full_hd(made: Path) -> Path:
    """1080p30 H.264 at 6 Mbit/s with AAC."""
    return sources.h264_aac(made)


@pytest.fixture(scope="session")
def small(made: Path) -> Path:
    """Small H.264 with AAC."""
    return sources.small_h264_aac(made)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A CA and a certificate for localhost."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def files(made: Path) -> dict[str, Path]:
    """The numbered programme as two encoders make it; the second's keyframes lie between the first's."""
    return {
        "A": programme.encode(ffmpeg9(), made / "A.flv", gop_s=1),
        "B": programme.encode(ffmpeg9(), made / "B.flv", gop_s=1, shift=15),
    }
