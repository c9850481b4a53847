"""The states of a connection and of its message streams, as tables: {(state, event): state}.

The rule: a move that no table holds is an error that names both. It is the peer's when the peer sent the command
(`step_remote`) and ours when our own code called a verb (`step_local`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from relay.rtmp.errors import LocalProtocolError, RemoteProtocolError


class ServerState(Enum):
    """Where a connection from a peer is."""

    HANDSHAKE = "handshake"
    CONNECT = "waiting for connect"
    CONNECT_ASKED = "connect asked"
    CONNECTED = "connected"
    CLOSED = "closed"


class ServerMove(Enum):
    """What happens to a connection from a peer."""

    HANDSHAKE_DONE = "handshake done"
    CONNECT = "connect"
    ACCEPT = "accept connect"
    REJECT = "reject connect"
    COMMAND = "command"
    """Any NetConnection or NetStream command but connect."""


SERVER_TABLE: Mapping[tuple[ServerState, ServerMove], ServerState] = {
    (ServerState.HANDSHAKE, ServerMove.HANDSHAKE_DONE): ServerState.CONNECT,
    (ServerState.CONNECT, ServerMove.CONNECT): ServerState.CONNECT_ASKED,
    (ServerState.CONNECT_ASKED, ServerMove.ACCEPT): ServerState.CONNECTED,
    (ServerState.CONNECT_ASKED, ServerMove.REJECT): ServerState.CLOSED,
    (ServerState.CONNECTED, ServerMove.COMMAND): ServerState.CONNECTED,
}


class StreamState(Enum):
    """Where a message stream (one id from createStream) is."""

    IDLE = "idle"
    PUBLISH_ASKED = "publish asked"
    PUBLISHING = "publishing"
    PLAY_ASKED = "play asked"
    PLAYING = "playing"


class StreamMove(Enum):
    """What happens to a message stream."""

    PUBLISH = "publish"
    PLAY = "play"
    ACCEPT_PUBLISH = "accept publish"
    REJECT_PUBLISH = "reject publish"
    END_PUBLISH = "end publish"
    ACCEPT_PLAY = "accept play"
    REJECT_PLAY = "reject play"
    END_PLAY = "end play"


STREAM_TABLE: Mapping[tuple[StreamState, StreamMove], StreamState] = {
    (StreamState.IDLE, StreamMove.PUBLISH): StreamState.PUBLISH_ASKED,
    (StreamState.PUBLISH_ASKED, StreamMove.ACCEPT_PUBLISH): StreamState.PUBLISHING,
    (StreamState.PUBLISH_ASKED, StreamMove.REJECT_PUBLISH): StreamState.IDLE,
    (StreamState.PUBLISHING, StreamMove.END_PUBLISH): StreamState.IDLE,
    (StreamState.IDLE, StreamMove.PLAY): StreamState.PLAY_ASKED,
    (StreamState.PLAY_ASKED, StreamMove.ACCEPT_PLAY): StreamState.PLAYING,
    (StreamState.PLAY_ASKED, StreamMove.REJECT_PLAY): StreamState.IDLE,
    (StreamState.PLAYING, StreamMove.END_PLAY): StreamState.IDLE,
}


class ClientState(Enum):
    """Where a connection to a server is."""

    NEW = "new"
    HANDSHAKE = "handshake"
    CONNECTING = "connecting"
    CREATING = "creating"
    ASKED = "asked"
    STREAMING = "streaming"
    CLOSED = "closed"


class ClientMove(Enum):
    """What happens to a connection to a server."""

    START = "start"
    HANDSHAKE_DONE = "handshake done"
    CONNECTED = "connect accepted"
    CREATED = "stream created"
    GRANTED = "granted"
    """NetStream.Publish.Start, NetStream.Play.Start, or what servers send instead."""
    REFUSED = "refused"
    FINISH = "finish"
    """We end it ourselves."""


CLIENT_TABLE: Mapping[tuple[ClientState, ClientMove], ClientState] = {
    (ClientState.NEW, ClientMove.START): ClientState.HANDSHAKE,
    (ClientState.HANDSHAKE, ClientMove.HANDSHAKE_DONE): ClientState.CONNECTING,
    (ClientState.CONNECTING, ClientMove.CONNECTED): ClientState.CREATING,
    (ClientState.CREATING, ClientMove.CREATED): ClientState.ASKED,
    (ClientState.ASKED, ClientMove.GRANTED): ClientState.STREAMING,
    # Some servers say Start twice (lal 1f97f1e).
    (ClientState.STREAMING, ClientMove.GRANTED): ClientState.STREAMING,
    (ClientState.CONNECTING, ClientMove.REFUSED): ClientState.CLOSED,
    (ClientState.CREATING, ClientMove.REFUSED): ClientState.CLOSED,
    (ClientState.ASKED, ClientMove.REFUSED): ClientState.CLOSED,
    (ClientState.STREAMING, ClientMove.REFUSED): ClientState.CLOSED,
    **{(state, ClientMove.FINISH): ClientState.CLOSED for state in ClientState},
}

_State = TypeVar("_State", bound=Enum)
_Move = TypeVar("_Move", bound=Enum)


def step_remote(
    table: Mapping[tuple[_State, _Move], _State],
    state: _State,
    move: _Move,
    code: str = "cmd.order",
    answer: bytes = b"",
) -> _State:
    """Return the state after a move of the peer."""
    try:
        return table[state, move]
    except KeyError:
        raise RemoteProtocolError(code, f"{move.value} while {state.value}", answer) from None


def step_local(table: Mapping[tuple[_State, _Move], _State], state: _State, move: _Move) -> _State:
    """Return the state after a move of our own."""
    try:
        return table[state, move]
    except KeyError:
        raise LocalProtocolError(f"{move.value} while {state.value}") from None
