"""Tables, gates and the results file: figures go in, text and Markdown come out."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from servers import Contender

Columns = list[tuple[str, str, str]]
"""Heading, key of the figure, format."""

_ALWAYS: Columns = [
    ("load CPU %", "load_percent", ".0f"),
    ("wait %", "wait_percent", ".0f"),
    ("bad", "bad", ".0f"),
    ("±%", "spread", ".0f"),
    ("n", "n", "d"),
]
_LATENCY: Columns = [("p50 ms", "p50_ms", ".1f"), ("p99 ms", "p99_ms", ".1f"), ("max ms", "max_ms", ".0f")]
FANOUT: Columns = [
    ("CPU %", "cpu_percent", ".1f"),
    ("s/GB", "s_per_gb", ".2f"),
    ("us/msg", "us_per_message", ".2f"),
    *_LATENCY,
    ("RSS MiB", "rss_mib", ".0f"),
    *_ALWAYS,
]
INGEST: Columns = [
    ("CPU %", "cpu_percent", ".1f"),
    ("us/msg in", "us_per_message_in", ".1f"),
    ("RSS MiB", "rss_mib", ".0f"),
    *_ALWAYS,
]
JOIN: Columns = [
    ("players", "first_keys", ".0f"),
    ("p50 ms", "first_key_p50_ms", ".1f"),
    ("p90 ms", "first_key_p90_ms", ".1f"),
    ("max ms", "first_key_max_ms", ".1f"),
    *_ALWAYS,
]
MEMORY: Columns = [
    ("idle MiB", "idle_mib", ".1f"),
    ("rise MiB", "rise_mib", ".1f"),
    ("stalled", "stalled", ".0f"),
    ("of them closed", "stalled_closed", ".0f"),
    ("CPU %", "cpu_percent", ".1f"),
    *_ALWAYS,
]
CAPACITY: Columns = [
    ("players", "players", "d"),
    ("CPU %", "cpu_percent", ".0f"),
    ("s/GB", "s_per_gb", ".2f"),
    *_LATENCY,
    *_ALWAYS,
]


@dataclass(slots=True)
class Gate:
    """One promise about speed: what was measured against what was promised. None: there was nothing to compare."""

    what: str
    limit: str
    measured: str
    passed: bool | None

    @property
    def verdict(self) -> str:
        """The word for the table."""
        return {True: "pass", False: "MISS", None: "not measured"}[self.passed]


@dataclass(slots=True)
class Section:
    """One table with its gates."""

    title: str
    how: str
    columns: Columns
    rows: list[list[str]] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)

    def add_runs(self, found: Mapping[Contender, Mapping[str, Any]], ratio_of: str | None) -> None:
        """Fill the table; the last column is the ratio to nginx of the figure *ratio_of*."""
        self.headings = ["server", *(heading for heading, _, _ in self.columns)]
        if ratio_of:
            self.headings.append("x nginx")
        nginx = found.get(Contender("nginx"))
        for contender, run in found.items():
            values = {**run, "rss_mib": run["rss_max_kib"] / 1024}
            row = [contender.label, *(_format(values.get(key), form) for _, key, form in self.columns)]
            if ratio_of:
                row.append(f"{run[ratio_of] / nginx[ratio_of]:.2f}" if nginx and nginx[ratio_of] else "-")
            self.rows.append(row)

    def gate_ratio(
        self,
        found: Mapping[Contender, Mapping[str, Any]],
        ours: Contender,
        theirs: Contender,
        key: str,
        what: str,
        limit: float,
    ) -> None:
        """Promise that our figure is at most *limit* times theirs."""
        ratio = _ratio(found, ours, theirs, key)
        measured = "-" if ratio is None else f"{ratio:.2f} x"
        passed = None if ratio is None else ratio <= limit
        self.gates.append(Gate(f"{ours.label}: {what}", f"<= {limit:g} x nginx", measured, passed))

    def gate_at_least(
        self,
        found: Mapping[Contender, Mapping[str, Any]],
        ours: Contender,
        theirs: Contender,
        key: str,
        what: str,
        limit: float,
    ) -> None:
        """Promise that our figure is at least *limit* times theirs."""
        ratio = _ratio(found, ours, theirs, key)
        measured = "-" if ratio is None else f"{ratio:.2f} x"
        passed = None if ratio is None else ratio >= limit
        self.gates.append(Gate(f"{ours.label}: {what}", f">= {limit:g} x nginx", measured, passed))

    def gate_limit(
        self,
        found: Mapping[Contender, Mapping[str, Any]],
        ours: Contender,
        key: str,
        what: str,
        limit: float,
        unit: str,
    ) -> None:
        """Promise that our figure is at most *limit*."""
        value = found[ours][key] if ours in found else None
        measured = "-" if value is None else f"{value:.1f} {unit}"
        passed = None if value is None else value <= limit
        self.gates.append(Gate(f"{ours.label}: {what}", f"<= {limit:g} {unit}", measured, passed))

    def as_text(self) -> str:
        """For the terminal."""
        widths = [max(len(row[i]) for row in [self.headings, *self.rows]) for i in range(len(self.headings))]
        lines = [f"\n{self.title} ({self.how})"]
        for row in [self.headings, *self.rows]:
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            lines += ["  " + "  ".join(cells)]
        lines += [f"  gate: {one.what}: {one.measured} (wanted {one.limit}): {one.verdict}" for one in self.gates]
        return "\n".join(lines)


def _format(value: Any, form: str) -> str:
    if value is None:
        return "-"
    return format(int(value), form) if form == "d" else format(value, form)


def _ratio(found: Mapping[Contender, Mapping[str, Any]], ours: Contender, theirs: Contender, key: str) -> float | None:
    if ours not in found or theirs not in found or not found[theirs][key]:
        return None
    return float(found[ours][key] / found[theirs][key])


def write(directory: Path, sections: Mapping[str, list[Section]], command: str) -> None:
    """Keep the newest result of each scenario in results.json and make RESULTS.md of them all."""
    store = directory / "results.json"
    kept: dict[str, Any] = json.loads(store.read_text()) if store.exists() else {}
    for name, found in sections.items():
        kept[name] = {
            "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "command": command,
            "machine": machine(),
            "sections": [asdict(one) for one in found],
        }
    store.write_text(json.dumps(kept, indent=1) + "\n")
    (directory / "RESULTS.md").write_text(as_markdown(kept))


def machine() -> dict[str, str]:
    """What the figures depend on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "?",
    )
    cores = Path("/proc/cpuinfo").read_text().count("processor\t")
    return {
        "cpu": f"{cores} cores, {model}",
        "kernel": platform.release(),
        "tcp": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "python": platform.python_version(),
        "twisted": _version("twisted"),
        "nginx": _first_line(["nginx", "-v"]).removeprefix("nginx version: "),
        "nginx-rtmp": _first_line(["dpkg-query", "-W", "-f=${Version}", "libnginx-mod-rtmp"]),
        "relay": _first_line(["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]),
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "?"


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return "?"
    return ((done.stdout or done.stderr).splitlines() or ["?"])[0]


def as_markdown(kept: Mapping[str, Any]) -> str:
    """The whole results file."""
    lines = ["# Benchmark results", "", *_ABOUT, "", "## Gates", ""]
    lines += ["| scenario | gate | wanted | measured | |", "|---|---|---|---|---|"]
    for result in kept.values():
        for section in result["sections"]:
            for gate in section["gates"]:
                row = Gate(**gate)
                lines.append(f"| {section['title']} | {row.what} | {row.limit} | {row.measured} | {row.verdict} |")
    for name, result in kept.items():
        lines += ["", f"## {name}", "", f"`{result['command']}`, {result['when']}.", ""]
        lines.append("; ".join(f"{key} {value}" for key, value in result["machine"].items()) + ".")
        for section in result["sections"]:
            lines += ["", f"### {section['title']}", "", section["how"] + ".", ""]
            lines.append("| " + " | ".join(section["headings"]) + " |")
            lines.append("|" + "---|" * len(section["headings"]))
            lines += ["| " + " | ".join(row) + " |" for row in section["rows"]]
    return "\n".join(lines) + "\n"


_ABOUT = [
    "Written by `benchmarks/run.py`; do not edit. The server has one core to itself and the load program another, over",
    "loopback. Servers take turns within each repetition; every run has a fresh server and 2.2 s of warm-up.",
    "Figures are medians of n runs. Streams are 30 fps video at the rate given, a key frame every 2 s, plus 128 kbit/s",
    "audio. `s/GB`: CPU seconds of the server for each 10^9 bytes of media delivered. `bad`: messages lost, repeated,",
    "reordered, of wrong length or with timestamps that go back, in all runs. `±%`: half the range of CPU over its",
    "median. `wait %`: the share of the window in which the server or the load program was ready to run but another",
    "process had its core; above a few percent the row is worth little. CPU is read from /proc/PID/task/*/schedstat,",
    "memory from VmRSS.",
    "",
    "How the messages come matters. Where no encoder is named each track has a clock of its own: 73 messages a second,",
    "one by one, are the most wake-ups for a server. OBS and FFmpeg keep sound and picture in order of time and let",
    "them go together, 30 times a second (43 without delay in the encoder); OBS writes each chunk by itself, FFmpeg",
    "each header. With those (`encoders`) nginx-rtmp still sends every message to every player, the relay one flush.",
]
