"""`/metrics`: a collector that reads plain numbers at scrape, on the reactor's thread.

Nothing here runs between scrapes, and a stream's series vanish with the stream. The rule: labels are stream, feed,
target and plugin names from the configuration or from admitted publishers, never anything an unknown peer sent.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

import twisted

from relay import __version__
from relay.http.router import Call, Reply, Route
from relay.http.state import RelayState, StreamView

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_]")

MAX_STREAMS = 200
"""Streams that get series of their own: about 10 series each, so 2,000 in all. The others only count in the sums."""


class RelayCollector(Collector):
    """Reads `RelayState` whenever it is scraped."""

    def __init__(self, state: RelayState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        streams = self._state.streams()
        yield InfoMetricFamily(
            "rtmp_relay_build",
            "What is running",
            {"version": __version__, "python": platform.python_version(), "twisted": twisted.__version__},
        )
        yield from self._process()
        yield from self._hooks()
        yield _gauge("rtmp_relay_streams", "Streams now, by state", ["state"], _states(streams))
        shown = streams[:MAX_STREAMS]
        yield from _stream_families(shown)
        yield from _feed_families(shown)
        yield from _target_families(shown)
        own = _plugin_families(self._state.plugin_numbers())
        yield from own.values()
        yield from (family for family in _sink_families(shown) if family.name not in own)
        yield from _recording_families(shown)

    def _process(self) -> Iterator[Metric]:
        state, counters, lag = self._state, self._state.counters(), self._state.lag()
        roles = [([role], count) for role, count in state.connections.items()]
        yield _gauge("rtmp_relay_connections", "Open RTMP connections now", ["role"], roles)
        yield _counter("rtmp_relay_connections_accepted", "Connections accepted", [], [([], counters.accepted)])
        refused = [([code], count) for code, count in counters.refused.items()]
        yield _counter("rtmp_relay_connections_refused", "Connections closed for an offence", ["code"], refused)
        answers = [([result], count) for result, count in counters.auth.items()]
        yield _counter("rtmp_relay_auth", "Answers to encoders and players", ["result"], answers)
        yield _gauge("rtmp_relay_ready", "1 when every listener is up", [], [([], int(state.ready))])
        yield _gauge("rtmp_relay_reactor_lag_seconds", "Timer lateness, p99 of a minute", [], [([], lag.p99_ms / 1e3)])
        yield _gauge("rtmp_relay_reactor_lag_max_seconds", "The same, worst", [], [([], lag.max_ms / 1e3)])
        lost: list[Sample] = [([], counters.log_lines_dropped)]
        yield _counter("rtmp_relay_log_lines_dropped", "Lines of the log that nobody took", [], lost)
        expiry = [([name], at) for name, at in counters.certificates.items()]
        yield _gauge("rtmp_relay_tls_certificate_not_after_seconds", "Expiry as Unix time", ["name"], expiry)

    def _hooks(self) -> Iterator[Metric]:
        seconds = SummaryMetricFamily(
            "rtmp_relay_hook_duration_seconds", "Time in plugins' hooks", labels=["hook", "plugin"]
        )
        errors = CounterMetricFamily(
            "rtmp_relay_hook_errors", "Hooks that raised or timed out", labels=["hook", "plugin"]
        )
        for hook in self._state.hooks():
            labels = [hook.hook, hook.plugin]
            seconds.add_metric(labels, count_value=hook.calls, sum_value=hook.seconds)
            errors.add_metric(labels, hook.errors)
        yield seconds
        yield errors


Sample = tuple[list[str], float]


def _gauge(name: str, text: str, labels: Sequence[str], samples: Iterable[Sample]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _counter(name: str, text: str, labels: Sequence[str], samples: Iterable[Sample]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _states(streams: Sequence[StreamView]) -> list[Sample]:
    counts = dict.fromkeys(("live", "slate", "waiting"), 0)
    for stream in streams:
        counts[stream.state] = counts.get(stream.state, 0) + 1
    return [([state], count) for state, count in counts.items()]


def _stream_families(streams: Sequence[StreamView]) -> Iterator[Metric]:
    prefix = "rtmp_relay_stream"
    up = [([s.name], int(s.state == "live")) for s in streams]
    yield _gauge(f"{prefix}_up", "1 while a feed is live", ["stream"], up)
    received = [([s.name], s.bytes_in) for s in streams]
    yield _counter(f"{prefix}_received_bytes", "Media bytes from encoders", ["stream"], received)
    sent = [([s.name, "rtmp"], s.bytes_out) for s in streams]
    sent += [([s.name, sink.plugin], sink.bytes_out) for s in streams for sink in s.sinks]
    yield _counter(f"{prefix}_sent_bytes", "Media bytes to receivers", ["stream", "protocol"], _summed(sent))
    frames = [([s.name, kind], count) for s in streams for kind, count in s.frames.items()]
    yield _counter(f"{prefix}_frames", "Frames published", ["stream", "type"], frames)
    dropped = [([s.name, sink.plugin], sink.dropped_gops) for s in streams for sink in s.sinks]
    yield _counter(f"{prefix}_dropped_gops", "GOPs a slow receiver lost", ["stream", "plugin"], _summed(dropped))
    players = [([s.name, "rtmp"], s.players) for s in streams]
    yield _gauge("rtmp_relay_subscribers", "Players now", ["stream", "protocol"], players)
    gone = [([s.name, "rtmp"], s.players_dropped) for s in streams]
    yield _counter("rtmp_relay_subscribers_dropped", "Players that were too slow", ["stream", "protocol"], gone)
    slate = [([s.name], int(s.state == "slate")) for s in streams]
    yield _gauge(f"{prefix}_slate", "1 while no feed is left and subscribers are kept", ["stream"], slate)
    locked = [([s.name], s.locked_s) for s in streams]
    yield _gauge("rtmp_relay_failover_locked_seconds", "Time left of a lock after flapping", ["stream"], locked)
    copies = [([s.name], s.copies) for s in streams]
    yield _counter("rtmp_relay_merged_copies", "Frames that a merged feed had brought already", ["stream"], copies)
    yield _counter(
        "rtmp_relay_failovers", "Switches of the live feed", ["stream"], [([s.name], s.switches) for s in streams]
    )


def _feed_families(streams: Sequence[StreamView]) -> Iterator[Metric]:
    labels = ["stream", "input"]
    feeds = [(s, feed) for s in streams for feed in s.feeds]
    active = [([s.name, f.name], int(s.live_feed == f.name)) for s, f in feeds]
    yield _gauge("rtmp_relay_ingest_active", "1 for the live feed, 0 for one that stands by", labels, active)
    received = [([s.name, f.name], f.bytes_in) for s, f in feeds]
    yield _counter("rtmp_relay_ingest_received_bytes", "Media bytes of this connection", labels, received)
    rates = [([s.name, f.name], f.bitrate_kbps * 1000) for s, f in feeds]
    yield _gauge("rtmp_relay_ingest_bitrate_bps", "Bit rate now", labels, rates)
    levels = {"good": 0, "suspect": 1, "bad": 2, "dead": 3}
    health = [([s.name, f.name], levels.get(f.health, 3)) for s, f in feeds]
    yield _gauge("rtmp_relay_ingest_health", "0 good, 1 suspect, 2 bad, 3 dead", labels, health)
    resets = [([s.name, f.name], f.timeline_resets) for s, f in feeds]
    yield _counter("rtmp_relay_ingest_timeline_resets", "Jumps of the encoder's clock", labels, resets)


def _target_families(streams: Sequence[StreamView]) -> Iterator[Metric]:
    labels = ["stream", "target"]
    targets = [(s, target) for s in streams for target in s.targets]
    up = [([s.name, t.name], int(t.state == "live")) for s, t in targets]
    yield _gauge("rtmp_relay_push_up", "1 while the target takes the stream", labels, up)
    reconnects = [([s.name, t.name], max(0, t.attempts - 1)) for s, t in targets]
    yield _counter("rtmp_relay_push_reconnects", "Connection attempts after the first", labels, reconnects)
    yield _counter(
        "rtmp_relay_push_sent_bytes", "Bytes sent", labels, [([s.name, t.name], t.bytes_sent) for s, t in targets]
    )
    acked = [([s.name, t.name], t.bytes_acked) for s, t in targets]
    yield _counter("rtmp_relay_push_acked_bytes", "Bytes the platform acknowledged", labels, acked)
    queue = [([s.name, t.name], t.queue_ms / 1e3) for s, t in targets]
    yield _gauge("rtmp_relay_push_queue_seconds", "Media waiting now", labels, queue)
    stages = ("connected", "accepted", "confirmed", "denied")
    known = [([s.name, t.name, one], int(t.delivery == one)) for s, t in targets for one in stages]
    yield _gauge("rtmp_relay_push_delivery", "1 for how far delivery is known", [*labels, "delivery"], known)
    rtt = [([s.name, t.name], t.rtt_ms / 1e3) for s, t in targets if t.rtt_ms is not None]
    yield _gauge("rtmp_relay_push_rtt_seconds", "Round-trip time of the connection (Linux)", labels, rtt)
    unacked = [([s.name, t.name], t.unacked_bytes) for s, t in targets if t.unacked_bytes is not None]
    yield _gauge("rtmp_relay_push_unacked_bytes", "Bytes that the platform's machine has not yet", labels, unacked)
    again = [([s.name, t.name], t.retransmits) for s, t in targets if t.retransmits is not None]
    yield _gauge("rtmp_relay_push_retransmits", "Segments sent again on this connection", labels, again)
    dropped = [([s.name, t.name], t.dropped_gops) for s, t in targets]
    yield _counter("rtmp_relay_push_dropped_gops", "GOPs dropped for slowness", labels, dropped)


def _recording_families(streams: Sequence[StreamView]) -> Iterator[Metric]:
    recordings = [(s.name, s.recording) for s in streams if s.recording is not None]
    labels = ["stream"]
    up = [([name], int(r.state == "recording")) for name, r in recordings]
    yield _gauge("rtmp_relay_recording_up", "1 while the stream is recorded", labels, up)
    failing = [([name], int(r.state in ("degraded", "full"))) for name, r in recordings]
    yield _gauge("rtmp_relay_recording_failing", "1 while it should be and cannot", labels, failing)
    queue = [([name], r.queue_bytes) for name, r in recordings]
    yield _gauge("rtmp_relay_recording_queue_bytes", "Bytes that wait for the disk now", labels, queue)
    written = [([name], r.bytes_written) for name, r in recordings]
    yield _counter("rtmp_relay_recording_written_bytes", "Bytes written to files", labels, written)
    yield _counter(
        "rtmp_relay_recording_files", "Files finished", labels, [([name], r.files) for name, r in recordings]
    )
    failures = [([name], r.failures) for name, r in recordings]
    yield _counter("rtmp_relay_recording_failures", "Files given up after an error of the disk", labels, failures)
    dropped = [([name], r.dropped_packets) for name, r in recordings]
    yield _counter("rtmp_relay_recording_dropped_packets", "Packets that the disk could not take", labels, dropped)


def _sink_families(streams: Sequence[StreamView]) -> Iterator[Metric]:
    """The numbers of plugins' sinks, under the plugin's name."""
    found: dict[str, list[Sample]] = {}
    for stream in streams:
        for sink in stream.sinks:
            for name, number in sink.numbers.items():
                found.setdefault(_NOT_A_NAME.sub("_", f"{sink.plugin}_{name}"), []).append(([stream.name], number))
    for name, samples in found.items():
        family = _counter if name.endswith("_total") else _gauge
        yield family(f"rtmp_relay_{name.removesuffix('_total')}", "A number of a plugin", ["stream"], _summed(samples))


def _plugin_families(plugins: Mapping[str, Mapping[str, float]]) -> dict[str, Metric]:
    """The numbers that plugins have of themselves, under the plugin's name."""
    families: dict[str, Metric] = {}
    for plugin, numbers in plugins.items():
        for name, number in numbers.items():
            family = _counter if name.endswith("_total") else _gauge
            known = f"rtmp_relay_{_NOT_A_NAME.sub('_', f'{plugin}_{name}').removesuffix('_total')}"
            families[known] = family(known, "A number of a plugin", [], [([], number)])
    return families


def _summed(samples: Iterable[Sample]) -> list[Sample]:
    """Join samples with equal labels: Prometheus refuses a series that occurs twice."""
    sums: dict[tuple[str, ...], float] = {}
    for labels, number in samples:
        sums[tuple(labels)] = sums.get(tuple(labels), 0) + number
    return [(list(labels), number) for labels, number in sums.items()]


def metrics_route(state: RelayState) -> Route:
    """Return `/metrics`, in the text or the OpenMetrics format, whichever is asked for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RelayCollector(state))
    ProcessCollector(registry=registry)

    def metrics(call: Call) -> Reply:
        encode, content_type = choose_encoder(call.headers.get("accept", ""))
        return Reply(body=encode(registry), content_type=content_type)

    return Route(
        method="GET", template="/metrics", summary="Prometheus metrics", respond=metrics, content_type="text/plain"
    )
