"""`make demo`: a relay with the built-in configuration and a synthetic encoder, each a process of its own.

For a first look without a camera, and for hunting with a second terminal. It imports nothing of ours: what it starts
is what an operator starts. The picture shows a running clock, so delay and frozen video can be seen at a glance.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time

STREAM = "demo"
PUBLISH_URL = f"rtmp://127.0.0.1:1935/live/{STREAM}"

_NOTE = f"""
  A synthetic encoder publishes to {PUBLISH_URL}
  play it      ffplay {PUBLISH_URL}          (or VLC: Media > Open Network Stream)
  watch it     http://127.0.0.1:8080/watch/{STREAM}
  look at it   curl http://127.0.0.1:8080/api/v1/streams/{STREAM}
  stop         Ctrl-C
"""


def find_ffmpeg() -> str:
    """Return the path of an ffmpeg: the one of the `ffmpeg` extra, else the system's."""
    try:
        import imageio_ffmpeg  # type: ignore[import-untyped]
    except ImportError:
        found = shutil.which("ffmpeg")
    else:
        found = str(imageio_ffmpeg.get_ffmpeg_exe())
    if found is None:
        raise SystemExit("no ffmpeg: pip install 'rtmp-relay[ffmpeg]' or apt-get install ffmpeg")
    return found


def encoder_command(ffmpeg: str, url: str) -> list[str]:
    """Return the command of an encoder set as OBS should be: CBR, keyframe every 2 s, AAC at 48 kHz."""
    video = ["-c:v", "libx264", "-preset", "ultrafast", "-b:v", "2500k", "-maxrate", "2500k", "-bufsize", "5000k"]
    return [
        *[ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "warning"],
        *["-re", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30"],
        *["-re", "-f", "lavfi", "-i", "sine=frequency=330:beep_factor=4:sample_rate=48000"],
        *[*video, "-g", "60", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "128k"],
        *["-f", "flv", url],
    ]


def wait_for_port(port: int, relay: subprocess.Popen[bytes], seconds: float = 20.0) -> None:
    """Return once the relay listens; give up when it ended or takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and relay.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise SystemExit("the relay did not start; its last lines are above")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End *process*, gently first."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> int:
    """Run both until one ends or somebody presses Ctrl-C."""
    ffmpeg = find_ffmpeg()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.ExitStack() as stack:
        relay = subprocess.Popen([sys.executable, "-m", "relay", "run"])
        stack.callback(stop, relay)
        wait_for_port(1935, relay)
        encoder = subprocess.Popen(encoder_command(ffmpeg, PUBLISH_URL))  # noqa: S603
        stack.callback(stop, encoder)
        sys.stdout.write(_NOTE)
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            while relay.poll() is None and encoder.poll() is None:
                time.sleep(0.2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
