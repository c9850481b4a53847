"""What both roles share: the chunk reader, the outgoing buffer, acknowledgements, pings and protocol control.

The rule: nothing here ever waits for the peer's acknowledgements (RTMP 5.4.3 would allow it, nobody serious does;
TCP is the back-pressure), and nothing a peer sends makes us answer faster than the limits below.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from relay.rtmp import messages as m
from relay.rtmp.chunks import ChunkReader
from relay.rtmp.events import Acknowledged, Event, Message
from relay.rtmp.framing import CONNECTION_CSID, CONTROL_CSID, DEFAULT_CHUNK_SIZE, STREAM_CSID, frame
from relay.rtmp.limits import WireLimits

WINDOW_ACK_SIZE: Final = 2_500_000
"""What FMS, nginx-rtmp and SRS announce. Also assumed of a peer that announces nothing."""
MIN_WINDOW: Final = 4096
"""A smaller window counts as this one: with tiny ones two peers acknowledge each other for ever (ZLM 7d8b212a)."""
ACK_INTERVAL_S: Final = 0.1
"""Acknowledgements are at least this far apart."""
ACK_RESET: Final = 0xF000_0000
"""The counter starts again here, as in nginx-rtmp and SRS: FMLE stalls when it comes near 2^32."""
CONTROL_ANSWERS_PER_S: Final = 10
"""Answers to pings and bandwidth changes per second."""
_NEVER: Final = float("inf")


class Allowance:
    """So many per second; counts in whole seconds from the first."""

    __slots__ = ("_limit", "_since", "_used")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._since = -_NEVER
        self._used = 0

    def take(self, now: float) -> bool:
        """Use one up and return True, or return False when this second has none left."""
        if now - self._since >= 1.0:
            self._since = now
            self._used = 0
        self._used += 1
        return self._used <= self._limit


class Connection:
    """Base of `ServerConnection` and `ClientConnection`.

    Attributes:
        odd: counts of tolerated oddities by code, of the chunk layer's as well.
    """

    def __init__(self, limits: WireLimits, chunk_size: int) -> None:
        self._reader = ChunkReader(limits)
        self.odd: Counter[str] = self._reader.odd
        self._chunk_size = chunk_size
        self._out_chunk_size = DEFAULT_CHUNK_SIZE
        self._out = bytearray()
        self._closed = False
        self._ack_base = 0
        self._acked_at = 0
        self._ack_step: float = WINDOW_ACK_SIZE // 2
        self._ack_due: float = self._ack_step
        self._next_ack_at = -_NEVER
        self._announced_window = 0
        self._answers = Allowance(CONTROL_ANSWERS_PER_S)

    @property
    def bytes_received(self) -> int:
        """Bytes of chunks received so far, without the handshake."""
        return self._reader.bytes_received

    def data_to_send(self) -> bytes:
        """Return and forget what is to be written to the peer. Write it before a `RemoteProtocolError.answer`."""
        if not self._out:
            return b""
        data = bytes(self._out)
        self._out.clear()
        return data

    def send_ping(self, now: float) -> None:
        """Queue a PingRequest. OBS never answers once it publishes: any byte received counts as life, not the pong."""
        self._send_control(m.USER_CONTROL, m.user_control(m.PING_REQUEST, int(now * 1000)))

    @property
    def closed(self) -> bool:
        """Whether the conversation is over: refused, failed or finished. Bytes are ignored from then on."""
        return self._closed

    # What goes out.

    def _frame(self, csid: int, type_id: int, msid: int, body: bytes) -> bytes:
        return frame(csid, 0, type_id, msid, body, self._out_chunk_size)

    def _send_control(self, type_id: int, body: bytes) -> None:
        self._out += self._frame(CONTROL_CSID, type_id, 0, body)

    def _send_command(self, body: bytes) -> None:
        """Queue a NetConnection command."""
        self._out += self._frame(CONNECTION_CSID, m.COMMAND, 0, body)

    def _send_stream_command(self, msid: int, body: bytes) -> None:
        """Queue a NetStream command. GStreamer drops an onStatus whose msid is not its stream's."""
        self._out += self._frame(STREAM_CSID, m.COMMAND, msid, body)

    def _send_window(self, size: int = WINDOW_ACK_SIZE) -> None:
        self._announced_window = size
        self._send_control(m.WINDOW_ACK_SIZE, m.u32(size))

    def _send_chunk_size(self) -> None:
        self._send_control(m.SET_CHUNK_SIZE, m.u32(self._chunk_size))
        self._out_chunk_size = self._chunk_size

    # What comes in.

    def _acknowledge(self, now: float) -> None:
        """Acknowledge what came, unless the last time was just now; called when `_ack_due` is reached."""
        if now < self._next_ack_at:
            return
        received = self._reader.bytes_received
        if received - self._ack_base >= ACK_RESET:
            self._ack_base = received
        self._send_control(m.ACKNOWLEDGEMENT, m.u32(received - self._ack_base))
        self._acked_at = received
        self._ack_due = received + self._ack_step
        self._next_ack_at = now + ACK_INTERVAL_S

    def _control(self, message: Message, now: float) -> None:
        """Take a User Control, WindowAckSize or SetPeerBandwidth message. An empty body means nothing."""
        if not message.payload:
            return
        if message.type_id == m.USER_CONTROL:
            self._user_control(message.payload, now)
        elif message.type_id == m.WINDOW_ACK_SIZE:
            self._window(message.payload)
        else:
            self._peer_bandwidth(message.payload, now)

    def _user_control(self, payload: bytes, now: float) -> None:
        control = m.read_user_control(payload)
        if control is None:
            self.odd["control.short"] += 1
            return
        event, value = control
        if event == m.PING_REQUEST:
            if self._answers.take(now):
                self._send_control(m.USER_CONTROL, m.user_control(m.PING_RESPONSE, value))
            else:
                self.odd["control.ping_flood"] += 1
        elif event > m.PING_RESPONSE:
            # BufferEmpty, BufferReady, SWF verification and whatever comes next: never an error (mediamtx #5512).
            self.odd["control.unknown_event"] += 1

    def _window(self, payload: bytes) -> None:
        size = m.read_u32(payload)
        if size is None:
            self.odd["control.short"] += 1
        elif size == 0:
            self._ack_due = self._ack_step = _NEVER
        else:
            # Half a window: early is harmless, never is not (some encoders stall).
            self._ack_step = max(size, MIN_WINDOW) // 2
            self._ack_due = self._acked_at + self._ack_step

    def _peer_bandwidth(self, payload: bytes, now: float) -> None:
        bandwidth = m.read_peer_bandwidth(payload)
        if bandwidth is None:
            self.odd["control.short"] += 1
        elif bandwidth[1] > m.BANDWIDTH_DYNAMIC:
            self.odd["control.bandwidth_type"] += 1
        elif bandwidth[0] != self._announced_window and self._answers.take(now):
            # RTMP 5.4.5: answer with the window size when it differs from the last one sent.
            self._send_window(bandwidth[0])

    def _skip(self, message: Message) -> None:
        """Count a message that we do not serve. Shared objects would be the way to files on our disk (Red5 #453)."""
        self.odd["message.shared_object" if message.type_id in m.SHARED_OBJECT_TYPES else "message.unserved"] += 1

    def _acknowledged(self, message: Message, events: list[Event]) -> None:
        total = m.read_u32(message.payload)
        if total is None:
            self.odd["control.short"] += 1
        else:
            events.append(Acknowledged(total=total))
