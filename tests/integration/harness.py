"""A real relay, foreign servers, encoders and players as child processes, and what they make of a stream.

Everything listens on 127.0.0.1, writes below a temporary directory, and is gone when its context is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest

ROOT = Path(__file__).parents[2]
NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
T = TypeVar("T")

LONG = os.environ.get("RELAY_LONG") == "1"
"""Minutes instead of seconds: `make soak`."""

SOURCE_SECONDS = 120 if LONG else 5


# --- foreign programs ----------------------------------------------------------------------------------------------


@cache
def ffmpeg9() -> str:
    """FFmpeg of the `[ffmpeg]` extra: enhanced RTMP, multitrack."""
    imageio = pytest.importorskip("imageio_ffmpeg", reason="needs FFmpeg 9: pip install 'rtmp-relay[test]'")
    return str(imageio.get_ffmpeg_exe())


def ffmpeg5() -> str:
    """The distribution's FFmpeg, an older one."""
    return need("ffmpeg", "apt install ffmpeg", "/usr/bin/ffmpeg")


def need(program: str, install: str, path: str | None = None) -> str:
    """Path of a program, or skip saying how to get it."""
    found = shutil.which(path or program)
    if found is None:
        pytest.skip(f"needs {program}: {install}")
    return found


def free_port() -> int:
    """A port that nobody uses right now, below those that the kernel gives to clients: no client has it by chance when
    a relay that was killed wants it back."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(10_000, max(low, 20_000))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_for(found: Callable[[], T], what: str, timeout: float = 10.0) -> T:
    """Poll until *found* returns something true."""
    until = time.monotonic() + timeout
    while True:
        result = found()
        if result:
            return result
        if time.monotonic() > until:
            raise AssertionError(f"no {what} within {timeout} s")
        time.sleep(0.02)


@dataclass
class Program:
    """A child process whose output is read as it comes."""

    args: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = ROOT
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            list(self.args),
            cwd=self.cwd,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self.readers = [
            threading.Thread(target=_collect, args=(pipe, lines), daemon=True)
            for pipe, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self.readers:
            reader.start()

    @property
    def text(self) -> str:
        """Everything it said."""
        return "".join([*self.out, *self.err])

    @property
    def tail(self) -> str:
        """The end of what it said, for failure messages."""
        return "".join([*self.out[-40:], *self.err[-40:]])

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, timeout: float = 15.0) -> int:
        """Wait for its end, return the exit code."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{Path(self.args[0]).name} did not end within {timeout} s:\n{self.tail}") from None
        for reader in self.readers:
            reader.join(5)
        return code

    def stop(self) -> None:
        """End it, however it feels about that."""
        if self.running:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(6)
        if self.running:
            self.process.kill()
        self.process.wait()
        for reader, pipe in zip(self.readers, (self.process.stdout, self.process.stderr), strict=True):
            reader.join(5)
            assert pipe is not None
            pipe.close()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _collect(pipe: Iterator[str], lines: list[str]) -> None:
    with contextlib.suppress(ValueError):
        lines.extend(pipe)


# --- the relay -----------------------------------------------------------------------------------------------------


@dataclass
class Relay:
    """A running `twistd -n rtmp-relay`."""

    program: Program
    port: int
    tls_port: int
    http_port: int

    def publish_url(self, key: str, *, tls: bool = False, app: str = "live") -> str:
        """Where an encoder goes."""
        return self._url(key, tls, app)

    def play_url(self, stream: str, *, tls: bool = False, app: str = "live") -> str:
        """Where a player goes."""
        return self._url(stream, tls, app)

    def _url(self, name: str, tls: bool, app: str) -> str:
        scheme, port = ("rtmps", self.tls_port) if tls else ("rtmp", self.port)
        return f"{scheme}://{'localhost' if tls else '127.0.0.1'}:{port}/{app}/{name}"

    def get(self, path: str) -> object:
        """GET a JSON document from its HTTP server."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=5) as response:
            return json.load(response)

    def text(self, path: str) -> str:
        """GET a text from its HTTP server."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=5) as response:
            return str(response.read().decode())

    def stream(self, name: str) -> dict[str, object]:
        """What the API says of a stream; empty when it knows none."""
        with contextlib.suppress(OSError):
            answer = self.get(f"/api/v1/streams/{name}")
            if isinstance(answer, dict):
                return answer
        return {}

    def log(self) -> list[dict[str, object]]:
        """The log so far. Every line of it is a JSON object."""
        return [json.loads(line) for line in list(self.program.out) if line.strip()]

    def wait_log(
        self, what: str, found: Callable[[dict[str, object]], bool], timeout: float = 10.0
    ) -> dict[str, object]:
        """Wait for a line of the log."""
        return wait_for(lambda: next((line for line in self.log() if found(line)), None), f"log line: {what}", timeout)  # type: ignore[return-value]

    def memory(self) -> int:
        """Resident bytes now."""
        return _status(self.program.process.pid, "VmRSS")

    def memory_peak(self) -> int:
        """Most resident bytes since the last `reset_peak`."""
        return _status(self.program.process.pid, "VmHWM")

    def reset_peak(self) -> None:
        """Begin a new measurement of `memory_peak`."""
        Path(f"/proc/{self.program.process.pid}/clear_refs").write_text("5")

    def descriptors(self) -> int:
        """Open file descriptors."""
        return len(os.listdir(f"/proc/{self.program.process.pid}/fd"))


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {key} in the status of {pid}")


