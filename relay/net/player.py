"""One RTMP player: a cursor into the shared ring and a writer that takes what the peer can take.

States: *in step* (the audience sends each flush straight to the socket), *behind* (this object pumps from the ring
whenever the socket drains), *paused*. Control messages for the player (pings, onStatus) go through `send_control`,
because a message of the ring that is half sent must be finished first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from relay.net.writers import Piece, writer_for
from relay.stream.ring import Block, Cursor

if TYPE_CHECKING:
    from relay.net.audience import Audience

PUMP_BYTES = 256 * 1024
"""Bytes per sendmsg while catching up: a GOP in a few calls, without starving the others of the turn."""

MAX_CONTROL = 64 * 1024
"""Control bytes that may wait for a stuck player; a peer that makes us answer more without reading is cut off."""


class Player:
    """A subscriber of one stream over RTMP."""

    def __init__(
        self, transport: Any, audience: Audience, *, on_lost: Callable[[str], None], on_ended: Callable[[], None]
    ) -> None:
        self._audience = audience
        self._on_lost = on_lost
        self._on_ended = on_ended
        self._control = bytearray()
        self._farewell: tuple[bytes, Callable[[], None]] | None = None
        self._cursor = Cursor(0)
        self._behind = True
        self._paused = False
        self._closed = False
        self._stuck_s = 0.0
        self._writer = writer_for(transport, self._pump)

    @property
    def is_behind(self) -> bool:
        """Whether bytes of the stream wait for this player."""
        return self._behind

    @property
    def skips(self) -> int:
        """How often this player lost media because it was too slow."""
        return self._cursor.skips

    @property
    def mid_message(self) -> bool:
        """Whether a message was begun and not finished."""
        return bool(self._behind and (self._cursor.offset or self._control))

    @property
    def stuck_s(self) -> float:
        """Seconds of running time without any progress while bytes were waiting."""
        return self._stuck_s

    def start(self) -> None:
        """Begin at the newest keyframe of the ring."""
        self._cursor = self._audience.start()
        self._pump()

    def fell_behind(self, block: Block, sent: int) -> None:
        """The socket took only *sent* bytes of *block*: go on from there when it drains."""
        cursor = self._cursor
        cursor.next = block.number
        cursor.waiting = cursor.at_key = False
        cursor.piece = None
        cursor.offset = 0
        cursor.opening = block.opening
        self._audience.ring.advance(cursor, sent)
        self._behind = True
        self._writer.wait()

    def send_control(self, data: bytes) -> None:
        """Send protocol messages to this player, between two messages of the stream."""
        self._audience.out_of_step(self)
        if not self._behind:
            self._catch_cursor_up()
        self._control += data
        if len(self._control) > MAX_CONTROL:
            self._on_lost("player.control_flood")
            return
        self._pump()

    def pause(self, paused: bool) -> None:
        """Hold the stream back, or go on; never back in time."""
        if paused == self._paused or self._closed:
            return
        self._paused = paused
        if not paused:
            self._go_on()
            return
        self._audience.out_of_step(self)
        if not self._behind:
            self._catch_cursor_up()

    def _go_on(self) -> None:
        """Continue at the newest keyframe if that is ahead of where the player stopped, otherwise there."""
        cursor, ring = self._cursor, self._audience.ring
        newest = self._audience.start()
        if newest.at_key and newest.next > cursor.next:
            cursor.next, cursor.at_key, cursor.waiting = newest.next, True, False
        cursor.grace_ms = ring.behind_ms(cursor)  # the pause is not the player's slowness
        self._pump()

    def tick(self, seconds: float) -> None:
        """Count time without progress."""
        if self._behind and self._has_more():
            self._stuck_s += seconds
        else:
            self._stuck_s = 0.0

    def resume(self) -> None:
        """A keyframe has arrived for a player that waited for one."""
        self._pump()

    def stream_ended(self) -> None:
        """The stream is over: nothing more will be added to the ring."""
        self._on_ended()

    def finish(self, data: bytes, on_done: Callable[[], None]) -> None:
        """Send what is left of the stream, then *data*, then call *on_done*."""
        self._audience.out_of_step(self)
        if not self._behind:
            self._catch_cursor_up()
        self._farewell = (data, on_done)
        self._paused = False
        self._pump()

    def leave(self) -> None:
        """Give the transport back; the player is gone or does something else now."""
        if self._closed:
            return
        self._closed = True
        self._audience.leave(self)
        self._writer.close()

    def _has_more(self) -> bool:
        """Whether bytes wait for the peer; a player that waits for a keyframe, or for its own pause, waits for us."""
        cursor = self._cursor
        if self._control or cursor.offset:
            return True
        return not (self._paused or cursor.waiting) and cursor.next < self._audience.ring.end

    def _catch_cursor_up(self) -> None:
        """A player in step has everything; its cursor was left behind on purpose."""
        cursor = self._cursor
        cursor.next = self._audience.ring.end
        cursor.waiting = cursor.at_key = False
        cursor.piece = None
        cursor.offset = 0
        cursor.opening = self._audience.ring.opening
        self._behind = True

    def _pump(self) -> None:
        """Send until the peer is full or has everything."""
        try:
            while not self._closed:
                if not (self._send_control() if self._control and not self._cursor.offset else self._send_ring()):
                    return
        except OSError:
            self._on_lost("closed")

    def _send_control(self) -> bool:
        taken = self._writer.send([bytes(self._control)])
        if taken == 0:
            self._writer.wait()
            return False
        self._stuck_s = 0.0
        del self._control[:taken]
        return True

    def _send_ring(self) -> bool:
        ring = self._audience.ring
        pieces = self._unfinished() if self._paused else ring.pieces(self._cursor, PUMP_BYTES)
        if not pieces:
            return self._caught_up()
        if self._control:
            pieces = pieces[:1]  # finish the message, then let the control messages go
        taken = self._writer.send(pieces)
        if taken == 0:
            self._behind = True
            self._writer.wait()
            return False
        self._stuck_s = 0.0
        self._audience.bytes_out += taken
        ring.advance(self._cursor, taken)
        return True

    def _unfinished(self) -> list[Piece]:
        cursor = self._cursor
        if cursor.piece is None or not cursor.offset:
            return []
        return [memoryview(cursor.piece)[cursor.offset :]]

    def _caught_up(self) -> bool:
        """Nothing of the ring is left to send; return whether to go on pumping."""
        if self._farewell is not None:
            data, on_done = self._farewell
            if data:
                self._farewell = (b"", on_done)
                self._control += data
                return True
            on_done()
        elif self._cursor.waiting:
            self._audience.wake_at_keyframe(self)
        elif not self._paused:
            self._enter_step()
        return False

    def _enter_step(self) -> None:
        writer = self._writer
        if not writer.clear:
            writer.wait()
            return
        self._behind = False
        self._stuck_s = 0.0
        self._audience.in_step(self, writer.send_now)
