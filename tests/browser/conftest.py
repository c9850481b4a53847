"""What the browser tests share: one Chromium, and sites with the relay's pages."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.browser.chromium import Browser, chromium
from tests.integration.harness import Program, wait_for


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A Chromium in which a page may play without being touched."""
    profile = tmp_path_factory.mktemp("profile")
    with chromium(profile, "--autoplay-policy=no-user-gesture-required") as running:
        yield running
        running.open("about:blank")


@dataclass
class Site:
    """The relay's pages over a fake relay."""

    program: Program
    port: int

    def url(self, path: str) -> str:
        """An address on it."""
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def asked(self) -> list[str]:
        """Paths with queries that were asked for, in order."""
        return [line.strip() for line in list(self.program.out)[1:]]


@pytest.fixture
def site() -> Iterator[Callable[..., Site]]:
    """Start sites; arguments as in `tests.browser.site`."""
    with contextlib.ExitStack() as stack:

        def start(**asked: object) -> Site:
            values = {name: str(value) if isinstance(value, Path) else value for name, value in asked.items()}
            program = stack.enter_context(Program([sys.executable, "-m", "tests.browser.site", json.dumps(values)]))
            port = wait_for(lambda: program.out and program.out[0].strip(), "port of the site")
            return Site(program, int(port))

        yield start