@dataclass
class Certificates:
    """A certificate authority made for a test, and a certificate for localhost that it signed."""

    ca: Path
    certificate: Path
    key: Path


def make_certificates(directory: Path) -> Certificates:
    """Make a CA and a certificate for localhost and 127.0.0.1."""
    openssl = need("openssl", "apt install openssl")
    made = Certificates(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
    ca_key, request, extensions = directory / "ca.key", directory / "request.pem", directory / "extensions"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for line in (
        ["req", "-x509", *new_key, "-keyout", ca_key, "-out", made.ca, "-days", "30", "-subj", "/CN=test CA"],
        ["req", *new_key, "-keyout", made.key, "-out", request, "-subj", "/CN=localhost"],
        [
            "x509",
            "-req",
            "-in",
            request,
            "-CA",
            made.ca,
            "-CAkey",
            ca_key,
            "-CAcreateserial",
            "-days",
            "30",
            "-extfile",
            extensions,
            "-out",
            made.certificate,
        ],
    ):
        subprocess.run([openssl, *map(str, line)], check=True, capture_output=True, timeout=20)
    return made


@contextlib.contextmanager
def relay(
    directory: Path,
    streams: str = "",
    *,
    extra: str = "",
    plugins: Sequence[str] = ("streamkeys", "restream"),
    certificates: Certificates | None = None,
    env: Mapping[str, str] | None = None,
    command: Sequence[str] = (),
) -> Iterator[Relay]:
    """Run a relay with these stream tables (TOML) and everything else as an operator has it."""
    port, tls_port, http_port = free_port(), free_port(), free_port()
    text = f'[[listen]]\nurl = "rtmp://127.0.0.1:{port}"\n'
    if certificates is not None:
        text += f'[[listen]]\nurl = "rtmps://127.0.0.1:{tls_port}"\n'
        text += f'certificate = "{certificates.certificate}"\nprivate_key = "{certificates.key}"\n'
    text += f'[http]\nlisten = "127.0.0.1:{http_port}"\n[log]\nformat = "json"\n'
    text += "".join(f"[plugins.{plugin}]\n" for plugin in plugins)
    config = directory / f"relay-{port}.toml"
    config.write_text(text + extra + "\n" + streams)
    config.chmod(0o600)
    twistd = shutil.which("twistd", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}") or "twistd"
    args = [*command, sys.executable, twistd, "-n", "--pidfile=", "rtmp-relay", "--config", str(config)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with Program(args, {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(env or {})}) as program:
        running = Relay(program, port, tls_port, http_port)
        wait_for(lambda: _ready(running), "readiness of the relay", 20)
        yield running
    assert "Traceback" not in program.text, program.tail
    leaked = [key for key in _KEY.findall(streams) if key in program.text]
    assert not leaked, f"keys in the log: {leaked}"


_KEY = re.compile(r'^(?:primary|backup|play) = "(.{8,})"$', re.MULTILINE)


def _ready(running: Relay) -> bool:
    if not running.program.running:
        running.program.wait()
        raise AssertionError(f"the relay ended at once:\n{running.program.tail}")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{running.http_port}/readyz", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def stream_table(
    name: str, key: str, *, play: str = "", targets: Mapping[str, str] | None = None, more: str = ""
) -> str:
    """TOML of one stream with its key and its targets (name to url without the key; the key is the target's name)."""
    text = f'[streams.{name}.streamkeys]\nprimary = "{key}"\n'
    if play:
        text += f'play = "{play}"\n'
    for target, url in (targets or {}).items():
        text += f'[streams.{name}.restream.{target}]\nurl = "{url}"\nkey = "{target}"\n'
    return text + more


# --- foreign servers -----------------------------------------------------------------------------------------------


@dataclass
class Nginx:
    """nginx with its RTMP module: records what is published to it, under the name it was published as."""

    program: Program
    port: int
    directory: Path

    @property
    def url(self) -> str:
        """Where a target goes; the key is appended."""
        return f"rtmp://127.0.0.1:{self.port}/live"

    def recording(self, name: str) -> Path:
        """The newest recording of *name*."""
        files = sorted(self.directory.glob(f"{name}*.flv"), key=lambda path: path.stat().st_mtime)
        assert files, f"nginx recorded no {name}: {sorted(self.directory.iterdir())}\n{self.program.tail}"
        return files[-1]

    def finished(self, name: str, timeout: float = 10.0) -> Path:
        """The recording of *name*, once the publisher has left and nginx has closed the file."""
        wait_for(lambda: list(self.directory.glob(f"{name}*.flv")), f"recording of {name}", timeout)
        wait_for(lambda: not self._open(name), f"end of the publish of {name}", timeout)
        return self.recording(name)

    def _open(self, name: str) -> bool:
        children = Path(f"/proc/{self.program.process.pid}/fd")
        with contextlib.suppress(OSError):
            return any(name in os.readlink(link) for link in children.iterdir() if link.is_symlink())
        return False


@contextlib.contextmanager
def nginx(directory: Path, *, port: int | None = None, more: str = "") -> Iterator[Nginx]:
    """Run nginx-rtmp as a destination that records."""
    binary = need("nginx", "apt install nginx libnginx-mod-rtmp", "/usr/sbin/nginx")
    if not NGINX_MODULE.exists():
        pytest.skip("needs the RTMP module of nginx: apt install libnginx-mod-rtmp")
    port = port or free_port()
    home = directory / f"nginx-{port}"
    records = home / "records"
    records.mkdir(parents=True)
    records.chmod(0o777)
    conf = home / "nginx.conf"
    conf.write_text(
        f"load_module {NGINX_MODULE};\ndaemon off;\nmaster_process off;\npid {home}/pid;\nerror_log stderr info;\n"
        "worker_rlimit_nofile 4096;\nevents { worker_connections 256; }\n"
        f"rtmp {{ access_log off; server {{ listen 127.0.0.1:{port}; chunk_size 65536; max_message 16M;\n"
        f"  application live {{ live on; record all; record_path {records}; record_unique on; {more} }}\n}} }}\n"
    )
    args = [binary, "-p", str(home), "-c", str(conf), "-e", "stderr"]
    with Program(args) as program:
        wait_for(lambda: _listens(port) or not program.running, "nginx")
        assert program.running, program.tail
        yield Nginx(program, port, records)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


# --- encoders and players ------------------------------------------------------------------------------------------


def publisher(url: str, source: Path, *options: str, binary: str = "", before: Sequence[str] = ()) -> Program:
    """An FFmpeg that publishes *source* as it is, at its own pace."""
    args = [binary or ffmpeg9(), "-hide_banner", "-nostats", "-loglevel", "verbose", "-re", *before, "-i", str(source)]
    return Program([*args, "-map", "0", "-c", "copy", *options, "-f", "flv", url])


def player(url: str, output: Path, *options: str, binary: str = "") -> Program:
    """An FFmpeg that plays *url* and writes the hash of every packet."""
    args = [binary or ffmpeg9(), "-hide_banner", "-nostats", "-loglevel", "verbose", "-y", "-rtmp_live", "live"]
    args += [*options, "-i", url, "-map", "0:v?", "-map", "0:a?", "-c", "copy", "-flush_packets", "1"]
    return Program([*args, "-f", "framehash", str(output)])


def rtmpdump(url: str, output: Path) -> Program:
    """librtmp's own player, which writes FLV."""
    binary = need("rtmpdump", "apt install rtmpdump")
    return Program([binary, "-r", url, "--live", "-o", str(output)])
