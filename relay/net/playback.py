"""The role of a connection that plays: asking permission, waiting for the stream, being a player in its audience."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import deferLater

from relay.decisions import Deny, PlayRequest
from relay.events import PlayerJoined, PlayerLeft
from relay.net.player import Player
from relay.rtmp.events import Message, PlayGated, PlayRequested
from relay.rtmp.names import is_public_name

if TYPE_CHECKING:
    from relay.net.audience import Audience
    from relay.net.ingest import IngestProtocol

WAIT_FOR_STREAM_S = 2.0
"""A player that asks a moment before the encoder connects gets its stream; after that it is told there is none."""

POLL_S = 0.1

PLAYER_STALL_S = 10.0
"""Without any progress for this long while bytes wait, a player is dropped (design.md, Fan-out)."""

FAREWELL_S = 5.0
"""After the end of the stream a slow player has this long to take what is left, then once more to read what the kernel
holds for it."""

NOT_FOUND = "NetStream.Play.StreamNotFound"
FAILED = "NetStream.Play.Failed"


class Playback:
    """What a connection is from `play` to its end."""

    def __init__(self, connection: IngestProtocol, stream_id: int) -> None:
        self._connection = connection
        self._door = connection.door
        self._stream_id = stream_id
        self._audience: Audience | None = None
        self.player: Player | None = None
        self.stream_name = ""
        self._left = False
        self._ending_s: float | None = None

    @property
    def granted(self) -> bool:
        """Whether the player is in an audience."""
        return self.player is not None

    # Asking.

    async def request(self, event: PlayRequested) -> None:
        """Ask the plugins, find the stream, join its audience."""
        connection = self._connection
        self.stream_name = event.name
        if not is_public_name(event.name):
            self._refuse(NOT_FOUND, "name.bad", "stream name outside the grammar", "No such stream.")
            return
        decision = await self._door.deciders.authorize_play(
            PlayRequest(
                connection_id=connection.connection_id,
                peer=connection.peer,
                tls=connection.tls,
                app=event.app,
                stream_name=event.name,
                query=event.query,
            )
        )
        if self._gone:
            return
        if isinstance(decision, Deny):
            await self._deny(decision)
            return
        self._door.answers["play-allowed"] += 1
        live = await self._wait_for_stream(event.name)
        if self._gone:
            return
        if not live:
            self._refuse(NOT_FOUND, "play.not_found", "no such stream is live", f"Stream {event.name} is not live.")
            return
        self._start()

    @property
    def _gone(self) -> bool:
        return self._left or self._connection.closed

    async def _deny(self, decision: Deny) -> None:
        door, connection = self._door, self._connection
        door.answers["play-denied"] += 1
        await door.hold_back(connection.peer)
        if not self._gone:
            public = decision.public or "Playing refused: the play key is not accepted."
            self._refuse(FAILED, "auth.play_denied", decision.reason, public)

    def _refuse(self, status: str, code: str, reason: str, public: str) -> None:
        connection = self._connection
        connection.rtmp.reject_play(self._stream_id, status, public)
        connection.flush()
        connection.refuse(code, reason)

    async def _wait_for_stream(self, name: str) -> bool:
        door = self._door
        deadline = door.clock.seconds() + WAIT_FOR_STREAM_S
        while not self._gone:
            if door.audiences.is_live(name):
                return True
            if door.clock.seconds() >= deadline or door.draining:
                return False
            await deferLater(door.clock, POLL_S)
        return False

    def _start(self) -> None:
        door, connection = self._door, self._connection
        if door.draining:
            self._refuse(FAILED, "shutdown", "the relay is shutting down", "The relay is shutting down.")
            return
        code = door.admission.authorize(connection.ticket, "player")
        if code is not None:
            self._refuse(FAILED, code, "too many players", "The relay is full: too many players are connected.")
            return
        self._audience = audience = door.audiences.of(self.stream_name)
        assert audience is not None  # noqa: S101 - the stream is live, and nothing was awaited since
        early = connection.rtmp.accept_play(self._stream_id)
        connection.flush()
        self.player = Player(
            connection.transport, audience, on_lost=connection.lost_player, on_ended=self._stream_ended
        )
        door.deciders.emit(
            PlayerJoined(stream=self.stream_name, connection_id=connection.connection_id, peer=connection.peer)
        )
        audience.join(self.player)
        connection.take(early, door.clock.seconds())

    # While playing.

    def media(self, message: Message, now: float) -> None:
        """A player sends no media; what comes is dropped."""

    def gate(self, event: PlayGated) -> None:
        """Pause or go on. Single tracks cannot be switched off: all players share one framing."""
        if event.paused is not None and self.player is not None:
            self.player.pause(event.paused)

    def tick(self, seconds: float) -> None:
        """Drop a player that makes no progress."""
        player = self.player
        if player is None:
            return
        if self._ending_s is not None:
            self._ending_s += seconds
            if self._ending_s >= FAREWELL_S:
                self._connection.close("ended", linger_s=FAREWELL_S)
            return
        player.tick(seconds)
        if player.stuck_s >= PLAYER_STALL_S:
            self._connection.drop_player("player.stalled", f"no progress for {PLAYER_STALL_S:g} s")

    def _stream_ended(self) -> None:
        """The stream is over: send what is left and the end of stream, then close."""
        connection = self._connection
        player = self.player
        if player is None or self._ending_s is not None:
            return
        self._ending_s = 0.0
        connection.rtmp.end_play(self._stream_id, f"Stream {self.stream_name} ended.")
        player.finish(connection.rtmp.data_to_send(), lambda: connection.close("ended", linger_s=FAREWELL_S))

    # The end.

    @property
    def mid_message(self) -> bool:
        """Whether the peer has got only a part of a message, so that nothing else can be said to it."""
        return self.player is not None and self.player.mid_message

    def leave(self, reason: str) -> None:
        """Leave the audience; called once, whatever ended the role."""
        if self._left:
            return
        self._left = True
        player, self.player = self.player, None
        if player is None:
            return
        player.leave()
        if self._audience is not None and reason.startswith("player."):
            self._audience.dropped += 1
        self._door.deciders.emit(
            PlayerLeft(stream=self.stream_name, connection_id=self._connection.connection_id, reason=reason)
        )
