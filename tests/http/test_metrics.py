from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from twisted.internet.task import Clock

from relay.http.metrics import MAX_STREAMS
from relay.http.state import SinkView, StreamView
from tests.http.fakes import FakeState, ask, site_of


def scrape(clock: Clock, state: FakeState | None = None) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = ask(site_of(clock, state=state), "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {}
    for family in parse_text(answer.body.decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, "a series may occur once"
            samples[key] = sample.value
    return samples


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("rtmp_relay_connections", {"role": "player"}, 4),
        ("rtmp_relay_connections_refused_total", {"code": "chunk.size_zero"}, 1),
        ("rtmp_relay_stream_received_bytes_total", {"stream": "townhall"}, 9e6),
        ("rtmp_relay_stream_sent_bytes_total", {"stream": "townhall", "protocol": "rtmp"}, 36e6),
        ("rtmp_relay_stream_sent_bytes_total", {"stream": "townhall", "protocol": "record"}, 1500),
        ("rtmp_relay_stream_frames_total", {"stream": "townhall", "type": "audio"}, 470),
        ("rtmp_relay_stream_dropped_gops_total", {"stream": "townhall", "plugin": "record"}, 1),
        ("rtmp_relay_subscribers", {"stream": "townhall", "protocol": "rtmp"}, 4),
        ("rtmp_relay_push_up", {"stream": "townhall", "target": "youtube"}, 1),
        ("rtmp_relay_push_up", {"stream": "townhall", "target": "twitch"}, 0),
        ("rtmp_relay_push_reconnects_total", {"stream": "townhall", "target": "youtube"}, 2),
        ("rtmp_relay_push_queue_seconds", {"stream": "townhall", "target": "youtube"}, 0.25),
        ("rtmp_relay_ingest_active", {"stream": "townhall", "input": "primary"}, 1),
        ("rtmp_relay_ingest_active", {"stream": "townhall", "input": "backup"}, 0),
        ("rtmp_relay_ingest_bitrate_bps", {"stream": "townhall", "input": "primary"}, 4_200_500),
        ("rtmp_relay_failovers_total", {"stream": "townhall"}, 2),
        ("rtmp_relay_hook_duration_seconds_sum", {"hook": "authorize_publish", "plugin": "webhook"}, 0.25),
        ("rtmp_relay_hook_duration_seconds_count", {"hook": "authorize_publish", "plugin": "webhook"}, 5),
        ("rtmp_relay_auth_total", {"result": "publish-denied"}, 3),
        ("rtmp_relay_reactor_lag_seconds", {}, 0.0035),
        ("rtmp_relay_log_lines_dropped_total", {}, 4),
        ("rtmp_relay_tls_certificate_not_after_seconds", {"name": "rtmps"}, 2e9),
        ("rtmp_relay_streams", {"state": "waiting"}, 1),
        ("rtmp_relay_ready", {}, 1),
        ("rtmp_relay_webhook_events_queued", {}, 3),
        ("rtmp_relay_webhook_events_dropped_total", {}, 2),
    ],
)
def test_numbers_are_read_at_scrape(clock: Clock, name: str, labels: dict[str, str], value: float) -> None:
    assert scrape(clock)[(name, tuple(sorted(labels.items())))] == value


def test_the_process_and_the_build_are_described(clock: Clock) -> None:
    names = {name for name, _ in scrape(clock)}

    assert {"process_resident_memory_bytes", "process_open_fds", "rtmp_relay_build_info"} <= names


def test_a_stream_that_is_gone_leaves_no_series(clock: Clock) -> None:
    state = FakeState()
    assert any("townhall" in str(labels) for _, labels in scrape(clock, state))

    state.known.clear()

    assert not any("townhall" in str(labels) for _, labels in scrape(clock, state))


def test_ten_thousand_streams_do_not_become_ten_thousand_series(clock: Clock) -> None:
    state = FakeState(known=[StreamView(name=f"s{number}", state="live") for number in range(10_000)])

    samples = scrape(clock, state)

    assert len(samples) < 10 * MAX_STREAMS + 100
    assert samples[("rtmp_relay_streams", (("state", "live"),))] == 10_000


def test_a_strange_stream_name_is_escaped(clock: Clock) -> None:
    state = FakeState(known=[StreamView(name='a"b\\c\nd', state="live")])

    assert ("rtmp_relay_stream_up", (("stream", 'a"b\\c\nd'),)) in scrape(clock, state)


def test_openmetrics_is_spoken_when_asked_for(clock: Clock) -> None:
    answer = ask(site_of(clock), "/metrics", Accept="application/openmetrics-text; version=1.0.0")

    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in parse_openmetrics(answer.body.decode())}
    assert "rtmp_relay_failovers" in names


def test_the_numbers_of_sinks_are_series_under_their_plugins_name(clock: Clock) -> None:
    sink = SinkView(name="Packager", plugin="my-hls", numbers={"parts_total": 9, "memory_bytes": 5})
    samples = scrape(clock, FakeState(known=[StreamView(name="town", state="live", sinks=(sink, sink))]))

    assert samples["rtmp_relay_my_hls_parts_total", (("stream", "town"),)] == 18
    assert samples["rtmp_relay_my_hls_memory_bytes", (("stream", "town"),)] == 10
