"""The one error of this floor. Bad media is dropped and counted in a muxer's `odd`; it never raises."""

from __future__ import annotations

from relay.errors import RelayError


class MuxError(RelayError):
    """A container cannot be written, read or recovered; *code* is stable (``mux.no_tracks``, ``mux.not_mp4``...)."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
