"""The client's side of the conversation: we push to a destination, or play from another server.

The rule: servers differ in everything but the grant, so take what they mean. Nothing is waited for that some server
never sends (answers to releaseStream and FCPublish), the id that createStream returns is used whatever it is, and a
grant may come as Publish.Start, Play.Start or `_result`, once or twice. After ConnectRejected, PublishRefused or
PlayRefused the attempt is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from relay import amf0
from relay.rtmp import commands
from relay.rtmp import messages as m
from relay.rtmp.connection import Connection
from relay.rtmp.errors import LocalProtocolError, RemoteProtocolError
from relay.rtmp.events import (
    ConnectAccepted,
    ConnectRejected,
    Event,
    HandshakeCompleted,
    Message,
    PlayAccepted,
    PlayRefused,
    PublishAccepted,
    PublishRefused,
    ReconnectRequested,
    StatusReceived,
)
from relay.rtmp.framing import CHUNK_SIZE, media_frame
from relay.rtmp.handshake import ClientHandshake
from relay.rtmp.limits import AFTER_AUTH, WireLimits
from relay.rtmp.states import CLIENT_TABLE, ClientMove, ClientState, step_local, step_remote
from relay.secret import Secret

FLASH_VER: Final = "FMLE/3.0 (compatible; rtmp-relay/0.1)"
"""Servers refuse publishers that do not look like FMLE; FFmpeg and OBS write it the same way."""
PLAY_BUFFER_MS: Final = 3000
LIVE_OR_RECORDED: Final = -2000.0
"""The start argument of play, as FFmpeg sends it."""

_CAPS_EX: Final = commands.CAPS_RECONNECT | commands.CAPS_MULTITRACK | commands.CAPS_MODEX
_GRANTS: Final = frozenset({"NetStream.Publish.Start", "NetStream.Play.Start"})
"""Huya answers publish with Play.Start (lal 630a6e9)."""
_PLAY_ENDS: Final = frozenset({"NetStream.Play.UnpublishNotify", "NetStream.Play.Complete", "NetStream.Play.Stop"})
_RECONNECT: Final = "NetConnection.Connect.ReconnectRequest"
_CLOSED_CODE: Final = "NetConnection.Connect.Closed"
_SET_DATA_FRAME: Final = amf0.encode("@setDataFrame")
_ON_META_DATA: Final = amf0.encode("onMetaData")


class ClientConnection(Connection):
    """One connection to a server, for one publish or one play.

    Call `start()`, then write `data_to_send()`, then `receive_data`. Once `PublishAccepted` came, write what
    `send_media` returns.

    Attributes:
        stream_id: msid that the server's createStream gave us, 0 before.
        bytes_sent: bytes handed out so far, of `data_to_send` and of `send_media`.
        media_sent: bytes of media that the caller framed and sent by itself; it keeps the count.
        acked: bytes that the server said it has; servers count differently, so only for statistics.
    """

    def __init__(
        self,
        *,
        role: Literal["publish", "play"],
        app: str,
        tc_url: Secret,
        name: Secret,
        random: Callable[[int], bytes],
        digest: bool = False,
        chunk_size: int = CHUNK_SIZE,
        flash_ver: str = FLASH_VER,
        enhanced: bool | None = None,
        limits: WireLimits = AFTER_AUTH,
    ) -> None:
        """Prepare a connection.

        Args:
            role: what to do once connected.
            app: the app as the server expects it, with its query.
            tc_url: see `names.tc_url`.
            name: stream key or name, raw: Facebook's holds `?`, `&` and `=`.
            random: gives that many random bytes.
            digest: use the digest handshake, which a few servers demand.
            chunk_size: what we announce and send with.
            flash_ver: what we call ourselves.
            enhanced: announce Enhanced RTMP. By default only when playing: a player gets more codecs for it, while
                platforms take enhanced media without it (OBS never announces) and a few frontends refuse the keys.
            limits: bounds of what the server may send.
        """
        super().__init__(limits, chunk_size)
        self.stream_id = 0
        self.bytes_sent = 0
        self.media_sent = 0
        self.acked = 0
        self._role = role
        self._app = Secret(app)
        self._tc_url = tc_url
        self._name = name
        self._flash_ver = flash_ver
        self._enhanced = role == "play" if enhanced is None else enhanced
        self._handshake: ClientHandshake | None = ClientHandshake(random, digest=digest)
        self._state = ClientState.NEW
        self._calls: dict[float, str] = {}
        self._transaction = 0

    @property
    def phase(self) -> str:
        """Where the conversation is, for logs: handshake, connecting, creating, asked, streaming, closed."""
        return self._state.value

    def start(self) -> None:
        """Queue C0 and C1."""
        self._move_local(ClientMove.START)
        if self._handshake is not None:
            self._out += self._handshake.start()

    def data_to_send(self) -> bytes:
        """Return and forget what is to be written to the server."""
        data = super().data_to_send()
        self.bytes_sent += len(data)
        return data

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take bytes of the server; return what they say. Media that we play comes as `Message`.

        Raises:
            RemoteProtocolError: close; there is nothing to answer.
        """
        if self._closed:
            return []
        try:
            if self._handshake is not None:
                return self._shake_hands(self._handshake, data, now)
            messages = self._reader.receive(data, now)
            if self._reader.bytes_received >= self._ack_due:
                self._acknowledge(now)
            if self._role == "play" and self._state is ClientState.STREAMING:
                for message in messages:
                    if message.type_id not in m.MEDIA_TYPES:
                        break
                else:
                    return messages  # type: ignore[return-value]  # a list of Message is a list of Event
            return self._take(messages, now)
        except RemoteProtocolError:
            self._close()
            raise

    def send_media(self, kind: int, timestamp: int, body: bytes) -> bytes:
        """Return one media message as chunks for this server; metadata gets the `@setDataFrame` that servers expect."""
        if self._state is not ClientState.STREAMING or self._role != "publish":
            raise LocalProtocolError(f"send_media while {self._state.value}")
        if kind == m.DATA and body.startswith(_ON_META_DATA):
            body = _SET_DATA_FRAME + body
        data = media_frame(kind, timestamp, body, self._out_chunk_size, self.stream_id)
        self.bytes_sent += len(data)
        return data

    def start_anyway(self) -> list[Event]:
        """Take the publish as granted although the server said nothing: some never do. Harmless when it is granted."""
        if self._state is ClientState.STREAMING:
            return []
        self._move_local(ClientMove.GRANTED)
        return [self._accepted()]

    def unpublish(self) -> None:
        """Queue FCUnpublish and deleteStream; the caller writes them and closes. Harmless after the end."""
        if self._state in (ClientState.ASKED, ClientState.STREAMING):
            if self._role == "publish":
                self._call("FCUnpublish", None, self._name.reveal())
            self._call("deleteStream", None, float(self.stream_id))
        self._move_local(ClientMove.FINISH)
        self._close()

    # The way up.

    def _shake_hands(self, handshake: ClientHandshake, data: bytes, now: float) -> list[Event]:
        # C2 leaves as soon as S1 is in: some servers hold S2 back until they have it (lal 158811d).
        self._out += handshake.receive(data)
        if not handshake.done:
            return []
        self._handshake = None
        self._move_remote(ClientMove.HANDSHAKE_DONE)
        self._send_chunk_size()
        self._call("connect", self._connect_object())
        events: list[Event] = [HandshakeCompleted(digest=handshake.digest)]
        if handshake.leftover:
            events.extend(self.receive_data(handshake.leftover, now))
        return events

    def _connect_object(self) -> dict[str, amf0.Value]:
        tc_url = self._tc_url.reveal()
        properties: dict[str, amf0.Value] = {"app": self._app.reveal()}
        if self._role == "publish":
            properties |= {"type": "nonprivate", "flashVer": self._flash_ver, "swfUrl": tc_url, "tcUrl": tc_url}
        else:
            properties |= {"flashVer": self._flash_ver, "tcUrl": tc_url, "fpad": False, "capabilities": 15.0}
            properties |= {"audioCodecs": 4071.0, "videoCodecs": 252.0, "videoFunction": 1.0}
        if self._enhanced:
            properties |= commands.enhanced_properties(_CAPS_EX)
        return properties

    def _call(self, name: str, *values: amf0.Value) -> None:
        """Queue a NetConnection command and remember its transaction id."""
        self._send_command(commands.build(name, self._next_transaction(name), *values))

    def _next_transaction(self, name: str) -> float:
        self._transaction += 1
        self._calls[self._transaction] = name
        return float(self._transaction)

    def _create(self) -> None:
        if self._role == "publish":
            # Pipelined: nginx-rtmp never answers the first two.
            self._call("releaseStream", None, self._name.reveal())
            self._call("FCPublish", None, self._name.reveal())
        else:
            self._send_window()
        self._call("createStream", None)

    def _ask(self) -> None:
        name = self._name.reveal()
        if self._role == "publish":
            # The type must be "live": YouTube refuses anything else (mediamtx #5558).
            arguments: tuple[amf0.Value, ...] = (name, "live")
        else:
            arguments = (name, LIVE_OR_RECORDED)
        body = commands.build(self._role, self._next_transaction(self._role), None, *arguments)
        self._send_stream_command(self.stream_id, body)
        if self._role == "play":
            self._send_control(m.USER_CONTROL, m.buffer_length(self.stream_id, PLAY_BUFFER_MS))

    # What comes in.

    def _take(self, messages: list[Message], now: float) -> list[Event]:
        events: list[Event] = []
        for message in messages:
            type_id = message.type_id
            if self._closed:
                break
            if type_id in m.MEDIA_TYPES:
                self._media(message, events)
            elif not message.payload:
                self.odd["message.empty"] += 1
            elif type_id in m.COMMAND_TYPES:
                self._command(message, events)
            elif type_id == m.ACKNOWLEDGEMENT:
                self._count_acked(message)
                self._acknowledged(message, events)
            elif type_id in m.CONTROL_TYPES:
                self._control(message, now)
            else:
                self._skip(message)
        return events

    def _media(self, message: Message, events: list[Event]) -> None:
        if self._role != "play" or self._state not in (ClientState.ASKED, ClientState.STREAMING):
            self.odd["media.unexpected"] += 1
            return
        if self._state is ClientState.ASKED and message.type_id in (m.AUDIO, m.VIDEO):
            self._grant(events)  # a server that sends media has granted it, whatever it forgot to say
        events.append(message)

    def _count_acked(self, message: Message) -> None:
        """Follow the server's 32-bit counter; what goes backwards or beyond what we sent is not believed."""
        total = m.read_u32(message.payload)
        if total is None:
            return
        sent = self.bytes_sent + self.media_sent
        total |= sent & ~0xFFFFFFFF
        if total > sent:
            total -= 1 << 32
        self.acked = max(self.acked, total)

    def _command(self, message: Message, events: list[Event]) -> None:
        command = commands.read(message)
        if command is None:
            self.odd["cmd.bad_name"] += 1
        elif command.name == "_result":
            self._on_result(command, events)
        elif command.name == "_error":
            self._on_error(command, events)
        elif command.name == "onStatus":
            self._on_status(command, events)
        elif command.name == "onFCPublish":
            if commands.text(command.info.get("level")) == "error":
                self._on_status(command, events)
        elif command.name == "close":
            self._refuse(_CLOSED_CODE, "The server closed the connection.", {}, events)
        # onBWDone, _checkbw, |RtmpSampleAccess...: no answer is expected.

    def _on_result(self, command: commands.Command, events: list[Event]) -> None:
        called = self._calls.pop(command.transaction_number, "")
        if self._state is ClientState.CONNECTING:
            # Whatever its transaction id: nothing else is open yet.
            self._on_connected(command, events)
        elif self._state is ClientState.CREATING and called in ("createStream", ""):
            self._on_created(command, called, events)
        elif called == "publish" and self._state is ClientState.ASKED:
            self._grant(events)

    def _on_connected(self, command: commands.Command, events: list[Event]) -> None:
        info = command.info
        code = commands.text(info.get("code"))
        if code and code != "NetConnection.Connect.Success":
            self._refuse(code, commands.text(info.get("description")), info, events)
            return
        self._move_remote(ClientMove.CONNECTED)
        properties = command.object if isinstance(command.object, dict) else {}
        events.append(ConnectAccepted(properties=properties, info=info))
        self._create()

    def _on_created(self, command: commands.Command, called: str, events: list[Event]) -> None:
        stream_id = commands.integer(command.argument(0))
        if stream_id is None:
            if not called:  # an answer to nothing that we asked, and no number in it
                self.odd["cmd.transaction"] += 1
                return
            self._refuse("NetConnection.Call.Failed", "createStream gave no stream id.", {}, events)
            return
        self._move_remote(ClientMove.CREATED)
        self.stream_id = stream_id
        self._ask()

    def _on_error(self, command: commands.Command, events: list[Event]) -> None:
        called = self._calls.pop(command.transaction_number, "")
        if self._state is not ClientState.CONNECTING and called not in ("createStream", "publish", "play"):
            self.odd["cmd.call_failed"] += 1  # releaseStream and FCPublish may fail: they only announce
            return
        info = command.info
        code = commands.text(info.get("code")) or "NetConnection.Call.Failed"
        self._refuse(code, commands.text(info.get("description")), info, events)

    def _on_status(self, command: commands.Command, events: list[Event]) -> None:
        info = command.info
        level, code = commands.text(info.get("level")), commands.text(info.get("code"))
        description = commands.text(info.get("description"))
        if code == _RECONNECT:
            events.append(ReconnectRequested(tc_url=commands.text(info.get("tcUrl")), description=description))
        elif level == "error" or (self._role == "play" and code in _PLAY_ENDS):
            self._on_bad_status(level, code, description, info, events)
        elif code in _GRANTS and self._state is ClientState.ASKED:
            self._grant(events)
        elif code not in _GRANTS:
            events.append(StatusReceived(level=level or "status", code=code, description=description, info=info))

    def _on_bad_status(
        self, level: str, code: str, description: str, info: Mapping[str, Any], events: list[Event]
    ) -> None:
        """An error ends what is not granted yet, and a play at any time; a running publish is the caller's decision."""
        if self._role == "publish" and self._state is ClientState.STREAMING:
            events.append(StatusReceived(level=level, code=code, description=description, info=info))
        else:
            self._refuse(code, description, info, events)

    # Parts.

    def _grant(self, events: list[Event]) -> None:
        self._move_remote(ClientMove.GRANTED)
        events.append(self._accepted())

    def _accepted(self) -> Event:
        if self._role == "publish":
            return PublishAccepted(stream_id=self.stream_id)
        return PlayAccepted(stream_id=self.stream_id)

    def _refuse(self, code: str, description: str, info: Mapping[str, Any], events: list[Event]) -> None:
        """Report the end of the attempt in the terms of what was asked."""
        if self._state is ClientState.CONNECTING:
            events.append(ConnectRejected(code=code, description=description, info=info))
        elif self._role == "publish":
            events.append(PublishRefused(code=code, description=description))
        else:
            events.append(PlayRefused(code=code, description=description))
        self._move_remote(ClientMove.REFUSED)
        self._close()

    def _move_remote(self, move: ClientMove) -> None:
        self._state = step_remote(CLIENT_TABLE, self._state, move)

    def _move_local(self, move: ClientMove) -> None:
        self._state = step_local(CLIENT_TABLE, self._state, move)

    def _close(self) -> None:
        self._closed = True
        self._state = ClientState.CLOSED
