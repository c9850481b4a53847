"""The nearest ingest server of services that publish a list of them, as Twitch does.

The list is asked for when a target needs it, kept for a day in memory and on disk, and never waited for: a push that
starts without one goes to the preset's own address. The rule it guards: a list can only name hosts of its service.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import treq
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.web.client import Agent
from twisted.web.http_headers import Headers

from relay.api import ConfigError, parse_url

from .presets import Preset, presets

FETCH_S = 5.0
FRESH_S = 24 * 3600.0
"""Services move their servers seldom; the network between us and them changes more often."""
AGAIN_S = 600.0
"""After a failure."""
MAX_BYTES = 1024 * 1024
MAX_SERVERS = 500
_OLD = ("deprecated", "depracated")
"""Both spellings occur in the wild."""


@dataclass(slots=True)
class _List:
    """What is known about one service; when to ask again is on the relay's clock, which no step of the date moves."""

    nearest: str | None = None
    ask_again_at: float = 0.0


Fetch = Callable[[str], Deferred[bytes]]
Thread = Callable[..., Deferred[Any]]


class IngestLists:
    """Asks for lists and remembers them."""

    def __init__(
        self,
        *,
        fetch: Fetch | None,
        seconds: Callable[[], float],
        wall_clock: Callable[[], float],
        directory: Path | None,
        log: Logger,
        thread: Thread = deferToThread,
    ) -> None:
        """Read what was kept. Without *fetch* nobody is ever asked; without *directory* nothing is kept on disk."""
        self._fetch = fetch
        self._seconds = seconds
        self._wall_clock = wall_clock
        self._directory = directory
        self._log = log
        self._thread = thread
        self._lists = {one.ingests: self._read(one) for one in presets().values() if one.ingests is not None}

    def nearest(self, preset: Preset) -> str | None:
        """Return the address of the nearest server, if one is known by now; ask for the list if it is old."""
        if preset.ingests is None:
            return None
        known = self.refresh(preset)
        return known.nearest

    def refresh(self, preset: Preset) -> _List:
        """Have a list that is not too old, soon."""
        assert preset.ingests is not None  # noqa: S101 - the caller saw to it
        known = self._lists[preset.ingests]
        now = self._seconds()
        if self._fetch is not None and now >= known.ask_again_at:
            known.ask_again_at = now + AGAIN_S
            self._fetch(preset.ingests).addCallbacks(
                self._fetched, self._not_fetched, (preset, known), {}, (preset,), {}
            )
        return known

    def _fetched(self, body: bytes, preset: Preset, known: _List) -> None:
        nearest = nearest_of(body, preset)
        if nearest is None:
            self._log.warn("the list of ingest servers of {service} names none that can be used", service=preset.title)
            return
        known.nearest = nearest
        known.ask_again_at = self._seconds() + FRESH_S
        self._log.info("the nearest ingest server of {service} is {url}", service=preset.title, url=nearest)
        self._write(preset, nearest)

    def _not_fetched(self, failure: Any, preset: Preset) -> None:
        self._log.warn(
            "the list of ingest servers of {service} cannot be read ({error}); using {url}",
            service=preset.title,
            error=failure.type.__name__,
            url=preset.url,
        )

    # On disk.

    def _file(self, preset: Preset) -> Path | None:
        if self._directory is None:
            return None
        name = "".join(char for char in preset.title.lower() if char.isalnum())
        return self._directory / f"ingests-{name}.json"

    def _read(self, preset: Preset) -> _List:
        file = self._file(preset)
        try:
            kept = json.loads(file.read_bytes()) if file is not None else {}
            at, url = float(kept["at"]), str(kept["url"])
        except (OSError, ValueError, KeyError, TypeError):
            return _List()
        age = self._wall_clock() - at
        if not _is_server(url, preset) or age < 0:
            return _List()
        return _List(url, self._seconds() + FRESH_S - age)

    def _write(self, preset: Preset, nearest: str) -> None:
        """Keep the address; a directory that cannot be written to costs one request per start."""
        file = self._file(preset)
        if file is not None:
            text = json.dumps({"at": self._wall_clock(), "url": nearest})
            self._thread(_replace, file, text).addErrback(lambda failure: None)


def _replace(file: Path, text: str) -> None:
    """Write a file anew; for a thread. Raises OSError."""
    part = file.with_suffix(".part")
    file.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(text, "utf-8")
    os.replace(part, file)


def nearest_of(body: bytes, preset: Preset) -> str | None:
    """Return the address of the first usable server in a list; None when there is none."""
    try:
        servers = json.loads(body)["ingests"]
        ordered = sorted(servers[:MAX_SERVERS], key=lambda one: float(one.get("priority", 1e9)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    for server in ordered:
        name = str(server.get("name", "")).lower()
        for template in (server.get("url_template_secure"), server.get("url_template")):
            url = template.removesuffix("/{stream_key}") if isinstance(template, str) else ""
            if _is_server(url, preset) and not any(word in name for word in _OLD):
                return url
    return None


def _is_server(url: str, preset: Preset) -> bool:
    """Whether *url* is an address of this service, and nothing that was put into its list."""
    try:
        host = parse_url(url).host
    except ConfigError:
        return False
    return any(host.endswith(domain) for domain in preset.ingest_domains)


def fetch_with(reactor: Any) -> Fetch:
    """Return a way to fetch over HTTPS with a deadline, a bound, and no redirects."""
    client = treq.client.HTTPClient(Agent(reactor, connectTimeout=FETCH_S))

    async def fetch(url: str) -> bytes:
        response = await client.get(url, allow_redirects=False, headers=Headers({"Accept": ["application/json"]}))
        if response.code != 200:
            raise ValueError(f"HTTP status {response.code}")
        parts: list[bytes] = []
        size = 0

        def collect(data: bytes) -> None:
            nonlocal size
            size += len(data)
            if size <= MAX_BYTES:
                parts.append(data)

        await treq.collect(response, collect)
        if size > MAX_BYTES:
            raise ValueError("too long")
        return b"".join(parts)

    def with_deadline(url: str) -> Deferred[bytes]:
        return Deferred.fromCoroutine(fetch(url)).addTimeout(FETCH_S, reactor)

    return with_deadline
