"""`/api/v1/streams/{stream}/recording`: what is recorded, started and stopped while the stream is live.

Every call says what should be: repeating one changes nothing, and it does not matter whether the stream is live yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from relay.context import RecordingControl
from relay.errors import ConfigError
from relay.http.problems import Problem
from relay.http.router import Call, Route
from relay.http.state import RecordingView, RelayState
from relay.http.streams_api import PREFIX
from relay.rtmp.names import is_public_name

RECORDING = f"{PREFIX}/streams/{{stream}}/recording"

Errors = Mapping[int, str]
"""What a route answers when it cannot, by status."""

_NO_CONTROL: Errors = {409: "No plugin records"}
_WRONG: Errors = {400: "Not a stream's name, or too many", **_NO_CONTROL}


def recording_routes(state: RelayState, control: RecordingControl | None) -> list[Route]:
    """Return the routes about recordings."""

    def get(call: Call) -> RecordingView:
        view = state.recording(_name(call))
        if view is None:
            raise _not_recorded()
        return view

    def switch(change: Callable[[RecordingControl], Callable[[str], None]]) -> Callable[[Call], RecordingView]:
        def respond(call: Call) -> RecordingView:
            stream = _name(call)
            if control is None:
                raise _not_recorded()
            try:
                change(control)(stream)
            except ConfigError as error:
                raise Problem(400, "recording.invalid", error.message) from None
            return get(call)

        return respond

    start, stop = switch(lambda control: control.begin), switch(lambda control: control.end)
    return [
        _route("GET", "", "The recording of a stream", get),
        _route("POST", "/start", "Let the stream be recorded; kept until the relay restarts", start, _WRONG),
        _route("POST", "/stop", "Let it not be recorded; the file is finished", stop, _WRONG),
    ]


def _route(
    method: str, below: str, summary: str, respond: Callable[[Call], RecordingView], wrong: Errors = _NO_CONTROL
) -> Route:
    return Route(
        method=method,
        template=RECORDING + below,
        summary=summary,
        respond=respond,
        returns=RecordingView,
        errors=wrong,
    )


def _name(call: Call) -> str:
    stream = call.params["stream"]
    if not is_public_name(stream):
        raise Problem(400, "stream.invalid", "Not a stream name: A-Z a-z 0-9 _ . - in 1 to 4 segments.")
    return stream


def _not_recorded() -> Problem:
    return Problem(409, "recording.none", "No plugin records; enable [plugins.record].")
