"""The targets of one live stream: one sink that keeps every target as it is wanted.

Targets with equal tailoring share a branch, and with it every packet and lane. What is wanted may change at any time
and in any order; each target moves towards it on its own. The rule it guards: no target notices another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from relay.api import (
    Compatibility,
    ConfigError,
    Packet,
    Role,
    Tailor,
    Tailoring,
    TargetPlan,
    TargetStateChanged,
    TargetWarning,
    TrackSet,
    compatibility,
    parse_url,
)

from . import fit
from .branch import Branch, Tools, deferred
from .fit import Finding
from .options import Wanted
from .standing import Resting, Running, plan_of


class StreamTargets:
    """The sink that pushes one live stream to all of its targets."""

    def __init__(
        self, tools: Tools, stream: str, wanted: Iterable[Wanted], *, after: Deferred[None] | None = None
    ) -> None:
        """Create the sink.

        Args:
            tools: what all streams share.
            stream: public name.
            wanted: the targets.
            after: the end of the same stream's previous run; nothing is pushed before it.
        """
        self.stream = stream
        self._tools = tools
        self._wanted = {one.name: one for one in wanted}
        self._running: dict[str, Running] = {}
        self._resting: dict[str, Resting] = {}
        self._leaving: dict[str, Deferred[object]] = {}
        self._branches: dict[tuple[Tailoring, float], Branch] = {}
        self._sending: tuple[Branch, ...] = ()
        self._tracks: TrackSet | None = None
        self._first_tracks: dict[str, TrackSet] = {}
        self._joining_late = False
        self.closed = False
        self.on_closed: Callable[[StreamTargets], None] = lambda _: None
        self._ended: Deferred[object] | None = None
        self._since = tools.context.clock.seconds()
        if after is not None and not after.called:
            self._hold(after)

    def _hold(self, after: Deferred[None]) -> None:
        self._leaving = {name: deferred(after) for name in self._wanted}

        def free(result: object, name: str) -> None:
            self._leaving.pop(name, None)
            self._settle(name)

        for name, left in list(self._leaving.items()):
            left.addBoth(free, name)

    # What is wanted.

    def want(self, name: str, wanted: Wanted | None) -> None:
        """Let this target be so; None: let there be none."""
        if wanted is None:
            self._wanted.pop(name, None)
        else:
            self._wanted[name] = wanted
        self._settle(name)

    def retry(self) -> None:
        """An address with its key is free again: somebody may wait for it."""
        for name, rest in list(self._resting.items()):
            if rest.reason == "duplicate":
                self._settle(name)

    def dump(self, name: str) -> None:
        """Throw away what waits in the delay of this target and of those that share it."""
        running = self._running.get(name)
        if running is not None and running.branch.delay is not None:
            gone = running.branch.delay.dump()
            self._tools.context.log.warn(
                "dumped {count} packets of the delay of {target} of stream {stream}",
                count=gone,
                target=name,
                stream=self.stream,
            )

    def plan(self, wanted: Wanted) -> TargetPlan:
        """Say how a target of this stream does, beside what its push says."""
        running = self._running.get(wanted.name)
        if running is not None:
            return plan_of(wanted, _filling(running), warnings=tuple(running.warnings.values()))
        return plan_of(wanted, self._resting.get(wanted.name, Resting("waiting", "", "", self._since)))

    # The sink.

    def configure(self, tracks: TrackSet) -> None:
        """Take new tracks: who cannot take them leaves, who can now joins."""
        first = self._tracks is None
        self._tracks = tracks
        for name in list(self._running):
            self._settle(name)
        for branch in self._sending:
            self._guard(branch, branch.configure, tracks)
        for name in list(self._wanted):
            self._settle(name)
        if first:
            for branch in self._sending:
                self._guard(branch, branch.configure, tracks)
        for branch in self._sending:
            self._look(branch)
        self._joining_late = True

    def write(self, packet: Packet) -> None:
        """Give the packet to every branch."""
        if packet.role is Role.METADATA and self._tracks is not None:
            self._tracks = _with_metadata(self._tracks, packet)
        for branch in self._sending:
            try:
                news = branch.write(packet)
            except Exception:
                self._broken(branch, Failure())
            else:
                if news:
                    self._look(branch)

    def stream_ending(self, reason: str, /) -> None:
        """Hand the reason of the end on to every push."""
        for branch in self._sending:
            branch.push.stream_ending(reason)

    def close(self) -> Deferred[None]:
        """Close every push; delayed ones when what waits is out. Fires when all are gone."""
        if self._ended is None:
            self.closed = True
            closing = [branch.close() for branch in self._sending]
            closing += [one for one in self._leaving.values() if not one.called]
            self._ended = DeferredList([_copy(one) for one in closing]).addCallback(self._release_claims)
        return _copy(self._ended)

    def cut(self) -> None:
        """The stream is on again: let no delayed end of its last run go out."""
        for branch in self._sending:
            branch.cut()

    def _release_claims(self, result: object) -> None:
        running, self._running = self._running, {}
        for one in running.values():
            self._tools.free(one.claim)
        self.on_closed(self)

    # Each target.

    def _settle(self, name: str) -> None:
        """Move one target towards what is wanted."""
        if self.closed:
            return
        if name in self._leaving:
            self._note_leaving(name)
            return
        wanted, running = self._wanted.get(name), self._running.get(name)
        refused = None if wanted is None or not wanted.enabled else self._refusal(wanted)
        if running is not None:
            if wanted is None or not wanted.enabled or refused or not wanted.pushes_like(running.wanted):
                self._leave(name, running)
                return
            if wanted.options.new_format == "reconnect" and self._other_format(running.tracks, wanted):
                self._leave(name, running)
                return
            running.wanted = wanted
        elif wanted is None:
            self._resting.pop(name, None)
            self._first_tracks.pop(name, None)
        elif not wanted.enabled:
            self._rest(name, "stopped", f"by-{wanted.by}", "")
        elif refused is not None:
            self._rest(name, "refused", "fit", refused)
        elif self._tracks is not None:
            self._join(wanted)

    def _refusal(self, wanted: Wanted) -> str | None:
        if self._tracks is None:
            return None
        tracks = self._tracks_for(wanted)
        texts = [finding.text for finding in fit.of_tracks(wanted, tracks) if finding.refuses]
        first = self._first_tracks.get(wanted.name)
        if wanted.options.new_format == "refuse" and first is not None and self._other_format(first, wanted):
            texts.append("the stream has another format than it began with (new_format)")
        return "; ".join(texts) or None

    def _tracks_for(self, wanted: Wanted) -> TrackSet:
        return Tailor(wanted.tailoring).configure(self._tracks or TrackSet())

    def _other_format(self, before: TrackSet, wanted: Wanted) -> bool:
        """Whether what a target gets now is of another codec, picture size, sampling rate or set of tracks."""
        return compatibility(before, self._tracks_for(wanted)) is Compatibility.CLASS

    def _join(self, wanted: Wanted) -> None:
        name = wanted.name
        try:
            target = self._tools.target_for(wanted)
        except ConfigError as error:
            self._rest(name, "refused", "address", error.message)
            return
        claim = parse_url(target.url).tc_url.digest() + target.key.digest()
        taken = self._tools.taken.setdefault(claim, (self.stream, name))
        if taken != (self.stream, name):
            text = f"target {taken[1]} of stream {taken[0]} pushes to the same address with the same key"
            self._rest(name, "refused", "duplicate", text)
            return
        branch = self._branch_for(wanted)
        branch.names.add(name)
        self._resting.pop(name, None)
        tracks = self._tracks_for(wanted)
        self._first_tracks.setdefault(name, tracks)
        self._running[name] = Running(wanted, branch, self._tools.context.clock.seconds(), claim, tracks)
        branch.push.add(target)
        if self._joining_late:
            self._look(branch)

    def _branch_for(self, wanted: Wanted) -> Branch:
        key = (wanted.tailoring, wanted.options.delay_s)
        branch = self._branches.get(key)
        if branch is None:
            branch = self._branches[key] = Branch(self._tools, self.stream, wanted, self._broken)
            self._sending = tuple(self._branches.values())
            if self._joining_late and self._tracks is not None:
                branch.configure(self._tracks)
                if branch.delay is not None:
                    branch.delay.skip_to_keyframe()
        return branch

    def _leave(self, name: str, running: Running) -> None:
        """Stop pushing to a target, and see what is wanted when it is gone: a platform takes one connection per key."""
        del self._running[name]
        branch = running.branch
        branch.names.discard(name)
        leaving = deferred(branch.push.remove(name))
        if not branch.names:
            self._branches = {key: other for key, other in self._branches.items() if other is not branch}
            self._sending = tuple(self._branches.values())
            branch.cut()
            branch.close()
        self._leaving[name] = leaving
        self._note_leaving(name)
        leaving.addBoth(self._left, name, running)

    def _note_leaving(self, name: str) -> None:
        """Say what comes after the connection that is being closed."""
        wanted = self._wanted.get(name)
        if wanted is None:
            self._resting.pop(name, None)
        elif wanted.enabled:
            self._resting[name] = self._resting_now("waiting", "changing", "the old connection is being closed")
        else:
            self._rest(name, "stopped", f"by-{wanted.by}", "")

    def _left(self, result: object, name: str, running: Running) -> None:
        self._leaving.pop(name, None)
        self._tools.free(running.claim)
        self._settle(name)

    def _rest(self, name: str, state: str, reason: str, detail: str) -> None:
        before = self._resting.get(name)
        if before is not None and (before.state, before.reason, before.detail) == (state, reason, detail):
            return
        self._resting[name] = self._resting_now(state, reason, detail)
        context = self._tools.context
        context.emit(TargetStateChanged(stream=self.stream, target=name, state=state, reason=reason, detail=detail))
        (context.log.warn if state == "refused" else context.log.info)(
            "target {target} of stream {stream} is {state}{why}",
            target=name,
            stream=self.stream,
            state=state,
            reason=reason,
            why=f": {detail}" if detail else "",
        )

    def _resting_now(self, state: str, reason: str, detail: str) -> Resting:
        return Resting(state, reason, detail, self._tools.context.clock.seconds())

    # What they may not like.

    def _look(self, branch: Branch) -> None:
        """Compare what a branch's targets get with what their platforms take; say what is new."""
        now = self._tools.context.clock.seconds()
        for name in sorted(branch.names):
            running = self._running[name]
            findings = fit.of_tracks(running.wanted, branch.tracks)
            if branch.meter.figures is not None:
                findings += fit.of_figures(running.wanted, branch.meter.figures)
            findings += fit.of_session(running.wanted, (now - running.since) / 3600)
            self._tell(name, running, findings)

    def _tell(self, name: str, running: Running, findings: Sequence[Finding]) -> None:
        before, running.warnings = running.warnings, {finding.code: finding.text for finding in findings}
        for code, text in running.warnings.items():
            if code in before:
                continue
            self._tools.context.emit(TargetWarning(stream=self.stream, target=name, code=code, detail=text))
            self._tools.context.log.warn(
                "target {target} of stream {stream}: {text}", target=name, stream=self.stream, text=text, code=code
            )

    # What goes wrong here.

    def _guard(self, branch: Branch, call: Callable[[TrackSet], None], tracks: TrackSet) -> None:
        try:
            call(tracks)
        except Exception:
            self._broken(branch, Failure())

    def _broken(self, branch: Branch, failure: Failure) -> None:
        """One branch raised: its targets stop, the others go on."""
        self._tools.context.log.failure(
            "pushing stream {stream} to {targets} failed",
            failure,
            stream=self.stream,
            targets=", ".join(sorted(branch.names)),
        )
        self._branches = {key: other for key, other in self._branches.items() if other is not branch}
        self._sending = tuple(self._branches.values())
        for name in sorted(branch.names):
            running = self._running.pop(name)
            self._tools.free(running.claim)
            self._rest(name, "stopped", "error", "an error in the relay; start it again")
        branch.names.clear()
        branch.cut()
        deferred(branch.push.close()).addErrback(lambda failure: None)


def _filling(running: Running) -> Resting | None:
    """What to say of a target whose delay has let nothing out yet."""
    if running.branch.delay is None or not running.branch.delay.filling:
        return None
    detail = f"the programme goes out {running.wanted.options.delay_s:g} s later"
    return Resting("waiting", "delay", detail, running.since)


def _with_metadata(tracks: TrackSet, metadata: Packet) -> TrackSet:
    return TrackSet(tracks.tracks, metadata, tracks.generation)


def _copy(waited: Deferred[object]) -> Deferred[None]:
    """Return a Deferred that fires when *waited* does and leaves it alone."""
    copy: Deferred[None] = Deferred()

    def fired(result: object) -> object:
        copy.callback(None)
        return None if isinstance(result, Failure) else result

    waited.addBoth(fired)
    return copy
