"""A show: a relay with one stream and a destination, and encoders that are processes, whose every picture can be told.

The checker looks only at what the destination received.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from relay.media import flvfile
from tests.helpers import capture, programme
from tests.integration.harness import ROOT, Program, Relay, ffmpeg9, relay, wait_for

KEYS = {"primary": "canary-primary-77d0", "backup": "canary-backup-c3fa"}
MAKERS = {"primary": "A", "backup": "B"}


class Show:
    """A relay with one stream, a destination, and encoders."""

    def __init__(self, running: Relay, sink: capture.Destination, files: dict[str, Path]) -> None:
        self.running = running
        self.sink = sink
        self.files = files
        self.epoch = time.monotonic()
        self.host = f"127.0.0.1:{running.port}"
        self.encoders: dict[str, Program] = {}
        self.checker = capture.Checker(
            {maker: programme.load(path, shift=15 * (maker == "B")) for maker, path in files.items()}
        )

    def start(self, feed: str, *more: str, maker: str = "", before: tuple[str, ...] = (), host: str = "") -> Program:
        """Start an encoder; return once its first keyframe is out."""
        maker = maker or MAKERS[feed]
        if feed in self.encoders:
            self.end(feed)
        args = [*before, sys.executable, "-m", "tests.helpers.lightencoder", "--maker", maker]
        args += ["--url", f"rtmp://{host or self.host}/live/{KEYS[feed]}", "--file", str(self.files[maker])]
        args += ["--shift", "15" if maker == "B" else "0", "--epoch", str(self.epoch), *more]
        encoder = self.encoders[feed] = Program(args, {"PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"})
        wait_for(lambda: len(encoder.out) >= 2, f"first keyframe of {feed}: {encoder.tail}", 20)
        return encoder

    def start_both(self) -> None:
        """The primary is on air, the backup has stood by for two keyframes."""
        self.start("primary")
        wait_for(lambda: self.on_air == "A", "A on air", 20)
        self.start("backup")
        self.wait_ready("backup")

    def wait_ready(self, feed: str) -> None:
        wait_for(lambda: self.feed(feed).get("keyframe_interval_ms"), f"{feed} standing by", 20)

    def feed(self, name: str) -> dict[str, object]:
        feeds = self.running.stream("show").get("feeds", [])
        assert isinstance(feeds, list)
        return next((feed for feed in feeds if feed["name"] == name), {})

    @property
    def session(self) -> capture.Session:
        return self.sink.sessions[0]

    @property
    def on_air(self) -> str:
        """Maker of the newest picture at the destination."""
        tags = self.sink.sessions[0].tags if self.sink.sessions else []
        return next((mark[0] for tag in reversed(tags[-200:]) if (mark := tag.mark) is not None), "")

    def end(self, feed: str) -> None:
        """Kill an encoder, a stopped one too."""
        encoder = self.encoders.pop(feed)
        encoder.process.kill()
        encoder.stop()

    def lose(self, feed: str) -> None:
        """The same, and wait until the relay knows."""
        self.end(feed)
        wait_for(lambda: not self.feed(feed), f"the end of {feed}", 10)

    def stop(self) -> None:
        for feed in tuple(self.encoders):
            self.end(feed)

    def check(self, tmp_path: Path) -> list[capture.Cut]:
        """What holds after every fault (P6, P7); returns the changes of encoder."""
        assert len(self.sink.sessions) == 1, "the destination was left"
        session = self.session
        assert capture.backward_steps(session) == 0
        assert self.checker.spoilt(session) == 0
        cuts = self.checker.cuts(session)
        for cut in cuts:
            assert cut.keyframe
            assert cut.shift_ms is None or abs(cut.shift_ms) <= 20, "sound moved against the picture"
        path = session.write(tmp_path / "received.flv")
        pictures = sum(tag.type_id == 9 and tag.body[1] == 1 for tag in flvfile.read(path.read_bytes()))
        assert len(programme.burned_in(ffmpeg9(), path)) == pictures, "every picture decodes"
        return cuts


@contextlib.contextmanager
def show(
    tmp_path: Path,
    files: dict[str, Path],
    more: str = "",
    *,
    extra: str = "",
    env: dict[str, str] | None = None,
    second: bool = False,
) -> Iterator[Show]:
    """Run all that a test needs; with *second* there is another target of that name, at which nobody looks."""
    with capture.Destination() as sink, capture.Destination() as other:
        streams = f'[streams.show.streamkeys]\nprimary = "{KEYS["primary"]}"\nbackup = "{KEYS["backup"]}"\n'
        streams += f'[streams.show.restream.out]\nurl = "{sink.url}"\nkey = "out"\n[streams.show.failover]\n{more}\n'
        if second:
            streams += f'[streams.show.restream.second]\nurl = "{other.url}"\nkey = "second"\n'
        with relay(tmp_path, streams, extra=extra, env=env) as running:
            made = Show(running, sink, files)
            try:
                yield made
            finally:
                made.stop()
