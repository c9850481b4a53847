"""`/api/v1/streams/{stream}/targets`: where a stream is pushed to, changed while it is live.

Every call says what should be: repeating one changes nothing, and it does not matter whether the stream is live yet.
The rule it guards: a key comes in and never goes out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


def target_routes(state: RelayState, control: TargetControl | None) -> list[Route]:
    """Return the routes about targets. Without a plugin that controls them they can only be looked at."""

    def listed(stream: str) -> Sequence[TargetView]:
        view = state.stream(stream)
        return () if view is None else view.targets

    def found(call: Call) -> TargetView:
        name = call.params["target"]
        for view in listed(call.params["stream"]):
            if view.name == name:
                return view
        raise _unknown()

    def targets(call: Call) -> TargetList:
        if state.stream(call.params["stream"]) is None:
            raise Problem(404, "stream.unknown", "No stream of this name is configured or live.")
        return TargetList(targets=listed(call.params["stream"]))

    async def put(call: Call) -> TargetView:
        control = controlled()
        stream, name = _names(call)
        options = read_body(call, control.options)
        try:
            await control.put(stream, name, options)
        except ConfigError as error:
            raise Problem(400, "target.invalid", error.message if not error.path else str(error)) from None
        return found(call)

    def delete(call: Call) -> Reply:
        controlled().delete(*_names(call))
        return Reply(status=204)

    def command(run: Callable[[TargetControl], Callable[[str, str], bool]]) -> Callable[[Call], TargetView]:
        def respond(call: Call) -> TargetView:
            if not run(controlled())(*_names(call)):
                raise _unknown()
            return found(call)

        return respond

    def controlled() -> TargetControl:
        if control is None:
            raise Problem(409, "targets.fixed", "No plugin controls targets; enable [plugins.restream].")
        return control

    body = None if control is None else control.options
    unknown = {404: "No such target", 409: "No plugin controls targets"}
    wrong = {400: "What is wrong with the target", 409: "No plugin controls targets", 415: "Not JSON"}
    commands = {
        "start": ("Let a target run", lambda control: control.start),
        "stop": ("Let a target stand still", lambda control: control.stop),
        "dump": ("Throw away what waits in a target's delay", lambda control: control.dump),
    }
    return [
        Route(
            method="GET",
            template=TARGETS,
            summary="Every target of a stream",
            respond=targets,
            returns=TargetList,
            errors={404: "No such stream"},
        ),
        Route(
            method="GET",
            template=TARGET,
            summary="One target",
            respond=found,
            returns=TargetView,
            errors={404: "No such target"},
        ),
        Route(
            method="PUT",
            template=TARGET,
            summary="Let there be this target; kept until the relay restarts",
            respond=put,
            returns=TargetView,
            body=body,
            errors=wrong,
        ),
        Route(
            method="DELETE",
            template=TARGET,
            summary="Let there be no such target",
            respond=delete,
            errors={409: "No plugin controls targets"},
        ),
        *(
            Route(
                method="POST",
                template=f"{TARGET}/{name}",
                summary=summary,
                respond=command(run),
                returns=TargetView,
                errors=unknown,
            )
            for name, (summary, run) in commands.items()
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
