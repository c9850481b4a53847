"""What the sounds of a multitrack stream are called, and that a name can be nothing but a name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import m3u8
import pytest

from relay import amf0
from relay.api import Codec, MediaKind, Packet, Role, Track, TrackSet
from relay.testing import aac_frame, aac_header, avc_frame, track_set
from relay_hls.sounds import LONGEST_NAME, SoundOptions, Sounds
from tests.helpers.hls import Stage


def metadata(**values: Any) -> Packet:
    body = amf0.encode("onMetaData", amf0.EcmaArray(values))
    return Packet(MediaKind.DATA, 0, Codec.AMF, Role.METADATA, False, 0, 0, body, 0)


def tracks(count: int, **values: Any) -> TrackSet:
    """One picture and several sounds, as the encoder describes them."""
    [video, _] = track_set().tracks
    sounds = [Track(kind=MediaKind.AUDIO, track_id=n, codec=Codec.AAC, header=aac_header()) for n in range(count)]
    return TrackSet((video, *sounds), metadata(**values) if values else None, 1)


def called(said: TrackSet, **options: Any) -> list[tuple[str, str]]:
    sounds = Sounds(SoundOptions(**options))
    sounds.told(said)
    ids = [track.track_id for track in said.tracks if track.kind is MediaKind.AUDIO]
    return [(sound.name, sound.language) for sound in sounds.called(ids).values()]


def test_sounds_of_which_nobody_says_anything_are_numbered() -> None:
    assert called(tracks(2)) == [("Audio 1", ""), ("Audio 2", "")]


def test_an_encoder_names_its_sounds_in_the_map_of_enhanced_rtmp() -> None:
    maps = {"1": {"name": "Interpreter", "language": "fr"}, "2": {"title": "Commentary"}, "3": {"lang": "pt-BR"}}

    said = tracks(4, title="The evening show", language="en", audioTrackIdInfoMap=maps)

    assert called(said) == [
        ("Audio 1 (en)", "en"),
        ("Interpreter", "fr"),
        ("Commentary", ""),
        ("Audio 4 (pt-BR)", "pt-BR"),
    ]


def test_the_operator_has_the_last_word() -> None:
    said = tracks(3, audioTrackIdInfoMap={"1": {"name": "wrong", "language": "xx"}, "2": {"name": "Crowd"}})

    names = called(said, audio_names=("Floor", "Interpreter", ""), audio_languages=("en", "fr"))

    assert names == [("Floor", "en"), ("Interpreter", "fr"), ("Crowd", "")]


def test_no_two_sounds_have_one_name() -> None:
    maps = {str(n): {"name": name} for n, name in ((1, "Mix"), (2, "Mix"), (3, "Mix (3)"))}

    names = [name for name, _ in called(tracks(4, audioTrackIdInfoMap=maps | {"0": {"name": "Mix"}}))]

    assert len(set(names)) == 4


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ('x"\n#EXT-X-ENDLIST\nhttp://192.0.2.1/', "x' #EXT-X-ENDLIST http://192.0.2.1/"),
        ("a\u2028b\x85c\x0bd\x1ce\u202ef", "a b c d e f"),
        ("\x00\u200b \t", "Audio 2"),
        ("é" * 500, "é" * LONGEST_NAME),
        ("\ud800x", "x"),
    ],
    ids=["quote-and-line", "line-ends-of-other-kinds", "nothing-printable", "long", "half-a-surrogate"],
)
def test_a_name_is_one_short_line_of_text(said: str, name: str) -> None:
    sounds = Sounds(SoundOptions(audio_names=("", said)))

    assert sounds.called([0, 1])[1].name == name
    assert name.encode()


@pytest.mark.parametrize("language", ["und", "e", 'en"', "en\n", "english", "en-" + "x" * 9, "12", 5.0, None, []])
def test_a_language_is_one_or_none(language: Any) -> None:
    assert called(tracks(2, audioTrackIdInfoMap={"1": {"language": language}}))[1] == ("Audio 2", "")


@pytest.mark.parametrize("maps", [None, 3.0, "1", [], {"1": None}, {"1": []}, {"x": {"name": "x"}}, {"999": {}}])
def test_a_map_of_nonsense_says_nothing(maps: Any) -> None:
    assert called(tracks(2, audioTrackIdInfoMap=maps)) == [("Audio 1", ""), ("Audio 2", "")]


def show(stage: Stage, said: TrackSet, seconds: int = 5) -> None:
    stage.start(tracks=said)
    at = stage.now_ms
    frames = [avc_frame(at + 40 * n, keyframe=n % 50 == 0) for n in range(25 * seconds)]
    for track in range(2):
        frames += [replace(aac_frame(at + 1024 * n // 48), track=track) for n in range(48 * seconds)]
    stage.play(sorted(frames, key=lambda packet: packet.dts))


def media(stage: Stage) -> list[tuple[str, str | None, str]]:
    index = m3u8.loads(stage.text("stage/index.m3u8"))
    return [(one.name, one.language, one.uri) for one in index.media]


def test_the_multivariant_playlist_says_what_sounds_are_called() -> None:
    stage = Stage()

    show(stage, tracks(2, audioTrackIdInfoMap={"1": {"name": 'Dol"metscher, zwei', "language": "de"}}))

    assert media(stage) == [("Audio 1", None, "a0.m3u8"), ("Dol'metscher, zwei", "de", "a1.m3u8")]
    assert 'NAME="Dol\'metscher, zwei",LANGUAGE="de"' in stage.text("stage/index.m3u8")


def test_names_that_come_later_are_told_from_then_on() -> None:
    stage = Stage()
    show(stage, tracks(2))

    stage.sink.write(metadata(audioTrackIdInfoMap={"1": {"name": "Interpreter"}}))

    assert [name for name, _, _ in media(stage)] == ["Audio 1", "Interpreter"]


def test_a_stream_has_its_own_names_in_the_configuration() -> None:
    stage = Stage(
        streams={"stage": {"hls": {"audio_names": ["Floor", "Interpreter"], "audio_languages": ["en", "fr"]}}}
    )

    show(stage, tracks(2))

    assert media(stage) == [("Floor", "en", "a0.m3u8"), ("Interpreter", "fr", "a1.m3u8")]
