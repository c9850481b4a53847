"""`/api/v1/streams/{stream}/recording`: what is recorded, started and stopped while the stream is live.

Every call says what should be: repeating one changes nothing, and it does not matter whether the stream is live yet.
"""

from __future__ import annotations

from collections.abc import Callable

from relay.context import RecordingControl
from relay.errors import ConfigError
from relay.http.problems import Problem
from relay.http.router import Call, Route
from relay.http.state import RecordingView, RelayState
from relay.http.streams_api import PREFIX
from relay.rtmp.names import is_public_name

RECORDING = f"{PREFIX}/streams/{{stream}}/recording"

_NO_CONTROL = {409: "No plugin records"}


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

    switches: tuple[tuple[str, str, Callable[[RecordingControl], Callable[[str], None]]], ...] = (
        ("start", "Let the stream be recorded; kept until the relay restarts", lambda control: control.begin),
        ("stop", "Let it not be recorded; the file is finished", lambda control: control.end),
    )
    return [
        Route(
            method="GET",
            template=RECORDING,
            summary="The recording of a stream",
            respond=get,
            returns=RecordingView,
            errors=_NO_CONTROL,
        ),
        *(
            Route(
                method="POST",
                template=f"{RECORDING}/{name}",
                summary=summary,
                respond=switch(change),
                returns=RecordingView,
                errors={400: "Not a stream's name, or too many", **_NO_CONTROL},
            )
            for name, summary, change in switches
        ),
    ]


def _name(call: Call) -> str:
    stream = call.params["stream"]
    if not is_public_name(stream):
        raise Problem(400, "stream.invalid", "Not a stream name: A-Z a-z 0-9 _ . - in 1 to 4 segments.")
    return stream


def _not_recorded() -> Problem:
    return Problem(409, "recording.none", "No plugin records; enable [plugins.record].")
