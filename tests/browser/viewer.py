"""A viewer with a stopwatch: how far the picture is behind the encoder that made it, and how long it ever stood still.

The pictures of `benchmarks/clock_encoder.py` carry the time at which they were made. This script, put into the watch
page, reads it from every picture that is shown; encoder and browser are on one machine, so there is one clock.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from tests.browser.chromium import Browser

WATCH = """
clearInterval(window.seen?.timer);
const video = document.getElementById("video");
const context = new OffscreenCanvas(640, 120).getContext("2d", { willReadFrequently: true });
const seen = (window.seen = { behind: [], still: 0 });

function time() {
  context.drawImage(video, 0, 0, 640, 120, 0, 0, 640, 120);
  const { data } = context.getImageData(0, 0, 640, 120);
  let value = 0;
  for (let row = 0; row < 3; row++) {
    for (let column = 0; column < 16; column++) {
      const at = (y) => data[4 * (640 * (20 * y + 10) + 40 * column + 20)] > 127;
      if (at(row) === at(row + 3)) return null;
      value = 2 * value + at(row);
    }
  }
  return value;
}

video.requestVideoFrameCallback(function shown() {
  const made = time();
  if (made !== null) seen.behind.push(Date.now() - made);
  video.requestVideoFrameCallback(shown);
});

let last = video.currentTime, moved = performance.now();
seen.timer = setInterval(() => {
  const now = performance.now();
  if (video.currentTime !== last) {
    last = video.currentTime;
    moved = now;
  }
  seen.still = Math.max(seen.still, now - moved);
}, 20);
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a viewer saw."""

    behind_ms: tuple[float, ...]
    still_ms: float
    """The longest time in which the picture's clock did not move."""

    @property
    def median_ms(self) -> float:
        """Half of the pictures were shown sooner than this after they were made."""
        return statistics.median(self.behind_ms)

    def percentile_ms(self, percent: int) -> float:
        """So many of a hundred pictures were shown sooner than this."""
        return sorted(self.behind_ms)[min(len(self.behind_ms) - 1, len(self.behind_ms) * percent // 100)]


def watch(browser: Browser, seconds: float) -> Seen:
    """Look at the page for so long."""
    begin(browser)
    time.sleep(seconds)
    return end(browser)


def watch_quietly(browser: Browser, seconds: float, still_ms: float, tries: int = 4) -> Seen:
    """Look again when the picture stood still for longer than *still_ms*: perhaps it was the machine."""
    seen = watch(browser, seconds)
    while seen.still_ms >= still_ms and tries > 1:
        tries -= 1
        seen = watch(browser, seconds)
    return seen


def begin(browser: Browser) -> None:
    """Start the stopwatch."""
    browser.run(WATCH)


def end(browser: Browser) -> Seen:
    """Read it."""
    seen = browser.run("return window.seen")
    return Seen(tuple(seen["behind"]), seen["still"])
