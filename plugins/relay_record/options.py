"""What can be said about recording: in `[plugins.record]` for every stream, in `[streams.S.record]` for one.

The rule it guards: nothing is deleted unless an option says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from relay.api import ConfigModel

Format = Literal["flv"]

MAX_PART_S = 86_400
"""A file is a day long at most, whatever the options say: FLV counts 24 days, and an index has to end somewhere."""


class StreamOptions(ConfigModel):
    """``[streams.S.record]``: one stream's own, over the plugin's."""

    enabled: bool = True
    """Record the stream whenever it is live. The API starts and stops the recording while it is."""
    format: Format = "flv"
    """``flv``: bit for bit what came in."""
    segment_s: Annotated[float, Field(ge=0, le=MAX_PART_S)] = 0
    """Begin a new file after so many seconds, at a keyframe; 0: never for that reason."""
    segment_mb: Annotated[float, Field(ge=0)] = 0
    """Begin a new file after so many megabytes, at a keyframe; 0: never for that reason."""
    segment_clock: bool = False
    """Begin files at whole multiples of *segment_s* since midnight UTC: 3600 means at every full hour."""
    resume_s: Annotated[float, Field(ge=0, le=86_400)] = 300
    """A stream that returns within so many seconds continues its recording: new files, the same id."""

    @model_validator(mode="after")
    def _check_clock(self) -> StreamOptions:
        if self.segment_clock and not self.segment_s:
            raise ValueError("segment_clock needs segment_s")
        return self

    @property
    def segment_bytes(self) -> int:
        """`segment_mb` in bytes."""
        return int(self.segment_mb * 1_000_000)


class Options(StreamOptions):
    """``[plugins.record]``"""

    directory: Path
    """Where recordings go: a folder for each stream, made when it is needed."""
    min_free_mb: Annotated[float, Field(ge=0)] | None = None
    """Record nothing while the disk has less room. Without it: 1 GiB or 2 % of the disk, whichever is more."""
