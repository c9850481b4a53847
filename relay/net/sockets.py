"""Socket options, each with its reason. Applied to plain and TLS transports alike; a missing socket is not an error."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import sys
import termios
from dataclasses import dataclass
from typing import Any, cast

SEND_BUFFER = 512 * 1024
"""Bytes the kernel may hold for one slow peer (it doubles the value). Left alone it takes 2.8 to 4.2 MiB, which is
10 s of stale video at 2.5 Mbit/s (reliability.md M13)."""

NOTSENT_LOWAT = 64 * 1024
"""Unsent bytes above which a destination's socket is not writable: a stall shows within one GOP."""

USER_TIMEOUT_MS = 15_000
"""Unacknowledged data older than this ends the connection: a pulled cable is noticed in 15 s, not in 15 minutes. Not
for a destination: Linux counts a small window as none and would end one that is merely slow; its link sees what it
takes."""

KEEPALIVE = (5, 2, 3)
"""Idle seconds, interval, probes: frees the descriptor of a vanished peer that owes us nothing after 11 s."""


@dataclass(frozen=True, slots=True)
class TcpFigures:
    """What the kernel knows about the way to a peer.

    Attributes:
        rtt_ms: smoothed round-trip time.
        retransmits: segments sent again since the connection began.
        unacked_bytes: written, but not acknowledged by the peer's kernel yet.
        acked_bytes: acknowledged by the peer's kernel since the connection began; over TLS they count records.
    """

    rtt_ms: float
    retransmits: int
    unacked_bytes: int
    acked_bytes: int


_RTT_AT, _TOTAL_RETRANS_AT, _BYTES_ACKED_AT = 68, 100, 120
"""Offsets in Linux's `struct tcp_info`; it only ever grows at its end."""


def tcp_figures(transport: Any) -> TcpFigures | None:
    """Return the kernel's figures of a TCP connection; None where there are none, which is anywhere but on Linux."""
    sock = socket_of(transport)
    if sock is None or not sys.platform.startswith("linux"):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED_AT + 8)
        (unacked,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
        (rtt_us,) = struct.unpack_from("I", info, _RTT_AT)
        (retransmits,) = struct.unpack_from("I", info, _TOTAL_RETRANS_AT)
        (acked,) = struct.unpack_from("Q", info, _BYTES_ACKED_AT)
    except (OSError, struct.error, ValueError):  # closed meanwhile, or no TCP
        return None
    return TcpFigures(rtt_us / 1000, retransmits, unacked, acked)


def tcp_of(transport: Any) -> Any:
    """Return the TCP transport under *transport*, which may be it itself, or None for test transports."""
    inner = getattr(transport, "transport", None)
    while inner is not None:  # TLS wraps it, and looks as if it had all that the one inside has
        transport, inner = inner, getattr(inner, "transport", None)
    return transport if isinstance(getattr(transport, "socket", None), socket.socket) else None


def socket_of(transport: Any) -> socket.socket | None:
    """Return the TCP socket under *transport*, or None for test transports."""
    tcp = tcp_of(transport)
    return None if tcp is None else cast(socket.socket, tcp.socket)


def tune(transport: Any, *, destination: bool = False) -> None:
    """Set the options of an accepted connection, or of a destination we push to."""
    sock = socket_of(transport)
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    idle, interval, probes = KEEPALIVE
    options = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes),
        (socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER),
    ]
    if not destination:
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS))
    else:
        options.append((socket.IPPROTO_TCP, getattr(socket, "TCP_NOTSENT_LOWAT", 25), NOTSENT_LOWAT))
    for level, name, value in options:
        with contextlib.suppress(OSError):  # the peer may be gone already
            sock.setsockopt(level, name, value)
