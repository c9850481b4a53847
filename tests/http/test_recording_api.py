"""Recording over HTTP, and in the metrics."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

from twisted.internet.task import Clock

from relay.context import RecordingPlan
from relay.errors import ConfigError
from relay.http.site import make_site
from relay.http.state import RecordingView
from tests.http.fakes import TOWNHALL, FakeState, ask, site_of


@dataclass
class Control:
    """Remembers what is wanted."""

    wanted: dict[str, bool] = field(default_factory=dict)

    def streams(self) -> list[str]:
        return list(self.wanted)

    def recording(self, stream: str) -> RecordingPlan:
        return RecordingPlan(state="recording" if self.wanted.get(stream) else "off")

    def begin(self, stream: str) -> None:
        if stream == "toomany":
            raise ConfigError("", "there are 10000 streams already")
        self.wanted[stream] = True

    def end(self, stream: str) -> None:
        self.wanted[stream] = False


class State(FakeState):
    """What the control plans."""

    control = Control()

    def recording(self, stream: str) -> RecordingView | None:
        return RecordingView(**asdict(self.control.recording(stream)))


def test_recording_is_started_stopped_and_looked_at() -> None:
    state = State()
    site = make_site(state, token=None, resources={}, clock=Clock(), recording=state.control)
    path = "/api/v1/streams/town/recording"

    assert ask(site, path).json["state"] == "off"
    assert ask(site, f"{path}/start", "POST").json["state"] == "recording"
    assert ask(site, f"{path}/start", "POST").json["state"] == "recording"
    assert ask(site, f"{path}/stop", "POST").json["state"] == "off"
    assert ask(site, f"{path}/start").status == 405
    assert ask(site, "/api/v1/streams/..%2fx/recording/start", "POST").status == 400
    assert ask(site, "/api/v1/streams/toomany/recording/start", "POST").status == 400


def test_without_a_plugin_that_records_the_calls_say_so() -> None:
    site = site_of(Clock())

    for method, path in (("GET", ""), ("POST", "/start"), ("POST", "/stop")):
        assert ask(site, f"/api/v1/streams/town/recording{path}", method).status == 409


def test_the_metrics_tell_how_the_disk_gets_on() -> None:
    view = RecordingView(state="degraded", bytes_written=5000, queue_bytes=70, files=3, failures=2, dropped_packets=9)
    text = ask(site_of(Clock(), state=FakeState(known=[replace(TOWNHALL, recording=view)])), "/metrics").body.decode()

    for line in (
        'rtmp_relay_recording_up{stream="townhall"} 0.0',
        'rtmp_relay_recording_failing{stream="townhall"} 1.0',
        'rtmp_relay_recording_queue_bytes{stream="townhall"} 70.0',
        'rtmp_relay_recording_written_bytes_total{stream="townhall"} 5000.0',
        'rtmp_relay_recording_files_total{stream="townhall"} 3.0',
        'rtmp_relay_recording_failures_total{stream="townhall"} 2.0',
        'rtmp_relay_recording_dropped_packets_total{stream="townhall"} 9.0',
    ):
        assert line in text
