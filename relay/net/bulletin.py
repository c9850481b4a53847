"""What is said of one target: the event of each change, and the log line that a person reads.

The rule it guards (reliability.md case 160): a trouble is a warning once. A retry that ends as the one before it did is
logged all the same, at info, with how many there were. Events and what the API shows repeat everything, truthfully.
Nothing that is said shows a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum

from twisted.logger import Logger

from relay.errors import DestinationError
from relay.events import Event, TargetDeliveryChanged, TargetStateChanged
from relay.log import clean_line
from relay.net.delivery import Delivery
from relay.net.endpoints import RtmpUrl
from relay.net.way import PushPlace
from relay.secret import Redactor, redact_urls

MAX_DETAIL = 300
"""Characters of what a destination said that a person wants to read."""

LASTED_S = 20.0
"""After a session of this length a trouble is a new one. A wrong key may be accepted for some seconds, and who takes
nothing is left after ten: such a session was no end of a trouble."""

_SECONDS = re.compile(r"\d+(\.\d+)? s\b")
"""What differs between two reports of the same trouble."""


class TargetState(Enum):
    """Where a target is (design: the contract, target states)."""

    WAITING = "waiting"
    CONNECTING = "connecting"
    LIVE = "live"
    BACKING_OFF = "backing-off"
    REFUSED = "refused"
    STOPPED = "stopped"


class Bulletin:
    """Says what becomes of one target."""

    log = Logger(namespace="relay.push")

    def __init__(self, emit: Callable[[Event], None], *, stream: str, target: str, place: PushPlace) -> None:
        self._emit = emit
        self._stream = stream
        self._target = target
        self._place = place
        self._known: dict[tuple[int, bool], tuple[TargetState, str, str]] = {}

    def changed(
        self, state: TargetState, reason: str, detail: str, url: RtmpUrl, *, address: int, attempt: int
    ) -> None:
        """Tell of a state; *address* is the number of the one that is tried or used, *attempt* counts from 1."""
        self._emit(
            TargetStateChanged(
                stream=self._stream, target=self._target, state=state.value, reason=reason, detail=detail
            )
        )
        ended = state is TargetState.STOPPED
        again = not ended and reason != "" and self._is_known(state, reason, detail, address)
        log = self.log.info if ended or again or not reason else self.log.warn
        log(
            "the push to target {target} of stream {stream} has ended; destination {destination}"
            if ended
            else "target {target} of stream {stream} is {state}{why}; destination {destination}",
            target=self._target,
            stream=self._stream,
            destination=url.display,
            state=state.value,
            reason=reason,
            attempt=attempt,
            why=(f": {reason}, {detail}" if detail else "") + (f" (as before, attempt {attempt})" if again else ""),
        )

    def _is_known(self, state: TargetState, reason: str, detail: str, address: int) -> bool:
        """Return whether this is what the address did the last time; remember it."""
        place = (address, state is TargetState.LIVE)
        said = (state, reason, _SECONDS.sub("", detail))
        known = self._known.get(place) == said
        self._known[place] = said
        return known

    def lived(self, seconds: float) -> None:
        """A session is over: what comes after a good one is new."""
        if seconds >= LASTED_S:
            self._known.clear()

    def delivers(self, delivery: Delivery) -> None:
        """Tell how far delivery is known."""
        if not delivery.word:
            return
        said = delivery.confirmation
        detail, by = ("", "") if said is None else (said.detail, said.plugin)
        self._emit(
            TargetDeliveryChanged(
                stream=self._stream, target=self._target, delivery=delivery.word, detail=detail, by=by
            )
        )

    def stays(self, error: DestinationError, detail: str) -> None:
        """Tell that the destination asked us to reconnect and that this failed."""
        self.log.warn(
            "target {target} of stream {stream} was asked to reconnect and stays: {reason}, {detail}",
            target=self._target,
            stream=self._stream,
            reason=error.reason,
            detail=detail,
        )

    def safe(self, detail: str, url: RtmpUrl) -> str:
        """Return what may be shown of *detail*: a server may repeat the key. Cut last, or half a key would stay.

        *url* is where it was said, which may be where the destination sent us.
        """
        place = self._place
        urls = [place.url, url] if place.backup is None else [place.url, place.backup, url]
        secrets = [place.key, *(secret for one in urls for secret in one.secrets)]
        secrets += [] if place.login is None else [place.login.password]
        return clean_line(redact_urls(Redactor(secrets).redact(detail)))[:MAX_DETAIL]
