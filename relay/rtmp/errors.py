"""Protocol errors: two children only, as in h11. Anything else raised by relay.rtmp is a bug in relay.rtmp."""

from __future__ import annotations

from relay.errors import RelayError


class ProtocolError(RelayError):
    """Base of the two."""


class LocalProtocolError(ProtocolError):
    """We asked our own connection for something its state does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol or a limit; the connection must be closed.

    Attributes:
        code: stable reason code such as ``chunk.size_zero``; operators count and search by it.
        answer: bytes to send before closing (an RTMP refusal), empty when nothing useful can be said.
    """

    def __init__(self, code: str, text: str, answer: bytes = b"") -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.answer = answer
