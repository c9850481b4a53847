"""The framed bytes that all RTMP players of a stream share, and where each player is in them.

Imports nothing of ours: a block is bytes, a time and the place of a keyframe. The rules it guards: bytes are stored
once however many players there are; a message is never cut, so a player that must skip first finishes the block it is
in; and whoever joins or skips starts at a keyframe.

Time is stream time in milliseconds, as given to `Ring.append`. The loop of the sender is

    pieces = ring.pieces(cursor)          # may decide to skip
    sent = sendmsg(pieces)
    ring.advance(cursor, sent)

with nothing appended in between. A player whose socket takes every block whole needs no call at all: the sender gives
it the appended block and only looks at the cursor again when the socket took less.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(slots=True, eq=False)
class Block:
    """Whole messages that were flushed together. Nobody changes it once it is in the ring.

    Attributes:
        number: position in the stream of blocks, rising by one.
        data: the framed messages.
        time: stream time of the first message, ms.
        key_offset: where the first keyframe message starts in *data*, -1 when there is none.
        opening: what a player must be sent before it starts inside this block.
    """

    number: int
    data: bytes
    time: int
    key_offset: int
    opening: bytes


class Cursor:
    """Where one player is.

    Attributes:
        piece: bytes begun but not finished; kept even when its block has left the ring.
        offset: how much of *piece* is sent.
        next: number of the block after *piece*. When *waiting*: the oldest block it may start in.
        at_key: the next block starts at its keyframe, not at its first byte.
        waiting: nothing to send until a keyframe arrives in block *next* or later.
        opening: the opening that describes what this player is decoding.
        time: stream time of *piece*.
        grace_ms: backlog it was given on purpose when it started at a keyframe; 0 once it has caught up.
        skips: how often it lost media.
    """

    __slots__ = ("at_key", "grace_ms", "next", "offset", "opening", "piece", "skips", "time", "waiting")

    def __init__(self, number: int) -> None:
        self.piece: bytes | memoryview | None = None
        self.offset = 0
        self.next = number
        self.at_key = False
        self.waiting = True
        self.opening = b""
        self.time = 0
        self.grace_ms = 0
        self.skips = 0


class Ring:
    """Blocks back to the newest keyframe and at least *min_ms*, but never more than the bounds.

    For a stream without video every message is a random access point: append each block with ``key_offset=0``.

    Attributes:
        opening: framed metadata and sequence headers for those who start in a block appended from now on. Assign a
            new value when the configuration changes; players who read on get the headers in a block instead.
        nbytes: bytes held.
        skips: how often a player lost media.
    """

    def __init__(
        self, *, max_bytes: int = 16 * MIB, max_ms: int = 20_000, min_ms: int = 2000, max_behind_ms: int = 2000
    ) -> None:
        self.opening = b""
        self.nbytes = 0
        self.skips = 0
        self._max_bytes = max_bytes
        self._max_ms = max_ms
        self._min_ms = min_ms
        self._max_behind_ms = max_behind_ms
        self._blocks: list[Block] = []
        self._first = 0
        self._key = -1
        self._time = 0

    @property
    def blocks(self) -> tuple[Block, ...]:
        """What is held, oldest first."""
        return tuple(self._blocks)

    @property
    def end(self) -> int:
        """Number of the next block."""
        return self._first + len(self._blocks)

    @property
    def span_ms(self) -> int:
        """Stream time between the oldest and the newest block."""
        return self._time - self._blocks[0].time if self._blocks else 0

    def append(self, block: bytes, *, time_ms: int, key_offset: int = -1) -> Block:
        """Add whole messages; forget what nobody may start from any more."""
        number = self._first + len(self._blocks)
        added = Block(number, block, time_ms, key_offset, self.opening)
        self._blocks.append(added)
        self.nbytes += len(block)
        self._time = time_ms
        if key_offset >= 0:
            self._key = number
        self._trim()
        return added

    def start(self, *, back_ms: int = 0) -> Cursor:
        """Return the cursor of a joining player: at the newest keyframe, or waiting for the next one.

        *back_ms* asks for a keyframe at least that old if the ring has one: an audio-only stream has a keyframe in
        every block, and a player starts at once when it gets a second of them.
        """
        cursor = Cursor(self.end)
        found: Block | None = None
        for block in reversed(self._blocks):
            if block.key_offset >= 0:
                found = block
                if self._time - block.time >= back_ms:
                    break
        if found is not None:
            self._land(cursor, found)
        return cursor

    def behind_ms(self, cursor: Cursor) -> int:
        """Return how much stream time lies between what *cursor* has to send next and the newest block."""
        if cursor.piece is not None:
            return self._time - cursor.time
        index = cursor.next - self._first
        if cursor.waiting or index >= len(self._blocks):
            return 0
        return self._time - self._blocks[max(index, 0)].time

    def pieces(self, cursor: Cursor, max_bytes: int = 256 * KIB, max_pieces: int = 64) -> list[bytes | memoryview]:
        """Return what to send next, as many whole blocks as fit and at least one; empty when there is nothing.

        A cursor that is too far behind, or whose place has left the ring, is moved first.
        """
        self._move(cursor)
        found: list[bytes | memoryview] = []
        if cursor.piece is not None:
            found.append(memoryview(cursor.piece)[cursor.offset :])
        if cursor.waiting:
            return found
        blocks = self._blocks
        index = cursor.next - self._first
        if cursor.at_key:
            block = blocks[index]
            if block.opening != cursor.opening:
                found.append(block.opening)
            found.append(_from_key(block))
            index += 1
        room = max_bytes - sum(map(len, found))
        for block in blocks[index : index + max_pieces - len(found)]:
            room -= len(block.data)
            if room < 0 and found:
                break
            found.append(block.data)
        return found

    def advance(self, cursor: Cursor, nbytes: int) -> None:
        """Move *cursor* past the *nbytes* of its pieces that were sent."""
        if cursor.piece is not None:
            nbytes += cursor.offset
            nbytes = self._send(cursor, cursor.piece, nbytes, cursor.time)
        while nbytes > 0:
            block = self._blocks[cursor.next - self._first]
            data: bytes | memoryview = block.data
            if cursor.at_key:
                if block.opening != cursor.opening:
                    cursor.opening = block.opening
                    nbytes = self._send(cursor, block.opening, nbytes, block.time)
                    continue
                cursor.at_key = False
                data = _from_key(block)
            cursor.opening = block.opening
            cursor.next += 1
            nbytes = self._send(cursor, data, nbytes, block.time)
        if cursor.piece is None and cursor.next == self._first + len(self._blocks):
            cursor.grace_ms = 0

    def _send(self, cursor: Cursor, data: bytes | memoryview, nbytes: int, time: int) -> int:
        """Count *nbytes* against *data*: keep its rest as the piece, or return what goes beyond it."""
        if nbytes < len(data):
            cursor.piece = data
            cursor.offset = nbytes
            cursor.time = time
            return 0
        cursor.piece = None
        cursor.offset = 0
        return nbytes - len(data)

    def _move(self, cursor: Cursor) -> None:
        """Apply the skipping rule, and let a waiting cursor start when its keyframe has come."""
        if cursor.waiting:
            if self._key >= cursor.next:
                self._land(cursor, self._blocks[self._key - self._first])
        elif cursor.next < self._first:
            self._skip(cursor)
        elif self.behind_ms(cursor) > self._max_behind_ms + cursor.grace_ms:
            if cursor.at_key and self._key == cursor.next:
                # It was too slow to begin, but there is no fresher place to start: give it the whole GOP.
                cursor.grace_ms = self._time - self._blocks[self._key - self._first].time
            else:
                self._skip(cursor)

    def _skip(self, cursor: Cursor) -> None:
        """Leave out media: go to the newest keyframe if that is ahead, else wait for the next one."""
        self.skips += 1
        cursor.skips += 1
        if self._key >= cursor.next:
            self._land(cursor, self._blocks[self._key - self._first])
        else:
            cursor.next = self._first + len(self._blocks)
            cursor.at_key = False
            cursor.waiting = True

    def _land(self, cursor: Cursor, block: Block) -> None:
        """Let *cursor* continue at the keyframe of *block*, after the piece it has begun."""
        cursor.next = block.number
        cursor.at_key = True
        cursor.waiting = False
        cursor.grace_ms = self._time - block.time

    def _trim(self) -> None:
        blocks = self._blocks
        gone = 0
        last = len(blocks) - 1
        while gone < last:
            oldest = blocks[gone]
            needed = self._key == oldest.number or self._time - blocks[gone + 1].time < self._min_ms
            over = self.nbytes > self._max_bytes or self._time - oldest.time > self._max_ms
            if needed and not over:
                break
            self.nbytes -= len(oldest.data)
            gone += 1
        if gone:
            del blocks[:gone]
            self._first += gone
            if self._key < self._first:
                self._key = -1


def _from_key(block: Block) -> bytes | memoryview:
    """Return *block* from its keyframe on."""
    return memoryview(block.data)[block.key_offset :] if block.key_offset else block.data
