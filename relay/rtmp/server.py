"""The server's side of the conversation: an encoder or a player connects to us.

Bytes and `now` go into `receive_data`; events come out of it and of the verbs that answer questions. The rule: one
question at a time. After `ConnectRequested`, `PublishRequested` or `PlayRequested` everything the peer sends is held
back (bounded) until the verb that answers it, and comes out of that verb in the order it was sent. So a slow
authorisation never sees half a conversation, and any split of the bytes gives the same events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from relay import amf0
from relay.rtmp import commands
from relay.rtmp import messages as m
from relay.rtmp.connection import WINDOW_ACK_SIZE
from relay.rtmp.errors import LocalProtocolError, RemoteProtocolError
from relay.rtmp.events import Event, HandshakeCompleted, Message
from relay.rtmp.framing import CHUNK_SIZE, DATA_CSID
from relay.rtmp.handshake import ServerHandshake
from relay.rtmp.limits import AFTER_AUTH, BEFORE_AUTH, WireLimits
from relay.rtmp.server_calls import ServerCalls
from relay.rtmp.states import SERVER_TABLE, ServerMove, ServerState, StreamMove, StreamState, step_local, step_remote

MAX_HELD: Final = 64 * 1024
"""Bytes held back while a question is open: early media of encoders that do not wait for Publish.Start."""
HELD_OVERHEAD: Final = 64
"""What a held message costs besides its payload, so that empty messages are bounded as well."""


class ServerConnection(ServerCalls):
    """One connection from an encoder or a player.

    Every verb that answers a question returns the events that were held back behind it.
    """

    def __init__(
        self,
        *,
        random: Callable[[int], bytes],
        chunk_size: int = CHUNK_SIZE,
        limits_before: WireLimits = BEFORE_AUTH,
        limits_after: WireLimits = AFTER_AUTH,
    ) -> None:
        super().__init__(limits_before, chunk_size)
        self._handshake: ServerHandshake | None = ServerHandshake(random)
        self._limits_after = limits_after
        self._held: deque[Message] = deque()
        self._held_bytes = 0
        self._held_overflow = False
        self._failure: RemoteProtocolError | None = None
        self._last_phase = ""

    @property
    def phase(self) -> str:
        """Where the conversation is or was when it ended, for logs: handshake, connect, command, publish or play."""
        if self._closed:
            return self._last_phase
        if self._state is not ServerState.CONNECTED:
            return "handshake" if self._state is ServerState.HANDSHAKE else "connect"
        states = set(self._streams.values())
        if states & {StreamState.PUBLISHING, StreamState.PUBLISH_ASKED}:
            return "publish"
        return "play" if states & {StreamState.PLAYING, StreamState.PLAY_ASKED} else "command"

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take bytes of the peer; return what they say.

        While an encoder publishes nearly every call ends in the first branch: the reader's own list, one look at each
        message, nothing allocated.

        Raises:
            RemoteProtocolError: close after writing `data_to_send()` and the error's `answer`.
        """
        try:
            if self._closed:
                return self._closed_receive()
            if self._handshake is not None:
                return self._shake_hands(self._handshake, data, now)
            messages = self._reader.receive(data, now)
            if self._reader.bytes_received >= self._ack_due:
                self._acknowledge(now)
            publishing = self.publishing
            for message in messages:
                if message.type_id not in m.MEDIA_TYPES or message.stream_id != publishing:
                    return self._take(messages, now)
            return messages  # type: ignore[return-value]  # a list of Message is a list of Event nobody adds to
        except RemoteProtocolError:
            self._close()
            raise

    # Answers.

    def accept_connect(self) -> list[Event]:
        """Answer ConnectRequested with success, after the window, bandwidth and chunk size that clients wait for."""
        if self._closed:
            return []
        self._state = step_local(SERVER_TABLE, self._state, ServerMove.ACCEPT)
        self._send_window()
        self._send_control(m.SET_PEER_BANDWIDTH, m.peer_bandwidth(WINDOW_ACK_SIZE))
        self._send_chunk_size()
        self._send_command(commands.connect_result(self._question(), self.capabilities, enhanced=self._enhanced))
        return self._release()

    def reject_connect(
        self, description: str, code: str = "NetConnection.Connect.Rejected", *, redirect: str = ""
    ) -> None:
        """Answer ConnectRequested with `_error`. The caller closes: OBS waits for that, not for the answer.

        *redirect* is a tcUrl where the client should go instead, in Adobe's and SRS's form.
        """
        if self._closed:
            return
        self._state = step_local(SERVER_TABLE, self._state, ServerMove.REJECT)
        self._send_command(commands.error(self._question(), code, description, redirect))
        self._close()

    def accept_publish(self, stream_id: int) -> list[Event]:
        """Grant the publish; return the media that came early."""
        if self._closed:
            return []
        self._answer(stream_id, StreamMove.ACCEPT_PUBLISH)
        self._send_control(m.USER_CONTROL, m.user_control(m.STREAM_BEGIN, stream_id))
        self._status(stream_id, "status", "NetStream.Publish.Start", "Publishing started.")
        self.publishing = stream_id
        self._reader.limits = self._limits_after
        return self._release()

    def reject_publish(
        self, stream_id: int, code: str = "NetStream.Publish.Denied", description: str = "Publishing is not allowed."
    ) -> list[Event]:
        """Refuse the publish; the caller closes soon after. Clients know BadName (busy, invalid) and Denied."""
        if self._closed:
            return []
        self._answer(stream_id, StreamMove.REJECT_PUBLISH)
        self._status(stream_id, "error", code, description)
        return self._release()

    def accept_play(self, stream_id: int) -> list[Event]:
        """Grant the play; the caller then writes media that is framed once for all players, on msid 1.

        The limits stay those of strangers: a player sends small commands, most have shown no key, and there are many.
        """
        if self._closed:
            return []
        self._answer(stream_id, StreamMove.ACCEPT_PLAY)
        self._send_control(m.USER_CONTROL, m.user_control(m.STREAM_BEGIN, stream_id))
        self._status(stream_id, "status", "NetStream.Play.Reset", "Playing and resetting stream.")
        self._status(stream_id, "status", "NetStream.Play.Start", "Started playing stream.")
        self._out += self._frame(DATA_CSID, m.DATA, stream_id, amf0.encode("|RtmpSampleAccess", True, True))
        self.playing = stream_id
        return self._release()

    def reject_play(
        self, stream_id: int, code: str = "NetStream.Play.StreamNotFound", description: str = "Stream not found."
    ) -> list[Event]:
        """Refuse the play."""
        if self._closed:
            return []
        self._answer(stream_id, StreamMove.REJECT_PLAY)
        self._status(stream_id, "error", code, description)
        return self._release()

    # Facts that we tell the peer.

    def end_play(self, stream_id: int, description: str = "The stream ended.") -> None:
        """Tell a player that its stream is over; nothing when it left already."""
        if self._closed or self._streams.get(stream_id) is not StreamState.PLAYING:
            return
        self._move(stream_id, StreamMove.END_PLAY)
        self._status(stream_id, "status", "NetStream.Play.UnpublishNotify", description)
        self._send_control(m.USER_CONTROL, m.user_control(m.STREAM_EOF, stream_id))

    def end_publish(self, stream_id: int, description: str, code: str = "NetStream.Publish.BadName") -> None:
        """Take the grant back (another encoder took over, an operator kicked it); the caller closes soon after.

        FFmpeg prints the description and exits; OBS reads nothing any more and only notices the close.
        """
        if self._closed or self._streams.get(stream_id) is not StreamState.PUBLISHING:
            return
        self._move(stream_id, StreamMove.END_PUBLISH)
        self._status(stream_id, "error", code, description)

    def request_reconnect(self, description: str, tc_url: str = "") -> bool:
        """Ask the peer to reconnect (E-RTMP v2 §Reconnect Request); False when it did not say that it can."""
        if self._closed or self._state is not ServerState.CONNECTED or not self.capabilities.reconnect:
            return False
        code = "NetConnection.Connect.ReconnectRequest"
        extra: dict[str, amf0.Value] = {"tcUrl": tc_url} if tc_url else {}
        self._send_command(commands.on_status("status", code, description, **extra))
        return True

    # Messages.

    def _shake_hands(self, handshake: ServerHandshake, data: bytes, now: float) -> list[Event]:
        self._out += handshake.receive(data)
        if not handshake.done:
            return []
        self._handshake = None
        self._state = step_remote(SERVER_TABLE, self._state, ServerMove.HANDSHAKE_DONE)
        events: list[Event] = [HandshakeCompleted(digest=handshake.digest)]
        if handshake.leftover:
            events.extend(self.receive_data(handshake.leftover, now))
        return events

    def _closed_receive(self) -> list[Event]:
        """Ignore what comes after the end, but say once why a held message ended it."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return []

    def _take(self, messages: list[Message], now: float) -> list[Event]:
        """Sort messages that are not all granted media."""
        self._now = now
        events: list[Event] = []
        for message in messages:
            if message.type_id in m.CONTROL_TYPES:
                # Even while a question is open: they change no state that it asks about.
                self._control(message, now)
            elif self._asked is not None:
                self._hold(message)
            else:
                self._handle(message, events)
        return events

    def _hold(self, message: Message) -> None:
        cost = len(message.payload) + HELD_OVERHEAD
        if self._held_bytes + cost > MAX_HELD or (self._held_overflow and message.type_id in m.MEDIA_TYPES):
            if message.type_id not in m.MEDIA_TYPES:
                raise RemoteProtocolError("cmd.flood", "too much sent while a question is open")
            # From the first loss on no media is kept: a hole in the middle would be worse than a late start.
            self._held_overflow = True
            self.odd["media.early_dropped"] += 1
            return
        self._held_bytes += cost
        self._held.append(message)

    def _release(self) -> list[Event]:
        """Take the held messages up to the next question. A failure is raised by the next `receive_data`."""
        events: list[Event] = []
        try:
            while self._held and self._asked is None:
                message = self._held.popleft()
                self._held_bytes -= len(message.payload) + HELD_OVERHEAD
                self._handle(message, events)
        except RemoteProtocolError as error:
            self._close()
            self._failure = error
        self._held_overflow = self._held_overflow and bool(self._held)
        return events

    def _question(self) -> commands.Command:
        """Return the command of the open question and close the question."""
        command, self._asked = self._asked, None
        if command is None:
            raise LocalProtocolError("there is nothing to answer")
        return command

    def _answer(self, stream_id: int, move: StreamMove) -> None:
        if self._asked is None or stream_id != self._asked_stream or stream_id not in self._streams:
            raise LocalProtocolError(f"{move.value} while nothing is asked on stream {stream_id}")
        self._move(stream_id, move)
        self._asked = None

    def _close(self) -> None:
        self._last_phase = self.phase
        self._closed = True
        self._state = ServerState.CLOSED
        self.publishing = self.playing = self._asked = None
        self._held.clear()
