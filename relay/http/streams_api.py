"""`GET /api/v1/streams` and `/api/v1/streams/{stream}`: what every stream is doing, as a copy of this moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.http.problems import Problem
from relay.http.router import Call, Route
from relay.http.state import RelayState, StreamView

PREFIX = "/api/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamList:
    """Every stream that is configured or live."""

    streams: Sequence[StreamView]


def stream_routes(state: RelayState) -> list[Route]:
    """Return the routes about streams."""

    def streams(call: Call) -> StreamList:
        return StreamList(streams=state.streams())

    def stream(call: Call) -> StreamView:
        view = state.stream(call.params["stream"])
        if view is None:
            raise Problem(404, "stream.unknown", "No stream of this name is configured or live.")
        return view

    return [
        Route(method="GET", template=f"{PREFIX}/streams", summary="All streams", respond=streams, returns=StreamList),
        Route(
            method="GET",
            template=f"{PREFIX}/streams/{{stream}}",
            summary="One stream: state, feeds with health, tracks, sinks, targets, players",
            respond=stream,
            returns=StreamView,
            errors={404: "No such stream"},
        ),
    ]
