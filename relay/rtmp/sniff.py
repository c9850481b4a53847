"""What protocol the first bytes on an RTMP port are: a wrong one deserves a clear answer, not a timeout.

RTMP 1.0 §5.2.1 keeps C0 >= 32 free so that text protocols can be told apart.
"""

from __future__ import annotations

from enum import Enum

from relay.rtmp.errors import RemoteProtocolError


class Protocol(Enum):
    """What the peer speaks. The value is the reason code of the refusal, empty for what we accept."""

    RTMP = ""
    RTMPE = "hs.rtmpe_unsupported"
    RTMPT = "hs.rtmpt_unsupported"
    HTTP = "hs.http_on_rtmp"
    TLS = "hs.tls_on_rtmp"
    PROXY = "hs.proxy"
    UNKNOWN = "hs.version"


_RTMP_VERSION = 3
_RTMPE_VERSIONS = (6, 8, 9)

_PREFIXES = (
    (b"\x16\x03", Protocol.TLS),  # handshake record, any version since SSL 3.0
    (b"PROXY ", Protocol.PROXY),
    (b"\r\n\r\n\x00\r\nQUIT\n", Protocol.PROXY),  # PROXY protocol version 2
    (b"POST /open/", Protocol.RTMPT),
    (b"POST /fcs/", Protocol.RTMPT),
    (b"POST /idle/", Protocol.RTMPT),
    (b"POST /send/", Protocol.RTMPT),
    *(
        (method + b" ", Protocol.HTTP)
        for method in (b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"DELETE")
    ),
    (b"PRI * HTTP/2", Protocol.HTTP),
)

_HINTS = {
    Protocol.RTMPE: "RTMPE is not supported, use rtmp:// or rtmps://",
    Protocol.RTMPT: "RTMPT (RTMP in HTTP) is not supported, use rtmp:// or rtmps://",
    Protocol.HTTP: "HTTP request on the RTMP port",
    Protocol.TLS: "TLS on the plain port: write rtmp instead of rtmps, or the TLS port",
    Protocol.PROXY: "PROXY protocol header, which is not enabled here",
}

_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 24\r\n\r\n"
    b"This port speaks RTMP.\r\n"
)


def sniff(data: bytes | bytearray) -> Protocol | None:
    """Say what *data*, the first bytes of a connection, begins; None when more bytes (at most 12) must decide."""
    if not data:
        return None
    first = data[0]
    if first == _RTMP_VERSION:
        return Protocol.RTMP
    if first in _RTMPE_VERSIONS:
        return Protocol.RTMPE
    undecided = False
    for prefix, protocol in _PREFIXES:
        if data.startswith(prefix):
            return None if undecided else protocol  # "POST " may become "POST /open/", which stands before it
        undecided = undecided or prefix.startswith(data)
    return None if undecided else Protocol.UNKNOWN


def refusal(protocol: Protocol, data: bytes | bytearray) -> RemoteProtocolError:
    """Build the error for a protocol that is not RTMP, with an answer where the peer can read one."""
    hint = _HINTS.get(protocol, f"version {data[0]} is not RTMP 3")
    answer = _BAD_REQUEST if protocol in (Protocol.HTTP, Protocol.RTMPT) else b""
    return RemoteProtocolError(protocol.value, hint, answer)
