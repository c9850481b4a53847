"""A real Chromium, driven over WebDriver: what a viewer sees, and what the browser complained about.

Nothing leaves this machine: every name but loopback leads nowhere, and Chromium's own errands are switched off.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

PATIENCE_S = 60.0
"""What a test waits for at most before it fails; on a quiet machine everything happens within a few seconds."""

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have 64 MB of it
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    "--window-size=1280,900",
)


class Browser:
    """One Chromium, one tab."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def open(self, url: str) -> None:
        """Go somewhere; what was logged before is forgotten."""
        self._driver.get_log("browser")
        self._driver.get(url)

    def run(self, script: str, *arguments: object) -> Any:
        """Run JavaScript in the page and return what it returns."""
        return self._driver.execute_script(script, *arguments)

    def wait(self, script: str, what: str, timeout: float = PATIENCE_S) -> Any:
        """Wait until JavaScript returns something true."""
        return wait_for(lambda: self.run(script), f"{what} ({self.describe()})", timeout)

    def describe(self) -> str:
        """What the page shows, for failure messages."""
        return str(self.run("return document.body.innerText"))[:500]

    def text(self, selector: str) -> str:
        """The text of the first element that fits."""
        return str(self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        actions = ActionChains(self._driver)
        for key in keys:
            actions.send_keys(key)
        actions.perform()

    def click(self, selector: str) -> None:
        """Click like a person: a hidden or covered element fails."""
        self._driver.find_element("css selector", selector).click()

    def type(self, selector: str, text: str) -> None:
        """Type into a field."""
        self._driver.find_element("css selector", selector).send_keys(text)

    def before_pages(self, script: str) -> Callable[[], None]:
        """Run JavaScript in every page before its own; returns what ends that."""
        made = self._driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        return lambda: self._driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", made)

    def complaints(self) -> list[str]:
        """What the browser logged about this page, failed requests left out: CSP violations, exceptions."""
        entries = [entry["message"] for entry in self._driver.get_log("browser")]
        return [entry for entry in entries if "Failed to load resource" not in entry]

    def focused(self) -> str:
        """The id of the element that has the focus."""
        return str(self.run("return document.activeElement.id"))

    @property
    def driver(self) -> Any:
        """WebDriver itself."""
        return self._driver


@contextlib.contextmanager
def chromium(profile: Path, *flags: str) -> Iterator[Browser]:
    """Start Chromium with an empty profile, or skip saying what to install."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs Selenium: pip install 'rtmp-relay[test]'")
    from selenium.webdriver.chrome.service import Service

    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Chromium: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={profile}", *flags):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options=options, service=Service(driver))
    try:
        running.set_script_timeout(60)
        yield Browser(running)
    finally:
        running.quit()


def wait_for(found: Callable[[], T], what: str, timeout: float = PATIENCE_S) -> T:
    """Poll until *found* returns something true."""
    until = time.monotonic() + timeout
    while True:
        result = found()
        if result:
            return result
        assert time.monotonic() < until, f"no {what} within {timeout} s"
        time.sleep(0.1)


def as_json(value: object) -> str:
    """A value as JavaScript writes it."""
    return json.dumps(value)
