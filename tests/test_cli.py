"""The operator's command line."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from relay import cli
from relay.cli import main
from tests.helpers.tls import Authority

ROOT = Path(__file__).parent.parent
GOOD = """
[plugins.streamkeys]
[streams.a.streamkeys]
primary = { env = "RELAY_TEST_KEY" }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "relay.toml"


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("option", [(), ("--config",), ("-c",)])
def test_a_good_file_is_ok(
    option: tuple[str, ...], file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_TEST_KEY", "a-key-that-is-long-enough")
    file.write_text(GOOD)
    code = run("check-config", *option, file)
    out, err = capsys.readouterr()

    assert (code, err) == (0, "")
    assert out == f"{file}: OK (1 plugins, 1 streams)\n"


def test_the_built_in_configuration_is_ok(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check-config") == 0
    assert capsys.readouterr() == ("built-in configuration: OK (4 plugins, 0 streams)\n", "")


def test_every_error_is_printed_and_the_exit_code_is_2(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("[limits]\nconnection = 1\n[plugins.streamkeys]\nanykey = 'off'\n[streams.a.streamkey]\n")
    code = run("check-config", file)
    out, err = capsys.readouterr()

    assert (code, out) == (2, "")
    assert err.splitlines() == [
        f'{file}:2: limits.connection: unknown key (did you mean "connections"?)',
        f'{file}:4: plugins.streamkeys.anykey: unknown key (did you mean "any_key"?)',
        f"{file}:5: streams.a.streamkey: nothing reads this table; the tables of a stream belong to enabled plugins "
        '(did you mean "streamkeys"?)',
    ]


def test_what_is_wrong_with_a_target_is_said_with_what_was_meant(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(
        "[plugins.restream]\n[streams.a.restream.b]\nurl = 'rtmp://h/live'\nkey = { env = 'K' }\nbakup_url = 'rtmp://i/live'\n"
        "[streams.a.restream.c]\nkey = { env = 'K' }\n"
    )
    code = run("check-config", file)

    assert code == 2
    assert capsys.readouterr().err.splitlines() == [
        f'{file}:5: streams.a.restream.b.bakup_url: unknown key (did you mean "backup_url"?)',
        f"{file}:6: streams.a.restream.c: needs url or preset",
    ]


def test_a_certificate_or_slate_that_is_not_on_this_machine_is_a_warning(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_TEST_KEY", "a-key-that-is-long-enough")
    file.write_text(
        f"[[listen]]\nurl = 'rtmps://h'\ncertificate = '{file.parent}/c.pem'\nprivate_key = '{file.parent}/k.pem'\n"
        f"{GOOD}[streams.a.failover]\nslate = '{file.parent}/slate.png'\n"
    )
    (file.parent / "k.pem").touch()
    code = run("check-config", file)

    assert code == 0
    assert capsys.readouterr().err.splitlines() == [
        f"{file}:3: warning: listen[0].certificate: cannot read {file.parent}/c.pem: No such file or directory",
        f"{file}:10: warning: streams.a.failover.slate: cannot read {file.parent}/slate.png: No such file or directory",
    ]


@pytest.mark.parametrize("table", ["restream", "restraem"])
def test_a_misspelt_plugin_table_hides_no_error_of_its_stream_tables(
    table: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(
        "[plugins.restraem]\nmerge = 1\n"
        f"[streams.a.{table}.b]\nurl = 'rtmp://h/live'\nkey = {{ env = 'K' }}\nbakup_url = 'rtmp://i/live'\n"
    )
    code = run("check-config", file)

    assert code == 2
    assert capsys.readouterr().err.splitlines() == [
        f'{file}:1: plugins.restraem: is not installed (did you mean "restream"?)',
        f'{file}:2: plugins.restraem.merge: unknown key (did you mean "merge_ms"?)',
        f'{file}:6: streams.a.{table}.b.bakup_url: unknown key (did you mean "backup_url"?)',
    ]


def test_a_misspelt_table_of_the_core_hides_no_error_inside(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(
        "[limts]\nconnection = 1\n"
        "[[lisen]]\nurl = 'rtmp://h'\n[[lisen]]\nurl = 'http://h'\n"
        "[plugin.restream]\nmerge = 1\n"
        "[stream.a.restream.b]\nurl = 'rtmp://h/live'\nkey = { env = 'K' }\nbakup_url = 'rtmp://i/live'\n"
        "[restream]\nmerge = 1\n"
    )
    code = run("check-config", file)

    assert code == 2
    assert [line.removeprefix(f"{file}:") for line in capsys.readouterr().err.splitlines()] == [
        '1: limts: unknown key (did you mean "limits"?)',
        '2: limts.connection: unknown key (did you mean "connections"?)',
        '3: lisen: unknown key (did you mean "listen"?)',
        '6: lisen[1].url: must be rtmp://HOST[:PORT] or rtmps://HOST[:PORT] (got "http://h")',
        '7: plugin: unknown key (did you mean "plugins"?)',
        '8: plugin.restream.merge: unknown key (did you mean "merge_ms"?)',
        '9: stream: unknown key (did you mean "streams"?)',
        '12: stream.a.restream.b.bakup_url: unknown key (did you mean "backup_url"?)',
        '13: restream: unknown key (did you mean "streams"?)',
    ]


def test_a_misspelt_or_unread_stream_table_hides_no_error_inside(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(
        "[plugins.restream]\n[plugins.streamkeys]\n"
        "[streams.a.restraem.b]\nurl = 'rtmp://h/live'\nkey = { env = 'K' }\nbakup_url = 'rtmp://i/live'\n"
        "[streams.a.failovr]\nhold = 1\n"
        "[streams.a.record]\ndirectori = 1\n"
        "[streams.a.nonesuch]\nx = 1\n"
    )
    code = run("check-config", file)

    unread = "nothing reads this table; the tables of a stream belong to enabled plugins"
    assert code == 2
    assert capsys.readouterr().err.splitlines() == [
        f'{file}:3: streams.a.restraem: {unread} (did you mean "restream"?)',
        f'{file}:6: streams.a.restraem.b.bakup_url: unknown key (did you mean "backup_url"?)',
        f'{file}:7: streams.a.failovr: {unread} (did you mean "failover"?)',
        f'{file}:8: streams.a.failovr.hold: unknown key (did you mean "hold_s"?)',
        f"{file}:9: streams.a.record: the plugin record is not enabled: add a table [plugins.record]",
        f"{file}:10: streams.a.record.directori: unknown key",
        f"{file}:11: streams.a.nonesuch: {unread} (known: failover, restream, streamkeys)",
    ]


CAS = "write the path of a PEM file with the CAs' certificates (-----BEGIN CERTIFICATE-----)"
LISTS = "write the path of a PEM file with the CAs' revocation lists (-----BEGIN X509 CRL-----)"


@pytest.mark.parametrize("kind", ["absent", "a directory", "DER", "a key", "the other one"])
def test_a_file_of_cas_or_of_what_they_revoked_that_cannot_be_used_is_a_warning(
    kind: str, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_TEST_KEY", "a-key-that-is-long-enough")
    authority = Authority(file.parent)
    ca, crl = file.parent / "ca.pem", file.parent / "crl.pem"
    match kind:
        case "a directory":
            ca.mkdir()
            crl.mkdir()
        case "DER":
            ca.write_bytes(authority.certificate.public_bytes(Encoding.DER))
            crl.write_bytes(b"\x30\x82")
        case "a key":
            _, key = authority.issue()
            ca.write_bytes(key.read_bytes())
            crl.write_bytes(key.read_bytes())
        case "the other one":
            ca.write_bytes(authority.revoke())
            crl.write_bytes(authority.file.read_bytes())
    file.write_text(
        f"{GOOD}[plugins.restream]\n[plugins.webhook]\nurl = 'https://h.example/'\nca_file = 'ca.pem'\n"
        "[streams.a.restream.one]\nurl = 'rtmps://h.example/live'\nkey = { env = 'RELAY_TEST_KEY' }\n"
        "ca_file = 'ca.pem'\ncrl_file = 'crl.pem'\n"
    )
    code = run("check-config", file)

    said = {"absent": "cannot read {}: No such file or directory", "a directory": "cannot read {}: Is a directory"}
    no_cas = said.get(kind, "{} is not a file of PEM certificates").format(ca)
    no_lists = said.get(kind, "{} is not a file of PEM revocation lists").format(crl)
    assert code == 0
    assert capsys.readouterr().err.splitlines() == [
        f"{file}:8: warning: plugins.webhook.ca_file: {no_cas}; {CAS}",
        f"{file}:12: warning: streams.a.restream.one.ca_file: {no_cas}; {CAS}",
        f"{file}:13: warning: streams.a.restream.one.crl_file: {no_lists}; {LISTS}",
    ]


def test_good_files_of_cas_and_of_what_they_revoked_are_no_warning(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_TEST_KEY", "a-key-that-is-long-enough")
    authority = Authority(file.parent, "ca")
    (file.parent / "crl.pem").write_bytes(authority.revoke())
    file.write_text(
        f"{GOOD}[plugins.restream]\n[streams.a.restream.one]\nurl = 'rtmps://h.example/live'\n"
        "key = { env = 'RELAY_TEST_KEY' }\nca_file = 'ca.pem'\ncrl_file = 'crl.pem'\n"
    )

    assert (run("check-config", file), capsys.readouterr().err) == (0, "")


def test_a_syntax_error_is_one_line_with_its_place(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("[limits]\nhandshake_s = 10s\n")

    assert run("check-config", file) == 2
    assert capsys.readouterr().err.startswith(f"{file}:2: not valid TOML: ")


def test_a_missing_file_is_an_error_not_a_traceback(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check-config", file) == 2
    assert capsys.readouterr().err == f"{file}:1: cannot be read: No such file or directory\n"


def test_a_secret_that_is_not_on_this_machine_is_a_warning(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD)

    assert run("check-config", file) == 0
    assert capsys.readouterr().err == (
        f"{file}:4: warning: streams.a.streamkeys.primary: the environment variable RELAY_TEST_KEY is not set\n"
    )


def test_a_secret_in_the_file_is_a_warning_that_does_not_show_it(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("[plugins.streamkeys]\n[streams.a.streamkeys]\nprimary = 'canary-key-000000001'\n")
    file.chmod(0o644)
    code = run("check-config", file)
    err = capsys.readouterr().err

    assert code == 0
    assert err.splitlines() == [
        f"{file}:3: warning: streams.a.streamkeys.primary: the secret itself stands in this file; "
        'better { env = "NAME" } or { file = "PATH" }',
        f"{file}:1: warning: holds secrets and can be read by everybody on this machine (chmod 600)",
    ]


LISTENER = "[[listen]]\nurl = 'rtmps://127.0.0.1:0'\ncertificate = 'server.pem'\nprivate_key = 'server.key'\n"


def test_a_certificate_that_is_here_but_does_not_load_is_an_error(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = Authority(file.parent)
    certificate, _ = authority.issue()
    _, other = authority.issue("other")
    other.rename(file.parent / "server.key")
    file.write_text(LISTENER)

    assert run("check-config", file) == 2
    assert f"{file}:3: listen[0].certificate: {certificate} and " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("days", "said"),
    [(-2.0, "expired 2.0 days ago"), (1.5, "expires in 1.5 days"), (4.0, "")],
)
def test_a_certificate_that_no_encoder_will_trust_much_longer_is_a_warning(
    file: Path, capsys: pytest.CaptureFixture[str], days: float, said: str
) -> None:
    Authority(file.parent).issue(days=days)
    file.write_text(LISTENER)

    assert run("check-config", file) == 0
    err = capsys.readouterr().err
    assert ("listen[0].certificate" in err) == bool(said)
    assert said in err


EXAMPLE = """
[[listen]]
url = "rtmp://0.0.0.0:1935"

[[listen]]
url = "rtmps://0.0.0.0:443"
certificate = "{directory}/fullchain.pem"
private_key = "{directory}/privkey.pem"

[http]
listen = "127.0.0.1:8080"
token = {{ file = "{directory}/api-token" }}

[plugins.streamkeys]
[plugins.restream]

[streams.townhall]
[streams.townhall.streamkeys]
primary = {{ env = "TOWNHALL_PRIMARY_KEY" }}
backup = {{ file = "{directory}/townhall-backup" }}

[streams.townhall.failover]
video_stall_ms = 1000
failback = "stay"

[streams.townhall.restream.youtube]
preset = "youtube"
key = {{ env = "YOUTUBE_KEY" }}

[streams.townhall.restream.archive]
url = "rtmps://archive.example/live"
key = {{ env = "ARCHIVE_KEY" }}
ca_file = "{directory}/archive-ca.pem"
backup_url = "rtmps://archive-b.example/live"
"""


def test_the_example_of_an_event_with_two_encoders_and_two_targets_is_good(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("TOWNHALL_PRIMARY_KEY", "YOUTUBE_KEY", "ARCHIVE_KEY")):
        monkeypatch.setenv(name, f"canary-key-{number:09}")
    authority = Authority(file.parent, "archive-ca")
    _, private_key = authority.issue("fullchain", "relay.example")
    private_key.rename(file.parent / "privkey.pem")
    for name in ("api-token", "townhall-backup"):
        (file.parent / name).write_text(f"canary-secret-of-{name}")
        (file.parent / name).chmod(0o600)
    file.write_text(EXAMPLE.format(directory=file.parent))

    code = run("check-config", file)

    assert (code, capsys.readouterr().err) == (0, "")


def test_a_file_without_anybody_who_decides_is_a_warning(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("")

    assert run("check-config", file) == 0
    assert "no enabled plugin decides who may publish" in capsys.readouterr().err


def test_what_only_a_plugin_sees_is_found_too(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("[plugins.streamkeys]\n[streams.a.streamkeys]\nx = 'same-key-00000001'\ny = 'same-key-00000001'\n")
    code = run("check-config", file)
    err = capsys.readouterr().err

    assert code == 2
    assert f"{file}:4: streams.a.streamkeys.y: the same key as a.x[0]" in err
    assert "same-key-0" not in err


def test_a_terminal_cannot_be_driven_by_a_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text('"\\u001b[2J\\n" = 1\n')

    assert run("check-config", file) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_the_plugins_that_are_installed_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plugins", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}

    assert rows["streamkeys"]["distribution"] == "rtmp-relay"
    assert set(rows["streamkeys"]["hooks"]) == {"authorize_publish", "authorize_play"}
    assert run("plugins") == 0
    assert "streamkeys" in capsys.readouterr().out


def test_the_schema_describes_core_and_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config-schema") == 0
    schema = json.loads(capsys.readouterr().out)
    definitions = schema["$defs"]
    streamkeys = schema["properties"]["plugins"]["properties"]["streamkeys"]["$ref"].rpartition("/")[2]
    per_stream = schema["properties"]["streams"]["additionalProperties"]["properties"]["streamkeys"]["$ref"]

    assert schema["properties"]["listen"]["type"] == "array"
    assert "chunk" in str(definitions["Limits"]["properties"]["chunk_streams"]["description"]).lower()
    assert set(definitions[streamkeys]["properties"]) == {"any_key", "unknown", "min_length"}
    assert "play" in definitions[per_stream.rpartition("/")[2]]["properties"]


@pytest.mark.parametrize("line", ["my-key\n", "my-key", "my-key\r\n"])
def test_hash_key_prints_what_the_configuration_takes(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(line))

    assert run("hash-key") == 0
    assert capsys.readouterr().out == f"sha256:{hashlib.sha256(b'my-key').hexdigest()}\n"


def test_hash_key_without_a_key_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))

    assert run("hash-key") == 2


def test_run_hands_over_to_twistd(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setenv("RELAY_TEST_KEY", "a-key-that-is-long-enough")
    monkeypatch.setattr(sys, "argv", ["rtmp-relay"])
    monkeypatch.setattr(cli.twistd, "run", lambda: started.append(sys.argv[1:]))
    file.write_text(GOOD)

    assert run("run", "--config", file) == 0
    assert run("run") == 0
    assert started == [
        ["--nodaemon", "--pidfile=", "rtmp-relay", "--config", str(file)],
        ["--nodaemon", "--pidfile=", "rtmp-relay"],
    ]


def test_run_does_not_start_with_a_wrong_file_or_without_its_secrets(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.twistd, "run", lambda: pytest.fail("started"))
    file.write_text("[limit]\n")
    assert run("run", file) == 2
    file.write_text(GOOD)

    assert run("run", file) == 2
    assert "RELAY_TEST_KEY is not set" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["fly"], ["check-config", "a", "b"]])
def test_a_wrong_command_line_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2


def test_a_reader_that_has_enough_gets_no_traceback() -> None:
    command = [sys.executable, "-c", "from relay.cli import main; raise SystemExit(main(['config-schema']))"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(["plugins", "."])}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        said = program.stderr.read()

    assert b"Traceback" not in said
    assert b"Error" not in said


CHECK_KEY = "canary-check-77aa01"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([f"rtmp://live.example/live2/{CHECK_KEY}"], "seems to hold the stream key"),
        ([f"rtmps://live.example/app?token={CHECK_KEY}"], "holds a secret in its query"),
        ([f"rtmp://user:{CHECK_KEY}@live.example/live"], "user name or password"),
        ([f"{CHECK_KEY}"], "must start with rtmp://"),
        ([], "nothing to check"),
        (["--preset", "twich"], "did you mean twitch?"),
        (["--preset", "ivs"], "no address of its own"),
        (["--target", "townhall"], "write STREAM/TARGET"),
        (["--target", "townhall/youtube"], "needs --config FILE"),
        (["--target", "a/b", "--preset", "twitch"], "leave URL and --preset out"),
        (["rtmp://live.example/live", "--key-env", "RELAY_NO_SUCH_KEY"], "RELAY_NO_SUCH_KEY is not set"),
        (["rtmp://live.example/live", "--key-env", "A", "--key-file", "b"], "write one of them"),
        (["rtmp://live.example/live", "--ca-file", "x", "--no-publish"], "for rtmps:// only"),
        (["rtmps://live.example/live", "--ca-file", "/no/such.pem", "--no-publish"], "cannot read /no/such.pem"),
        (["rtmp://live.example/live", "--mbps", "200", "--destinations", "9", "--no-publish"], "at most 300 Mbit/s"),
    ],
)
def test_check_refuses_what_it_cannot_do_and_repeats_no_key(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))

    assert run("check", *arguments) == 2
    out, err = capsys.readouterr()
    assert words in err
    assert CHECK_KEY not in out + err


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("townhall/nowhere", "the stream has no target nowhere"),
        ("townhal/youtube", "there is no table [streams.townhal.restream]"),
        ("townhall/youtube", "the environment variable RELAY_TEST_KEY is not set"),
    ],
)
def test_check_says_which_part_of_a_target_is_not_there(
    target: str, words: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(
        "[plugins.streamkeys]\n[plugins.restream]\n[streams.townhall.restream.youtube]\n"
        'preset = "youtube"\nkey = { env = "RELAY_TEST_KEY" }\n'
    )

    assert run("check", "--target", target, "--config", file) == 2
    assert words in capsys.readouterr().err


def test_without_a_key_a_check_goes_as_far_as_it_can() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-m", "relay", "check", f"rtmp://127.0.0.1:{port}/live", "--timeout", "2"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["plugins", "."])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=45,
        check=False,
    )

    assert done.returncode == 1, done.stderr
    assert "no key was given" in done.stdout
    assert f"refuses connections to port {port}" in done.stdout


def test_a_check_does_not_wait_for_a_name_server_that_hangs() -> None:
    program = (
        "import socket, time\n"
        "socket.getaddrinfo = lambda *anything: time.sleep(60)\n"
        "from relay.cli import main\n"
        "raise SystemExit(main(['check', 'rtmp://slow.example/live', '--no-publish', '--timeout', '0.2']))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(["plugins", "."])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True, timeout=45, check=False
    )

    assert done.returncode == 1, done.stderr
    assert "This machine's DNS does not answer." in done.stdout
