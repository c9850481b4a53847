"""The state tables: complete in what they allow, and an error that names both for everything else."""

from __future__ import annotations

from itertools import product

import pytest

from relay.rtmp.errors import LocalProtocolError, RemoteProtocolError
from relay.rtmp.states import (
    CLIENT_TABLE,
    SERVER_TABLE,
    STREAM_TABLE,
    ClientMove,
    ClientState,
    ServerMove,
    ServerState,
    StreamMove,
    StreamState,
    step_local,
    step_remote,
)


@pytest.mark.parametrize("move", list(StreamMove))
def test_a_stream_starts_only_what_it_is_not_doing(move: StreamMove) -> None:
    allowed = {state for state in StreamState if (state, move) in STREAM_TABLE}

    assert len(allowed) == 1


def test_every_stream_activity_leads_back_to_idle() -> None:
    for state in StreamState:
        reached = {state}
        while new := {STREAM_TABLE[s, m] for s, m in product(reached, StreamMove) if (s, m) in STREAM_TABLE} - reached:
            reached |= new

        assert StreamState.IDLE in reached


def test_nothing_leaves_a_closed_server_connection() -> None:
    assert not [key for key in SERVER_TABLE if key[0] is ServerState.CLOSED]


def test_a_client_may_finish_at_any_time() -> None:
    assert {CLIENT_TABLE[state, ClientMove.FINISH] for state in ClientState} == {ClientState.CLOSED}


def test_a_grant_may_come_twice() -> None:
    state = step_remote(CLIENT_TABLE, ClientState.ASKED, ClientMove.GRANTED)

    assert step_remote(CLIENT_TABLE, state, ClientMove.GRANTED) is ClientState.STREAMING


def test_a_move_of_the_peer_that_no_table_holds_names_move_and_state() -> None:
    with pytest.raises(RemoteProtocolError, match="connect while connected") as caught:
        step_remote(SERVER_TABLE, ServerState.CONNECTED, ServerMove.CONNECT, "connect.twice", b"no")

    assert (caught.value.code, caught.value.answer) == ("connect.twice", b"no")


def test_a_move_of_ours_that_no_table_holds_is_our_error() -> None:
    with pytest.raises(LocalProtocolError, match="accept publish while idle"):
        step_local(STREAM_TABLE, StreamState.IDLE, StreamMove.ACCEPT_PUBLISH)
