"""What becomes of finished files: retention, the operator's program, names that cannot lead anywhere else."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.api import RecordingFinished
from relay_record.names import base_name, folder_name, is_stem, parse_file, stem_of, stream_of
from relay_record.program import Programs, Run, fill_in, run_once
from tests.plugins.recordrig import Rig, rig

__all__ = ["rig"]

Make = Callable[..., Rig]

DAY = 86_400


def age(made: Rig, path: Path, days: float) -> None:
    """Let a file be old."""
    at = made.wall() - days * DAY
    os.utime(path, (at, at))


def recorded(made: Rig, count: int, stream: str = "town") -> list[Path]:
    """Record some files, the first the oldest."""
    for _ in range(count):
        recorder = made.open(stream)
        made.play(recorder, 0.4)
        made.close(recorder)
        made.wait(1)
    paths = made.files(stream)
    for number, path in enumerate(paths):
        age(made, path, (count - number) / 100)
    return paths


def test_only_files_that_are_too_old_are_deleted(rig: Make) -> None:
    made = rig(keep_days=3, resume_s=0)
    old, young = recorded(made, 2)
    stranger, torn = old.with_name("holiday.mp4"), old.with_name("town_20200101T000000Z_001.flv.new")
    for path, days in ((old, 4), (young, 2)):
        age(made, path, days)
    for path in (stranger, torn):
        path.write_bytes(b"x")
        age(made, path, 400)
    made.wait(61)

    assert not old.exists()
    assert not Path(str(old).replace("_001.flv", ".json")).exists()
    assert young.exists()
    assert stranger.exists()
    assert torn.exists()


def test_the_oldest_files_go_while_all_are_too_large(rig: Make) -> None:
    made = rig(streams={"town": {"keep_mb": 0.03}}, resume_s=300)
    paths = recorded(made, 4)
    other = recorded(made, 2, "other")
    made.wait(61)

    assert [path.exists() for path in paths] == [False, False, True, True]
    assert all(path.exists() for path in other)
    (document,) = (json.loads(path.read_text()) for path in (made.directory / "town").glob("*.json"))
    assert [part["state"] for part in document["parts"]] == ["deleted", "deleted", "finished", "finished"]


def test_a_sidecar_that_somebody_broke_keeps_nothing_from_being_deleted(rig: Make) -> None:
    made = rig(keep_days=3, resume_s=300)
    old, young = recorded(made, 2)
    (sidecar,) = old.parent.glob("*.json")
    document = json.loads(sidecar.read_text())
    document["parts"].insert(0, None)
    sidecar.write_text(json.dumps(document))
    age(made, old, 4)
    made.wait(61)

    assert not old.exists()
    assert young.exists()
    assert [part["state"] for part in json.loads(sidecar.read_text())["parts"]] == ["deleted", "finished"]


def test_without_an_option_nothing_is_deleted(rig: Make) -> None:
    made = rig()
    (path,) = recorded(made, 1)
    age(made, path, 4000)
    made.disk.free = 10
    made.wait(120)

    assert path.exists()


def test_a_full_disk_is_made_free_by_the_oldest_files_if_that_is_wanted(rig: Make) -> None:
    made = rig(when_full="delete-oldest", min_free_mb=1)
    paths = recorded(made, 3)
    made.disk.free = 1_040_000
    made.wait(61)

    assert [path.exists() for path in paths] == [False, True, True]


@pytest.mark.parametrize("years", [10, -10])
def test_a_wall_clock_that_jumps_deletes_nothing(rig: Make, years: int) -> None:
    made = rig(keep_days=3)
    (path,) = recorded(made, 1)
    made.jump += years * 365 * DAY
    made.wait(600)

    assert path.exists()


# Names.


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../x",
            "..",
            "a/../b",
            "/etc/passwd",
            "~",
            "C:\\x",
            "a\\b",
            "%2e%2e%2f",
            "a\x00b",
            "a\nb",
            "",
            ".hidden",
            "a//b",
        ),
        *("x" * 300, "a/b/c/d/e", "\u202ex", "\u00e4", "a b", "a\n", "a//b"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_before_a_path_is_made(rig: Make, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        folder_name(name)
    made = rig()
    with pytest.raises(ValueError, match="name"):
        made.open(name)
    made.wait(1)

    assert not list(made.directory.glob("*"))


@pytest.mark.parametrize("name", ["town", "a/b/c/d", "x" * 128, "con", "index.m3u8", "a.b", "A", "-rf"])
def test_names_of_streams_lead_to_folders_and_back(name: str) -> None:
    folder = folder_name(name)

    assert "/" not in folder
    assert stream_of(folder) == name
    assert is_stem(stem_of(name, 0.0, 3))


def test_a_long_name_leaves_room_for_time_and_number() -> None:
    one, other = ("/".join(["y" * 63] * 4)), "/".join(["y" * 63] * 3 + ["y" * 62 + "z"])

    assert len(stem_of(one, 0.0) + "_001.flv.part") <= 255
    assert base_name(one) != base_name(other)


@pytest.mark.parametrize(
    "name", ["town.flv", "town_001.flv", "town_20261128T101500Z_001.avi", "x_20261128T101500Z.flv"]
)
def test_files_of_others_are_not_ours(name: str) -> None:
    assert parse_file(name) is None


# The operator's program.


def shell(*code: str, timeout_s: float = 10.0) -> Run:
    return Run(args=[sys.executable, "-c", "\n".join(code)], stream="town", path="/x", timeout_s=timeout_s)


def test_values_are_arguments_and_never_more() -> None:
    evil = "x; rm -rf {id} $(id) `id`"

    assert fill_in(["up", "{path}", "-s={stream}", "{other}"], path=evil, stream="a", id="b") == [
        "up",
        evil,
        "-s=a",
        "{other}",
    ]


def test_a_program_gets_nothing_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWNHALL_KEY", "canary-123456")

    ran = run_once(shell("import os; print(sorted(os.environ), os.getpgid(0) == os.getpid()); raise SystemExit(3)"))

    assert ran.status == 3
    assert "KEY" not in ran.output
    assert "PATH" in ran.output
    assert "True" in ran.output


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\npid = os.fork()\n"
    code += f"if not pid:\n  open({str(note)!r}, 'w').write(str(os.getpid()))\n"

    began = time.monotonic()
    ran = run_once(shell(code + "time.sleep(60)", timeout_s=0.4))

    assert ran.status is None
    assert time.monotonic() - began < 10
    child = int(note.read_text())
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or ") Z " in Path(f"/proc/{child}/stat").read_text():
            break
        time.sleep(0.02)
    else:
        os.kill(child, signal.SIGKILL)
        raise AssertionError("a child outlived its group")


def test_a_program_that_talks_without_end_costs_no_memory() -> None:
    ran = run_once(shell("import sys", "while True: sys.stdout.write('x' * 65536)", timeout_s=0.3))

    assert ran.status is None
    assert len(ran.output) <= 2000


def test_a_program_that_fails_is_tried_again_and_one_that_is_missing_is_told(tmp_path: Path) -> None:
    pauses: list[float] = []
    programs = Programs(pause=pauses.append)
    count = tmp_path / "count"
    code = f"p = {str(count)!r}; open(p, 'a').write('x'); raise SystemExit(len(open(p).read()) < 3)"
    programs.run(shell(code))
    programs.run(Run(args=["/nonexistent/program"], stream="town", path="/x", timeout_s=1))
    programs.worker.run_waiting()
    worked, missing = programs.ended()

    assert worked.status == 0
    assert count.read_text() == "xxx"
    assert missing.status is None
    assert "cannot be started" in missing.output
    assert pauses == [5, 10, 5, 10]
    assert programs.waiting == 0


def test_what_was_not_done_when_the_relay_stopped_is_done_after_the_next_start(rig: Make, tmp_path: Path) -> None:
    note = tmp_path / "note"
    program = ["/bin/sh", "-c", f'echo "$0" >> {note}', "{path}"]
    made = rig(exec=program, resume_s=0)
    recorder = made.open()
    made.play(recorder, 0.4)
    made.close(recorder)  # the program never gets its turn
    for _ in range(2):
        again = rig(exec=program)
        again.wait(0.5)
        again.book._programs.worker.run_waiting()
        again.wait(2)

    (path,) = made.files()
    assert note.read_text().split() == [str(path)]


@pytest.mark.parametrize("text", [None, "", '{"parts": []}'])
def test_what_was_finished_and_not_listed_is_listed_and_done_after_the_next_start(
    rig: Make, tmp_path: Path, text: str | None
) -> None:
    made = rig(resume_s=0)
    recorder = made.open()
    made.play(recorder, 3)
    made.close(recorder)
    (path,) = made.files()
    (sidecar,) = path.parent.glob("*.json")
    whole = json.loads(sidecar.read_text())["parts"][0]
    sidecar.unlink()
    if text is not None:
        sidecar.write_text(text)
    for told in (1, 0):
        again = rig()
        again.wait(1)
        assert sum(isinstance(event, RecordingFinished) for event in again.events) == told

    (part,) = json.loads(sidecar.read_text())["parts"]
    assert (part["file"], part["state"], part["then"]) == (path.name, "finished", "done")
    assert abs(part["duration_ms"] - whole["duration_ms"]) < 50
    assert part["bytes"] == path.stat().st_size


def test_a_recording_that_nobody_continued_is_ended(rig: Make) -> None:
    made = rig()
    recorder = made.open()
    made.play(recorder, 1)
    made.close(recorder)
    (sidecar,) = (made.directory / "town").glob("*.json")
    seen = json.loads(sidecar.read_text())["seen_at"]
    again = rig()
    again.jump = made.wall() - again.wall() + 200
    states = []
    for wait in (1, 60, 60):
        again.wait(wait)
        states.append(json.loads(sidecar.read_text())["state"])

    assert states == ["recording", "recording", "finished"]
    assert json.loads(sidecar.read_text())["ended_at"] == seen


def test_a_relay_that_stops_in_mid_remux_makes_the_file_after_its_next_start(rig: Make) -> None:
    made = rig(format="fmp4", remux=True)
    recorder = made.open()
    made.play(recorder, 1)
    made.book._stopping = True
    made.close(recorder)
    (path,) = made.files()
    assert b"moof" in path.read_bytes()
    again = rig(format="fmp4", remux=True)
    again.wait(1)

    assert b"moof" not in path.read_bytes()
    (document,) = (json.loads(one.read_text()) for one in path.parent.glob("*.json"))
    assert (document["parts"][0]["progressive"], document["parts"][0]["then"]) == (True, "done")
    assert sorted(one.suffix for one in path.parent.iterdir()) == [".json", ".mp4"]
