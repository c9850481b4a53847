"""Who reads HLS all the time and writes down what is wrong, while encoders and the relay come and go."""

from __future__ import annotations

import hashlib
import re
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import m3u8

from tests.integration.harness import Program, Relay, publisher, wait_for

GONE = (OSError, HTTPException)
"""What a viewer sees of a relay that is not there; anything else is a fault."""


@dataclass
class Viewer:
    """Reads a stream until told to stop, and writes down what is wrong."""

    base: str
    faults: list[str] = field(default_factory=list)
    fetched: dict[str, str] = field(default_factory=dict)
    """A hash of everything that was listed, by name."""
    listed: list[str] = field(default_factory=list)
    """Segments in the order in which they came."""
    first: int = 0
    last: int = 0
    discontinuity: int = 0
    discontinuities: set[int] = field(default_factory=set)
    """Numbers of the segments that were marked."""
    dates: dict[int, str] = field(default_factory=dict)
    playlists: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Poll as a plain player does, only more often."""
        while not self.stopped.wait(0.15):
            text = self.read("main.m3u8")
            if text:
                self.check(text)

    def run_blocking(self) -> None:
        """Ask for the next part, as a low-latency player does."""
        query = ""
        while not self.stopped.is_set():
            text = self.read(f"main.m3u8{query}")
            if not text:
                query = ""
                self.stopped.wait(0.1)
                continue
            self.check(text)
            if query and (self.last, self.parts) < self.wanted:
                self.faults.append(f"{query} was answered with {self.last}, {self.parts}: {text}")
            self.wanted = (self.last, self.parts + 1)
            query = f"?_HLS_msn={self.last + 1}&_HLS_part={self.parts}&_HLS_skip=YES"

    wanted: tuple[int, int] = (0, 0)
    parts: int = 0

    def read(self, name: str) -> str:
        """A playlist; empty when there is none now."""
        try:
            with urllib.request.urlopen(self.base + name, timeout=20) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in (400, 404, 503):
                self.faults.append(f"{name}: {error.code}")
        except GONE:
            pass
        return ""

    def check(self, text: str) -> None:
        """Look at one playlist."""
        self.playlists += 1
        if not text.startswith("#EXTM3U\n") or not text.endswith("\n"):
            self.faults.append(f"torn: {text!r}")
            return
        parsed = m3u8.loads(text)
        skipped = re.search(r"#EXT-X-SKIP:SKIPPED-SEGMENTS=(\d+)", text)
        whole = [segment for segment in parsed.segments if segment.uri]
        first = parsed.media_sequence + (int(skipped[1]) if skipped else 0)
        last = first + len(whole) - 1
        found = re.search(r"#EXT-X-DISCONTINUITY-SEQUENCE:(\d+)", text)
        discontinuity = int(found[1]) if found else 0
        for what, before, now in (
            ("first", self.first, parsed.media_sequence),
            ("last", self.last, last),
            ("discontinuity", self.discontinuity, discontinuity),
        ):
            if now < before:
                self.faults.append(f"{what} number fell from {before} to {now}")
        self.first, self.last, self.discontinuity = parsed.media_sequence, last, discontinuity
        for number, segment in enumerate(whole, first):
            if segment.discontinuity:
                self.discontinuities.add(number)
            if round(segment.duration) > parsed.target_duration:
                self.faults.append(f"segment {number} of {segment.duration} s")
            if number not in self.dates:
                self.listed.append(str(segment.uri))
            self.dates[number] = str(segment.program_date_time)
        growing = re.split(r"\.(?:m4s|ts)\n", text)[-1]
        self.parts = growing.count("#EXT-X-PART:")
        listed = [line for line in text.splitlines() if line and line[0] != "#"]
        listed += re.findall(r'#EXT-X-(?:PART|MAP):.*?URI="([^"]+)"', text)
        for name in listed:
            if name not in self.fetched:
                self.fetch(name)

    def fetch(self, name: str) -> None:
        """Get what is listed, now."""
        with suppress(*GONE):
            try:
                with urllib.request.urlopen(self.base + name, timeout=10) as answer:
                    data = answer.read()
                self.fetched[name] = hashlib.sha256(data).hexdigest()
                if not is_whole(name, data):
                    self.faults.append(f"{name} is torn: {len(data)} bytes")
            except urllib.error.HTTPError as error:
                error.close()
                self.faults.append(f"{name} is listed and answers {error.code}")


@contextmanager
def watching(*runs: Callable[[], None], viewers: list[Viewer]) -> Iterator[None]:
    """Let viewers watch meanwhile."""
    threads = [threading.Thread(target=run, daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for viewer in viewers:
            viewer.stopped.set()
        for thread in threads:
            thread.join(25)


@contextmanager
def stubborn(url: str, source: Path) -> Iterator[threading.Event]:
    """An encoder that comes back whenever it is cut off, until the event is set."""
    over = threading.Event()

    def encode() -> None:
        while not over.is_set():
            with publisher(url, source, before=("-stream_loop", "-1")) as program:
                while program.running and not over.wait(0.05):
                    pass
                program.signal(signal.SIGKILL)
                program.process.wait()
            over.wait(0.2)

    thread = threading.Thread(target=encode, daemon=True)
    thread.start()
    try:
        yield over
    finally:
        over.set()
        thread.join(10)


def again(running: Relay) -> Program:
    """Start the relay again as it was."""
    before = running.program
    running.program = Program(before.args, before.env)
    return running.program


def settle(viewer: Viewer, segments: int) -> None:
    """Wait until a viewer has seen so many more segments."""
    wanted = len(viewer.listed) + segments
    wait_for(lambda: len(viewer.listed) >= wanted, f"{segments} segments after {viewer.last}", 25)


def is_whole(name: str, data: bytes) -> bool:
    """Whether media has no torn end: TS packets, or boxes whose lengths add up to the file."""
    if name.endswith(".ts"):
        return bool(data) and len(data) % 188 == 0 and set(data[::188]) == {0x47}
    kinds, at = [], 0
    while at + 8 <= len(data):
        kinds.append(data[at + 4 : at + 8])
        at += max(int.from_bytes(data[at : at + 4], "big"), 8)
    return at == len(data) and kinds[-1:] in ([b"mdat"], [b"moov"])
