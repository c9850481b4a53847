"""`make demo`: a relay, two synthetic encoders and two fake platforms, each a process of its own; and a switch to see.

For a first look without a camera, and for hunting with a second terminal. It uses nothing of ours but the commands and
the API that an operator has. The picture shows a running clock and has a border of its encoder's colour, so delay,
frozen video and a change of encoder can be seen at a glance.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

STREAM = "demo"
FEEDS = {"primary": "red", "backup": "blue"}
"""The encoders and the colours of their borders."""
PLATFORMS = ("youtube", "twitch")
EVERY_S = 20.0
"""Between two failures: long enough to look, short enough to wait for."""
WATCH_S = 4.0
SLOW_LOOK_S = 0.3
AWAY_S = 6.0
"""How long an encoder stays away."""

_RTMP, _HTTP = "rtmp://127.0.0.1:1935/live", "http://127.0.0.1:8080"

_NOTE = f"""
  Two encoders send the same programme as "{STREAM}": primary (red border) and backup (blue border).
  Two fake platforms, youtube and twitch, take it. Every now and then the encoder on air is killed.

  see it       {_HTTP}/watch/{STREAM}
  or play it   ffplay {_RTMP}/{STREAM}          (or VLC: Media > Open Network Stream)
  look at it   {_HTTP}/  and  curl {_HTTP}/api/v1/streams/{STREAM}
  kill it now  Enter
  stop         Ctrl-C

"""


# What runs.


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


def encoder_command(ffmpeg: str, url: str, color: str) -> list[str]:
    """Return the command of an encoder set as OBS should be: CBR, keyframe every 2 s, AAC at 48 kHz."""
    video = ["-c:v", "libx264", "-preset", "ultrafast", "-b:v", "1500k", "-maxrate", "1500k", "-bufsize", "3000k"]
    return [
        *[ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "error"],
        *["-re", "-f", "lavfi", "-i", f"testsrc2=size=960x540:rate=30,drawbox=color={color}:t=12"],
        *["-re", "-f", "lavfi", "-i", "sine=frequency=330:beep_factor=4:sample_rate=48000"],
        *[*video, "-g", "60", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "128k"],
        *["-f", "flv", url],
    ]


def configuration(keys: dict[str, str], ports: dict[str, int]) -> str:
    """Return the built-in configuration, with two keys for the stream and two targets."""
    text = '[[listen]]\nurl = "rtmp://127.0.0.1:1935"\n[http]\nlisten = "127.0.0.1:8080"\n[log]\nlevel = "warn"\n'
    # The plugins are those of the built-in configuration; the rest is what a demonstration needs.
    text += '[plugins.record]\ndirectory = "var/recordings"\nenabled = false\n'
    text += '[plugins.streamkeys]\nany_key = "loopback"\n[plugins.hls]\n[plugins.restream]\ningest_lists = false\n'
    text += f"[streams.{STREAM}.streamkeys]\n" + "".join(f'{feed} = "{keys[feed]}"\n' for feed in FEEDS)
    for name, port in ports.items():
        text += f'[streams.{STREAM}.restream.{name}]\npreset = "{name}"\n'
        text += f'url = "rtmp://127.0.0.1:{port}/{_APPS[name]}"\nkey = "{keys[name]}"\n'
    return text


_APPS = {"youtube": "live2", "twitch": "app"}


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


def say(text: str) -> None:
    """Print a line, with the time."""
    sys.stdout.write(f"  {time.strftime('%H:%M:%S')}  {text}\n")
    sys.stdout.flush()


@dataclass
class Show:
    """Everything that runs."""

    ffmpeg: str
    keys: dict[str, str]
    directory: Path
    relay: subprocess.Popen[bytes] | None = None
    encoders: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    others: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def begin(self) -> None:
        """Start the platforms, the relay, the encoders."""
        ports = {name: free_port() for name in PLATFORMS}
        for name, port in ports.items():
            self._start_platform(name, port)
        config = self.directory / "relay.toml"
        config.touch(mode=0o600)
        config.write_text(configuration(self.keys, ports))
        command = [sys.executable, "-m", "relay", "run", "--config", str(config)]
        self.relay = subprocess.Popen(command)  # noqa: S603
        wait_for_port(1935, self.relay)
        for feed in FEEDS:
            self.start_encoder(feed)
            wait_until(lambda stream, feed=feed: any(one["name"] == feed for one in stream.get("feeds", [])), 10)  # type: ignore[misc]

    def _start_platform(self, name: str, port: int) -> None:
        command = [sys.executable, "-m", "relay", "fake-platform", "--manners", name, "--key-env", "DEMO_KEY"]
        process = subprocess.Popen(  # noqa: S603
            [*command, "--listen", f"rtmp://127.0.0.1:{port}"],
            env={**os.environ, "DEMO_KEY": self.keys[name]},
            stdout=subprocess.PIPE,
        )
        self.others.append(process)
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        threading.Thread(target=_pass_on, args=(name, process.stdout), daemon=True).start()

    def start_encoder(self, feed: str) -> None:
        """Start the encoder of a feed."""
        command = encoder_command(self.ffmpeg, f"{_RTMP}/{self.keys[feed]}", FEEDS[feed])
        self.encoders[feed] = subprocess.Popen(command)  # noqa: S603

    @property
    def running(self) -> bool:
        """Whether the relay is there."""
        return self.relay is not None and self.relay.poll() is None

    def end(self) -> None:
        """Stop everything, the encoders first."""
        for process in [*self.encoders.values(), *([self.relay] if self.relay else []), *self.others]:
            stop(process)


def _pass_on(name: str, lines: IO[bytes]) -> None:
    """Print what a platform says of connections that come and go, not its running counts."""
    for line in lines:
        text = line.decode("utf-8", "replace").strip()
        if ": on air" in text or ": over" in text or ": refused" in text:
            say(f"{name}: {text}")


# What there is to see.


def look() -> dict[str, Any]:
    """Return what the API says of the stream; empty when there is no answer."""
    try:
        url = f"{_HTTP}/api/v1/streams/{STREAM}"
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own address
            found: dict[str, Any] = json.load(response)
            return found
    except (OSError, ValueError):
        return {}


def wait_until(found: Callable[[dict[str, Any]], bool], seconds: float) -> bool:
    """Look until *found* likes what it sees."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found(look()):
            return True
        time.sleep(0.1)
    return False


