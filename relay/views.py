"""The running relay as HTTP sees it: copies in plain data, made when somebody asks.

Implements `relay.http.state.RelayState` over the registry, the door and the push targets. The rule it guards: no key,
no token and no live object leaves through here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from relay.context import TargetPlan
from relay.http.state import (
    Counters,
    FaultView,
    FeedView,
    HookView,
    LagView,
    ListenerView,
    RecordingView,
    SinkView,
    StreamView,
    SwitchView,
    TargetView,
    TrackView,
)
from relay.log_output import LINES
from relay.media import configs
from relay.media.packets import MediaKind, Track
from relay.net.door import Door
from relay.net.lag import LagMonitor
from relay.net.listen import Listener
from relay.net.push import RtmpPush
from relay.net.pushgroup import PushGroup
from relay.pluginhost import PluginHost
from relay.stream.feeds import Feed
from relay.stream.sinks import ReportsStatus, SinkStatus
from relay.stream.stream import Stream

CLOCK_SET_S = 0.5
"""The wall clock was set when it is off by this: above what slewing does in a show, below what a person sees."""


class TimesOfDay:
    """Turns moments of the relay's clock into times of day.

    The rule it guards: a moment has the same time at every call, to the last digit, so that a changed `since` is a
    change. Only when somebody sets the wall clock do all of them move.
    """

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        self._offset = 0.0

    def of(self, moment: float, now: float) -> float:
        """Return the time of day of *moment*; both on the relay's clock."""
        offset = self._wall_clock() - now
        if abs(offset - self._offset) > CLOCK_SET_S:
            self._offset = offset
        return round(self._offset + moment, 3)


