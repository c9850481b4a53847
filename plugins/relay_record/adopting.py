"""Continues a recording that an earlier relay left: one id over a restart, a crash and a loss of power.

For the writer's thread, when a stream's first file is made. The rule it guards: only the newest recording of the
folder, only while its end is not noted, and only if somebody was at work on it within the time the options say.
"""

from __future__ import annotations

from contextlib import suppress

from .names import PART, SIDECAR, is_stem, parse_file
from .partfile import Recording
from .sidecar import Document, Sidecars, unstamp

SLACK_S = 60.0
"""How far the wall clock may have been set back meanwhile."""


def adopt(sidecars: Sidecars, recording: Recording, at: int, wall: float) -> None:
    """Let *recording* be the one that was left in the folder, if there is one to be continued."""
    with suppress(OSError):
        names = sidecars.disk.names(at)
        stems = [name.removesuffix(SIDECAR) for name in names if name.endswith(SIDECAR)]
        left = max((stem for stem in stems if is_stem(stem)), default="")  # names begin with the time
        document = sidecars.read(left, at) if left else {}
        seen = unstamp(document.get("seen_at"))
        if document.get("state") != "recording" or seen is None:
            return
        if -SLACK_S <= wall - seen <= recording.adopt_s:
            recording.stem = left
            recording.number = max(_numbers(left, names, document), default=0)


def _numbers(stem: str, names: list[str], document: Document) -> list[int]:
    """Return the numbers of all parts, those that were deleted too: none is given twice."""
    listed = [str(part.get("file")) for part in document["parts"] if isinstance(part, dict)]
    files = [parse_file(name.removesuffix(PART)) for name in (*names, *listed)]
    return [file.number for file in files if file is not None and file.stem == stem]
