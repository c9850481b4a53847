"""Fetch the front-end libraries that are committed below `relay/http/static/vendor/`, or compare them with npm's.

    python tools/vendor.py --check      compare every vendored library with its npm package (needs npm and a network)
    python tools/vendor.py hls.js 1.7.4 hls.min.mjs hls.worker.js

The rule it guards: a vendored file is the published one, byte for byte, but for the comment that names a source map
that is not shipped. `vendor.json` beside it holds npm's own checksum of the package and ours of each file; the test run
compares the latter, which needs no network.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

VENDOR = Path(__file__).resolve().parent.parent / "relay" / "http" / "static" / "vendor"
CHANGED = "the comment that names the source map is removed"
SOURCE_MAP = re.compile(rb"\n?//# sourceMappingURL=\S+\s*\Z")


def fetch(name: str, version: str) -> tuple[str, Mapping[str, bytes]]:
    """Return npm's checksum of a package, verified, and the files in it."""
    wanted = f"{name}@{version}"
    integrity = _npm("view", wanted, "dist.integrity").strip()
    with tempfile.TemporaryDirectory() as directory:
        _npm("pack", wanted, "--silent", "--pack-destination", directory)
        (package,) = Path(directory).glob("*.tgz")
        found = "sha512-" + base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
        if found != integrity:
            raise SystemExit(f"{wanted}: npm says {integrity}, the package has {found}")
        with tarfile.open(package) as archive:
            members = [member for member in archive if member.isfile()]
            return integrity, {member.name.partition("/")[2]: _read(archive, member) for member in members}


def _npm(*arguments: str) -> str:
    return subprocess.run(["npm", *arguments], check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    assert content is not None
    return content.read()


def vendored(package: Mapping[str, bytes], files: Sequence[str]) -> dict[str, bytes]:
    """Return what is committed of a package: these files of its `dist`, without their source maps, and the licence."""
    kept = {file: SOURCE_MAP.sub(b"\n", package[f"dist/{file}"]) for file in files}
    return {**kept, "LICENSE": package["LICENSE"]}


def add(name: str, version: str, files: Sequence[str]) -> None:
    """Write a library's folder."""
    integrity, package = fetch(name, version)
    content = vendored(package, files)
    folder = VENDOR / f"{name.removesuffix('.js')}-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in content.items():
        (folder / file).write_bytes(data)
    digests = {file: hashlib.sha256(data).hexdigest() for file, data in content.items()}
    record = {"name": name, "version": version, "integrity": integrity, "changed": CHANGED, "sha256": digests}
    (folder / "vendor.json").write_text(json.dumps(record, indent=2) + "\n")


def check() -> int:
    """Compare every vendored library with its package; return the number of differences."""
    faults = 0
    for record_file in sorted(VENDOR.glob("*/vendor.json")):
        record = json.loads(record_file.read_text())
        integrity, package = fetch(record["name"], record["version"])
        faults += _differs(record_file, "integrity", integrity != record["integrity"])
        files = [file for file in record["sha256"] if file != "LICENSE"]
        for file, data in vendored(package, files).items():
            faults += _differs(record_file.with_name(file), "content", (record_file.parent / file).read_bytes() != data)
        print(f"{record['name']} {record['version']}: {len(record['sha256'])} files compared")
    return faults


def _differs(place: Path, what: str, different: bool) -> bool:
    if different:
        print(f"{place}: {what} is not npm's")
    return different


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Vendored front-end libraries")
    parser.add_argument("--check", action="store_true", help="compare with npm, change nothing")
    parser.add_argument("name", nargs="?")
    parser.add_argument("version", nargs="?")
    parser.add_argument("files", nargs="*", help="files of the package's dist folder")
    wanted = parser.parse_args()
    if wanted.check:
        return 1 if check() else 0
    if not wanted.files:
        parser.error("say which library, which version and which files, or --check")
    add(wanted.name, wanted.version, wanted.files)
    return 0


if __name__ == "__main__":
    sys.exit(main())
