"""`/healthz`: the process runs and its loop turns. `/readyz`: it can take encoders.

An orchestrator restarts on the first and stops sending traffic on the second, so the two must not be mixed up: a
listener that failed is no reason to kill a process that relays live programmes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from relay.http.router import Call, Reply, Route
from relay.http.state import LagView, ListenerView, RelayState


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """The process answers; *loop_lag* says how promptly."""

    status: str
    loop_lag: LagView


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyView:
    """Whether encoders can connect, listener by listener."""

    ready: bool
    listeners: Sequence[ListenerView]


def health_routes(state: RelayState) -> list[Route]:
    """Return `/healthz` (open to everybody) and `/readyz`."""
    ready_view: TypeAdapter[ReadyView] = TypeAdapter(ReadyView)

    def healthz(call: Call) -> HealthView:
        return HealthView(status="ok", loop_lag=state.lag())

    def readyz(call: Call) -> Reply:
        view = ReadyView(ready=state.ready, listeners=state.listeners())
        return Reply(status=200 if view.ready else 503, body=ready_view.dump_json(view))

    return [
        Route(
            method="GET",
            template="/healthz",
            summary="The process is alive",
            respond=healthz,
            returns=HealthView,
            public=True,
        ),
        Route(
            method="GET",
            template="/readyz",
            summary="Every listener is up",
            respond=readyz,
            returns=ReadyView,
            errors={503: "A listener is not up; the body says which"},
        ),
    ]
