"""Whatever encoders do, in whatever order: the playlist stays valid and keeps its promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import m3u8
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.api import Codec, Packet, TrackSet
from relay.testing import aac_frame, avc_frame, hevc_frame, hevc_header, track_set
from tests.helpers.hls import Stage, attribute, tag, uris

PICTURES: dict[str, Callable[..., Packet]] = {"avc": avc_frame, "hevc": hevc_frame}


class Watcher:
    """Looks at the playlist after every step, and remembers what may not fall."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.first = self.last = self.discontinuity = 0

    def look(self) -> None:
        """Check everything."""
        answer = self.stage.get("stage/main.m3u8")
        if answer.status == 404:
            return
        text = answer.body.decode()
        lines = text.splitlines()
        parsed = m3u8.loads(text)
        whole = [segment for segment in parsed.segments if segment.uri]
        last = parsed.media_sequence + len(whole) - 1
        discontinuity = int(tag(lines, "EXT-X-DISCONTINUITY-SEQUENCE")[0])
        assert parsed.media_sequence >= self.first
        assert last >= self.last
        assert discontinuity >= self.discontinuity
        self.first, self.last, self.discontinuity = parsed.media_sequence, last, discontinuity
        assert all(0 < segment.duration < parsed.target_duration + 0.5 for segment in whole)
        dates = [segment.program_date_time for segment in whole]
        assert dates == sorted(dates)
        names = uris(lines) + [attribute(value, "URI") for value in tag(lines, "EXT-X-PART") + tag(lines, "EXT-X-MAP")]
        programme = self.stage.plugin.programme("stage")
        assert programme is not None
        assert all(programme.file(name) is not None for name in names)
        assert len(names) == len(set(names)) + len(tag(lines, "EXT-X-MAP")) - len(set(tag(lines, "EXT-X-MAP")))
        assert programme.size == sum(rendition.held_bytes() for rendition in programme.renditions())
        index = self.stage.text("stage/index.m3u8")
        assert m3u8.loads(index).playlists[0].stream_info.bandwidth > 0


def frames(
    start: int, seconds: float, *, gop: int, interval: int, picture: str, sound: bool, size: int
) -> Iterator[Packet]:
    """Pictures of a constant rate, and sound."""
    end = start + int(seconds * 1000)
    packets = [(dts, 0, n) for n, dts in enumerate(range(start, end, interval))] if picture else []
    packets += [(start + 1024 * n // 48, 1, n) for n in range(int(seconds * 46.875))] if sound else []
    for dts, is_sound, number in sorted(packets):
        if is_sound:
            yield aac_frame(dts, size=size)
        else:
            yield PICTURES[picture](dts, keyframe=bool(gop) and number % gop == 0, size=size)


STEPS = st.one_of(
    st.tuples(
        st.just("run"),
        st.floats(0.1, 6),
        st.sampled_from([0, 1, 7, 25, 60]),
        st.sampled_from([1, 17, 40, 500, 1100]),
        st.sampled_from([0, 1, 2, 200, 5_000]),
    ),
    st.tuples(st.just("hole"), st.integers(1, 100_000)),
    st.tuples(st.just("tracks"), st.sampled_from(["avc", "hevc", ""]), st.booleans()),
    st.tuples(st.just("switch"), st.sampled_from(["fast", "clean", "merged"])),
    st.tuples(st.just("end"), st.sampled_from(["unpublished", "closed", "shutdown"])),
    st.tuples(st.just("wait"), st.floats(0, 90)),
)


def tracks_of(picture: str, sound: bool, generation: int) -> TrackSet:
    both = track_set(hevc_header() if picture == "hevc" else None, generation=generation)
    kept = tuple(t for t in both.tracks if (sound if t.codec is Codec.AAC else picture))
    return TrackSet(tracks=kept or both.tracks, generation=generation)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, min_size=3, max_size=14), parts=st.sampled_from([0, 200]))
def test_the_playlist_stays_valid_whatever_happens(steps: list[tuple[object, ...]], parts: int) -> None:
    stage = Stage(segment_s=1, window_s=10, part_ms=parts, keep_s=60)
    watcher = Watcher(stage)
    picture, sound, generation, hole = "avc", True, 1, 0
    stage.start()
    alive = True
    for step in steps:
        match step:
            case ("end", str() as reason):
                if alive:
                    stage.end(reason)
                alive = False
            case ("wait", float() as seconds):
                stage.clock.advance(seconds)
                stage.plugin.tick()
            case _ if not alive:
                stage.start(tracks=tracks_of(picture, sound, 1))
                alive, generation, hole = True, 1, 0
            case ("run", float() as seconds, int() as gop, int() as interval, int() as size):
                start = stage.now_ms + 1 + hole
                hole = 0
                seconds = min(seconds, 400 * interval / 1000)
                stage.play(frames(start, seconds, gop=gop, interval=interval, picture=picture, sound=sound, size=size))
            case ("hole", int() as length):
                hole = length
            case ("tracks", str() as picture, bool() as sound):
                sound = sound or not picture
                generation += 1
                stage.sink.configure(tracks_of(picture, sound, generation))
            case ("switch", str() as how):
                stage.switch(how=how)
        watcher.look()
    assert [place for place, stats in stage.host.stats.items() if stats.errors] == []
