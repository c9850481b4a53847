"""`/`: the list of streams, and what strangers may write into it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.chromium import Browser, wait_for
from tests.browser.conftest import Site
from tests.browser.payloads import PAYLOADS

pytestmark = pytest.mark.integration

TOKEN = "canary-7c1e5a90-token"
TRAP = """
window.caught = [];
for (const name of ["alert", "confirm", "prompt", "print", "xss"]) window[name] = () => window.caught.push(name);
addEventListener("securitypolicyviolation", (event) => window.caught.push(event.violatedDirective));
"""


def test_the_list_has_links_to_what_can_be_watched(browser: Browser, site: Callable[..., Site]) -> None:
    page = site()

    browser.open(page.url("/"))
    links = browser.wait("return [...document.querySelectorAll('li a')].map((a) => a.getAttribute('href'))", "links")

    assert links == ["/watch/townhall", "/watch/nested/one"]
    assert "townhall" in browser.describe()
    assert browser.complaints() == []


def test_what_strangers_write_is_text_and_nothing_else(browser: Browser, site: Callable[..., Site]) -> None:
    page = site(hostile=True)
    end = browser.before_pages(TRAP)
    try:
        browser.open(page.url("/"))
        shown = browser.wait("return [...document.querySelectorAll('h2')].map((h) => h.firstChild.data)", "streams")
        wait_for(lambda: page.asked.count("/api/v1/streams") >= 2, "second look at the streams")

        assert len(PAYLOADS) >= 40
        assert shown == list(PAYLOADS)
        assert "xss" in browser.text("li:nth-child(1) p:last-of-type")  # the encoder's name is shown, too
        assert browser.run("return window.caught") == []
        tags = set(browser.run("return [...document.body.querySelectorAll('*')].map((e) => e.localName)"))
        own = "main h1 h2 p form label div input button code ul li span a noscript"
        assert tags <= set(own.split())
        assert browser.run("return document.links.length") == 0  # none of these is a name that a stream can have
        assert {path for path in page.asked if "static" not in path} == {"/", "/api/v1/streams"}
        assert browser.complaints() == []
    finally:
        end()


def test_the_list_asks_for_the_token_and_forgets_it(browser: Browser, site: Callable[..., Site]) -> None:
    page = site(token=TOKEN)
    browser.open(page.url("/"))
    browser.wait("return !document.getElementById('ask').hidden", "form")
    assert "townhall" not in browser.describe()

    browser.type("#token", "wrong\n")
    browser.wait("return document.body.innerText.includes('not accepted')", "refusal")
    browser.type("#token", TOKEN + "\n")
    browser.wait("return document.querySelector('li a')", "streams")

    kept = browser.run("return location.href + document.cookie + JSON.stringify([localStorage, sessionStorage])")
    assert TOKEN not in kept + browser.run("return document.documentElement.outerHTML")
    assert browser.run("return document.getElementById('token').value") == ""
    assert not any(TOKEN in path for path in page.asked)
    browser.driver.refresh()
    browser.wait("return !document.getElementById('ask').hidden", "form after a reload")
