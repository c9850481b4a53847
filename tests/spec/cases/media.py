"""Cases 79-99: media. A relay passes on what it need not understand, and must not fall over what it does not."""

from __future__ import annotations

from tests.spec.model import SEVENS, WHOLE, Case, Phase, closed, continues
from tests.spec.wire import (
    AAC_CONFIG,
    AGGREGATE,
    AUDIO,
    AVC_CONFIG,
    AVCC,
    METADATA,
    VIDEO,
    Ecma,
    amf,
    audio,
    data,
    flv_tag,
    message,
    nal,
    picture,
    set_chunk_size,
    sound,
    video,
)

PUBLISH, LIVE = Phase.PUBLISH, Phase.LIVE
FOLLOWS = 200
"""Milliseconds: what comes after a jump or a wrap of the encoder's clock follows within a few frames."""
MIB = 1024 * 1024
TOO_MUCH = ("msg.*", "limit.*", "chunk.*")
OTHER_CONFIG = AVC_CONFIG[:8] + b"\x1f" + AVC_CONFIG[9:]
"""The same with another level."""
HEVC_CONFIG = b"\x90hvc1" + bytes.fromhex("01016000000090000000000078f000fcfdf8f800000f00")
WHOLE_HEVC_CONFIG = b"\x90hvc1" + bytes.fromhex(  # with its parameter sets: 1080p of x265
    "01022000000090000000000078f000fcfdfafa00000f04200001001840010c01ffff022000000300900000030000030078959809"
    "210001002d420101022000000300900000030000030078a00280802d1365959a4932bc05a84880482000000300200000064122000100"
    "074401c172b46240270001000a4e019004000003000080"
)


def frames(times: list[int], *, key_every: int = 10, tag: bytes = b"f") -> bytes:
    """Video at these times with a sound beside each."""
    return b"".join(
        video(picture(tag + bytes([index & 255, index >> 8]), key=index % key_every == 0), time & 0xFFFFFFFF)
        + audio(sound(tag + bytes([index & 255, index >> 8])), time & 0xFFFFFFFF)
        for index, time in enumerate(times)
    )


def at(start: int, count: int = 12, step: int = 40) -> list[int]:
    """Times from *start*."""
    return [start + step * index for index in range(count)]


def avcc(sps: bytes, count: int = 1) -> bytes:
    """A configuration with *count* copies of an SPS."""
    one = len(sps).to_bytes(2, "big") + sps
    return b"\x17\0\0\0\0\x01\x4d\x40\x0a\xff" + bytes([0xE0 | count]) + one * count + b"\x01\0\4\x68\xce\x0f\xc8"


def ex_video(packet_type: int, rest: bytes, *, key: bool = True) -> bytes:
    """An enhanced video body."""
    return bytes([0x80 | (0x10 if key else 0x20) | packet_type]) + rest


def ex_audio(packet_type: int, rest: bytes) -> bytes:
    """An enhanced audio body."""
    return bytes([0x90 | packet_type]) + rest


key_10 = picture(b"key after", key=True)
weird = {
    "length-past-end": b"\x27\x01\0\0\0\0\0\xff\xff\x41abc",
    "length-0": b"\x27\x01\0\0\0\0\0\0\0\0\0\0\0",
    "length-4-gib": b"\x27\x01\0\0\0\xff\xff\xff\xff\x41abc",
    # A relay may repair this one.
    "annex-b": b"\x27\x01\0\0\0\0\0\0\x01\x41abc",
    "length-cut": b"\x27\x01\0\0\0\0\0",
}

