"""All RTMP players of a stream as one sink: each packet is framed once and the same bytes go to every socket.

The way: `write` frames a packet and asks the flusher for a flush; `flush` joins what arrived, appends it to the ring
and sends it to every player that is in step. A player the kernel cannot take more for falls out of step: it holds a
cursor into the shared ring (never a copy), is asked again when its socket drains, and joins the others when it has
caught up. After 2 s of backlog the ring moves it to a keyframe; after `player_stall_s` without progress it is dropped.
"""

from __future__ import annotations

from collections.abc import Callable

from relay.media.packets import Packet, Role, TrackSet
from relay.net.cadence import Cadence
from relay.net.chorus import Chorus
from relay.net.flusher import BIG, Flusher
from relay.net.player import Player
from relay.rtmp.framing import media_frame
from relay.stream.gop import lead_video
from relay.stream.ring import Cursor, Ring

SOUND_BACK_MS = 1000
"""A stream of sound starts this far back, so that a joining player has something to play at once."""


class Audience:
    """The sink shared by the RTMP players of one stream. *on_over* is called when it is empty or closed."""

    def __init__(self, flusher: Flusher, ring: Ring, on_over: Callable[[], None]) -> None:
        self._flusher = flusher
        self._on_over = on_over
        self.ring = ring
        self._lead: int | None = None
        self._cadence = Cadence()
        self._parts: list[bytes] = []
        self._size = 0
        self._key_offset = -1
        self._time = 0
        self._in_step: Chorus[Player] = Chorus()
        self._waiting: set[Player] = set()
        self.players: set[Player] = set()
        self.bytes_out = 0
        self.dropped = 0

    def configure(self, tracks: TrackSet) -> None:
        """Frame the new headers: for those who join later, and for those who watch."""
        self.flush()
        self._lead = lead_video(tracks)
        opening = b"".join(self._frame(packet) for packet in tracks.opening())
        self.ring.opening = opening
        if self.players and opening:
            self._append(opening)

    def write(self, packet: Packet) -> None:
        """Frame one packet for everybody."""
        if packet.keyframe and self._key_offset < 0 and packet.role is Role.FRAME and packet.track == self._lead:
            self._key_offset = self._size
        self._time = packet.dts
        self._cadence.note(packet, now := self._flusher.now())
        more = self._cadence.expects(now, self._flusher.deadline(now), self._flusher.tolerance_s)
        if self._parts and not more:
            self._flusher.settle(self.flush)
        self._append(media_frame(packet.kind, packet.dts & 0xFFFFFFFF, packet.body), expecting=more)

    def _frame(self, packet: Packet) -> bytes:
        return media_frame(packet.kind, self._time & 0xFFFFFFFF, packet.body)

    def _append(self, frame: bytes, *, expecting: bool | None = None) -> None:
        if not self._parts:
            self._flusher.add(self.flush, expecting=expecting)
        self._parts.append(frame)
        self._size += len(frame)
        if self._size >= BIG:
            self._flusher.hurry()

    def flush(self) -> None:
        """Join what arrived and send it to every player that is in step."""
        parts = self._parts
        if not parts:
            return
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        self._size = 0
        key_offset = self._key_offset if self._lead is not None else 0
        if key_offset > 0 and not self.ring.end:
            key_offset = 0  # the cache begins with the sound in front of the programme's first picture
        self._key_offset = -1
        block = self.ring.append(data, time_ms=self._time, key_offset=key_offset)
        size = len(data)
        behind = self._in_step.send_all(data)
        self.bytes_out += size * len(self._in_step)
        for player, sent in behind:
            self.bytes_out += sent
            player.fell_behind(block, sent)
        if self._waiting and key_offset >= 0:
            waiting, self._waiting = self._waiting, set()
            for player in waiting:
                player.resume()

    def join(self, player: Player) -> None:
        """Start *player* at the newest keyframe the ring holds."""
        self.flush()
        self.players.add(player)
        player.start()

    def in_step(self, player: Player, send: Callable[[bytes], int]) -> None:
        """*player* has everything up to the ring's head; from now on it gets each flush directly."""
        if player in self.players:
            self._waiting.discard(player)
            self._in_step.add(player, send)

    def out_of_step(self, player: Player) -> None:
        """*player* reads from the ring again, or not at all."""
        self._in_step.discard(player)
        self._waiting.discard(player)

    def start(self) -> Cursor:
        """Return the place where a player begins: the newest keyframe, or a moment back when all is sound."""
        return self.ring.start(back_ms=SOUND_BACK_MS if self._lead is None else 0)

    def wake_at_keyframe(self, player: Player) -> None:
        """*player* has nothing to send until a keyframe arrives."""
        self._waiting.add(player)

    def leave(self, player: Player) -> None:
        """*player* is gone."""
        self.players.discard(player)
        self.out_of_step(player)
        if not self.players:
            self._on_over()
            self.ring = Ring()  # megabytes, which must not wait for the garbage collector

    def close(self) -> None:
        """The stream is over: everybody gets what is left, then is told. Nobody may join any more."""
        self._on_over()
        self.flush()
        for player in tuple(self.players):
            player.stream_ended()
