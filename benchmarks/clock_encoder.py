"""An encoder whose every picture carries the time at which it was made, as black and white squares at its top.

    python benchmarks/clock_encoder.py FFMPEG URL [GOP_SECONDS]

The time is written before the picture is encoded, so what a viewer reads from it holds everything: the encoder itself,
the relay, the buffer of the player. Three rows of 16 squares are 48 bits of milliseconds since the epoch, three more
are the same inverted, so that a half-decoded picture is not taken for a time.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

WIDTH, HEIGHT, FPS = 640, 360, 30
COLUMNS, ROWS = 16, 3
SQUARE_WIDTH, SQUARE_HEIGHT = WIDTH // COLUMNS, 20
WHITE, BLACK = b"\xeb" * SQUARE_WIDTH, b"\x10" * SQUARE_WIDTH


def squares(value: int) -> bytes:
    """Return the rows of squares that say *value*."""
    bits = f"{value:0{COLUMNS * ROWS}b}"
    rows = [bits[at : at + COLUMNS] for at in range(0, len(bits), COLUMNS)]
    return b"".join(b"".join(WHITE if bit == "1" else BLACK for bit in row) * SQUARE_HEIGHT for row in rows)


def picture(now_ms: int, number: int) -> bytes:
    """Return one picture in YUV 4:2:0: the time, and a bar that moves."""
    mask = (1 << COLUMNS * ROWS) - 1
    at = number * 4 % WIDTH
    line = bytearray(b"\x60" * WIDTH)
    line[at : at + 40] = b"\xc0" * min(40, WIDTH - at)
    below = bytes(line) * (HEIGHT - 2 * ROWS * SQUARE_HEIGHT)
    return squares(now_ms) + squares(now_ms ^ mask) + below + b"\x80" * (WIDTH * HEIGHT // 2)


def command(ffmpeg: str, url: str, gop_s: float) -> list[str]:
    """Return the encoder's command: set for low delay, as a production that wants low latency would."""
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "pipe:0"]
    sound = ["-f", "lavfi", "-i", "sine=frequency=330:sample_rate=48000"]
    video = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-b:v", "1500k"]
    video += ["-g", str(round(FPS * gop_s)), "-keyint_min", str(round(FPS * gop_s)), "-sc_threshold", "0"]
    quick = ["-shortest", "-flush_packets", "1", "-f", "flv", url]
    return [ffmpeg, "-hide_banner", "-loglevel", "error", *raw, *sound, *video, "-c:a", "aac", "-b:a", "128k", *quick]


def main() -> None:
    """Encode in real time until stopped."""
    ffmpeg, url = sys.argv[1:3]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    gop_s = float(sys.argv[3]) if len(sys.argv) > 3 else 2.0
    encoder = subprocess.Popen(command(ffmpeg, url, gop_s), stdin=subprocess.PIPE)
    assert encoder.stdin is not None
    began, number = time.monotonic(), 0
    try:
        while encoder.poll() is None:
            time.sleep(max(0.0, began + number / FPS - time.monotonic()))
            encoder.stdin.write(picture(time.time_ns() // 1_000_000, number))
            encoder.stdin.flush()
            number += 1
    except (BrokenPipeError, KeyboardInterrupt):
        pass
    finally:
        encoder.kill()
        encoder.wait()


if __name__ == "__main__":
    main()
