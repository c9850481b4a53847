"""The servers under test: each is started fresh in a directory of its own, pinned to one core, and always stopped.

`serve(contender, setup, cores)` is the only door. Everything listens on loopback, on ports the kernel chose.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
START_S = 15.0
STOP_S = 10.0


class BenchError(Exception):
    """A server or the load program could not do its part."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One server in one configuration."""

    server: str
    merge_ms: int = 0
    chunk_size: int = 0

    @property
    def label(self) -> str:
        """What the tables call it."""
        extra = [f"merge {self.merge_ms} ms"] if self.merge_ms else []
        extra += [f"chunk {self.chunk_size}"] if self.chunk_size else []
        return " ".join([self.server, *extra])


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a scenario needs of a server."""

    streams: int = 1
    destinations: int = 0
    sink_port: int = 0
    extra: str = ""
    """TOML for the relay's configuration."""
    nginx: str = ""
    """Lines for nginx's application."""
    http_port: int = 0
    """The relay's HTTP port; 0: any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Where the two sides run; the same core twice on a machine that has one."""

    server: int
    load: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A started server. *pid* is the process that does the work; names may hold ``%d``, the stream's index."""

    pid: int
    port: int
    publish_name: str
    play_name: str

    def rss_kib(self) -> int:
        """Resident memory now."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0


def nginx_available() -> bool:
    """Whether nginx and its RTMP module are installed."""
    return shutil.which("nginx") is not None and NGINX_MODULE.exists()


def relay_available() -> bool:
    """Whether this tree holds a relay that twistd can start."""
    return (ROOT / "relay" / "tap.py").exists() and twistd().exists()


def twistd() -> Path:
    """The twistd of the repository's virtual environment, or of the Python that runs us."""
    local = ROOT / ".venv" / "bin" / "twistd"
    return local if local.exists() else Path(sys.executable).parent / "twistd"


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def serve(contender: Contender, setup: Setup, cores: Cores) -> Iterator[Running]:
    """Start the contender, wait until it accepts, yield it, stop it whatever happens."""
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
        directory = Path(name)
        port = free_port()
        start = _nginx if contender.server == "nginx" else _relay
        command, publish_name, play_name = start(contender, setup, port, directory)
        log = directory / "output"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["taskset", "-c", str(cores.server), *command],
                cwd=directory,
                env=_environment(),
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            _wait_for_port(process, port, log)
            pid = _only_child(process.pid) if contender.server == "nginx" else process.pid
            yield Running(pid=pid, port=port, publish_name=publish_name, play_name=play_name)
            if process.poll() is not None:
                raise BenchError(f"{contender.label} died:\n{_tail(log)}")
        finally:
            _stop(process)


def _nginx(contender: Contender, setup: Setup, port: int, directory: Path) -> tuple[list[str], str, str]:
    pushes = "\n".join(
        f"      push rtmp://127.0.0.1:{setup.sink_port}/live/d{i:02d};" for i in range(setup.destinations)
    )
    chunk = f"    chunk_size {contender.chunk_size};\n" if contender.chunk_size else ""
    user = "user root;\n" if os.geteuid() == 0 else ""
    conf = directory / "nginx.conf"
    conf.write_text(f"""{user}load_module {NGINX_MODULE};
daemon off;
worker_processes 1;
worker_rlimit_nofile {resource.getrlimit(resource.RLIMIT_NOFILE)[1]};
pid {directory}/nginx.pid;
error_log {directory}/error.log error;
events {{ worker_connections 16384; }}
rtmp {{
  access_log off;
  server {{
    listen 127.0.0.1:{port};
{chunk}    application live {{
      live on;
{pushes}
{setup.nginx}
    }}
  }}
}}
""")
    name = _name("bench", setup)
    return ["nginx", "-e", f"{directory}/error.log", "-p", str(directory), "-c", str(conf)], name, name


def _relay(contender: Contender, setup: Setup, port: int, directory: Path) -> tuple[list[str], str, str]:
    lines = [
        "[[listen]]",
        f'url = "rtmp://127.0.0.1:{port}"',
        "[http]",
        f'listen = "127.0.0.1:{setup.http_port or free_port()}"',
        "[play]",
        f"merge_ms = {contender.merge_ms}",
        "[limits]",
        "unauthenticated = 2000",
        "unauthenticated_per_ip = 2000",
        "[plugins.streamkeys]",
    ]
    if setup.destinations:
        lines.append("[plugins.restream]")
    lines.append(setup.extra)
    for i in range(setup.streams):
        stream, key = (_name(base, setup).replace("%d", str(i)) for base in ("bench", "bench-key-0001"))
        lines += [f"[streams.{stream}.streamkeys]", f'primary = "{key}"']
        for d in range(setup.destinations):
            lines += [f"[streams.{stream}.restream.d{d:02d}]", f'url = "rtmp://127.0.0.1:{setup.sink_port}/live"']
            lines += [f'key = "d{d:02d}"']
    config = directory / "relay.toml"
    config.write_text("\n".join(lines) + "\n")
    config.chmod(0o600)
    command = [str(twistd()), "-n", "--pidfile=", "rtmp-relay", "--config", str(config)]
    return command, _name("bench-key-0001", setup), _name("bench", setup)


def _name(base: str, setup: Setup) -> str:
    return base if setup.streams == 1 else f"{base}-%d"


def _environment() -> dict[str, str]:
    """Ours, with this tree importable whether or not it is installed."""
    path = [str(ROOT), str(ROOT / "plugins"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def raise_file_limit() -> None:
    """Allow as many sockets as the system lets us; the servers inherit it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchError(f"{process.args!r} ended with {process.returncode}:\n{_tail(log)}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise BenchError(f"nothing listens on port {port} after {START_S:.0f} s:\n{_tail(log)}")


def _only_child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if len(children) != 1:
        raise BenchError(f"expected one nginx worker, found {len(children)}")
    return int(children[0])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask, then kill the process group that we made."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
            return


def _tail(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-900:]
