"""How far the watch page in Chromium is behind the encoder, in low-latency HLS.

    python benchmarks/watch.py [--seconds 60] [--part-ms 200] [--gop-s 2]

A real encoder writes the time into every picture before it encodes it, a real relay packages them, a real Chromium
plays `/watch/STREAM` and reads the time from what it shows. So the figure holds encoder, relay, network stack, player
buffer and decoder. Prints a line for `benchmarks/HLS.md`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from tests.browser.chromium import chromium  # noqa: E402 - the checkout is not installed
from tests.browser.viewer import watch  # noqa: E402
from tests.integration.harness import Program, ffmpeg9, relay, stream_table, wait_for  # noqa: E402

KEY = "benchmark-0123456789"
PLAYS = "return document.getElementById('player')?.dataset.state === 'playing'"


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description="Latency of the watch page")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--part-ms", type=int, default=200)
    parser.add_argument("--gop-s", type=float, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        directory = Path(name)
        extra = f"part_ms = {asked.part_ms}\n"
        with relay(directory, stream_table("show", KEY), plugins=("streamkeys", "hls"), extra=extra) as running:
            program = [sys.executable, str(ROOT / "benchmarks" / "clock_encoder.py"), ffmpeg9()]
            with Program([*program, running.publish_url(KEY), str(asked.gop_s)]):
                wait_for(lambda: running.stream("show").get("state") == "live", "stream")
                with chromium(directory / "profile", "--autoplay-policy=no-user-gesture-required") as browser:
                    browser.open(f"http://127.0.0.1:{running.http_port}/watch/show")
                    browser.wait(PLAYS, "picture")
                    seen = watch(browser, asked.seconds)
                    shown = browser.run("return document.getElementById('player').dataset.latency")
    figures = [f"{seen.median_ms:.0f}", f"{seen.percentile_ms(95):.0f}", f"{max(seen.behind_ms):.0f}"]
    print(f"parts of {asked.part_ms} ms, keyframe every {asked.gop_s:g} s, {len(seen.behind_ms)} pictures read:")
    print(f"behind the encoder: median {figures[0]} ms, 95 % within {figures[1]} ms, most {figures[2]} ms")
    print(f"longest standstill {seen.still_ms:.0f} ms; the page itself says {float(shown or 'nan') * 1000:.0f} ms")


if __name__ == "__main__":
    main()
