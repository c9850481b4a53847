"""What integration tests share: encoded sources and certificates, made once per session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration import sources
from tests.integration.harness import Certificates, make_certificates


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
