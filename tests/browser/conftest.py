"""What the browser tests share: one Chromium, and sites with the relay's pages."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.browser.chromium import PATIENCE_S, Browser, chromium
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
    since: int
    """Lines of the program before the test."""

    def url(self, path: str) -> str:
        """An address on it."""
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def asked(self) -> list[str]:
        """Paths with queries that were asked for in this test, in order."""
        return [line.strip() for line in list(self.program.out)[self.since :]]


@pytest.fixture(scope="session")
def site() -> Iterator[Callable[..., Site]]:
    """Start sites, one for all tests that want the same; arguments as in `tests.browser.site`."""
    running: dict[str, Program] = {}
    with contextlib.ExitStack() as stack:

        def start(**asked: object) -> Site:
            values = {name: str(value) if isinstance(value, Path) else value for name, value in asked.items()}
            wanted = json.dumps(values)
            if wanted not in running:
                running[wanted] = stack.enter_context(Program([sys.executable, "-m", "tests.browser.site", wanted]))
            program = running[wanted]
            port = wait_for(lambda: program.out and program.out[0].strip(), "port of the site", PATIENCE_S)
            return Site(program, int(port), len(program.out))

        yield start
