"""Every way in which destinations are wrong, at once, around one that is well: who reads why, and who learns a key."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration import sources
from tests.integration.framehash import assert_same, framehash, recorded
from tests.integration.harness import Program, Relay, free_port, nginx, publisher, relay, wait_for

pytestmark = pytest.mark.integration

STREAM_KEY, TARGET_KEY = "canary-ingest-61d0b7", "canary-target-9c2f48"

CERTIFICATES = {
    "expired": "the certificate has expired",
    "wrong-host": "the certificate is for another host name",
    "untrusted": "the certificate is not signed by a CA we trust",
    "self-signed": "the certificate is self-signed",
}
ENDED = ("backing-off", "refused")
OTHERS = {
    "silent": ("rtmp", "silent"),
    "http": ("rtmp", "http"),
    "reset": ("rtmp", "reset@1"),
    "stall": ("rtmp", "stall"),
}


def platform(directory: Path, scheme: str, fault: str) -> tuple[Program, str]:
    """Start a fake platform as an operator does; return it and the options of a target."""
    port = free_port()
    args = [sys.executable, "-m", "relay", "fake-platform", "--listen", f"{scheme}://127.0.0.1:{port}/live"]
    args += ["--fault", fault, *(["--ca-dir", str(directory)] if scheme == "rtmps" else [])]
    trust = f'ca_file = "{directory / "ca.pem"}"\n' if scheme == "rtmps" else ""
    target = f'url = "{scheme}://localhost:{port}/live"\nkey = {{ env = "CANARY_TARGET" }}\n{trust}'
    return Program(args, {"PYTHONUNBUFFERED": "1"}), target


def wait_platform(program: Program) -> None:
    """Wait until a fake platform listens."""
    wait_for(lambda: " platform on " in program.text, "fake platform", 30)


def answers(running: Relay) -> str:
    """Everything that the HTTP server says."""
    found = []
    for path in ("/metrics", "/api/v1/streams", "/api/v1/streams/town", "/healthz", "/readyz", "/stat", "/"):
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{running.http_port}{path}"
            with urllib.request.urlopen(url, timeout=10) as response:
                found.append(response.read().decode("utf-8", "replace"))
    return "\n".join(found)


def process_lists() -> Iterator[str]:
    """The command line of every process."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_text("utf-8", "replace")


def targets(running: Relay) -> dict[str, dict[str, Any]]:
    """Targets by name, as the API tells them."""
    found = running.stream("town").get("targets", [])
    assert isinstance(found, list)
    return {one["name"]: one for one in found}


def test_no_key_is_shown_while_everything_goes_wrong_and_the_one_that_is_well_gets_all(
    tmp_path: Path, made: Path
) -> None:
    source = sources.small_h264_aac(made, 7)
    wrong = {fault: ("rtmps", fault) for fault in CERTIFICATES} | OTHERS
    with nginx(tmp_path) as good, contextlib.ExitStack() as stack:
        programs = {}
        table = '[streams.town.streamkeys]\nprimary = { env = "CANARY_INGEST" }\n[streams.town.failover]\nhold_s = 0\n'
        table += f'[streams.town.restream.good]\nurl = "{good.url}"\nkey = "good"\n'
        closed = f'url = "rtmp://127.0.0.1:{free_port()}/live"\nkey = {{ env = "CANARY_TARGET" }}\n'
        table += f"[streams.town.restream.closed]\n{closed}"
        for name, (scheme, fault) in wrong.items():
            programs[name], options = platform(tmp_path / name, scheme, fault)
            stack.enter_context(programs[name])
            table += f"[streams.town.restream.{name}]\n{options}"
        for program in programs.values():
            wait_platform(program)
        env = {"CANARY_INGEST": STREAM_KEY, "CANARY_TARGET": TARGET_KEY}
        with relay(tmp_path, table, env=env) as running:
            with publisher(running.publish_url(STREAM_KEY), source) as encoder:
                refused = {*CERTIFICATES, "http", "closed"}
                states: dict[str, dict[str, Any]] = {}

                def all_seen() -> bool:
                    states.update((name, one) for name, one in targets(running).items() if one["state"] in ENDED)
                    return refused <= set(states)

                wait_for(all_seen, "reasons", 8)
                shown = [answers(running)]
                lists = list(process_lists())
                assert encoder.wait(30) == 0
            time.sleep(0.5)
            shown += [answers(running), running.program.text, *(one.text for one in programs.values())]
            own = Path(f"/proc/{running.program.process.pid}/cmdline").read_text()

        for name, words in CERTIFICATES.items():
            assert states[name]["reason"] == "tls"
            assert states[name]["detail"].startswith(words), states[name]["detail"]
            assert states[name]["detail"].endswith("the key was not sent")
            heard = re.findall(r"over \(\w*\); (\d+) bytes", programs[name].text)
            assert set(heard) <= {"0"}, f"{name} heard something"
        assert not [text for text in (*shown, own) if STREAM_KEY in text or TARGET_KEY in text]
        assert not [line for line in lists if TARGET_KEY in line]
        assert "town" in shown[0]
        assert_same(framehash(source), recorded(good.finished("good")), what="the destination that is well")


def test_check_finds_a_real_server_good_and_what_it_sends_decodes(tmp_path: Path) -> None:
    with nginx(tmp_path) as good:
        config = tmp_path / "relay.toml"
        config.write_text(
            "[plugins.streamkeys]\n[plugins.restream]\n[streams.town.restream.archive]\n"
            f'url = "{good.url}"\nkey = {{ env = "CANARY_TARGET" }}\n'
        )
        args = [sys.executable, "-m", "relay", "check", "--target", "town/archive", "--config", str(config)]
        with Program([*args, "--seconds", "3", "--mbps", "4", "--json"], {"CANARY_TARGET": TARGET_KEY}) as program:
            code = program.wait(30)
        answer = json.loads("".join(program.out))

        assert (code, answer["good"]) == (0, True), program.tail
        assert answer["results"][0]["code"] == "good"
        assert TARGET_KEY not in program.text
        pictures = recorded(good.finished(TARGET_KEY)).packets[0]
        assert 80 <= len(pictures) <= 92


def test_check_says_what_is_wrong_and_exits_with_1(tmp_path: Path) -> None:
    program, options = platform(tmp_path / "slow", "rtmp", "slow=1000")
    with program:
        wait_platform(program)
        url = options.split('"')[1]
        args = [sys.executable, "-m", "relay", "check", url, "--key-env", "CANARY_TARGET", "--seconds", "2"]
        with Program(args, {"CANARY_TARGET": TARGET_KEY}) as program:
            code = program.wait(30)

    assert code == 1
    assert "of 6.0 Mbit/s" in program.text
    assert "PROBLEM: " in program.text
    assert "What to do: " in program.text
    assert TARGET_KEY not in program.text