class RelayViews:
    """Answers what `/metrics` and `/api` ask."""

    def __init__(
        self,
        *,
        door: Door,
        host: PluginHost,
        lag: LagMonitor,
        listeners: Sequence[Listener],
        groups: Mapping[str, Sequence[PushGroup]],
        started_at: dict[str, float],
        sink_plugins: Callable[[Stream], Sequence[tuple[str, object]]],
        wall_clock: Callable[[], float],
    ) -> None:
        self._door = door
        self._host = host
        self._lag = lag
        self._listeners = listeners
        self._groups = groups
        self.started_at = started_at
        self._sink_plugins = sink_plugins
        self._times = TimesOfDay(wall_clock)

    @property
    def ready(self) -> bool:
        """Whether every listener is up and the relay is not shutting down."""
        return all(listener.up for listener in self._listeners) and not self._door.draining

    @property
    def connections(self) -> Mapping[str, int]:
        """Open RTMP connections by role."""
        admission = self._door.admission
        roles = admission.roles
        return {
            "publisher": roles["publisher"],
            "player": roles["player"],
            "undecided": admission.unauthenticated,
        }

    def streams(self) -> Sequence[StreamView]:
        """Every stream that is live, has targets or is to be recorded, sorted by name."""
        names = {stream.name for stream in self._door.registry} | self._planned_streams()
        return [view for name in sorted(names) if (view := self.stream(name)) is not None]

    def stream(self, name: str) -> StreamView | None:
        """One stream."""
        stream = self._door.registry.get(name)
        if stream is not None:
            return self._stream(stream)
        if name not in self._planned_streams():
            return None
        targets = self._targets(name, self._door.clock.seconds())
        return StreamView(name=name, state="waiting", targets=targets, recording=self.recording(name))

    def _planned_streams(self) -> set[str]:
        """The streams that plugins know, live or not."""
        controls = (self._host.target_control, self._host.recording_control)
        return {name for control in controls if control is not None for name in control.streams()}

    def switch(self, stream: str, feed: str) -> SwitchView | None:
        """Put a feed on air by hand."""
        live = self._door.registry.get(stream)
        wanted = None if live is None else live.find_feed(feed)
        if live is None or wanted is None:
            return None
        live.failover.switch(wanted, self._door.clock.seconds())
        state = "live" if wanted is live.live_feed else "armed"
        return SwitchView(stream=stream, feed=feed, state=state)

    def kick(self, stream: str, feed: str, cooloff_s: float) -> bool:
        """End a publish; False when nobody publishes this feed."""
        live = self._door.registry.get(stream)
        found = None if live is None else live.find_feed(feed)
        publisher = None if found is None else self._door.publishers.get(found)
        if publisher is not None:
            publisher.kick(cooloff_s)
        return publisher is not None

    def recording(self, stream: str) -> RecordingView | None:
        """What is known of a stream's recording."""
        control = self._host.recording_control
        return None if control is None else RecordingView(**asdict(control.recording(stream)))

    def listeners(self) -> Sequence[ListenerView]:
        """Every configured listener."""
        return [ListenerView(url=one.url, up=one.up, error=one.error) for one in self._listeners]

    def counters(self) -> Counters:
        """Numbers of the whole process."""
        door = self._door
        certificates = {one.url: one.expiry.not_after for one in self._listeners if one.expiry is not None}
        return Counters(
            accepted=door.accepted,
            refused=dict(door.refused),
            auth=dict(door.answers),
            certificates=certificates,
            log_lines_dropped=LINES.dropped,
        )

    def hooks(self) -> Sequence[HookView]:
        """What each plugin's hooks cost."""
        return [
            HookView(plugin=plugin, hook=hook, calls=stats.calls, errors=stats.errors, seconds=stats.seconds)
            for (hook, plugin), stats in self._host.stats.items()
        ]

    def plugin_numbers(self) -> Mapping[str, Mapping[str, float]]:
        """What plugins say of themselves."""
        return self._host.numbers()

    def lag(self) -> LagView:
        """How late the reactor runs."""
        return LagView(p99_ms=self._lag.p99_ms, max_ms=self._lag.max_ms)

    def _stream(self, stream: Stream) -> StreamView:
        now = self._door.clock.seconds()
        audience = self._door.audiences.existing(stream.name)
        feeds = [self._feed(feed, now) for feed in stream.feeds]
        failover = stream.failover
        video = failover.past_video_frames + sum(feed.video_frames_total for feed in stream.feeds)
        audio = failover.past_audio_frames + sum(feed.audio_frames_total for feed in stream.feeds)
        pushed = sum(group.bytes_sent for group in self._groups.get(stream.name, ()))
        return StreamView(
            name=stream.name,
            state="waiting" if not stream.started else "slate" if failover.holding else "live",
            live_feed=None if stream.live_feed is None else stream.live_feed.name,
            started_at=self.started_at.get(stream.name),
            feeds=feeds,
            tracks=[_track(track) for track in stream.tracks.tracks],
            sinks=self._sinks(stream),
            targets=self._targets(stream.name, now),
            recording=self.recording(stream.name),
            players=0 if audience is None else len(audience.players),
            players_dropped=self._door.audiences.dropped(stream.name),
            bytes_in=failover.past_bytes + sum(feed.bytes_in for feed in feeds),
            bytes_out=pushed + self._door.audiences.bytes_out(stream.name),
            frames={"video": video, "audio": audio},
            switches=stream.switches,
            locked_s=max(failover.lock.until - now, 0.0),
            copies=failover.copies_total,
            last_dts_ms=stream.last_dts,
        )

    def _feed(self, feed: Feed, now: float) -> FeedView:
        health = feed.sample(now)
        publisher = self._door.publishers.get(feed)
        connection = None if publisher is None else publisher.connection
        stalled = health.last_packet_age_ms is not None and health.last_packet_age_ms > 1000
        verdict = feed.judge.verdict
        return FeedView(
            name=feed.name,
            state="stalled" if stalled else feed.state.value,
            priority=feed.priority,
            connection_id="" if connection is None else connection.connection_id,
            peer="" if connection is None else connection.peer,
            encoder="" if connection is None else connection.flash_ver,
            connected_at=self._times.of(feed.opened_at, now),
            last_packet_age_ms=health.last_packet_age_ms,
            bytes_in=health.bytes_total,
            frames_in=health.video_frames_total + health.audio_frames_total,
            bitrate_kbps=health.bitrate_kbps,
            fps=health.fps,
            keyframe_interval_ms=health.keyframe_interval_ms,
            timeline_resets=health.timeline_resets,
            timestamps_clamped=health.timestamps_clamped,
            health=verdict.level.name.lower(),
            faults=[
                FaultView(trigger=f.trigger, measured=f.measured, threshold=f.threshold, unit=f.unit)
                for f in verdict.faults
            ],
            clean_s=round(feed.judge.clean_s, 1),
            odd={} if publisher is None else publisher.odd(),
        )

    def _sinks(self, stream: Stream) -> list[SinkView]:
        return [
            _sink(plugin, sink)
            for plugin, sink in self._sink_plugins(stream)
            if not isinstance(sink, PushGroup) and plugin != self._host.target_plugin
        ]

    def _targets(self, stream: str, now: float) -> list[TargetView]:
        """The targets that a plugin plans, in its order, then any other push."""
        control = self._host.target_control
        plans = {} if control is None else {plan.name: plan for plan in control.targets(stream)}
        pushes = {name: push for group in self._groups.get(stream, ()) for name, push in group.targets.items()}
        return [
            self._target(pushes[name], plans.get(name), now)
            if name in pushes and not (name in plans and plans[name].state)
            else self._planned(plans[name], now)
            for name in dict.fromkeys((*plans, *pushes))
        ]

    def _planned(self, plan: TargetPlan, now: float) -> TargetView:
        return TargetView(
            name=plan.name,
            state=plan.state or "waiting",
            enabled=plan.enabled,
            since=self._times.of(plan.since, now),
            reason=plan.reason,
            detail=plan.detail,
            destination=plan.destination,
            warnings=plan.warnings,
        )

    def _target(self, push: RtmpPush, plan: TargetPlan | None, now: float) -> TargetView:
        tcp, word = push.tcp, push.delivery.confirmation
        return TargetView(
            name=push.name,
            enabled=plan is None or plan.enabled,
            warnings=() if plan is None else plan.warnings,
            state=push.state.value,
            since=self._times.of(push.since, now),
            reason=push.reason,
            detail=push.detail,
            destination=push.url.display,
            attempts=push.attempts,
            bytes_sent=push.bytes_sent,
            bytes_acked=push.bytes_acked,
            queue_ms=push.outbox.queue_ms,
            dropped_gops=push.dropped_gops,
            rtt_ms=None if tcp is None else tcp.rtt_ms,
            retransmits=None if tcp is None else tcp.retransmits,
            unacked_bytes=None if tcp is None else tcp.unacked_bytes,
            delivery=push.delivery.word,
            delivery_detail="" if word is None else word.detail,
            confirmed_by="" if word is None else word.plugin,
        )


def _sink(plugin: str, sink: object) -> SinkView:
    status = sink.status() if isinstance(sink, ReportsStatus) else SinkStatus()
    return SinkView(
        name=type(sink).__name__,
        plugin=plugin,
        state=status.state,
        bytes_out=status.bytes_out,
        dropped_gops=status.dropped_gops,
        detail=status.detail,
        numbers=dict(status.numbers),
    )


def _track(track: Track) -> TrackView:
    video = configs.video_facts(track) if track.kind is MediaKind.VIDEO else None
    audio = configs.audio_facts(track) if track.kind is MediaKind.AUDIO else None
    return TrackView(
        kind=track.kind.name.lower(),
        track_id=track.track_id,
        codec=track.codec.value,
        codec_string=configs.codec_string(track) or "",
        width=0 if video is None else video.width,
        height=0 if video is None else video.height,
        sample_rate=0 if audio is None else audio.sample_rate,
        channels=0 if audio is None else audio.channels,
    )
