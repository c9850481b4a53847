"""What can be said about recording: in `[plugins.record]` for every stream, in `[streams.S.record]` for one.

The rule it guards: nothing is deleted unless an option says so, and no option holds a command line for a shell.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from relay.api import ConfigModel, LocalPath

Format = Literal["fmp4", "flv", "ts"]

MAX_PART_S = 86_400
"""A file is a day long at most, whatever the options say: FLV counts 24 days, and an index has to end somewhere."""

ProgramPart = Annotated[str, Field(min_length=1, max_length=4096)]


class StreamOptions(ConfigModel):
    """``[streams.S.record]``: one stream's own, over the plugin's."""

    enabled: bool = True
    """Record the stream whenever it is live. The API starts and stops the recording while it is."""
    format: Format = "fmp4"
    """``fmp4``, ``flv`` (bit for bit what came in) or ``ts``."""
    segment_s: Annotated[float, Field(ge=0, le=MAX_PART_S)] = 0
    """Begin a new file after so many seconds, at a keyframe; 0: never for that reason."""
    segment_mb: Annotated[float, Field(ge=0)] = 0
    """Begin a new file after so many megabytes, at a keyframe; 0: never for that reason."""
    segment_clock: bool = False
    """Begin files at whole multiples of *segment_s* since midnight UTC: 3600 means at every full hour."""
    resume_s: Annotated[float, Field(ge=0, le=86_400)] = 300
    """A stream that returns within so many seconds continues its recording: new files, the same id.
    A restart of the relay in between changes nothing."""
    keep_days: Annotated[float, Field(ge=0)] = 0
    """Delete finished files that are older; 0: never."""
    keep_mb: Annotated[float, Field(ge=0)] = 0
    """Delete the oldest finished files of the stream while all of them are larger together; 0: never."""
    remux: bool = False
    """Make a progressive MP4 of every finished fMP4 file, check it, and put it in the place of the other."""
    exec: tuple[ProgramPart, ...] = ()
    """A program to run for every finished file, and its arguments; {path}, {stream} and {id} are filled in."""
    exec_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 300
    """The program is ended when it takes longer."""

    @model_validator(mode="after")
    def _check_clock(self) -> StreamOptions:
        if self.segment_clock and not self.segment_s:
            raise ValueError("segment_clock needs segment_s")
        return self

    @model_validator(mode="after")
    def _check_remux(self) -> StreamOptions:
        if self.remux and self.format != "fmp4":
            raise ValueError('remux is for format = "fmp4" only')
        return self

    @property
    def segment_bytes(self) -> int:
        """`segment_mb` in bytes."""
        return int(self.segment_mb * 1_000_000)


class Options(StreamOptions):
    """``[plugins.record]``"""

    directory: LocalPath
    """Where recordings go: a folder for each stream, made when it is needed."""
    min_free_mb: Annotated[float, Field(ge=0)] | None = None
    """Record nothing while the disk has less room. Without it: 1 GiB or 2 % of the disk, whichever is more."""
    when_full: Literal["stop", "delete-oldest"] = "stop"
    """What to do at *min_free_mb*: stop recording until there is room, or delete the oldest finished files."""
