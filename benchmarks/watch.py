"""How far the watch page in Chromium is behind the encoder, in low-latency HLS; and what it shows of a failover.

    python benchmarks/watch.py [--seconds 60] [--part-ms 200] [--gop-s 2] [--failovers 0]

A real encoder writes the time into every picture before it encodes it, a real relay packages them, a real Chromium
plays `/watch/STREAM` and reads the time from what it shows. So the figure holds encoder, relay, network stack, player
buffer and decoder. With `--failovers` the encoder on air is killed so many times, and another one takes over.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from tests.browser.chromium import Browser, chromium  # noqa: E402 - the checkout is not installed
from tests.browser.viewer import Seen, watch  # noqa: E402
from tests.browser.viewer import begin as begin_to_watch  # noqa: E402
from tests.browser.viewer import end as end_of_watching  # noqa: E402
from tests.integration.harness import Program, Relay, ffmpeg9, relay, wait_for  # noqa: E402

FEEDS = ("primary", "backup")
KEYS = {feed: f"benchmark-{feed}-0123456789" for feed in FEEDS}
STREAM = "[streams.show.streamkeys]\n" + "".join(f'{feed} = "{key}"\n' for feed, key in KEYS.items())
PLAYS = "return document.getElementById('player')?.dataset.state === 'playing'"


def encoder(running: Relay, feed: str, gop_s: float) -> Program:
    """Start an encoder that publishes *feed*."""
    program = [sys.executable, str(ROOT / "benchmarks" / "clock_encoder.py"), ffmpeg9()]
    return Program([*program, running.publish_url(KEYS[feed]), str(gop_s)])


def kill(encoder: Program) -> None:
    """Kill the FFmpeg of an encoder, as a crash does."""
    pid = encoder.process.pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)


def fail_over(browser: Browser, running: Relay, encoders: dict[str, Program], gop_s: float) -> Seen:
    """Kill the encoder on air and watch for 10 s; then start it again."""
    live = str(running.stream("show")["live_feed"])
    begin_to_watch(browser)
    time.sleep(2)
    kill(encoders[live])
    time.sleep(8)
    seen = end_of_watching(browser)
    assert running.stream("show")["live_feed"] != live
    encoders[live].stop()
    encoders[live] = encoder(running, live, gop_s)
    return seen


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description="Latency of the watch page")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--part-ms", type=int, default=200)
    parser.add_argument("--gop-s", type=float, default=2)
    parser.add_argument("--failovers", type=int, default=0)
    asked = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        extra = f"part_ms = {asked.part_ms}\n"
        running = stack.enter_context(relay(directory, STREAM, plugins=("streamkeys", "hls"), extra=extra))
        encoders: dict[str, Program] = {}
        stack.callback(lambda: [one.stop() for one in encoders.values()])
        for feed in FEEDS[: 2 if asked.failovers else 1]:
            encoders[feed] = encoder(running, feed, asked.gop_s)
            wait_for(lambda feed=feed: feed in str(running.stream("show").get("feeds")), feed)  # type: ignore[misc]
        browser = stack.enter_context(chromium(directory / "profile", "--autoplay-policy=no-user-gesture-required"))
        browser.open(f"http://127.0.0.1:{running.http_port}/watch/show")
        browser.wait(PLAYS, "picture")
        print(f"parts of {asked.part_ms} ms, keyframe every {asked.gop_s:g} s:")
        report(watch(browser, asked.seconds))
        shown = browser.run("return document.getElementById('player').dataset.latency")
        print(f"the page itself says {float(shown or 'nan') * 1000:.0f} ms")
        for number in range(asked.failovers):
            print(f"failover {number + 1}: ", end="")
            report(fail_over(browser, running, encoders, asked.gop_s))


def report(seen: Seen) -> None:
    """Print what a viewer saw."""
    figures = (
        f"median {seen.median_ms:.0f} ms, 95 % within {seen.percentile_ms(95):.0f} ms, most {max(seen.behind_ms):.0f}"
    )
    print(
        f"behind the encoder {figures} ms, longest standstill {seen.still_ms:.0f} ms ({len(seen.behind_ms)} pictures)"
    )


if __name__ == "__main__":
    main()
