"""What a server does with the commands of an encoder or a player: `ServerCalls`, the lower half of `ServerConnection`.

The rule: a command that the peer may send at the wrong moment, twice or with nonsense in it changes nothing but
counters; a command that cannot be meant honestly raises `RemoteProtocolError` with the refusal to send.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from relay import amf0
from relay.rtmp import commands, names
from relay.rtmp import messages as m
from relay.rtmp.connection import Allowance, Connection
from relay.rtmp.errors import RemoteProtocolError
from relay.rtmp.events import (
    Capabilities,
    ConnectRequested,
    Event,
    Message,
    PlayEnded,
    PlayGated,
    PlayRequested,
    PublishEnded,
    PublishRequested,
)
from relay.rtmp.framing import CONNECTION_CSID, STREAM_CSID
from relay.rtmp.limits import WireLimits
from relay.rtmp.states import (
    SERVER_TABLE,
    STREAM_TABLE,
    ServerMove,
    ServerState,
    StreamMove,
    StreamState,
    step_local,
    step_remote,
)
from relay.secret import Secret

MAX_STREAMS: Final = 8
"""Live ids of createStream. Encoders use one."""
COMMANDS_PER_S: Final = 200
"""Commands a peer may send per second. A publish takes 6, a play 5."""
PLAY_STREAM_ID: Final = 1
"""All players share one framing, so media to them is on this msid."""

_RESPONSES: Final = frozenset({"_result", "_error", "onStatus"})


class ServerCalls(Connection):
    """Connection state and message streams of one peer, and the commands that change them.

    Attributes:
        publishing: msid whose media is granted, None when nothing is published.
        playing: msid that plays, None when nothing is played.
        app: first segment of the app, empty before connect.
        capabilities: what the peer announced in connect.
    """

    def __init__(self, limits: WireLimits, chunk_size: int) -> None:
        super().__init__(limits, chunk_size)
        self.publishing: int | None = None
        self.playing: int | None = None
        self.app = ""
        self.capabilities = Capabilities()
        self._state = ServerState.HANDSHAKE
        self._streams: dict[int, StreamState] = {}
        self._connect_app = Secret("")
        self._tc_url = Secret("")
        self._asked: commands.Command | None = None
        self._asked_stream = 0
        self._published = Secret("")
        self._enhanced = False
        self._commands = Allowance(COMMANDS_PER_S)
        self._now = 0.0

    def _handle(self, message: Message, events: list[Event]) -> None:
        type_id = message.type_id
        if type_id in m.MEDIA_TYPES:
            # msid 0 is tolerated: some encoders never use the id that createStream gave them.
            if self.publishing is not None and message.stream_id in (0, self.publishing):
                events.append(message)
            else:
                self.odd["media.unexpected"] += 1
        elif not message.payload:
            self.odd["message.empty"] += 1
        elif type_id in m.COMMAND_TYPES:
            self._command(message, events)
        elif type_id == m.ACKNOWLEDGEMENT:
            self._acknowledged(message, events)
        else:
            self._skip(message)

    def _command(self, message: Message, events: list[Event]) -> None:
        if not self._commands.take(self._now):
            raise RemoteProtocolError("cmd.flood", f"more than {COMMANDS_PER_S} commands in a second")
        command = commands.read(message)
        if command is None:
            self.odd["cmd.bad_name"] += 1
        elif command.name == "connect":
            self._on_connect(command, events)
        elif command.name not in _RESPONSES:
            if self._state is not ServerState.CONNECTED:
                raise self._too_early(command)
            _CALLS.get(command.name, ServerCalls._on_other)(self, command, events)

    def _too_early(self, command: commands.Command) -> RemoteProtocolError:
        body = commands.error(command, "NetConnection.Call.Failed", "Call connect first.")
        answer = self._frame(CONNECTION_CSID, m.COMMAND, 0, body) if command.wants_answer else b""
        return RemoteProtocolError(
            "cmd.order", f"{commands.plain(command.name)[:64]} while {self._state.value}", answer
        )

    # Commands.

    def _on_connect(self, command: commands.Command, events: list[Event]) -> None:
        answer = self._connect_refusal(command, "NetConnection.Connect.Rejected", "Already connected.")
        self._state = step_remote(SERVER_TABLE, self._state, ServerMove.CONNECT, "connect.twice", answer)
        properties = command.object if isinstance(command.object, dict) else {}
        fields = commands.folded(properties)
        app = fields.get("app")
        try:
            path = names.app_path(app if isinstance(app, str) else "")
        except names.BadNameError as error:
            answer = self._connect_refusal(
                command, "NetConnection.Connect.InvalidApp", "The app is missing or invalid."
            )
            raise RemoteProtocolError("connect.bad_app", error.text, answer) from None
        tc_url = fields.get("tcurl")
        self._asked = command
        self._connect_app = Secret(commands.text(app, names.MAX_ADDRESS))
        self._tc_url = Secret(commands.text(tc_url, names.MAX_ADDRESS))
        self.app = path.partition("/")[0]
        self.capabilities = commands.capabilities(fields)
        self._enhanced = not commands.ENHANCED_KEYS.isdisjoint(fields)
        events.append(
            ConnectRequested(
                app=path,
                tc_url=self._tc_url,
                flash_ver=commands.text(fields.get("flashver"), commands.MAX_FLASH_VER),
                query=names.connect_query(self._tc_url.reveal(), self._connect_app.reveal()),
                capabilities=self.capabilities,
                command=properties,
            )
        )

    def _connect_refusal(self, command: commands.Command, code: str, description: str) -> bytes:
        return self._frame(CONNECTION_CSID, m.COMMAND, 0, commands.error(command, code, description))

    def _on_create_stream(self, command: commands.Command, events: list[Event]) -> None:
        # The lowest free id: gortmplib and hard-coded encoders insist on 1.
        free = next((msid for msid in range(1, MAX_STREAMS + 1) if msid not in self._streams), None)
        if free is None:
            self._send_command(commands.error(command, "NetConnection.Call.Failed", "Too many streams."))
            return
        self._streams[free] = StreamState.IDLE
        self._send_command(commands.result(command, None, float(free)))

    def _on_publish(self, command: commands.Command, events: list[Event]) -> None:
        stream_id = self._stream_of(command.stream_id)
        name = command.argument(0)
        if name is False:  # NetStream.publish(false) of Flash
            self._end_stream(stream_id, command.name, events)
            return
        if stream_id is None:
            text = "Call createStream first."
            raise self._refusal("publish.no_stream", command.stream_id, "NetStream.Publish.Failed", text)
        if self._busy:
            self._status(stream_id, "error", "NetStream.Publish.BadName", "Already publishing or playing.")
            return
        try:
            address = names.publish_address(self._connect_app.reveal(), self._tc_url.reveal(), _name(name))
        except names.BadNameError as error:
            text = "The stream key is not valid."
            raise self._refusal(error.code, stream_id, "NetStream.Publish.BadName", text) from None
        self._published = Secret(address.name)
        self._ask(command, stream_id, StreamMove.PUBLISH)
        events.append(
            PublishRequested(stream_id=stream_id, app=address.app, name=Secret(address.name), query=address.query)
        )

    def _on_play(self, command: commands.Command, events: list[Event]) -> None:
        stream_id = self._stream_of(command.stream_id)
        name = command.argument(0)
        if name is False:
            self._end_stream(stream_id, command.name, events)
            return
        if stream_id is None:
            text = "Call createStream first."
            raise self._refusal("play.no_stream", command.stream_id, "NetStream.Play.Failed", text)
        if self._busy or stream_id != PLAY_STREAM_ID:
            self._status(stream_id, "error", "NetStream.Play.Failed", "One play per connection, on stream 1.")
            return
        if isinstance(name, dict):  # play2 wraps it
            name = name.get("streamName")
        try:
            address = names.play_address(self._connect_app.reveal(), self._tc_url.reveal(), _name(name))
        except names.BadNameError as error:
            text = "Stream not found."
            raise self._refusal(error.code, stream_id, "NetStream.Play.StreamNotFound", text) from None
        self._ask(command, stream_id, StreamMove.PLAY)
        events.append(PlayRequested(stream_id=stream_id, app=address.app, name=address.name, query=address.query))

    def _on_fc_publish(self, command: commands.Command, events: list[Event]) -> None:
        self._on_other(command, events)
        # Livestream Studio and some hardware wait for this one, with the id of their request (membrane #115).
        info: dict[str, amf0.Value] = {"code": "NetStream.Publish.Start", "description": "Publish is expected."}
        self._send_command(commands.build("onFCPublish", command.transaction, None, info))

    def _on_fc_unpublish(self, command: commands.Command, events: list[Event]) -> None:
        self._on_other(command, events)
        info: dict[str, amf0.Value] = {"code": "NetStream.Unpublish.Success", "description": "Publishing stopped."}
        self._send_command(commands.build("onFCUnpublish", 0.0, None, info))
        if self._names_published(command.argument(0)):
            self._end_stream(self.publishing, command.name, events)

    def _on_delete_stream(self, command: commands.Command, events: list[Event]) -> None:
        stream_id = commands.integer(command.argument(0))
        if stream_id in self._streams:
            self._end_stream(stream_id, command.name, events)
            del self._streams[stream_id]

    def _on_close_stream(self, command: commands.Command, events: list[Event]) -> None:
        self._end_stream(self._stream_of(command.stream_id), command.name, events)

    def _on_close(self, command: commands.Command, events: list[Event]) -> None:
        for stream_id in self._streams:
            self._end_stream(stream_id, command.name, events)

    def _on_pause(self, command: commands.Command, events: list[Event]) -> None:
        paused = command.argument(0) is True
        if self.playing is None:
            return
        code = "NetStream.Pause.Notify" if paused else "NetStream.Unpause.Notify"
        self._status(self.playing, "status", code, "Paused." if paused else "Resumed.")
        events.append(PlayGated(stream_id=self.playing, paused=paused))

    def _on_receive_audio(self, command: commands.Command, events: list[Event]) -> None:
        if self.playing is not None:
            events.append(PlayGated(stream_id=self.playing, audio=command.argument(0) is not False))

    def _on_receive_video(self, command: commands.Command, events: list[Event]) -> None:
        if self.playing is not None:
            events.append(PlayGated(stream_id=self.playing, video=command.argument(0) is not False))

    def _on_seek(self, command: commands.Command, events: list[Event]) -> None:
        if self.playing is not None:
            # Level status: FFmpeg ends on any onStatus with level error.
            self._status(self.playing, "status", "NetStream.Seek.Failed", "A live stream cannot seek.")

    def _on_stream_length(self, command: commands.Command, events: list[Event]) -> None:
        if command.wants_answer:
            self._send_command(commands.result(command, None, 0.0))

    def _on_other(self, command: commands.Command, events: list[Event]) -> None:
        """Answer everything else that wants an answer: encoders wait for some of them, and `_error` scares FFmpeg."""
        if command.wants_answer:
            self._send_command(commands.result(command, None, None))

    # Parts.

    def _names_published(self, name: amf0.Value) -> bool:
        """Tell whether *name* is what this connection publishes; no name means it as well."""
        if not isinstance(name, str) or not name:
            return True
        try:
            address = names.publish_address(self._connect_app.reveal(), self._tc_url.reveal(), name)
        except names.BadNameError:
            return False
        return Secret(address.name) == self._published

    @property
    def _busy(self) -> bool:
        return any(state is not StreamState.IDLE for state in self._streams.values())

    def _stream_of(self, msid: int) -> int | None:
        """Return the live id that *msid* means; 0 means the only one there is."""
        if msid in self._streams:
            return msid
        return next(iter(self._streams)) if msid == 0 and len(self._streams) == 1 else None

    def _move(self, stream_id: int, move: StreamMove) -> None:
        self._streams[stream_id] = step_local(STREAM_TABLE, self._streams[stream_id], move)
        if move is StreamMove.END_PUBLISH:
            self.publishing = None
        elif move is StreamMove.END_PLAY:
            self.playing = None

    def _ask(self, command: commands.Command, stream_id: int, move: StreamMove) -> None:
        self._move(stream_id, move)
        self._asked = command
        self._asked_stream = stream_id

    def _end_stream(self, stream_id: int | None, command_name: str, events: list[Event]) -> None:
        """End what the peer does on *stream_id*; nothing when it does nothing, so ending twice is harmless."""
        state = StreamState.IDLE if stream_id is None else self._streams.get(stream_id, StreamState.IDLE)
        if stream_id is None or state is StreamState.IDLE:
            return
        if state is StreamState.PUBLISHING:
            self._move(stream_id, StreamMove.END_PUBLISH)
            self._status(stream_id, "status", "NetStream.Unpublish.Success", "Publishing stopped.")
            events.append(PublishEnded(stream_id=stream_id, command=command_name))
        else:
            self._move(stream_id, StreamMove.END_PLAY)
            events.append(PlayEnded(stream_id=stream_id))

    def _status(self, stream_id: int, level: str, code: str, description: str) -> None:
        self._send_stream_command(stream_id, commands.on_status(level, code, description))

    def _refusal(self, error_code: str, msid: int, status_code: str, description: str) -> RemoteProtocolError:
        body = commands.on_status("error", status_code, description)
        return RemoteProtocolError(error_code, description, self._frame(STREAM_CSID, m.COMMAND, msid, body))


Call = Callable[[ServerCalls, commands.Command, list[Event]], None]


def _name(value: amf0.Value) -> str:
    return value if isinstance(value, str) else ""


_CALLS: Mapping[str, Call] = {
    "createStream": ServerCalls._on_create_stream,
    "publish": ServerCalls._on_publish,
    "play": ServerCalls._on_play,
    "play2": ServerCalls._on_play,
    "FCPublish": ServerCalls._on_fc_publish,
    "FCUnpublish": ServerCalls._on_fc_unpublish,
    "deleteStream": ServerCalls._on_delete_stream,
    "closeStream": ServerCalls._on_close_stream,
    "close": ServerCalls._on_close,
    "pause": ServerCalls._on_pause,
    "pauseRaw": ServerCalls._on_pause,
    "receiveAudio": ServerCalls._on_receive_audio,
    "receiveVideo": ServerCalls._on_receive_video,
    "seek": ServerCalls._on_seek,
    "getStreamLength": ServerCalls._on_stream_length,
}
"""releaseStream, FCSubscribe, _checkbw, setPlaylist and unknown commands: `_on_other`."""
