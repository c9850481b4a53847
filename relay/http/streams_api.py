"""`/api/v1/streams`: what every stream is doing, as a copy of this moment; the switch by hand, and the kick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field

from relay.http.problems import Problem
from relay.http.router import Call, Reply, Route, read_body
from relay.http.state import RelayState, StreamView, SwitchView

PREFIX = "/api/v1"

COOLOFF_S, MOST_COOLOFF_S = 60.0, 86_400.0
"""How long who was kicked is kept out: encoders try again at once, for minutes. For more than a day change the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamList:
    """Every stream that is configured or live."""

    streams: Sequence[StreamView]


class SwitchRequest(BaseModel):
    """Which feed to put on air."""

    feed: str = Field(max_length=255)


def stream_routes(state: RelayState) -> list[Route]:
    """Return the routes about streams."""

    def streams(call: Call) -> StreamList:
        return StreamList(streams=state.streams())

    def stream(call: Call) -> StreamView:
        view = state.stream(call.params["stream"])
        if view is None:
            raise Problem(404, "stream.unknown", "No stream of this name is configured or live.")
        return view

    def switch(call: Call) -> SwitchView:
        wanted = read_body(call, SwitchRequest).feed
        name = stream(call).name
        answer = state.switch(name, wanted)
        if answer is None:
            raise Problem(404, "feed.unknown", "No encoder publishes a feed of this name to the stream.")
        return answer

    def kick(call: Call) -> Reply:
        if not state.kick(call.params["stream"], call.params["feed"], _cooloff(call)):
            raise Problem(404, "feed.unknown", "No encoder publishes a feed of this name to the stream.")
        return Reply(status=204)

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
        Route(
            method="POST",
            template=f"{PREFIX}/streams/{{stream}}/switch",
            summary="Put a feed on air: at its next keyframe, or at once when the live one is dead",
            respond=switch,
            returns=SwitchView,
            body=SwitchRequest,
            errors={400: "The body is wrong", 404: "No such stream or feed", 415: "The body is not JSON"},
        ),
        Route(
            method="DELETE",
            template=f"{PREFIX}/streams/{{stream}}/feeds/{{feed}}",
            summary="Kick a publisher, and keep its feed out for ?cooloff_s= seconds (60)",
            respond=kick,
            errors={400: "cooloff_s is no number from 0 to 86400", 404: "No such feed"},
        ),
    ]


def _cooloff(call: Call) -> float:
    text = call.query.get("cooloff_s", str(COOLOFF_S))
    seconds = float(text) if text.replace(".", "", 1).isdecimal() and text.isascii() else -1.0
    if not 0 <= seconds <= MOST_COOLOFF_S:
        raise Problem(400, "query.invalid", f"cooloff_s must be a number of seconds from 0 to {MOST_COOLOFF_S:.0f}.")
    return seconds
