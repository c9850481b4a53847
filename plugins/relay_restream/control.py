"""Every target of every stream as it should be, and the API's calls that change it.

Changes through the API are kept in memory: after a restart the configuration file holds again. The rule it guards:
what is wanted is one thing, what is is another; calls change the first and answer at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred, TimeoutError

from relay.api import (
    TEMPLATE,
    AddressPolicy,
    ConfigError,
    ConfigModel,
    Context,
    PushTarget,
    TargetPlan,
    TargetStateChanged,
    parse_url,
)

from .branch import Tools
from .ingests import IngestLists
from .live import StreamTargets
from .options import ApiTarget, Target, TargetOptions, Targets, Wanted, clash
from .standing import Resting, plan_of

MAX_TARGETS = 10_000
"""Targets in all, beyond which the API adds none: a memory bound. A configuration file holds half as many."""

RESOLVE_S = 5.0
"""How long a caller waits for DNS (reliability.md case 155); what is not known then is checked when connecting."""


class TargetBook:
    """The targets of all streams. Answers the API (`relay.api.TargetControl`)."""

    def __init__(
        self,
        context: Context[Targets],
        *,
        merge_ms: int,
        networks: Sequence[IPv4Network | IPv6Network],
        ingests: IngestLists,
        directory: Path | None,
    ) -> None:
        self._context = context
        self._networks = tuple(networks)
        self._ingests = ingests
        self._tools = Tools(
            context=context,
            merge_ms=merge_ms,
            target_for=self._push_target,
            directory=directory,
            on_freed=self._freed,
        )
        self._wanted: dict[str, dict[str, Wanted]] = {}
        self._wanted = {stream: dict(self._of(stream)) for stream in context.configured_streams if stream != TEMPLATE}
        self._warn_of_doubles()
        self._live: dict[str, StreamTargets] = {}
        self._started = context.clock.seconds()
        self._ended: dict[str, float] = {}
        self._changed: dict[tuple[str, str], float] = {}
        # Once the reactor runs: the lists are here before the first stream is.
        context.clock.callLater(0, self._ask_for_lists)

    def _ask_for_lists(self) -> None:
        for targets in self._wanted.values():
            for wanted in targets.values():
                self._ask_for_list(wanted)

    def _ask_for_list(self, wanted: Wanted) -> None:
        if wanted.options.url is None and wanted.preset.ingests is not None:
            self._ingests.refresh(wanted.preset)

    def _warn_of_doubles(self) -> None:
        """Say which targets of the file go to one place: only the first that is live is pushed to."""
        first: dict[tuple[str, bytes], str] = {}
        for stream, targets in self._wanted.items():
            for name, wanted in targets.items():
                here = f"{stream}/{name}"
                known = first.setdefault((wanted.url(), wanted.options.key.secret.digest()), here)
                if known != here:
                    self._context.log.warn(
                        "targets {first} and {second} have the same address and key; a platform takes one programme "
                        "per key, so only one of them is pushed to at a time",
                        first=known,
                        second=here,
                    )

    # Streams.

    def open(self, stream: str) -> StreamTargets:
        """Return the sink of a stream that starts."""
        last = self._live.get(stream)
        after = None
        if last is not None:
            last.cut()
            after = last.close()
        live = StreamTargets(self._tools, stream, self._of(stream).values(), after=after)
        self._live[stream] = live
        live.on_closed = self._closed
        return live

    def _closed(self, live: StreamTargets) -> None:
        if self._live.get(live.stream) is live:
            del self._live[live.stream]
            if live.stream in self._wanted:
                self._ended[live.stream] = self._context.clock.seconds()
            self._tell_waiting(live.stream)

    def _tell_waiting(self, stream: str) -> None:
        """Say what the API says from now on: the pushes have gone with the stream, the targets stay and wait for it."""
        for wanted in self._of(stream).values():
            rest = _waiting(wanted, 0.0)
            if wanted.enabled:
                self._context.emit(
                    TargetStateChanged(
                        stream=stream, target=wanted.name, state=rest.state, reason=rest.reason, detail=rest.detail
                    )
                )

    def _freed(self) -> None:
        for live in list(self._live.values()):
            live.retry()

    def _of(self, stream: str) -> Mapping[str, Wanted]:
        """Return the targets of *stream*: its own, or the template's."""
        own = self._wanted.get(stream)
        if own is not None:
            return own
        return {
            name: Wanted(name=name, options=target, trusted=True) for name, target in self._configured(stream).items()
        }

    def _configured(self, stream: str) -> Mapping[str, Target]:
        """Return what the configuration file says of *stream*."""
        found = self._context.stream_config(stream)
        return {} if found is None else found.by_name

    def _push_target(self, wanted: Wanted) -> PushTarget:
        nearest = self._ingests.nearest(wanted.preset)
        url = wanted.url(nearest)
        checked = not wanted.trusted or (wanted.options.url is None and nearest is not None)
        return PushTarget(
            name=wanted.name,
            url=url,
            key=wanted.options.key.secret,
            user=wanted.options.user or "",
            password=None if wanted.options.password is None else wanted.options.password.secret,
            ca_file=wanted.ca_file,
            crl_file=wanted.crl_file,
            fingerprint=wanted.fingerprint,
            allow_networks=self._networks if checked else None,
            redirect_networks=self._networks,
            announce_enhanced=wanted.options.enhanced_rtmp == "keep",
            retry_s=wanted.preset.retry_s,
            backup_url=wanted.options.backup,
            backup_mode=wanted.options.backup_mode or "failover",
            close=wanted.close,
            close_on_fault=wanted.close_on_fault,
        )

    # The API.

    @property
    def options(self) -> type[ConfigModel]:
        """What `put` takes."""
        return ApiTarget

    def streams(self) -> Iterable[str]:
        """The streams that have targets of their own."""
        return [stream for stream, targets in self._wanted.items() if targets]

    def targets(self, stream: str) -> Sequence[TargetPlan]:
        """Every target of *stream*."""
        live = self._live.get(stream)
        wanted = self._of(stream).values()
        if live is not None and not live.closed:
            return [live.plan(one) for one in wanted]
        ended = self._ended.get(stream, self._started)
        return [_waiting(one, max(ended, self._changed.get((stream, one.name), ended))) for one in wanted]

    async def put(self, stream: str, name: str, options: ConfigModel) -> None:
        """Let there be this target."""
        if not isinstance(options, TargetOptions):
            raise ConfigError("", "not the options of a target")
        trusted = self._is_known(stream, name, options)
        if not trusted:
            for url in filter(None, (options.url, options.backup_url)):
                await self._check_address(url)
        options.key.hide()
        if options.password is not None:
            options.password.hide()
        known = self._of(stream)
        if name not in known and sum(map(len, self._wanted.values())) >= MAX_TARGETS:
            raise ConfigError("", f"there are {MAX_TARGETS} targets already")
        if clash({**{one.name: one.options for one in known.values()}, name: options}) is not None:
            raise ConfigError("", "the push to a second address would be called as another target is")
        wanted = Wanted(name=name, options=options, trusted=trusted, by="api")
        self._ask_for_list(wanted)
        self._want(stream, name, wanted)

    def delete(self, stream: str, name: str) -> None:
        """Let there be no such target."""
        if name in self._of(stream):
            self._want(stream, name, None)

    def start(self, stream: str, name: str) -> bool:
        """Let a target run."""
        return self._switch(stream, name, on=True)

    def stop(self, stream: str, name: str) -> bool:
        """Let a target stand still."""
        return self._switch(stream, name, on=False)

    def dump(self, stream: str, name: str) -> bool:
        """Throw away what waits in a target's delay."""
        if name not in self._of(stream):
            return False
        live = self._live.get(stream)
        if live is not None:
            live.dump(name)
        return True

    def _switch(self, stream: str, name: str, *, on: bool) -> bool:
        wanted = self._of(stream).get(name)
        if wanted is None:
            return False
        self._want(stream, name, wanted.switched(on, "api"))
        return True

    def _want(self, stream: str, name: str, wanted: Wanted | None) -> None:
        targets = self._wanted[stream] = dict(self._of(stream))
        if wanted is None:
            targets.pop(name, None)
            self._changed.pop((stream, name), None)
        elif targets.get(name) != wanted:
            targets[name] = wanted
            self._changed[stream, name] = self._context.clock.seconds()
        if not targets and not self._configured(stream):
            # Names come from callers: nothing of a stream that nobody knows stays.
            del self._wanted[stream]
            self._ended.pop(stream, None)
        live = self._live.get(stream)
        if live is not None:
            live.want(name, wanted)

    # Addresses.

    def _is_known(self, stream: str, name: str, options: TargetOptions) -> bool:
        """Whether every address is a preset's, or the operator wrote it for this target: then only its key is new."""
        target = self._configured(stream).get(name)
        own = {None} if target is None else {None, target.url, target.backup_url}
        return {options.url, options.backup_url} <= own

    async def _check_address(self, url: str) -> None:
        """Refuse an address that is not public, as far as it is known by now. Raises ConfigError."""
        host = parse_url(url).host
        policy = AddressPolicy(self._networks)
        try:
            ip_address(host)
            found: Sequence[str] = [host]
        except ValueError:
            looking = Deferred.fromCoroutine(self._context.resolve(host))
            looking.addTimeout(RESOLVE_S, self._context.clock)
            try:
                found = await looking
            except (TimeoutError, CancelledError):
                return
        if not all(map(policy.permits, found)):
            raise ConfigError(
                "url",
                "the address is not a public one; write the target into the configuration file, "
                "or its network into [plugins.restream] allow_networks",
            )


def _waiting(wanted: Wanted, since: float) -> TargetPlan:
    state, reason = ("waiting", "no-stream") if wanted.enabled else ("stopped", f"by-{wanted.by}")
    return plan_of(wanted, Resting(state, reason, "", since))
