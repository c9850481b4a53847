"""Continues a recording that an earlier relay left: one id over a restart, a crash and a loss of power.

For the writer's thread, when a stream's first file is made. The rule it guards: only the newest recording of the
folder, only while its end is not noted, only if somebody was at work on it within the time the options say, and only if
nobody is still: another relay that shares the directory has its files locked.
"""

from __future__ import annotations

import errno
from contextlib import suppress

from .disk import Disk
from .names import PART, SIDECAR, is_stem, parse_file
from .partfile import Recording
from .sidecar import Document, Sidecars, unstamp

SLACK_S = 60.0
"""How far the wall clock may have been set back meanwhile."""


def adopt(sidecars: Sidecars, recording: Recording, at: int, wall: float, mending: str) -> None:
    """Let *recording* be the one that was left in the folder, if there is one to be continued.

    *mending* is the torn file that our own recovery has locked just now, if any.
    """
    with suppress(OSError):
        names = sidecars.disk.names(at)
        stems = [name.removesuffix(SIDECAR) for name in names if name.endswith(SIDECAR)]
        left = max((stem for stem in stems if is_stem(stem)), default="")  # names begin with the time
        document = sidecars.read(left, at) if left else {}
        seen = unstamp(document.get("seen_at"))
        if document.get("state") != "recording" or seen is None:
            return
        torn = [name for name in names if name.startswith(left + "_") and name.endswith(PART) and name != mending]
        if -SLACK_S <= wall - seen <= recording.adopt_s and not any(_is_locked(sidecars.disk, one, at) for one in torn):
            recording.stem = left
            recording.number = max(_numbers(left, names, document), default=0)


def _is_locked(disk: Disk, name: str, at: int) -> bool:
    try:
        disk.close(disk.open(name, at))
    except OSError as error:
        return error.errno == errno.EWOULDBLOCK
    return False


def _numbers(stem: str, names: list[str], document: Document) -> list[int]:
    """Return the numbers of all parts, those that were deleted too: none is given twice."""
    listed = [str(part.get("file")) for part in document["parts"] if isinstance(part, dict)]
    files = [parse_file(name.removesuffix(PART)) for name in (*names, *listed)]
    return [file.number for file in files if file is not None and file.stem == stem]
