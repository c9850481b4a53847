"""How a target stands: pushed to, or resting, and what the API says of that beside what the push says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from relay.api import ConfigError, TargetPlan, TrackSet, parse_url

from .branch import Branch
from .options import Wanted


@dataclass(slots=True, eq=False)
class Running:
    """A target that is pushed to."""

    wanted: Wanted
    branch: Branch
    since: float
    claim: bytes
    tracks: TrackSet
    """What its connection began with."""
    warnings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resting:
    """A target that is not."""

    state: str
    reason: str
    detail: str
    since: float


def plan_of(wanted: Wanted, rest: Resting | None = None, *, warnings: Sequence[str] = ()) -> TargetPlan:
    """Say how a target does. Without *rest* it is pushed to, and its state is the push's."""
    rest = rest or Resting("", "", "", 0.0)
    return TargetPlan(
        name=wanted.name,
        destination=display_of(wanted),
        enabled=wanted.enabled,
        state=rest.state,
        reason=rest.reason,
        detail=rest.detail,
        since=rest.since,
        warnings=warnings,
    )


def display_of(wanted: Wanted) -> str:
    """Return where a target goes, without anything secret."""
    try:
        return parse_url(wanted.url()).display
    except ConfigError:
        return ""
