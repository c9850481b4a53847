"""What stands between a storm of encoders and the service: remembered refusals, a circuit breaker, fewer log lines.

Arithmetic only: the caller gives `now`. The rule it guards: nothing here lets anybody in who is not in already.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from relay.api import Deny

REFUSED_S = 5.0
"""A refusal is remembered so long: an encoder with a wrong key tries again every second or two (reliability.md case
153). A yes is never remembered: the service may take it back at any moment."""
MAX_REFUSALS = 1_000
"""Refusals remembered, the oldest forgotten first: 300 KB."""


class Refusals:
    """Answers the same question with the same no for `REFUSED_S`."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[Deny, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, question: bytes, now: float) -> Deny | None:
        """Return the refusal that *question* got a moment ago."""
        found = self._known.get(question)
        return found[0] if found is not None and now < found[1] else None

    def add(self, question: bytes, refusal: Deny, now: float) -> None:
        """Remember a refusal."""
        self._known.pop(question, None)
        self._known[question] = (refusal, now + REFUSED_S)
        if len(self._known) > MAX_REFUSALS:
            self._known.popitem(last=False)


WATCHING_S = 60.0
"""A viewer of HLS is asked about again and again while they watch: every ten seconds by the shipped plugin."""
MAX_WATCHING = 20_000
"""Viewers remembered, the one who was not seen for longest forgotten first: 4 MB."""


class Watching:
    """Viewers of HLS whom the service let in and who have watched since: a stream that is on air, in many requests."""

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def seen(self, viewer: bytes, now: float) -> None:
        """The viewer may watch, and does."""
        self._until.pop(viewer, None)
        self._until[viewer] = now + WATCHING_S
        if len(self._until) > MAX_WATCHING:
            self._until.popitem(last=False)

    def goes_on(self, viewer: bytes, now: float) -> bool:
        """Whether this is somebody who watches already."""
        return now < self._until.get(viewer, now)

    def refused(self, viewer: bytes) -> None:
        """The service said no."""
        self._until.pop(viewer, None)


FAULTS_TO_OPEN = 5
"""Questions in a row that got no answer: one lost packet is no reason to refuse everybody."""
OPEN_S = 5.0
"""So long nobody is asked. An encoder that tries again after 5 to 10 s finds the service that has come back."""


class Breaker:
    """Stops asking a service that does not answer, and lets one question through from time to time to see."""

    def __init__(self) -> None:
        self._faults = 0
        self._open_until = 0.0
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether the service counts as gone."""
        return self._faults >= FAULTS_TO_OPEN

    def admits(self, now: float) -> bool:
        """Whether a question may be asked now."""
        return not self.is_open or (now >= self._open_until and not self._trying)

    def asking(self) -> None:
        """A question that was admitted goes out."""
        self._trying = self.is_open

    def answered(self) -> None:
        """The service answered."""
        self._faults = 0
        self._trying = False

    def failed(self, now: float) -> None:
        """The service did not answer."""
        self._faults += 1
        self._trying = False
        if self.is_open:
            self._open_until = now + OPEN_S

    def dropped(self) -> None:
        """Whoever wanted to know has left; nothing was learned."""
        self._trying = False


AGAIN_S = 60.0
"""A fault that lasts is repeated in the log so often."""


class Notice:
    """Turns many faults into few lines: the first, one a minute with how many there were, and the end."""

    def __init__(self, bad: Callable[[str, int], None], good: Callable[[int], None]) -> None:
        self._bad = bad
        self._good = good
        self._said_at: float | None = None
        self._count = 0
        self._unsaid = 0

    def fault(self, reason: str, now: float, count: int = 1) -> None:
        """Something failed, *count* times."""
        self._count += count
        self._unsaid += count
        if self._said_at is None or now - self._said_at >= AGAIN_S:
            self._said_at = now
            self._bad(reason, self._unsaid)
            self._unsaid = 0

    def success(self) -> None:
        """It works, perhaps again."""
        if self._said_at is not None:
            self._good(self._count)
        self._said_at = None
        self._count = self._unsaid = 0
