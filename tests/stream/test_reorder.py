"""Encoders with B-frames: what is decoded last is shown later, so a cut must look at times of presentation too."""

from __future__ import annotations

from relay.media.packets import MediaKind, Packet
from relay.stream.hold import MAX_REORDER_MS, after_all_shown
from tests.stream.media import video
from tests.stream.stage import Encoder, Stage, content_of


class Reordering(Encoder):
    """Shows every picture 80 ms after it is decoded, but for one in four, which is shown 200 ms after."""

    def step(self, content: int) -> None:
        before = len(self.line)
        super().step(content)
        for _, packet in self.line[before:]:
            self._delay(packet)

    def make(self, content: int):  # type: ignore[no-untyped-def]
        for packet in super().make(content):
            self._delay(packet)
            yield packet

    def _delay(self, packet: Packet) -> None:
        if packet.kind is MediaKind.VIDEO:
            late = not packet.keyframe and (content_of(packet) or 0) // 40 % 4 == 1
            packet.cts = 200 if late else 80


def shown_before_and_after(stage: Stage, maker: str) -> tuple[int, int]:
    """The latest presentation before the first picture of *maker*, and that picture's own."""
    pictures = [packet for packet in stage.sink.packets if packet.kind is MediaKind.VIDEO]
    index = next(n for n, packet in enumerate(pictures) if packet.body[5:].startswith(maker.encode() + b":"))
    return max(packet.pts for packet in pictures[:index]), pictures[index].pts


def test_the_first_picture_behind_a_cut_is_shown_after_all_before_it() -> None:
    stage = Stage()
    primary = Reordering(stage, "primary", 0)
    stage.encoders.append(primary)
    stage.run(1)
    stage.encoders.append(Reordering(stage, "backup", 1, phase_ms=1000))
    stage.run(5)
    while not any(packet.cts == 200 for packet in stage.sink.packets[-4:]):
        stage.run(0.02)

    primary.die()
    stage.run(1)

    before, after = shown_before_and_after(stage, "backup")
    assert before < after <= before + 40
    assert stage.switches[0].cut_ms - stage.switches[0].cut_from_ms <= 200
    stage.check()


def test_the_slate_begins_after_all_that_was_shown() -> None:
    stage = Stage(hold_s=10)
    primary = Reordering(stage, "primary", 0)
    stage.encoders.append(primary)
    stage.run(5)
    while stage.sink.packets[-1].cts != 200 and stage.sink.packets[-2].cts != 200:
        stage.run(0.02)
    seen = len(stage.sink.packets)

    primary.die()
    stage.run(2)

    latest = max(packet.pts for packet in stage.sink.packets[:seen])
    assert min(packet.pts for packet in stage.sink.packets[seen:] if packet.kind is MediaKind.VIDEO) > latest


def test_a_wild_time_of_presentation_moves_a_cut_by_half_a_second_at_most() -> None:
    wild = video(1000)
    wild.cts = 60_000

    assert after_all_shown(1040, video(0, True), [wild]) == 1040 + MAX_REORDER_MS
    assert after_all_shown(1040, video(0, True), [video(1000)]) == 1040
