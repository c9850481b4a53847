"""What a check of a destination is told, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.net.addresses import AddressPolicy
from relay.net.endpoints import RtmpUrl
from relay.net.trust import SYSTEM, Trust
from relay.net.verdicts import VERDICTS
from relay.net.way import PushPlace
from relay.rtmp.auth import Credentials
from relay.secret import Secret

STEP_S = 10.0
"""The most a step may take, unless the operator says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckPlan:
    """What to check.

    Attributes:
        key: None to stop before the publish.
        title: what to call the destination.
        test_query: appended to the key, so that the platform tests and does not broadcast.
        login: for servers that ask who we are.
        redirects: which addresses a server may have that another one sends us to.
        mbps: the programme's rate; *destinations* times that is sent.
        seconds: of upload.
        step_s: the most any step before that may take.
    """

    url: RtmpUrl
    key: Secret | None
    title: str = ""
    test_query: str = ""
    login: Credentials | None = None
    trust: Trust = SYSTEM
    redirects: AddressPolicy = field(default_factory=AddressPolicy)
    mbps: float = 6.0
    destinations: int = 1
    seconds: float = 10.0
    step_s: float = STEP_S

    @property
    def name(self) -> Secret:
        """What to publish as."""
        key = "" if self.key is None else self.key.reveal()
        if not self.test_query:
            return Secret(key)
        return Secret(f"{key}{'&' if '?' in key else '?'}{self.test_query}")

    @property
    def place(self) -> PushPlace:
        """The same as a target."""
        return PushPlace(
            url=self.url,
            key=self.name,
            login=self.login,
            trust=self.trust,
            redirects=self.redirects,
        )


@dataclass(slots=True, kw_only=True)
class Report:
    """What a check came to: a code of `verdicts.VERDICTS`, its sentences, and the figures."""

    code: str
    says: str
    do: str
    steps: dict[str, float] = field(default_factory=dict)
    """Milliseconds that each step took."""
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether the show may go on."""
        return VERDICTS[self.code].good


def facts_of(report: Report) -> Mapping[str, object]:
    """Return a report as JSON has it."""
    figures = {name: round(value, 2) for name, value in report.figures.items()}
    return {
        "good": report.good,
        "code": report.code,
        "verdict": report.says,
        "do": report.do,
        "steps_ms": report.steps,
        "figures": figures,
    }
