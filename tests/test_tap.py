from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from twisted.application.service import Application
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, LogLevel
from twisted.python.logfile import LogFile
from twisted.python.usage import UsageError

from relay.config_file import ConfigFileError
from relay.secret import KNOWN_SECRETS, Secret
from relay.tap import EXIT_CONFIG, Options, TwistdService, load, makeService, use_monotonic_time
from tests.helpers.reactor import reactor
from tests.helpers.services import CONFIG, configuration
from tests.integration.harness import ROOT, Program, free_port, relay, wait_for

KEY = "canary-1679091c5a880faf"


def twistd(*arguments: str, cwd: Path = ROOT) -> Program:
    """Start `twistd -n rtmp-relay`."""
    program = str(Path(sys.executable).parent / "twistd")
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    return Program(
        [sys.executable, program, "-n", "--pidfile=", "rtmp-relay", *arguments],
        {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        cwd,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_with_exit_code_0(tmp_path: Path, number: int) -> None:
    heard = ("env", "--default-signal=INT")  # a shell lets what it runs in the background ignore SIGINT
    with relay(tmp_path, command=heard) as running:
        with socket.create_connection(("127.0.0.1", running.port)):
            running.program.signal(number)
            began = time.monotonic()
            code = running.program.wait(8)

        assert code == 0, running.program.tail
        assert time.monotonic() - began < 5
        assert "Traceback" not in running.program.text
        assert running.log(), "the log is not JSON lines"


def test_a_second_signal_during_the_stop_is_no_error(tmp_path: Path) -> None:
    with relay(tmp_path) as running:
        with socket.create_connection(("127.0.0.1", running.port), 5) as silent:
            silent.sendall(b"\x03" + bytes(1536))
            assert silent.recv(1) == b"\x03"
            running.program.signal(signal.SIGTERM)
            wait_for(lambda: _refused(running.port), "the closed listener")
            assert running.program.running, "there was no time for a second signal"
            running.program.signal(signal.SIGTERM)
            code = running.program.wait(8)

        assert code == 0, running.program.tail
        assert "Traceback" not in running.program.text, running.program.tail


def test_a_hundred_hangups_end_nothing(tmp_path: Path) -> None:
    with relay(tmp_path) as running:
        for _ in range(100):
            running.program.signal(signal.SIGHUP)
        wait_for(lambda: any("SIGHUP" in str(line["msg"]) for line in running.log()), "the line about it")
        socket.create_connection(("127.0.0.1", running.port), 5).close()
        running.program.signal(signal.SIGTERM)

        assert running.program.wait(8) == 0, running.program.tail
        assert "Traceback" not in running.program.text


def _refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except ConnectionRefusedError:
        return True
    return False


def test_errors_in_the_configuration_are_printed_with_file_and_line_and_exit_with_2(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text('[[listen]]\nurl = "http://127.0.0.1:1935"\n\n[limits]\nplayer = 5\n')

    with twistd("--config", str(path)) as program:
        code = program.wait(15)

    assert code == EXIT_CONFIG
    assert f"{path}:2: listen[0].url: must be rtmp://" in program.text
    assert f"{path}:5: limits.player: " in program.text
    assert 'did you mean "players"' in program.text
    assert "Traceback" not in program.text


def test_errors_of_a_plugin_are_printed_with_file_and_line_too(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(
        f'[[listen]]\nurl = "rtmp://127.0.0.1:{free_port()}"\n[plugins.restream]\n[streams.a.restream.b]\n'
        f'url = "rtmp://user:{KEY}@host.example/live"\nkey = "{KEY}"\n'
    )

    with twistd("--config", str(path)) as program:
        code = program.wait(15)

    assert code == EXIT_CONFIG
    assert f"{path}:5: streams.a.restream.b.url: " in program.text
    assert KEY not in program.text
    assert "Traceback" not in program.text


def test_a_configuration_that_is_not_there_is_named_and_exits_with_2(tmp_path: Path) -> None:
    path = tmp_path / "nothing.toml"

    with twistd("--config", str(path)) as program:
        code = program.wait(15)

    assert code == EXIT_CONFIG
    assert str(path) in program.text
    assert "Traceback" not in program.text


def test_a_port_in_use_is_said_in_one_line_and_exits_with_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = tmp_path / "relay.toml"
        path.write_text(
            f'[[listen]]\nurl = "rtmp://127.0.0.1:{port}"\n[http]\nlisten = "127.0.0.1:0"\n[plugins.streamkeys]\n'
        )
        with twistd("--config", str(path)) as program:
            code = program.wait(15)

    assert code == 1
    assert f"cannot listen on rtmp://127.0.0.1:{port} (the port is in use; find who has it with: ss " in program.text
    assert "Traceback" not in program.text


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    port, http = free_port(), free_port()
    path = tmp_path / "relay.toml"
    path.write_text(
        f'[[listen]]\nurl = "rtmp://127.0.0.1:{port}"\n[http]\nlisten = "127.0.0.1:{http}"\n[plugins.streamkeys]\n'
    )
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    command = [sys.executable, str(Path(sys.executable).parent / "twistd"), "-n", "--pidfile=", "rtmp-relay"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])}
    with subprocess.Popen([*command, "--config", str(path)], cwd=ROOT, env=env, stdout=writing) as program:
        try:
            wait_for(lambda: _alive(http), "the relay", 20)
            for number in range(40):  # a line each, from an address each: much more than the pipe holds
                with socket.create_connection(("127.0.0.1", port), 5, (f"127.0.7.{number + 1}", 0)) as end:
                    end.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    assert end.recv(10), "the relay has stopped"
            assert _alive(http)
            os.close(writing)
            with open(reading, "rb") as pipe:
                program.terminate()
                said = pipe.read()
        finally:
            program.kill()
    assert said.count(b"hs.http_on_rtmp") >= 40


def _alive(http: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/healthz", timeout=3) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_time_follows_the_monotonic_clock() -> None:
    reactor: Any = MemoryReactorClock()

    use_monotonic_time(reactor)

    assert reactor.seconds is time.monotonic


def test_options_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UsageError):
        Options().parseOptions(["--no-such-option"])


def test_without_a_file_the_built_in_configuration_listens_on_this_machine_only() -> None:
    config = load(None)

    assert [listener.url for listener in config.listen] == ["rtmp://127.0.0.1:1935"]
    assert config.http.listen == "127.0.0.1:8080"


def test_everything_that_is_wrong_is_raised_at_once(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text('[play]\nmerge_ms = -1\n[http]\nlisten = "x"\n')

    with pytest.raises(ConfigFileError) as caught:
        load(path)

    assert "play.merge_ms" in str(caught.value)
    assert "http.listen" in str(caught.value)


@pytest.fixture
def log_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the log files that are opened, and rotate them at once when a signal asks for it."""
    opened: list[LogFile] = []
    open_file = LogFile.fromFullPath
    monkeypatch.setattr(LogFile, "fromFullPath", lambda name: opened.append(open_file(name)) or opened[-1])
    monkeypatch.setattr(reactor, "callFromThread", lambda call: call())
    yield
    for file in opened:
        file.close()


@pytest.mark.usefixtures("log_files")
@pytest.mark.parametrize(
    ("parent", "own"),
    [
        ({"nodaemon": 1}, True),
        ({"nodaemon": 1, "logfile": "-"}, True),
        ({"nodaemon": 1, "logfile": "relay.log"}, True),
        ({"nodaemon": 0, "logfile": "relay.log"}, True),
        ({"nodaemon": 0, "logfile": None}, True),
        ({"nodaemon": 0, "logfile": "-"}, False),  # twistd says that daemons cannot
        ({"nodaemon": 1, "syslog": True}, False),
        ({}, False),
    ],
)
def test_it_brings_its_own_log_except_for_syslog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parent: dict[str, Any], own: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)

    application = application_for(tmp_path, parent, CONFIG)

    assert (application.getComponent(ILogObserver, None) is not None) is own


def application_for(directory: Path, parent: dict[str, Any], text: str) -> Any:
    """Build what twistd would run."""
    path = directory / "relay.toml"
    path.write_text(text)
    options = Options()
    options.parseOptions(["--config", str(path)])
    options.parent = parent
    application: Any = Application("test")
    makeService(options).setServiceParent(application)
    return application


@pytest.mark.usefixtures("log_files")
def test_the_log_file_of_a_daemon_is_ours_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    KNOWN_SECRETS.add(secret := Secret(KEY))
    observer = application_for(tmp_path, {"nodaemon": 0}, CONFIG + "[log]\nlevel = 'warn'\n").getComponent(ILogObserver)

    for level in (LogLevel.info, LogLevel.warn):
        observer({"log_level": level, "log_namespace": "x", "log_format": f"a\x1b[2J\nb {KEY}", "log_time": 0.0})
    (line,) = (tmp_path / "twistd.log").read_text().splitlines()
    handlers[signal.SIGUSR1](signal.SIGUSR1, None)
    observer({"log_level": LogLevel.warn, "log_namespace": "x", "log_format": "next", "log_time": 0.0})

    assert secret.reveal() == KEY
    assert json.loads(line)["msg"] == "a\x1b[2J\nb ***"
    assert "\x1b" not in line
    assert (tmp_path / "twistd.log.1").read_text().splitlines() == [line]
    assert json.loads((tmp_path / "twistd.log").read_text())["msg"] == "next"


def test_a_bad_configuration_ends_the_command_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "relay.toml"
    path.write_text("nonsense = 1\n")
    options = Options()
    options.parseOptions(["-c", str(path)])

    with pytest.raises(SystemExit) as caught:
        makeService(options)

    assert caught.value.code == EXIT_CONFIG
    assert f"{path}:1: nonsense" in capsys.readouterr().err


@pytest.mark.parametrize("daemon", [False, True])
def test_a_port_in_use_ends_the_command_with_1_and_leaves_no_pid_file(tmp_path: Path, daemon: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "relay.toml").write_text(
            f'[[listen]]\nurl = "rtmp://127.0.0.1:{port}"\n[http]\nlisten = "127.0.0.1:{free_port()}"\n'
        )
        command = [sys.executable, str(Path(sys.executable).parent / "twistd"), *([] if daemon else ["-n"])]
        command += ["--pidfile=relay.pid", "--logfile=relay.log", "rtmp-relay", "--config=relay.toml"]
        ended = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=20,  # the parent of a daemon used to wait for ever
        )
    log = (tmp_path / "relay.log").read_text()

    assert ended.returncode == 1
    assert f"cannot listen on rtmp://127.0.0.1:{port} (the port is in use" in (ended.stderr if daemon else log)
    assert not (tmp_path / "relay.pid").exists()
    assert "Traceback" not in log


def test_an_orderly_stop_forgets_the_signal_that_asked_for_it() -> None:
    reactor: Any = MemoryReactorClock()
    reactor._exitSignal = signal.SIGTERM
    service = TwistdService(configuration(), reactor, own_log=False)
    done: list[object] = []
    before = signal.getsignal(signal.SIGTERM)

    service.stopService().addBoth(done.append)

    assert done
    assert signal.getsignal(signal.SIGTERM) is before
    assert reactor._exitSignal is None
