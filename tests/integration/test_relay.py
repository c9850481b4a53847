"""One encoder in, many destinations out, between programs that other people wrote.

What arrives is compared packet by packet with what was sent.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration import sources
from tests.integration.framehash import Hashes, assert_same, framehash, parse_framehash, recorded
from tests.integration.harness import (
    LONG,
    Certificates,
    Program,
    Relay,
    ffmpeg5,
    ffmpeg9,
    free_port,
    nginx,
    player,
    publisher,
    relay,
    rtmpdump,
    stream_table,
    wait_for,
)

pytestmark = pytest.mark.integration

KEY = "canary-7f3a9c51e2d4"
JOINING_S = 2.5
"""A player that starts when the stream is live may miss so much of its beginning, on a busy machine."""
RUN_S = 140.0 if LONG else 25.0


def wait_live(running: Relay, name: str) -> None:
    """Wait until a stream can be played."""
    wait_for(lambda: running.stream(name).get("live_feed"), f"live stream {name}")


def finish(*programs: Program) -> None:
    """Wait for programs that must end by themselves and well."""
    for program in programs:
        code = program.wait(RUN_S)
        assert code == 0, f"{program.args[0]} ended with {code}:\n{program.tail}"


def played(path: Path) -> Hashes:
    """What an FFmpeg player wrote."""
    return parse_framehash(path.read_text())


@pytest.mark.parametrize("binary", [ffmpeg9, ffmpeg5], ids=["ffmpeg9", "ffmpeg5"])
def test_h264_and_aac_arrive_bit_exact_everywhere(tmp_path: Path, full_hd: Path, binary: Callable[[], str]) -> None:
    with nginx(tmp_path) as platform:
        second_table = stream_table("hop", "second", targets={"behind": platform.url})
        with relay(tmp_path, second_table) as second:
            targets = {"direct": platform.url, "second": f"rtmp://127.0.0.1:{second.port}/live"}
            with relay(tmp_path, stream_table("town", KEY, targets=targets)) as first:
                with publisher(first.publish_url(KEY), full_hd, binary=binary()) as encoder:
                    wait_live(first, "town")
                    wait_live(second, "hop")
                    with (
                        player(first.play_url("town"), tmp_path / "nine", binary=ffmpeg9()) as nine,
                        player(first.play_url("town"), tmp_path / "five", binary=ffmpeg5()) as five,
                        player(second.play_url("hop"), tmp_path / "far") as far,
                        rtmpdump(first.play_url("town"), tmp_path / "dump.flv") as dump,
                    ):
                        finish(encoder, nine, five, far, dump)
                source = framehash(full_hd)
                assert_same(source, recorded(platform.finished("direct")), what="nginx-rtmp")
                assert_same(source, recorded(platform.finished("behind")), what="nginx-rtmp behind a second relay")
                assert_same(source, played(tmp_path / "nine"), skipped_s=JOINING_S, what="FFmpeg 9")
                assert_same(source, played(tmp_path / "five"), skipped_s=JOINING_S, what="FFmpeg 5.1")
                assert_same(source, played(tmp_path / "far"), skipped_s=JOINING_S, what="FFmpeg 9 at the second relay")
                assert_same(source, framehash(tmp_path / "dump.flv"), skipped_s=JOINING_S, what="rtmpdump")


@pytest.mark.parametrize(
    "make", [sources.hevc_opus, sources.av1_opus, sources.multitrack], ids=lambda make: make.__name__
)
def test_enhanced_rtmp_arrives_bit_exact_at_a_second_relay(
    tmp_path: Path, made: Path, make: Callable[[Path], Path]
) -> None:
    path = make(made)
    with relay(tmp_path, stream_table("hop", "second")) as second:
        targets = {"second": f"rtmp://127.0.0.1:{second.port}/live"}
        with (
            relay(tmp_path, stream_table("town", KEY, targets=targets)) as first,
            publisher(first.publish_url(KEY), path) as encoder,
        ):
            wait_live(first, "town")
            wait_live(second, "hop")
            with (
                player(first.play_url("town"), tmp_path / "near") as near,
                player(second.play_url("hop"), tmp_path / "far") as far,
            ):
                finish(encoder, near, far)

    assert_same(framehash(path), played(tmp_path / "near"), skipped_s=JOINING_S, what="player")
    assert_same(framehash(path), played(tmp_path / "far"), skipped_s=JOINING_S, what="player at the second relay")


@pytest.mark.parametrize(
    ("offset_s", "edge"),
    [(0xFFFFFF / 1000 - 2, "24 bit"), (2**31 / 1000 - 2, "31 bit"), (2**32 / 1000 - 2, "32 bit")],
    ids=["4h39m", "24d20h", "49d17h"],
)
def test_time_may_pass_the_ends_of_its_fields(tmp_path: Path, small: Path, offset_s: float, edge: str) -> None:
    with nginx(tmp_path) as platform:
        with relay(tmp_path, stream_table("town", KEY, targets={"out": platform.url})) as running:
            options = ("-output_ts_offset", f"{offset_s:.3f}")
            with publisher(running.publish_url(KEY), small, *options) as encoder:
                wait_live(running, "town")
                with player(running.play_url("town"), tmp_path / "played") as watching:
                    finish(encoder, watching)
        assert_same(framehash(small), recorded(platform.finished("out")), what=f"nginx-rtmp across {edge}")
    assert_same(framehash(small), played(tmp_path / "played"), skipped_s=JOINING_S, what=f"FFmpeg across {edge}")


def test_destinations_never_hurt_each_other(tmp_path: Path, full_hd: Path) -> None:
    doomed_port = free_port()
    with (
        nginx(tmp_path) as good,
        nginx(tmp_path, port=doomed_port) as doomed,
        nginx(tmp_path) as frozen,
        relay(tmp_path, stream_table("other", "not-this-one")) as refusing,
    ):
        targets = {
            "good": good.url,
            "doomed": doomed.url,
            "frozen": frozen.url,
            "wrong": f"rtmp://127.0.0.1:{refusing.port}/live",
            "nobody": f"rtmp://127.0.0.1:{free_port()}/live",
        }
        with (
            relay(tmp_path, stream_table("town", KEY, targets=targets)) as running,
            publisher(running.publish_url(KEY), full_hd) as encoder,
        ):
            wait_live(running, "town")
            with player(running.play_url("town"), tmp_path / "played") as watching:
                wait_for(lambda: list(doomed.directory.glob("doomed*")), "publish to the doomed destination")
                time.sleep(0.7)
                doomed.program.signal(signal.SIGKILL)
                frozen.program.signal(signal.SIGSTOP)
                doomed.program.wait()
                time.sleep(0.5)
                with nginx(tmp_path / "again", port=doomed_port) as back:
                    wait_for(lambda: list(back.directory.glob("doomed*")), "return to the destination")
                    for name, state in {"wrong": "refused", "nobody": "backing-off"}.items():  # between attempts
                        wait_for(lambda n=name, s=state: target_state(running, "town", n) == s, f"{name} to be {state}")
                    finish(encoder, watching)
                    returned = recorded(back.finished("doomed"))
        source = framehash(full_hd)
        assert_same(source, recorded(good.finished("good")), what="the good destination")
        assert_same(source, played(tmp_path / "played"), skipped_s=JOINING_S, what="the player")
        assert_same(source, returned, skipped_s=4, what="the destination that came back")


def target_state(running: Relay, stream: str, target: str) -> object:
    """State of a target as the API tells it."""
    targets = running.stream(stream).get("targets")
    if isinstance(targets, dict):
        return targets.get(target, {}).get("state")
    assert isinstance(targets, list), f"no targets in {running.stream(stream)}"
    return next((entry.get("state") for entry in targets if entry.get("name") == target), None)


@pytest.mark.parametrize("binary", [ffmpeg9, ffmpeg5], ids=["ffmpeg9", "ffmpeg5"])
def test_an_ffmpeg_that_listens_is_a_destination(tmp_path: Path, small: Path, binary: Callable[[], str]) -> None:
    port = free_port()
    args = [binary(), "-hide_banner", "-nostats", "-y", "-listen", "1", "-i", f"rtmp://127.0.0.1:{port}/live/out"]
    with Program(
        [*args, "-map", "0:v", "-map", "0:a", "-c", "copy", "-f", "framehash", str(tmp_path / "out")]
    ) as listener:
        wait_for(lambda: _bound(port), "listening FFmpeg")
        table = stream_table("town", KEY, targets={"out": f"rtmp://127.0.0.1:{port}/live"})
        with relay(tmp_path, table) as running, publisher(running.publish_url(KEY), small) as encoder:
            finish(encoder, listener)

    assert_same(framehash(small), played(tmp_path / "out"), what="FFmpeg that listens")


def _bound(port: int) -> bool:
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


@pytest.mark.parametrize("binary", [ffmpeg9, ffmpeg5], ids=["ffmpeg9", "ffmpeg5"])
def test_a_wrong_key_is_said_to_the_encoder_which_gives_up(
    tmp_path: Path, small: Path, binary: Callable[[], str]
) -> None:
    with relay(tmp_path, stream_table("town", KEY)) as running:
        with publisher(running.publish_url("wrong-key-5511"), small, binary=binary()) as encoder:
            code = encoder.wait(10)
        said = encoder.text

        assert code != 0
        assert "Server error: stream key not accepted; check the key in your encoder" in said, said
        attempts = [line for line in running.log() if "wrong-key-5511" in str(line)]
        assert not attempts, "a key that was tried is in the log"
        assert KEY not in running.program.text


def test_a_wrong_name_or_key_is_said_to_a_player_which_gives_up(tmp_path: Path, small: Path) -> None:
    with (
        relay(tmp_path, stream_table("town", KEY, play="look-here")) as running,
        publisher(running.publish_url(KEY), small),
    ):
        wait_live(running, "town")
        for name in ("nowhere", "town", "town?key=wrong"):
            with (
                player(running.play_url(name), tmp_path / "nothing") as watching,
                rtmpdump(running.play_url(name), tmp_path / "nothing.flv") as dump,
            ):
                assert watching.wait(8) != 0
                assert dump.wait(8) != 0
            assert "Server error" in watching.text, watching.text
            assert "NetStream.Play" in dump.text, dump.text
        with player(running.play_url("town?key=look-here"), tmp_path / "played", "-t", "1") as watching:
            finish(watching)


def test_rtmps_works_with_certificate_checks_on(tmp_path: Path, full_hd: Path, certificates: Certificates) -> None:
    verify = ("-tls_verify", "1", "-ca_file", str(certificates.ca))
    with relay(tmp_path, stream_table("hop", "second"), certificates=certificates) as second:
        table = stream_table("town", KEY, targets={"second": f"rtmps://localhost:{second.tls_port}/live"})
        table += f'ca_file = "{certificates.ca}"\n'
        with (
            relay(tmp_path, table, certificates=certificates) as first,
            publisher(first.publish_url(KEY, tls=True), full_hd, *verify) as encoder,
        ):
            wait_live(first, "town")
            wait_live(second, "hop")
            with (
                player(first.play_url("town", tls=True), tmp_path / "near", *verify) as near,
                player(second.play_url("hop", tls=True), tmp_path / "far", *verify) as far,
            ):
                finish(encoder, near, far)

    assert_same(framehash(full_hd), played(tmp_path / "near"), skipped_s=JOINING_S, what="player over TLS")
    assert_same(framehash(full_hd), played(tmp_path / "far"), skipped_s=JOINING_S, what="player behind a push over TLS")


def test_a_destination_with_an_unknown_certificate_never_gets_the_key(
    tmp_path: Path, small: Path, certificates: Certificates
) -> None:
    with relay(tmp_path, stream_table("hop", "second"), certificates=certificates) as second:
        table = stream_table("town", KEY, targets={"second": f"rtmps://localhost:{second.tls_port}/live"})
        with relay(tmp_path, table) as first, publisher(first.publish_url(KEY), small):
            wait_live(first, "town")
            wait_for(lambda: target_state(first, "town", "second") == "backing-off", "failed attempt")
            assert not second.stream("hop").get("live_feed")


def test_sigterm_ends_everything_in_order_within_five_seconds(tmp_path: Path, made: Path) -> None:
    source = sources.small_h264_aac(made, 20)
    with nginx(tmp_path) as platform:
        with (
            relay(tmp_path, stream_table("town", KEY, targets={"out": platform.url})) as running,
            publisher(running.publish_url(KEY), source) as encoder,
        ):
            wait_live(running, "town")
            with (
                player(running.play_url("town"), tmp_path / "played") as watching,
                rtmpdump(running.play_url("town"), tmp_path / "dump.flv") as dump,
            ):
                wait_for(lambda: (tmp_path / "dump.flv").exists() and list(platform.directory.iterdir()), "media")
                time.sleep(1.5)
                running.program.signal(signal.SIGTERM)
                began = time.monotonic()
                code = running.program.wait(8)
                took = time.monotonic() - began
                assert watching.wait(5) == 0, watching.tail
                assert dump.wait(5) == 0, dump.tail
                assert encoder.wait(5) != 0
        received = recorded(platform.finished("out"))
        assert "deleteStream" in platform.program.text, platform.program.tail

    assert code == 0, running.program.tail
    assert took <= 5
    assert_same(framehash(source), received, cut_s=20, what="nginx-rtmp until SIGTERM")
    assert_same(framehash(source), played(tmp_path / "played"), skipped_s=JOINING_S, cut_s=20, what="player")


def test_a_port_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = tmp_path / "taken.toml"
        port = taken.getsockname()[1]
        config.write_text(f'[[listen]]\nurl = "rtmp://127.0.0.1:{port}"\n[http]\nlisten = "127.0.0.1:{free_port()}"\n')
        with (
            pytest.raises(AssertionError, match=str(port)),
            relay(tmp_path, extra=f'[[listen]]\nurl = "rtmp://127.0.0.1:{port}"\n'),
        ):
            pass