@dataclass
class Pauses:
    """The longest time in which each target was sent nothing, as far as one sees from outside."""

    sent: dict[str, tuple[float, float]] = field(default_factory=dict)
    longest: dict[str, float] = field(default_factory=dict)

    def note(self, stream: dict[str, Any], now: float, *, steady: bool = True) -> None:
        """Compare with the last look; one that took long itself says nothing about pauses."""
        if not steady:
            self.sent.clear()
        for target in stream.get("targets", []):
            name, count = target["name"], target["bytes_sent"]
            before, since = self.sent.get(name, (count, now))
            if count == before:
                self.sent[name] = (count, since)
            else:
                self.sent[name] = (count, now)
            self.longest[name] = max(self.longest.get(name, 0.0), now - since)


def show_switch(show: Show) -> None:
    """Kill the encoder on air, say what that did, start it again."""
    before = look()
    feed = before.get("live_feed")
    if feed not in show.encoders:
        say("no encoder is on air; nothing to kill")
        return
    pauses = Pauses()
    killed = time.monotonic()
    show.encoders[feed].send_signal(signal.SIGKILL)
    say(f"--- the {feed} encoder is on air, and was killed now ---")
    switched = None
    after = before
    while time.monotonic() - killed < WATCH_S and show.running:
        asked = time.monotonic()
        after = look() or after
        now = time.monotonic()
        pauses.note(after, now, steady=now - asked < SLOW_LOOK_S)
        if switched is None and after.get("live_feed") not in (feed, None):
            switched = now - killed
            say(f"{after['live_feed']} is on air, {switched:.1f} s later")
        time.sleep(0.02)
    if switched is None:
        say(f"no other encoder took over: state {after.get('state')}")
    for line in _destinations(before, after, pauses):
        say(line)
    time.sleep(AWAY_S - WATCH_S)
    show.encoders[feed].wait()
    show.start_encoder(feed)
    back = wait_until(lambda stream: any(one["name"] == feed for one in stream.get("feeds", [])), 5)
    say(f"the {feed} encoder {'is back and stands by' if back else 'was started again'}")


def _destinations(before: dict[str, Any], after: dict[str, Any], pauses: Pauses) -> Iterator[str]:
    attempts = {one["name"]: one["attempts"] for one in before.get("targets", [])}
    for target in after.get("targets", []):
        name = target["name"]
        kept = target["state"] == "live" and target["attempts"] == attempts.get(name)
        how = "live, the same connection" if kept else f"{target['state']}, {target['attempts']} attempts"
        yield f"{name}: {how}; longest pause {pauses.longest.get(name, 0.0):.2f} s"


def wait_for_enter(seconds: float, show: Show) -> None:
    """Return after *seconds*, or when somebody presses Enter, or when the relay ends."""
    deadline = time.monotonic() + seconds
    terminal = sys.stdin is not None and sys.stdin.isatty()
    while show.running and time.monotonic() < deadline:
        if not terminal:
            time.sleep(0.2)
        elif select.select([sys.stdin], [], [], 0.2)[0]:
            sys.stdin.readline()
            return


def add_command(commands: Any) -> None:
    """Add the command to the parser of `rtmp-relay`."""
    parser = commands.add_parser("demo", help="start a relay with two test encoders and two fake platforms")
    _add_options(parser)
    parser.set_defaults(command=run)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--every", type=float, default=EVERY_S, metavar="S", help="seconds between two failures (20)")
    parser.add_argument("--switches", type=int, default=0, metavar="N", help="end after so many (0: never)")


def run(options: argparse.Namespace) -> int:
    """Run everything until Ctrl-C, or until the relay ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    keys = {name: f"demo-{name}-{secrets.token_hex(8)}" for name in (*FEEDS, *PLATFORMS)}
    with tempfile.TemporaryDirectory(prefix="rtmp-relay-demo-") as directory, contextlib.ExitStack() as stack:
        show = Show(find_ffmpeg(), keys, Path(directory))
        stack.callback(show.end)
        with contextlib.suppress(KeyboardInterrupt):
            show.begin()
            sys.stdout.write(_NOTE)
            sys.stdout.flush()
            done = 0
            while show.running and (not options.switches or done < options.switches):
                wait_for_enter(options.every, show)
                if show.running:
                    show_switch(show)
                done += 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo by itself."""
    parser = argparse.ArgumentParser(prog="python -m relay.demo", description=__doc__)
    _add_options(parser)
    return run(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
