"""`/api/v1/streams/{stream}/targets`: where a stream is pushed to, changed while it is live.

Every call says what should be: repeating one changes nothing, and it does not matter whether the stream is live yet.
The rule it guards: a key comes in and never goes out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from relay.context import TargetControl
from relay.errors import ConfigError
from relay.http.problems import Problem
from relay.http.router import Call, Reply, Route, read_body
from relay.http.state import RelayState, TargetView
from relay.http.streams_api import PREFIX
from relay.rtmp.names import is_public_name

TARGETS = f"{PREFIX}/streams/{{stream}}/targets"
TARGET = f"{TARGETS}/{{target}}"

MAX_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetList:
    """Every target of one stream."""

    targets: Sequence[TargetView]


Switch = Callable[[TargetControl], Callable[[str, str], bool]]

SWITCHES: tuple[tuple[str, str, Switch], ...] = (
    ("start", "Let a target run", lambda control: control.start),
    ("stop", "Let a target stand still", lambda control: control.stop),
    ("dump", "Throw away what waits in a target's delay", lambda control: control.dump),
)

_NO_CONTROL = {409: "No plugin controls targets"}


class TargetCalls:
    """Answers the calls. Without a plugin that controls targets they can only be looked at."""

    def __init__(self, state: RelayState, control: TargetControl | None) -> None:
        self._state = state
        self._control = control

    def list(self, call: Call) -> TargetList:
        """Every target of a stream."""
        view = self._state.stream(call.params["stream"])
        if view is None:
            raise Problem(404, "stream.unknown", "No stream of this name is configured or live.")
        return TargetList(targets=view.targets)

    def get(self, call: Call) -> TargetView:
        """One target."""
        view = self._state.stream(call.params["stream"])
        for target in () if view is None else view.targets:
            if target.name == call.params["target"]:
                return target
        raise _unknown()

    async def put(self, call: Call) -> TargetView:
        """Let there be a target."""
        control = self._controlled()
        stream, name = _names(call)
        options = read_body(call, control.options)
        try:
            await control.put(stream, name, options)
        except ConfigError as error:
            raise Problem(400, "target.invalid", error.message if not error.path else str(error)) from None
        return self.get(call)

    def delete(self, call: Call) -> Reply:
        """Let there be no such target."""
        self._controlled().delete(*_names(call))
        return Reply(status=204)

    def switch(self, switch: Switch) -> Callable[[Call], TargetView]:
        """Return what answers one of `SWITCHES`."""

        def respond(call: Call) -> TargetView:
            if not switch(self._controlled())(*_names(call)):
                raise _unknown()
            return self.get(call)

        return respond

    def _controlled(self) -> TargetControl:
        if self._control is None:
            raise Problem(409, "targets.fixed", "No plugin controls targets; enable [plugins.restream].")
        return self._control


def target_routes(state: RelayState, control: TargetControl | None) -> list[Route]:
    """Return the routes about targets."""
    calls = TargetCalls(state, control)
    one = partial(Route, template=TARGET, returns=TargetView)
    return [
        Route(
            method="GET",
            template=TARGETS,
            summary="Every target of a stream",
            respond=calls.list,
            returns=TargetList,
            errors={404: "No such stream"},
        ),
        one(method="GET", summary="One target", respond=calls.get, errors={404: "No such target"}),
        one(
            method="PUT",
            summary="Let there be this target; kept until the relay restarts",
            respond=calls.put,
            body=None if control is None else control.options,
            errors={400: "What is wrong with the target", 415: "Not JSON", **_NO_CONTROL},
        ),
        Route(
            method="DELETE",
            template=TARGET,
            summary="Let there be no such target",
            respond=calls.delete,
            errors=_NO_CONTROL,
        ),
        *(
            Route(
                method="POST",
                template=f"{TARGET}/{name}",
                summary=summary,
                respond=calls.switch(switch),
                returns=TargetView,
                errors={404: "No such target", **_NO_CONTROL},
            )
            for name, summary, switch in SWITCHES
        ),
    ]


def _names(call: Call) -> tuple[str, str]:
    stream, name = call.params["stream"], call.params["target"]
    if not is_public_name(stream):
        raise Problem(400, "stream.invalid", "Not a stream name: A-Z a-z 0-9 _ . - in 1 to 4 segments.")
    if not is_public_name(name) or "/" in name or len(name) > MAX_NAME:
        raise Problem(400, "target.invalid", f"Not a target name: A-Z a-z 0-9 _ . - up to {MAX_NAME} characters.")
    return stream, name


def _unknown() -> Problem:
    return Problem(404, "target.unknown", "No target of this name.")
