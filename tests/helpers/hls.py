"""The HLS plugin on a clock: packets in, HTTP requests out, no sockets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.task import Clock

from relay.api import Allow, Decision, FeedSwitched, Packet, PlayRequest, TrackSet, hookimpl
from relay.config import Config
from relay.pluginfind import plugin_from_class
from relay.pluginhost import PluginHost
from relay.testing import packets, stream_info, track_set
from relay_hls import HlsPlugin
from tests.http.fakes import Answer, Peer, site_of


@dataclass
class Gate:
    """Who may play: *answer* decides, and every question is kept."""

    answer: Any = lambda request: Allow()
    asked: list[PlayRequest] = field(default_factory=list)

    def plugin(self) -> type:
        """Return the plugin class that decides."""
        gate = self

        class GatePlugin:
            def __init__(self, config: object, context: object) -> None:
                pass

            @hookimpl
            def authorize_play(self, request: PlayRequest) -> Decision:
                gate.asked.append(request)
                decision: Decision = gate.answer(request)
                return decision

        return GatePlugin


class Stage:
    """One relay with HLS and nothing else."""

    def __init__(self, *, answer: Any = None, streams: Mapping[str, Any] | None = None, **options: object) -> None:
        self.clock = Clock()
        self.gate = Gate() if answer is None else Gate(answer)
        installed = {
            "gate": [plugin_from_class("gate", self.gate.plugin())],
            "hls": [plugin_from_class("hls", HlsPlugin)],
        }
        self.host = PluginHost(
            Config(plugins={"gate": {}, "hls": dict(options)}, streams=dict(streams or {})),
            clock=self.clock,
            installed=installed,
        )
        self.plugin: HlsPlugin = self.host.plugins[1].instance  # type: ignore[assignment]
        self.site = site_of(self.clock, resources=self.host.http_resources())
        self.sink: Any = None
        self.now_ms = 0
        self.services = self.host.services()
        for service in self.services:
            service.startService()

    def stop(self) -> None:
        """The relay stops."""
        for service in self.services:
            service.stopService()

    # The encoder.

    def start(self, name: str = "stage", tracks: TrackSet | None = None) -> Any:
        """A stream starts."""
        tracks = tracks or track_set()
        [opened] = self.host.open_sinks(stream_info(name, tracks))
        self.sink = opened.sink
        self.sink.configure(tracks)
        self.now_ms = 0
        return self.sink

    def play(self, frames: Iterable[Packet]) -> None:
        """The encoder sends *frames*, each in its time."""
        for packet in frames:
            if packet.dts > self.now_ms:
                self.clock.advance((packet.dts - self.now_ms) / 1000)
                self.now_ms = packet.dts
            self.sink.write(packet)
        self.clock.advance(0)

    def run(self, seconds: float, **options: Any) -> None:
        """The encoder sends pictures and sound from where it was."""
        start = self.now_ms + 40 if self.now_ms else 0
        self.play(packets(seconds, start=start, **options))

    def switch(self, *, how: str = "fast") -> None:
        """The relay puts another encoder on air behind the last frame."""
        name = self.sink.programme.name
        self.host.emit(FeedSwitched(stream=name, previous="a", feed="b", reason="", how=how, cut_ms=self.now_ms + 1))

    def end(self, reason: str = "unpublished") -> None:
        """The stream ends."""
        self.sink.stream_ending(reason)
        self.sink.close()
        self.clock.advance(0)

    # Viewers.

    def peer(self, host: str = "192.0.2.10") -> Peer:
        """A viewer's connection."""
        return Peer(self.site, host)

    def get(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        """One request that is answered at once. Underscores in header names stand for hyphens."""
        peer = self.peer()
        named: Mapping[str, str] = {name.replace("_", "-"): value for name, value in headers.items()}
        peer.begin(method, f"/hls/{path}", named)
        for _ in range(3):
            self.clock.advance(0)
        answer = peer.answer(head=method == "HEAD")
        peer.hang_up()
        return answer

    def text(self, path: str) -> str:
        """A playlist that must be there."""
        answer = self.get(path)
        assert answer.status == 200, (path, answer)
        return answer.body.decode()

    def lines(self, path: str = "stage/main.m3u8") -> list[str]:
        """The lines of a playlist."""
        return self.text(path).splitlines()


def tag(lines: Iterable[str], name: str) -> list[str]:
    """The values of every line with this tag."""
    return [line.partition(":")[2] for line in lines if re.fullmatch(rf"#{name}(:.*)?", line)]


def uris(lines: Iterable[str]) -> list[str]:
    """The segments of a playlist."""
    return [line for line in lines if line and not line.startswith("#")]


def attribute(value: str, name: str) -> str:
    """One attribute of an attribute list."""
    found = re.search(rf'(?:^|,){name}=("[^"]*"|[^,]*)', value)
    return found[1].strip('"') if found else ""
