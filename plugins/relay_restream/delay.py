"""A programme some seconds later: what was written comes out again, in order, when its time has come.

What waits is kept in memory up to `MEMORY_BYTES` and in temporary files beyond it. The rule it guards: memory is
bounded whatever the disk does; if the disk cannot follow, whole groups of pictures are left out, never parts of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from relay.api import MediaKind, Packet, Sink, TrackSet

from .spool import Entry, Place, Spool, pack

MIB = 1024 * 1024
MEMORY_BYTES = 8 * MIB
"""What waits in memory at most, but for one group of blocks on its way to the disk."""
BLOCK_BYTES = MIB // 2
AHEAD_BYTES = 2 * MIB
"""What is in memory next to be sent: a third of a second at 50 Mbit/s, many times what a disk needs to answer."""
TICK_S = 0.04

PACKET_BYTES = 200
"""What a packet costs beside its body."""


class Thread(Protocol):
    """Runs something that blocks."""

    def __call__(self, work: Callable[..., object], /, *arguments: object) -> Deferred[object]:
        """Return what *work* returns, later."""
        ...


@dataclass(slots=True, eq=False)
class Block:
    """Some entries in a row. *entries* is None while they are on disk only."""

    entries: deque[Entry] | None = field(default_factory=deque)
    marks: deque[tuple[int, float, TrackSet]] = field(default_factory=deque)
    """Changes of configuration: before which entry, when, to what."""
    nbytes: int = 0
    count: int = 0
    place: Place | None = None
    busy: bool = False
    dropped: bool = False


class DelayLine:
    """Passes a stream on to *sink* after *delay_s*.

    Attributes:
        memory_bytes: what waits in memory.
        disk_bytes: what waits on disk only.
        dropped_packets: left out because neither memory nor disk could take them, or dumped.
        filling: nothing has gone out yet.
    """

    def __init__(
        self,
        sink: Sink,
        delay_s: float,
        *,
        clock: IReactorTime,
        directory: Path | None = None,
        thread: Thread = deferToThread,
        on_broken: Callable[[Failure], None],
        on_disk_failed: Callable[[Failure], None],
    ) -> None:
        """Create an empty line.

        Args:
            sink: what gets the programme.
            delay_s: how much later.
            clock: for the times.
            directory: for temporary files; the system's own when None.
            thread: runs what reads and writes them.
            on_broken: told what the sink raised; nothing goes out any more.
            on_disk_failed: told once that only memory is left.
        """
        self._sink = sink
        self._delay_s = delay_s
        self._clock = clock
        self._thread = thread
        self._on_broken = on_broken
        self._on_disk_failed = on_disk_failed
        self._spool = Spool(directory, self._in_thread)
        self._blocks: deque[Block] = deque()
        self._sent = 0  # entries of the first block that are out
        self._tick: IDelayedCall | None = None
        self._tracks: TrackSet | None = None
        self._waiting = False
        self._no_disk = False
        self._closing: Deferred[None] | None = None
        self._over = False
        self.memory_bytes = 0
        self.disk_bytes = 0
        self.dropped_packets = 0
        self.filling = True

    # What comes in.

    def configure(self, tracks: TrackSet) -> None:
        """Take tracks; they change when the packets before them are out."""
        self._tracks = tracks
        block = self._open_block()
        block.marks.append((block.count, self._clock.seconds() + self._delay_s, tracks))
        self._run()

    def write(self, packet: Packet) -> None:
        """Take a packet."""
        if self._waiting and not self._may_begin(packet):
            self.dropped_packets += 1
            return
        if self.memory_bytes >= MEMORY_BYTES:
            self._waiting = True
            self.dropped_packets += 1
            return
        self._waiting = False
        block = self._open_block()
        size = len(packet.body) + PACKET_BYTES
        assert block.entries is not None  # noqa: S101 - the open block is in memory
        block.entries.append((self._clock.seconds() + self._delay_s, packet))
        block.count += 1
        block.nbytes += size
        self.memory_bytes += size
        if block.nbytes >= BLOCK_BYTES and self.memory_bytes > AHEAD_BYTES:
            self._spill(block)
        self._run()

    def skip_to_keyframe(self) -> None:
        """Take nothing before the next keyframe."""
        self._waiting = True

    def dump(self) -> int:
        """Throw away what waits; what comes from now on goes out after the delay. Return how many packets went."""
        gone = sum(block.count for block in self._blocks) - self._sent
        tracks = next((mark[2] for block in reversed(self._blocks) for mark in reversed(block.marks)), None)
        self._forget_all()
        self.dropped_packets += gone
        self._waiting = True
        if tracks is not None:
            self.filling = False
            self._sink.configure(tracks)
        return gone

    def close(self) -> Deferred[None]:
        """Let what waits go out in its time, then close the sink; fires when that is closed."""
        if self._closing is None:
            self._closing = Deferred()
            if not self._blocks:
                self._finish()
        return self._closing

    def cut(self) -> None:
        """Let nothing of what waits go out; `close` it is."""
        self._forget_all()
        if self._closing is not None:
            self._finish()

    # What goes out.

    def _run(self) -> None:
        if self._tick is None and self._blocks and not self._over:
            self._tick = self._clock.callLater(TICK_S, self._release)

    def _release(self) -> None:
        self._tick = None
        try:
            self._release_due(self._clock.seconds())
        except Exception:
            failure = Failure()
            self._forget_all()
            self._on_broken(failure)
            return
        self._read_ahead()
        if self._closing is not None and not self._blocks:
            self._finish()
        self._run()

    def _release_due(self, now: float) -> None:
        while self._blocks:
            block = self._blocks[0]
            while block.marks and block.marks[0][0] <= self._sent:
                if block.marks[0][1] > now:
                    return
                self.filling = False
                self._sink.configure(block.marks.popleft()[2])
            if self._sent < block.count:
                if block.entries is None or block.entries[0][0] > now:
                    return  # on its way from the disk, or not due
                packet = block.entries.popleft()[1]
                self._sent += 1
                self._sink.write(packet)
            else:
                self._drop(self._blocks.popleft())
                self._sent = 0

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        self._spool.close()

        async def close() -> None:
            ended = self._sink.close()
            if isinstance(ended, Awaitable):
                await ended

        def closed(result: object) -> None:
            if isinstance(result, Failure):
                self._on_broken(result)
            if self._closing is not None:
                self._closing.callback(None)

        Deferred.fromCoroutine(close()).addBoth(closed)

    # Memory and disk.

    def _may_begin(self, packet: Packet) -> bool:
        if self._tracks is None or not self._tracks.has_video:
            return True
        return packet.kind is MediaKind.VIDEO and packet.keyframe

    def _open_block(self) -> Block:
        """Return the block that takes what comes."""
        last = self._blocks[-1] if self._blocks else None
        if last is None or last.nbytes >= BLOCK_BYTES or last.entries is None or last.busy or last.place is not None:
            last = Block()
            self._blocks.append(last)
        return last

    def _spill(self, block: Block) -> None:
        """Move a full block to the disk."""
        if block is self._blocks[0] or block.entries is None or self._no_disk:
            return
        data = pack(block.entries)
        place = block.place = self._spool.place(len(data))
        block.busy = True
        self._thread(place.write, data).addCallbacks(
            lambda _: self._written(block), lambda failure: self._not_written(block, failure)
        )

    def _in_thread(self, work: Callable[[], None]) -> None:
        self._thread(work).addErrback(lambda failure: None)

    def _written(self, block: Block) -> None:
        block.busy = False
        if block.dropped:
            self._free(block)
        elif block is not self._blocks[0]:
            block.entries = None
            self.memory_bytes -= block.nbytes
            self.disk_bytes += block.nbytes

    def _not_written(self, block: Block, failure: Failure) -> None:
        block.busy = False
        self._free(block)
        self._disk_failed(failure)

    def _disk_failed(self, failure: Failure) -> None:
        """Go on in memory; it is bounded."""
        if not self._no_disk:
            self._no_disk = True
            self._on_disk_failed(failure)

    def _read_ahead(self) -> None:
        """Have the next blocks in memory before they are due."""
        ahead = 0
        for block in self._blocks:
            if ahead >= AHEAD_BYTES:
                return
            ahead += block.nbytes
            if block.entries is None and not block.busy and block.place is not None:
                block.busy = True
                self._thread(block.place.read).addCallbacks(
                    lambda entries, block=block: self._was_read(block, entries),
                    lambda failure, block=block: self._not_read(block, failure),
                )

    def _was_read(self, block: Block, entries: object) -> None:
        block.busy = False
        self._free(block)
        if block.dropped:
            return
        assert isinstance(entries, list)  # noqa: S101 - what Place.read returns
        block.entries = deque(entries)
        self.disk_bytes -= block.nbytes
        self.memory_bytes += block.nbytes

    def _not_read(self, block: Block, failure: Failure) -> None:
        """Its packets are lost: go on with the next keyframe that was written."""
        block.busy = False
        self._free(block)
        if block.dropped:
            return
        self.disk_bytes -= block.nbytes
        self.dropped_packets += block.count
        block.entries, block.nbytes, block.count = deque(), 0, 0
        block.marks = deque((0, due, tracks) for _, due, tracks in block.marks)
        self._disk_failed(failure)

    def _drop(self, block: Block) -> None:
        """Forget a block; if the disk is at it, when that is done."""
        block.dropped = True
        if block.entries is None:
            self.disk_bytes -= block.nbytes
        else:
            self.memory_bytes -= block.nbytes
        if not block.busy:
            self._free(block)

    def _free(self, block: Block) -> None:
        if block.place is not None:
            block.place.free()
            block.place = None

    def _forget_all(self) -> None:
        blocks, self._blocks = self._blocks, deque()
        self._sent = 0
        for block in blocks:
            self._drop(block)
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
