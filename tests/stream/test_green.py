"""The green picture with every metric good: a decoder that holds other parameter sets than what it is given needs."""

from __future__ import annotations

import pytest

from relay.media.packets import MediaKind, Packet
from tests.stream.media import AVC_HEADER
from tests.stream.stage import Encoder, Stage

SPS = b"\x67\x42\x00\x1e\xaa"
"""One that no header of these tests holds."""


class InBand(Encoder):
    """Writes parameter sets in front of its keyframes."""

    sets: tuple[bytes, ...] = (SPS,)

    def make(self, content: int):  # type: ignore[no-untyped-def]
        for packet in super().make(content):
            if packet.keyframe and packet.kind is MediaKind.VIDEO:
                units = b"".join(len(one).to_bytes(4, "big") + one for one in (*self.sets, b"\x65" + packet.body[5:]))
                packet.body = packet.body[:5] + units
            yield packet


def stage_with(*kinds: type[Encoder]) -> Stage:
    stage = Stage()
    for number, kind in enumerate(kinds):
        stage.encoders.append(kind(stage, f"feed{number}", number, phase_ms=1000 * number))
        stage.run(1)
    stage.run(4)
    return stage


def calls_behind_the_cut(stage: Stage) -> list[object]:
    seen = len(stage.sink.calls)
    stage.encoders[0].die()
    stage.run(0.5)
    return [value for name, value in stage.sink.calls[seen:] if name != "write" or isinstance(value, Packet)]


def test_headers_are_sent_again_when_the_old_feed_left_other_parameter_sets_behind() -> None:
    stage = stage_with(InBand, Encoder)

    behind = calls_behind_the_cut(stage)

    assert behind[0] is not None
    assert not isinstance(behind[0], Packet), "the headers come first"
    assert stage.switches[0].fit == "headers"


@pytest.mark.parametrize("kinds", [(Encoder, Encoder), (InBand, InBand)], ids=["none", "both-bring-their-own"])
def test_headers_are_not_sent_again_without_need(kinds: tuple[type[Encoder], ...]) -> None:
    stage = stage_with(*kinds)

    behind = calls_behind_the_cut(stage)

    assert all(isinstance(value, Packet) for value in behind)
    assert stage.switches[0].fit == "same"


def test_an_encoder_that_only_repeats_its_header_is_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    size = int.from_bytes(AVC_HEADER[11:13], "big")
    monkeypatch.setattr(InBand, "sets", (AVC_HEADER[13 : 13 + size],))
    stage = stage_with(InBand, Encoder)

    behind = calls_behind_the_cut(stage)

    assert all(isinstance(value, Packet) for value in behind)
