"""What `make docs` does: it checks the pages, which are read as they are.

Every link and anchor leads somewhere, every TOML and Python block parses, every `make` target and every metric that is
named exists. Needs nothing but the standard library.

Prints `FILE:LINE: what is wrong` for each fault and ends with 1 when there is one.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)")


class Fault(NamedTuple):
    """One thing that is wrong."""

    page: Path
    line: int
    text: str


def pages() -> list[Path]:
    """Return every page of the documentation."""
    roots = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    return [*roots, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "plugins").glob("*/README.md"))]


def anchor(heading: str) -> str:
    """Return the anchor that a heading gets on the usual forges."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower().replace("`", ""))
    return kept.replace(" ", "-")


def prose_and_blocks(text: str) -> tuple[list[tuple[int, str]], list[tuple[int, str, str]]]:
    """Split a page into its lines of prose and its code blocks (first line, language, content)."""
    prose: list[tuple[int, str]] = []
    blocks: list[tuple[int, str, str]] = []
    block: list[str] | None = None
    language, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            if block is None:
                block, language, start = [], line[3:].strip(), number + 1
            else:
                blocks.append((start, language, "\n".join(block)))
                block = None
        elif block is not None:
            block.append(line)
        else:
            prose.append((number, line))
    return prose, blocks


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page."""
    prose, _ = prose_and_blocks(page.read_text("utf-8"))
    return {anchor(found[1]) for _, line in prose if (found := HEADING.match(line))}


def link_faults(page: Path, number: int, line: str) -> Iterator[Fault]:
    """Yield what is wrong with the links of one line; addresses elsewhere are not looked at."""
    for target in LINK.findall(line):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, name = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists():
            yield Fault(page, number, f"{target}: there is no such file")
        elif name and place.suffix == ".md" and name not in anchors(place):
            yield Fault(page, number, f"{target}: {place.name} has no such heading")


def block_faults(page: Path, number: int, language: str, content: str) -> Iterator[Fault]:
    """Yield what is wrong with one code block."""
    if language == "toml":
        try:
            tomllib.loads(content)
        except tomllib.TOMLDecodeError as error:
            yield Fault(page, number, f"not TOML: {error}")
    elif language == "python":
        try:
            compile(content, str(page), "exec")
        except SyntaxError as error:
            yield Fault(page, number + (error.lineno or 1) - 1, f"not Python: {error.msg}")


def make_targets() -> set[str]:
    """Return the targets of the Makefile."""
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def page_faults(page: Path, targets: set[str]) -> Iterator[Fault]:
    """Yield what is wrong with one page."""
    prose, blocks = prose_and_blocks(page.read_text("utf-8"))
    for number, line in prose:
        yield from link_faults(page, number, line)
        for code in re.findall(r"`(make [^`]*)`", line):
            yield from (Fault(page, number, f"make {t}: no such target") for t in unknown_targets(code, targets))
    for number, language, content in blocks:
        yield from block_faults(page, number, language, content)
        if language == "sh":
            for code in re.findall(r"^make .*", content, re.MULTILINE):
                yield from (Fault(page, number, f"make {t}: no such target") for t in unknown_targets(code, targets))


def unknown_targets(command: str, targets: set[str]) -> list[str]:
    """Return the targets in a make command that the Makefile does not have."""
    words = command.partition("#")[0].split()[1:]
    return [word for word in words if re.fullmatch(r"[a-z]+", word) and word not in targets]


def metric_faults() -> Iterator[Fault]:
    """Yield metrics that the operations page names and nothing exports."""
    page = ROOT / "docs" / "operations.md"
    source = (ROOT / "relay" / "http" / "metrics.py").read_text("utf-8").replace('f"{prefix}', '"rtmp_relay_stream')
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        for name in re.findall(r"\brtmp_relay_[a-z_]+", line):
            if f'"{name.removesuffix("_total")}"' not in source and not is_of_a_plugin(name):
                yield Fault(page, number, f"{name}: no such metric")


def is_of_a_plugin(name: str) -> bool:
    """Whether one of the shipped plugins reports a number of this name."""
    plugin, _, number = name.removeprefix("rtmp_relay_").partition("_")
    sources = (ROOT / "plugins" / f"relay_{plugin}").glob("*.py")
    return any(f'"{number}": ' in source.read_text("utf-8") for source in sources)


def main() -> int:
    """Check everything."""
    targets = make_targets()
    faults = [fault for page in pages() for fault in page_faults(page, targets)]
    faults += metric_faults()
    for fault in faults:
        sys.stdout.write(f"{fault.page.relative_to(ROOT)}:{fault.line}: {fault.text}\n")
    sys.stdout.write(f"{len(pages())} pages, {len(faults)} faults\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
