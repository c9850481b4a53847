"""A network of our own with a cable that can be pulled: two namespaces, a veth pair, and nftables that drop.

Nothing leaves the machine, and nothing of the machine's own network is touched. Needs root, `ip` and `nft`; use
`why_not` to skip with a reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence

HERE, THERE = "10.231.77.1", "10.231.77.2"
CLONE_NEWNET = 0x40000000


def why_not() -> str:
    """Why there can be no such network here; empty if there can."""
    for program, package in (("ip", "iproute2"), ("nft", "nftables"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            return f"needs {program}: apt install {package}"
    if os.geteuid() != 0:
        return "needs root, for a network namespace"
    done = subprocess.run(["unshare", "-n", "true"], capture_output=True)
    return "" if done.returncode == 0 else "this system allows no network namespaces"


class Cable:
    """The way between here (the relay's side) and there (the encoders')."""

    def __init__(self, pid: int) -> None:
        self._there = ["nsenter", "-t", str(pid), "-n"]

    def command(self, args: Sequence[str]) -> list[str]:
        """Return the command line that runs *args* at the far end."""
        return [*self._there, *args]

    def pull(self, port: int) -> None:
        """From now on nothing passes to or from *port* of the far end, and nobody is told."""
        for rule in (f"add rule ip cable out tcp sport {port} drop", f"add rule ip cable in tcp dport {port} drop"):
            self.run("nft", *rule.split())

    def lose(self, percent: int) -> None:
        """From now on so many packets of a hundred get lost, each way."""
        for chain in ("out", "in"):
            self.run(*f"nft add rule ip cable {chain} numgen random mod 100 lt {percent} drop".split())

    def mend(self) -> None:
        """Everything passes again."""
        self.run("nft", "flush", "table", "ip", "cable")

    def run(self, *args: str) -> None:
        """Run a command at the far end."""
        subprocess.run(self.command(args), check=True, capture_output=True)


@contextlib.contextmanager
def cable() -> Iterator[Cable]:
    """Move this thread, and what it starts, to a new network whose only way out is a cable to another new one."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    far = None
    try:
        far = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 86400"], stdout=subprocess.PIPE)
        assert far.stdout is not None
        far.stdout.readline()
        made = Cable(far.pid)
        local = [
            "ip link set lo up",
            f"ip link add near type veth peer name far netns {far.pid}",
            f"ip address add {HERE}/30 dev near",
            "ip link set near up",
        ]
        for line in local:
            subprocess.run(line.split(), check=True, capture_output=True)
        for line in ("ip link set lo up", f"ip address add {THERE}/30 dev far", "ip link set far up"):
            made.run(*line.split())
        made.run("nft", "add table ip cable")
        for hook, name in (("output", "out"), ("input", "in")):
            made.run("nft", f"add chain ip cable {name} {{ type filter hook {hook} priority 0; }}")
        yield made
    finally:
        if far is not None:
            far.kill()
            far.wait()
            if far.stdout is not None:
                far.stdout.close()
        libc.setns(before, CLONE_NEWNET)
        os.close(before)
