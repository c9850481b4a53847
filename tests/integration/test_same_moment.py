"""A switch at the same moment as everything else that may happen (F13), with real encoders, files and viewers.

A recording and HLS roll over at every keyframe. Again and again requests that wait on open connections are sent in one
burst, so that the relay finds them in one turn: put the other feed on air, stop or start another target, kick an
encoder; or one is killed between them. Every picture carries its number and its maker, so what arrived at the
destination, in the files and in the segments can be compared picture by picture.
"""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import m3u8
import pytest

from tests.helpers import programme
from tests.integration.harness import LONG, Relay, wait_for
from tests.integration.shows import KEYS, Show, show
from tests.integration.test_record import media

pytestmark = pytest.mark.integration

ROUNDS = 60 if LONG else 4
KILLS = 4
"""An encoder is killed or kicked in every fourth round, the first included: it takes two seconds to be back."""
MARK = re.compile(re.escape(programme.MARK) + rb"([AB]\d{10})")


class Waiting:
    """A request whose connection is open and whose last byte is not sent yet."""

    def __init__(self, running: Relay, path: str, body: object = None, method: str = "POST") -> None:
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} /api/v1/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        self._wire = socket.create_connection(("127.0.0.1", running.http_port), 5)
        self._wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = head.encode() + data
        self._wire.sendall(whole[:-1])
        self._last = whole[-1:]

    def go(self) -> None:
        """Send the rest."""
        self._wire.sendall(self._last)

    def status(self) -> int:
        """What was answered."""
        with self._wire, self._wire.makefile("rb") as answer:
            return int(answer.read().split(maxsplit=2)[1])


def pictures(data: bytes) -> list[bytes]:
    """Maker and number of every picture in a file."""
    return MARK.findall(data)


def burst(made: Show, dice: random.Random, *, kill: bool) -> None:
    """One crowded moment."""
    live = str(made.running.stream("show")["live_feed"])
    other = next(name for name in KEYS if name != live)
    victim = dice.choice((live, other))
    requests = [
        Waiting(made.running, "streams/show/switch", {"feed": other}),
        Waiting(made.running, "streams/show/switch", {"feed": other}),
        Waiting(made.running, f"streams/show/targets/second/{dice.choice(('stop', 'start'))}"),
        *([Waiting(made.running, "streams/show/switch", {"feed": live})] if kill else []),
    ]
    kicked = kill and dice.random() < 0.5
    if kicked:
        requests.append(Waiting(made.running, f"streams/show/feeds/{victim}?cooloff_s=0", method="DELETE"))
    acts: list[Callable[[], None]] = [request.go for request in requests]
    if kill and not kicked:
        acts.append(lambda: made.encoders[victim].signal(signal.SIGKILL))
    dice.shuffle(acts)
    time.sleep(dice.uniform(0.0, 1.0))
    for act in acts:
        act()
    for request in requests:
        assert request.status() in (200, 204, 404), "404: its feed was killed before"
    if kill:
        made.lose(victim)
        made.start(victim)
        made.wait_ready(victim)
    else:
        wait_for(lambda: made.running.stream("show")["live_feed"] == other, f"{other} on air", 5)


def test_nothing_is_torn_and_no_picture_comes_twice(tmp_path: Path, files: dict[str, Path]) -> None:
    extra = f'[plugins.record]\ndirectory = "{tmp_path}/rec"\nmin_free_mb = 0\nsegment_s = 1\n'
    extra += "[plugins.hls]\nsegment_s = 1\nwindow_s = 600\n"
    dice = random.Random(13)
    with show(tmp_path, files, 'mode = "switch"', extra=extra, second=True) as made:
        made.start_both()
        for number in range(ROUNDS):
            burst(made, dice, kill=number % KILLS == 0)
        time.sleep(1)
        listed = fetch_all(made.running)
        made.stop()
        made.check(tmp_path)
        switches = int(str(made.running.stream("show")["switches"]))
        wrong = [line for line in made.running.log() if line.get("level") in ("error", "critical")]

    sent = without_slate(made)
    recordings = sorted((tmp_path / "rec" / "show").glob("*.mp4"))
    recorded = list(dict.fromkeys(mark for path in recordings for mark in pictures(path.read_bytes())))
    assert wrong == []
    assert switches >= ROUNDS // 2
    assert not list((tmp_path / "rec" / "show").glob("*.part"))
    assert len(recordings) > ROUNDS
    assert all(media(path).packets for path in recordings)
    for what, got in (("recorded", recorded), ("listed", listed)):
        begins = sent.index(got[0])
        assert got == sent[begins : begins + len(got)], what
    assert recorded[-1] == sent[-1]


def without_slate(made: Show) -> list[bytes]:
    """What the destination got; only the newest keyframe may have come again, when the feed put on air was killed."""
    seen: dict[bytes, None] = {}
    newest = b""
    for tag in made.session.pictures():
        (mark,) = pictures(tag.body)
        if mark in seen:
            assert mark == newest, "a picture came twice"
        seen[mark] = None
        newest = mark if tag.keyframe else newest
    return list(seen)


def fetch_all(running: Relay) -> list[bytes]:
    """The pictures of every segment that is listed."""
    base = f"http://127.0.0.1:{running.http_port}/hls/show/"

    def fetch(name: str) -> bytes:
        with urllib.request.urlopen(base + name, timeout=10) as answer:
            body = answer.read()
            assert isinstance(body, bytes)
            return body

    playlist = m3u8.loads(fetch("main.m3u8").decode())
    whole = [segment.uri for segment in playlist.segments if segment.uri]
    assert len(whole) > ROUNDS
    return list(dict.fromkeys(mark for name in whole for mark in pictures(fetch(name))))