CASES = [
    Case(
        number=79,
        name="no-headers",
        title="300 frames before any sequence header",
        after=PUBLISH,
        send=frames(at(0, 300)),
        expect=continues(),
        deliveries=(WHOLE, SEVENS),
    ),
    *(
        Case(
            number=80,
            name=f"avc-config-{name}",
            title="an AVC configuration that is none",
            after=phase,
            send=video(body, 10) + video(key_10, 20),
            expect=continues(),
        )
        for phase in (PUBLISH, LIVE)
        for name, body in (
            ("header-only", b"\x17\0\0\0\0"),
            ("cut-1", AVC_CONFIG[:6]),
            ("cut-8", AVC_CONFIG[:13]),
            ("cut-last", AVC_CONFIG[:-1]),
            ("no-sps", b"\x17\0\0\0\0\x01\x4d\x40\x0a\xff\xe0\0"),
            ("31-sps", avcc(AVCC[8:31], 31)),
            ("31-sps-claimed", avcc(AVCC[8:31], 31)[:45]),
            ("sps-length-past-end", b"\x17\0\0\0\0\x01\x4d\x40\x0a\xff\xe1\xff\xff\x67"),
            ("sps-empty", avcc(b"")),
            ("sps-zeros", avcc(b"\x67\x64\x00\x28" + bytes(200))),
            ("sps-ones", avcc(b"\x67\x64\x00\x28" + b"\xff" * 200)),
            ("sps-golomb", avcc(b"\x67\x64\x00\x28" + b"\x00\x00\x00\x00\x80" * 20)),
            ("version-0", b"\x17\0\0\0\0" + b"\0" * 40),
            ("annex-b-without-end", b"\x17\0\0\0\0" + b"\0\0\0\1\x67" * 5000),
        )
    ),
    *(
        Case(
            number=80,
            name=f"hevc-config-{name}",
            title="an HEVC configuration that is none",
            after=PUBLISH,
            send=video(b"\x90hvc1" + body, 10) + video(b"\x91hvc1\0\0\0" + nal(0x26, b"x"), 20),
            expect=continues(),
        )
        for name, body in (
            ("empty", b""),
            ("cut", HEVC_CONFIG[5:15]),
            ("255-arrays", HEVC_CONFIG[5:-1] + b"\xff"),
            ("array-past-end", HEVC_CONFIG[5:-1] + b"\x01\x20\xff\xff\xff\xff"),
            ("ones", b"\xff" * 80),
        )
    ),
    *(
        Case(
            number=81,
            name=f"aac-config-{body.hex() or 'empty'}",
            title="an AAC configuration that is none",
            after=phase,
            send=audio(b"\xaf\0" + body, 10) + audio(sound(b"x"), 20),
            expect=continues(),
        )
        for phase in (PUBLISH, LIVE)
        for body in (b"", b"\x11", b"\x16\x90", b"\x17\x80", b"\x17\x80\0\0\0\0", b"\x11\x80", b"\xff" * 20, b"\0\0")
        if phase is PUBLISH or len(body) < 3
    ),
    *(
        Case(
            number=81,
            name=f"aac-packet-{body.hex()}",
            title="an audio message too short to hold a frame",
            after=LIVE,
            send=audio(body, 10),
            expect=continues(),
            never_played=(body,) if len(body) < 3 else (),  # another type of packet may mean something to a player
        )
        for body in (b"\xaf", b"\xaf\1", b"\xaf\2", b"\xaf\1\0", b"\xaf\xff\xff")
    ),
    Case(
        number=82,
        name="headers-repeated",
        title="the same sequence headers before every keyframe reach a player once",
        after=LIVE,
        send=b"".join(
            video(AVC_CONFIG, 40 * index)
            + audio(AAC_CONFIG, 40 * index)
            + video(picture(bytes([index]), key=True), 40 * index)
            for index in range(1, 20)
        ),
        expect=continues(),
        delivers=tuple((VIDEO, 40 * index, picture(bytes([index]), key=True)) for index in range(1, 20)),
        once=(AVC_CONFIG, AAC_CONFIG),
        deliveries=(WHOLE, SEVENS),
    ),
    Case(
        number=83,
        name="header-changes",
        title="a new sequence header reaches the player before the keyframe that needs it",
        after=LIVE,
        send=frames(at(40)) + video(OTHER_CONFIG, 540) + video(key_10, 540),
        expect=continues(),
        delivers=((VIDEO, None, OTHER_CONFIG), (VIDEO, 540, key_10)),
        deliveries=(WHOLE, SEVENS),
    ),
    Case(
        number=84,
        name="codec-changes",
        title="H.264, then HEVC, then H.264",
        after=LIVE,
        send=frames(at(40))
        + video(WHOLE_HEVC_CONFIG, 600)
        + video(b"\x91hvc1\0\0\0" + nal(0x26, b"hevc"), 600)
        + video(AVC_CONFIG, 640)
        + video(key_10, 640),
        expect=continues(),
        delivers=(
            (VIDEO, None, WHOLE_HEVC_CONFIG),
            (VIDEO, 600, b"\x91hvc1\0\0\0" + nal(0x26, b"hevc")),
            (VIDEO, None, AVC_CONFIG),
            (VIDEO, 640, key_10),
        ),
        deliveries=(WHOLE, SEVENS),
    ),
    *(
        Case(
            number=85,
            name=f"back-{name}",
            title="time goes back: what a player sees goes forward",
            after=LIVE,
            send=frames(at(first)) + frames(at(then), tag=b"g"),
            expect=continues(),
            max_step=11_000,
            deliveries=(WHOLE,),
        )
        for name, first, then in (
            ("1-ms", 40, 479),
            ("1-s", 5040, 4480),
            ("1-h", 3_600_040, 40),
            ("to-0", 9000, 0),
        )
    ),
    *(
        Case(
            number=86,
            name=f"forward-{name}",
            title="time jumps forward: no hole of that size reaches a player",
            after=LIVE,
            send=frames(at(40)) + frames(at(40 + jump), tag=b"g"),
            expect=continues(),
            # The frame that the runner sends afterwards is 8 s behind a jump of 11.5 s: a pause, not a jump.
            max_step=FOLLOWS if jump > 20_000 else 11_000,
            deliveries=(WHOLE,),
        )
        for name, jump in (("1-h", 3_600_000), ("10-d", 864_000_000), ("11-s", 11_500))
    ),
    Case(
        number=87,
        name="skew",
        title="audio two seconds behind video",
        after=LIVE,
        send=b"".join(
            video(picture(bytes([index]), key=index == 0), 4000 + 40 * index)
            + audio(sound(bytes([index])), 2000 + 40 * index)
            for index in range(30)
        ),
        expect=continues(),
        deliveries=(WHOLE,),
    ),
    *(
        Case(
            number=88,
            name=f"wrap-{name}",
            title="time passes a wrap of the counter",
            after=PUBLISH,
            send=data(METADATA, edge - 200)
            + video(AVC_CONFIG, edge - 200)
            + audio(AAC_CONFIG, edge - 200)
            + frames([time if time < edge or not wraps else time - edge for time in at(edge - 200, 20)]),
            expect=continues(),
            leaves=LIVE,
            max_step=FOLLOWS,
            deliveries=(WHOLE, SEVENS),
        )
        for name, edge, wraps in (
            ("24-bit", 0x1000000, False),
            ("31-bit", 0x80000000, True),
            ("31-bit-on", 0x80000000, False),
            ("32-bit", 0x100000000, True),
        )
    ),
    *(
        Case(
            number=89,
            name=f"equal-{time}",
            title="all timestamps are the same",
            after=LIVE,
            send=frames([time] * 40),
            expect=continues(),
            max_step=11_000,
            deliveries=(WHOLE,),
        )
        for time in (0, 40, 777)
    ),
    Case(
        number=90,
        name="keyframe-7-9-mib",
        title="a keyframe of 7.9 MiB works end to end",
        after=LIVE,
        send=lambda: video(picture(bytes(8_280_000), key=True), 10),
        expect=continues(),
        delivers=((VIDEO, 10, picture(bytes(8_280_000), key=True)),),
        deliveries=(WHOLE,),
        seconds=6,
        memory=96 * MIB,
    ),
    Case(
        number=90,
        name="keyframe-8-1-mib",
        title="a keyframe of 8.1 MiB is over the limit",
        after=LIVE,
        send=lambda: video(picture(bytes(8_493_465), key=True), 10),
        expect=closed(*TOO_MUCH),
        deliveries=(WHOLE,),
        seconds=6,
    ),
    *(
        Case(
            number=91,
            name=f"short-{kind}-{body.hex() or 'empty'}",
            title="media without content is dropped and counted",
            after=LIVE,
            send=message(6, kind, body, timestamp=10, msid=1),
            expect=continues(),
            never_played=(body,),
        )
        for kind, bodies in (
            (
                VIDEO,
                (
                    b"",
                    b"\x17",
                    b"\x27",
                    b"\x17\1",
                    b"\x17\1\0\0",
                    b"\x27\1\0\0\0",
                    b"\x17\2\0\0\0",
                    b"\x57\0",
                    b"\x90",
                    b"\0",
                ),
            ),
            (AUDIO, (b"", b"\xaf", b"\x2f", b"\x90", b"\x95", b"\x97", b"\0")),
            (18, (b"", b"\x02", b"\x02\0", b"\x02\0\1", b"\x05", b"\xff")),
        )
        for body in bodies
    ),
    *(
        Case(
            number=92,
            name=f"composition-{cts}",
            title="composition times are signed 24 bit numbers",
            after=LIVE,
            send=video(picture(b"c", cts=cts), 10),
            expect=continues(),
            delivers=((VIDEO, 10, picture(b"c", cts=cts)),),
        )
        for cts in (-1, -100, -(2**23), 2**23 - 1, 80)
    ),
    Case(
        number=93,
        name="audio-only",
        title="sound without pictures",
        after=PUBLISH,
        send=audio(AAC_CONFIG) + b"".join(audio(sound(bytes([index])), 20 * index) for index in range(1, 100)),
        expect=continues(),
        deliveries=(WHOLE, SEVENS),
    ),
    Case(
        number=93,
        name="video-only",
        title="pictures without sound",
        after=PUBLISH,
        send=video(AVC_CONFIG)
        + b"".join(video(picture(bytes([index]), key=index % 9 == 1), 20 * index) for index in range(1, 100)),
        expect=continues(),
        deliveries=(WHOLE, SEVENS),
    ),
    Case(
        number=93,
        name="sound-30-s-late",
        title="sound that begins 30 s after the pictures",
        after=PUBLISH,
        send=video(AVC_CONFIG)
        + b"".join(video(picture(bytes([index]), key=index % 10 == 0), 200 * index) for index in range(150))
        + audio(AAC_CONFIG, 30_000)
        + frames(at(30_000)),
        expect=continues(),
        deliveries=(WHOLE,),
    ),
    Case(
        number=93,
        name="pictures-30-s-late",
        title="pictures that begin 30 s after the sound",
        after=PUBLISH,
        send=audio(AAC_CONFIG)
        + b"".join(audio(sound(bytes([index])), 200 * index) for index in range(150))
        + video(AVC_CONFIG, 30_000)
        + frames(at(30_000)),
        expect=continues(),
        deliveries=(WHOLE,),
    ),
    Case(
        number=94,
        name="aggregate",
        title="an aggregate is unpacked; its times count from its own",
        after=LIVE,
        send=message(
            6,
            AGGREGATE,
            flv_tag(VIDEO, 5000, picture(b"one", key=True))
            + flv_tag(AUDIO, 5010, sound(b"two"))
            + flv_tag(VIDEO, 5040, picture(b"three")),
            timestamp=100,
            msid=1,
        ),
        expect=continues(),
        delivers=(
            (VIDEO, 100, picture(b"one", key=True)),
            (AUDIO, 110, sound(b"two")),
            (VIDEO, 140, picture(b"three")),
        ),
    ),
    *(
        Case(
            number=94,
            name=f"aggregate-{name}",
            title="an aggregate that lies",
            after=LIVE,
            send=message(6, AGGREGATE, body, timestamp=100, msid=1),
            expect=continues() | closed("msg.*", "chunk.*", "limit.*"),
            never=(picture(b"in"), b"\x27\1\0\0\0"),
        )
        for name, body in (
            ("nested", flv_tag(AGGREGATE, 0, flv_tag(VIDEO, 0, picture(b"in")))),
            ("size-past-end", flv_tag(VIDEO, 0, b"\x27\1\0\0\0", size=0xFFFFFF)),
            ("back-pointer-wrong", flv_tag(VIDEO, 0, picture(b"x"), back=7)),
            ("empty", b""),
            ("cut-header", flv_tag(VIDEO, 0, picture(b"x"))[:7]),
            ("no-back-pointer", flv_tag(VIDEO, 0, picture(b"x"))[:-4]),
            ("zeros", bytes(15 * 20)),
            ("command-inside", flv_tag(20, 0, amf("closeStream", 0, None))),
            ("control-inside", flv_tag(1, 0, b"\0\0\0\0")),
        )
    ),
    Case(
        number=94,
        name="aggregate-of-dust",
        title="an aggregate of 500,000 empty messages: as much work as so many chunks, and over the same budget",
        after=LIVE,
        send=lambda: message(6, AGGREGATE, flv_tag(AUDIO, 0, b"") * 500_000, timestamp=100, msid=1),
        expect=closed(*TOO_MUCH),
        deliveries=(WHOLE,),
        seconds=6,
        memory=96 * MIB,
    ),
    *(
        Case(
            number=95,
            name=f"enhanced-{name}",
            title="enhanced RTMP that lies or that nobody knows",
            after=LIVE,
            send=message(6, kind, body, timestamp=10, msid=1) * 2,
            expect=continues(),
        )
        for name, kind, body in (
            ("unknown-fourcc", VIDEO, ex_video(1, b"zzzz" + b"data")),
            ("unknown-fourcc-header", VIDEO, ex_video(0, b"zzzz" + b"data")),
            ("fourcc-cut", VIDEO, ex_video(0, b"av")),
            ("fourcc-binary", VIDEO, ex_video(1, b"\xff\xfe\0\n" + b"data")),
            ("packet-type-15", VIDEO, ex_video(15, b"hvc1data")),
            ("multitrack-255", VIDEO, ex_video(6, b"\x01avc1\xff" + b"\0\0\0" + nal(0x65, b"x"))),
            ("multitrack-cut", VIDEO, ex_video(6, b"\x01avc1")),
            ("multitrack-nested", VIDEO, ex_video(6, b"\x06avc1\x01")),
            ("multitrack-type-9", VIDEO, ex_video(6, b"\x91avc1\x01data")),
            ("many-tracks-size-lies", VIDEO, ex_video(6, b"\x11avc1\x01\xff\xff\xffdata")),
            ("many-tracks-size-0", VIDEO, ex_video(6, b"\x11avc1" + b"\x01\0\0\0" * 50)),
            ("many-codecs-cut", VIDEO, ex_video(6, b"\x21avc1\x01\0\0\1")),
            ("modex-size-lies", VIDEO, ex_video(7, b"\xffabc")),
            ("modex-long-size-lies", VIDEO, ex_video(7, b"\xff\xff\xffabc")),
            ("modex-chain", VIDEO, ex_video(7, b"\x02\0\0\0\x07" * 100)),
            ("modex-empty", VIDEO, ex_video(7, b"")),
            ("command-frame", VIDEO, bytes([0x80 | 0x50 | 1, 0])),
            ("metadata-cut", VIDEO, ex_video(4, b"hvc1\x02\0\x09color")),
            ("metadata-deep", VIDEO, ex_video(4, b"hvc1" + amf("colorInfo") + b"\x0a\0\0\0\1" * 2000)),
            ("audio-unknown-fourcc", AUDIO, ex_audio(1, b"zzzzdata")),
            ("audio-multichannel-short", AUDIO, ex_audio(4, b"Opus\x02")),
            ("audio-multichannel-lies", AUDIO, ex_audio(4, b"Opus\x02\xff\1\2")),
            ("audio-opus-head-cut", AUDIO, ex_audio(0, b"OpusOpus")),
            ("audio-flac-cut", AUDIO, ex_audio(0, b"fLaCfLa")),
            ("audio-multitrack-255", AUDIO, ex_audio(5, b"\x01Opus\xffdata")),
            ("audio-modex-lies", AUDIO, ex_audio(7, b"\xff")),
        )
    ),
    Case(
        number=95,
        name="enhanced-256-tracks",
        title="as many tracks as there are numbers",
        after=LIVE,
        send=b"".join(
            video(ex_video(6, b"\x00avc1" + bytes([track]) + AVCC), 10)
            + video(ex_video(6, b"\x01avc1" + bytes([track]) + b"\0\0\0" + nal(0x65, b"x")), 10)
            for track in range(256)
        ),
        expect=continues() | closed("media.*", "limit.*"),
        deliveries=(WHOLE,),
    ),
    *(
        Case(
            number=96,
            name=f"nal-{name}",
            title="NAL unit lengths that lie do not disturb a relay",
            after=LIVE,
            send=video(body, 10),
            expect=continues(),
            delivers=() if name in ("length-cut", "annex-b") else ((VIDEO, 10, body),),
        )
        for name, body in weird.items()
    ),
    Case(
        number=97,
        name="no-keyframe",
        title="ten minutes without a keyframe: the memory of the last group stays bounded",
        after=LIVE,
        send=lambda: (
            set_chunk_size(4096)
            + b"".join(video(picture(bytes(4000)), 40 * index, chunk_size=4096) for index in range(1, 15_000))
        ),
        expect=continues(),
        chunk_size=4096,
        deliveries=(WHOLE,),
        memory=24 * MIB,  # of 57 MiB
        seconds=20,
    ),
    *(
        Case(
            number=98,
            name=f"rate-{name}",
            title="every picture rate is fine",
            after=LIVE,
            send=frames(times, key_every=key_every),
            expect=continues(),
            max_step=11_000,
            deliveries=(WHOLE,),
        )
        for name, times, key_every in (
            ("240", at(4, 480, 4), 240),
            ("1", at(1000, 9, 1000), 2),
            ("variable", [40, 41, 300, 305, 2000, 2001, 2002, 5000], 3),
            ("all-keyframes", at(40, 60), 1),
        )
    ),
    Case(
        number=99,
        name="cue-points",
        title="data messages without end",
        after=LIVE,
        send=b"".join(data(amf("onCuePoint", Ecma(name="splice", time=float(index))), index) for index in range(300)),
        expect=continues(),
        deliveries=(WHOLE, SEVENS),
    ),
]
