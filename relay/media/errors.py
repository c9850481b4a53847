"""The one error of the media floor. Bad media is counted by its code; it never ends a connection by itself."""

from __future__ import annotations

from relay.errors import RelayError


class MediaError(RelayError):
    """A body, configuration record or bitstream cannot be read.

    *code* is stable (``media.bad_config``, ``media.short``...); operators count and search by it.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


def bad_config(text: str) -> MediaError:
    """Build the error of a decoder configuration that cannot be used (reliability: ``media.bad_config``)."""
    return MediaError("media.bad_config", text)
