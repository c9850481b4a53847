"""Microseconds of each step that a message takes through the Python hot path: `python benchmarks/micro.py`.

The stream is the one of the load program: 30 fps H.264 at 2.5 Mbit/s, a key frame every 2 s, 128 kbit/s AAC. One
message is one `receive`, as it arrives on a quiet socket. Best of twenty rounds; nothing else should run meanwhile.
A part that does not exist (yet) is shown as missing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SECONDS = 20
ROUNDS = 20
FPS, GOP = 30, 60
VIDEO_BYTES, AUDIO_BYTES = 9615, 371
AVC_HEADER = bytes.fromhex(
    "1700000000" "0142c01fffe1001767" "42c01fda014016ec0440000003004000000f03c60ca8" "01000468ce0fc8"
)  # fmt: skip
AAC_HEADER = bytes.fromhex("af001210")

Wire = tuple[int, int, bytes]
"""Type id, timestamp, body."""
Round = Callable[[], Callable[[], int]]
"""Prepares one round, untimed, and returns what is timed; that returns how many steps it made."""


def headers() -> list[Wire]:
    """The sequence headers that a publisher sends first."""
    return [(9, 0, AVC_HEADER), (8, 0, AAC_HEADER)]


def frames(*, video: bool = True, audio: bool = True) -> list[Wire]:
    """The frames of the stream in order of time."""
    found: list[Wire] = []
    if video:
        for n in range(SECONDS * FPS):
            key = n % GOP == 0
            body = bytes((0x17 if key else 0x27, 1, 0, 0, 0)) + b"\0" * 4 + bytes((0x65 if key else 0x41,))
            found.append((9, n * 1000 // FPS, body + b"\x5a" * (VIDEO_BYTES * (6 if key else 1) - len(body))))
    if audio:
        for n in range(SECONDS * 44100 // 1024):
            found.append((8, n * 1024000 // 44100, b"\xaf\x01" + b"\x5a" * (AUDIO_BYTES - 2)))  # noqa: PERF401
    return sorted(found, key=lambda one: one[1])


def chunked(messages: list[Wire], chunk_size: int) -> list[bytes]:
    """The same on the wire, after a Set Chunk Size."""
    from relay.rtmp.framing import frame

    pieces = [frame(2, 0, 1, 0, chunk_size.to_bytes(4, "big"), 128)]
    return pieces + [frame(4 if kind == 8 else 6, ts, kind, 1, body, chunk_size) for kind, ts, body in messages]


def receive(messages: list[Wire], chunk_size: int) -> Round:
    """De-chunking."""
    from relay.rtmp.chunks import ChunkReader
    from relay.rtmp.limits import AFTER_AUTH

    pieces = chunked(messages, chunk_size)

    def prepare() -> Callable[[], int]:
        reader = ChunkReader(AFTER_AUTH)
        times = _times(len(pieces))

        def run() -> int:
            take = reader.receive
            for piece, now in zip(pieces, times, strict=True):
                take(piece, now)
            return len(pieces)

        return run

    return prepare


def demux(messages: list[Wire]) -> Round:
    """Body to packet."""
    from relay.media.flv import FlvDemuxer

    def prepare() -> Callable[[], int]:
        demuxer = FlvDemuxer()
        for one in headers():
            demuxer.read(*one)

        def run() -> int:
            read = demuxer.read
            for kind, ts, body in messages:
                read(kind, ts, body)
            return len(messages)

        return run

    return prepare


def place(messages: list[Wire]) -> Round:
    """Wire time to the time of the feed."""
    from relay.media.packets import MediaKind
    from relay.media.timeline import Timeline

    asked = [(MediaKind(kind), ts) for kind, ts, _ in messages]

    def prepare() -> Callable[[], int]:
        timeline = Timeline()

        def run() -> int:
            put = timeline.place
            for kind, ts in asked:
                put(kind, 0, ts, False)
            return len(asked)

        return run

    return prepare


class Drain:
    """A sink that does nothing: what is measured is the stream, not its consumers."""

    def configure(self, tracks: object) -> None:
        """Nothing."""

    def write(self, packet: object) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def packets(messages: list[Wire]) -> tuple[list[Any], list[Any]]:
    """Headers and frames as packets."""
    from relay.media.flv import FlvDemuxer

    demuxer = FlvDemuxer()
    first = [demuxer.read(*one) for one in headers()]
    return first, [demuxer.read(*one) for one in messages]


def publish(messages: list[Wire], sinks: int) -> Round:
    """`Stream.publish`: GOP cache, then each sink."""
    from relay.stream.stream import Stream

    def prepare() -> Callable[[], int]:
        stream = Stream("bench")
        first, rest = packets(messages)
        for one in first:
            stream.publish(one)
        for _ in range(sinks):
            stream.attach(Drain())

        def run() -> int:
            put = stream.publish
            for one in rest:
                put(one)
            return len(rest)

        return run

    return prepare


def push(messages: list[Wire]) -> Round:
    """`Feed.push` of the live feed: health, timeline, publish to one sink."""
    from relay.stream.stream import Stream

    def prepare() -> Callable[[], int]:
        stream = Stream("bench")
        stream.attach(Drain())
        feed = stream.open_feed("primary", 0, 0.0)
        first, rest = packets(messages)
        for one in first:
            feed.push(one, 0.0)
        times = _times(len(rest))

        def run() -> int:
            put = feed.push
            for one, now in zip(rest, times, strict=True):
                put(one, now)
            return len(rest)

        return run

    return prepare


def whole_way(messages: list[Wire], chunk_size: int) -> Round:
    """De-chunk, demux, push: all that one message costs after recv."""
    from relay.media.flv import FlvDemuxer
    from relay.rtmp.chunks import ChunkReader
    from relay.rtmp.limits import AFTER_AUTH
    from relay.stream.stream import Stream

    pieces = chunked([*headers(), *messages], chunk_size)

    def prepare() -> Callable[[], int]:
        stream = Stream("bench")
        stream.attach(Drain())
        feed = stream.open_feed("primary", 0, 0.0)
        reader, demuxer = ChunkReader(AFTER_AUTH), FlvDemuxer()
        times = _times(len(pieces))

        def run() -> int:
            take, read, put = reader.receive, demuxer.read, feed.push
            for piece, now in zip(pieces, times, strict=True):
                for message in take(piece, now):
                    packet = read(message.type_id, message.timestamp, message.payload)
                    if packet is not None:
                        put(packet, now)
            return len(pieces)

        return run

    return prepare


def frame_media(messages: list[Wire]) -> Round:
    """Packet to the bytes that all players share."""
    from relay.rtmp.framing import media_frame

    def prepare() -> Callable[[], int]:
        def run() -> int:
            for kind, ts, body in messages:
                media_frame(kind, ts, body)
            return len(messages)

        return run

    return prepare


def mux(name: str, part_ms: int) -> Round:
    """Packets to a container, cut as a packager does; one step is a second of media at 6 Mbit/s with 48 kHz AAC."""
    from relay import api
    from relay.media.flv import FlvDemuxer
    from relay.media.tracks import TrackTable

    demuxer, table = FlvDemuxer(), TrackTable()
    for one in headers():
        table.see(demuxer.read(*one))
    feed = [demuxer.read(*one) for one in heavy_frames()]

    def prepare() -> Callable[[], int]:
        muxer = getattr(api, name)(table.tracks.tracks)

        def run() -> int:
            for packet in feed:
                if packet.keyframe:
                    muxer.cut_before(packet)
                muxer.write(packet)
                if muxer.pending_ms >= part_ms:
                    muxer.cut()
            return SECONDS

        return run

    return prepare


def heavy_frames() -> list[Wire]:
    """The same pictures at 6 Mbit/s, each one whole NAL unit."""
    size = 6_000_000 // 8 // FPS
    found: list[Wire] = []
    for kind, ts, body in frames():
        if kind == 9:
            count = size * (3 if body[0] == 0x17 else 1)
            body = body[:5] + count.to_bytes(4, "big") + body[9:10] + b"\x5a" * (count - 1)
        found.append((kind, ts, body))
    return found


def _times(number: int) -> list[float]:
    return [n / 73 for n in range(number)]


def table() -> Iterator[tuple[str, Callable[[], Round]]]:
    """What is measured; building a round may find that a part is missing."""
    video, audio, both = frames(audio=False), frames(video=False), frames()
    for size in (65536, 4096, 128):
        yield f"ChunkReader.receive, video, chunk {size}", partial(receive, video, size)
    yield "ChunkReader.receive, audio, chunk 4096", partial(receive, audio, 4096)
    yield "FlvDemuxer.read, video", partial(demux, video)
    yield "FlvDemuxer.read, audio", partial(demux, audio)
    yield "Timeline.place, both", partial(place, both)
    yield "Stream.publish, both, no sink", partial(publish, both, 0)
    yield "Stream.publish, both, one sink", partial(publish, both, 1)
    yield "Feed.push, both, one sink", partial(push, both)
    yield "framing.media_frame, both", partial(frame_media, both)
    for size in (65536, 4096, 128):
        yield f"receive + read + push, both, chunk {size}", partial(whole_way, both, size)
    for name, part_ms in (("Fmp4Muxer", 200), ("Fmp4Muxer", 2000), ("TsMuxer", 80), ("TsMuxer", 2000)):
        yield f"{name}, cut each {part_ms} ms, a second of media", partial(mux, name, part_ms)


def measure(prepare: Round) -> float:
    """Best microseconds per step of several rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        run = prepare()
        start = time.perf_counter()
        steps = run()
        best = min(best, (time.perf_counter() - start) / steps)
    return best * 1e6


def main() -> None:
    """Print the table."""
    print(f"{'step (us per message)':<50} best of {ROUNDS}")
    for name, build in table():
        try:
            print(f"{name:<50} {measure(build()):9.2f}")
        except ImportError as error:
            print(f"{name:<50}   missing ({error})")


if __name__ == "__main__":
    main()
