"""The configuration file: what is accepted, and what a person reads when something is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay.config import BUILT_IN, Config, Http, Listen, open_source, parse
from relay.config_file import MAX_FILE_BYTES, ConfigFileError, Source, read_source
from relay.config_limits import Limits
from relay.errors import ConfigError
from relay.plugintables import load_config
from relay.rtmp.limits import AFTER_AUTH, BEFORE_AUTH
from relay.secretref import SecretRef, find_secrets


def problems_of(text: str) -> list[str]:
    """Return what is wrong with *text*, one line each."""
    config, problems = parse(Source(text, file="relay.toml"))
    assert (config is None) == bool(problems)
    return [str(problem) for problem in problems]


def config_of(text: str) -> Config:
    config, problems = parse(Source(text, file="relay.toml"))
    assert config is not None, problems
    return config


def refusal_of(data: bytes, tmp_path: Path) -> str:
    """Return what `read_source` says about a file that holds *data*."""
    path = tmp_path / "relay.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigFileError) as caught:
        read_source(path)
    return str(caught.value).removeprefix(f"{path}:")


RECORD = {"directory": "var/recordings", "enabled": False}


def test_the_built_in_configuration_listens_on_loopback_only() -> None:
    config, problems = parse(open_source(None))

    assert problems == []
    assert config is not None
    assert [(one.host, one.port, one.tls) for one in config.listen] == [("127.0.0.1", 1935, False)]
    assert (config.http.host, config.http.port) == ("127.0.0.1", 8080)
    assert config.plugins == {"streamkeys": {"any_key": "loopback"}, "hls": {}, "restream": {}, "record": RECORD}
    assert BUILT_IN.count("127.0.0.1") == 2


def test_the_names_and_defaults_of_the_contract() -> None:
    limits = Limits()

    assert config_of("").play.merge_ms == 0
    assert (limits.connections, limits.unauthenticated, limits.unauthenticated_per_ip) == (12_000, 200, 20)
    assert (limits.players, limits.publishers) == (10_000, 1_000)
    assert (limits.handshake_s, limits.publish_idle_s) == (10, 10)


def test_the_default_limits_are_those_of_the_wire() -> None:
    assert Limits().wire_before() == BEFORE_AUTH
    assert Limits().wire_after() == AFTER_AUTH


def test_every_limit_says_its_reason() -> None:
    assert [name for name, field in Limits.model_fields.items() if len(field.description or "") < 12] == []


def test_tables_of_plugins_and_streams_are_kept_as_they_are_in_their_order() -> None:
    config = config_of('[plugins.b]\nx = 1\n[plugins.a]\n[streams."a/b".b]\ny = [1]\n[streams."*".a]\n')

    assert list(config.plugins) == ["b", "a"]
    assert config.plugins["b"] == {"x": 1}
    assert config.streams == {"a/b": {"b": {"y": [1]}}, "*": {"a": {}}}


def test_all_errors_come_at_once_each_with_its_line() -> None:
    text = """\
[[listen]]
url = "rtmp://0.0.0.0:1935"
[[listen]]
url = "ftp://h"
certificat = "x"
[limits]
connections = "10s"
handshake_s = -1
[play]
merg_ms = 3
[log]
format = "jason"
[stremas.x]
"""
    assert sorted(problems_of(text)) == [
        'relay.toml:10: play.merg_ms: unknown key (did you mean "merge_ms"?)',
        'relay.toml:12: log.format: must be one of "auto", "text", "json" (did you mean "json"?)',
        'relay.toml:13: stremas: unknown key (did you mean "streams"?)',
        'relay.toml:4: listen[1].url: must be rtmp://HOST[:PORT] or rtmps://HOST[:PORT] (got "ftp://h")',
        'relay.toml:5: listen[1].certificat: unknown key (did you mean "certificate"?)',
        "relay.toml:7: limits.connections: must be a whole number; the unit is in the key's name "
        '(got "10s", did you mean 10?)',
        "relay.toml:8: limits.handshake_s: must be more than 0 (got -1)",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[limits]\nplayers = true", "2: limits.players: must be a whole number"),
        ("[limits]\nplayers = 1.5", "2: limits.players: must be a whole number"),
        ("[limits]\nhandshake_s = inf", "2: limits.handshake_s: must be a finite number"),
        ("[limits]\nhandshake_s = nan", "2: limits.handshake_s: must be a finite number"),
        ("[limits]\nplayers = 0", "2: limits.players: must be at least 1 (got 0)"),
        ("[limits]\nplayers = 2026-01-01", "2: limits.players: must be a whole number"),
        ("[limits]\nqueue_bytes = 9999999999", "2: limits.queue_bytes: must be at most 1073741824 (got 9999999999)"),
        ("[listen]\nurl = 'rtmp://h'", "1: listen: must be a list of tables: write [[listen]]"),
        ("[[http]]\nlisten = '127.0.0.1:80'", "1: http: must be one table: write [http]"),
        ("[streams.a]\n[[streams.a.failover]]", "2: streams.a.failover: must be one table: write [streams.a.failover]"),
        ("[log]\nformat = 'xml'", '2: log.format: must be one of "auto", "text", "json" END'),
        ("limits = 3", "1: limits: must be a table"),
        ("plugins = 3", "1: plugins: must be a table"),
        ("[plugins]\nhls = true", "2: plugins.hls: must be a table"),
        ("[streams.a]\nx = 1", "2: streams.a.x: must be a table"),
        ("[rtmp]\napps = ['a/b']", "2: rtmp.apps[0]: not an app"),
        ("[[listen]]", "1: listen[0].url: is required"),
        ("listen = []", "1: listen: at least one [[listen]] is needed"),
        ("[[listen]]\nurl = 5", "2: listen[0].url: must be a string"),
        ("[[listen]]\nurl = 'rtmp://h:70000'", "2: listen[0].url: the port must be at most 65535"),
        ("[[listen]]\nurl = 'rtmps://h'", "1: listen[0]: rtmps needs both certificate and private_key"),
        ("[[listen]]\nurl = 'rtmp://h'\ncertificate = 'x'", "1: listen[0]: certificate and private_key are for rtmps"),
        ("[[listen]]\nurl='rtmp://h'\n[[listen]]\nurl='rtmp://h'", "1: listen: two listeners on h port 1935"),
        (
            "[[listen]]\nurl='rtmp://0.0.0.0:1936'\n[[listen]]\nurl='rtmp://localhost:1936'",
            "1: listen: two listeners on 0.0.0.0 and localhost, port 1936",
        ),
        ("[[listen]]\nurl='rtmp://[::]'\n[[listen]]\nurl='rtmp://127.0.0.1'", "1: listen: two listeners on :: and 127"),
        (
            "[[listen]]\nurl='rtmp://0.0.0.0:80'\n[http]\nlisten = '127.0.0.1:80'",
            "3: http: port 80 of 127.0.0.1, where HTTP would listen, is taken by rtmp://0.0.0.0:80",
        ),
        (
            "[[listen]]\nurl='rtmp://0.0.0.0:8080'",
            "1: port 8080 of 127.0.0.1, where HTTP would listen, is taken by rtmp:",
        ),
        ("[http]\nlisten = '0.0.0.0:80'", "1: http: a token is needed to listen on 0.0.0.0:80"),
        (
            "[http]\nembed_in = ['https://x.example/page']",
            '2: http.embed_in: must hold sites such as "https://www.example"',
        ),
        ("[http]\nembed_in = ['*; script-src *']", '2: http.embed_in: must hold sites such as "https://www.example"'),
        ("[http]\nlisten = 'h'", '2: http.listen: must be HOST:PORT, for example "127.0.0.1:8080"'),
        ("[http]\ntoken = ''", "2: http.token: must not be empty"),
        ("[http]\ntoken = 5", '2: http.token: must be { env = "NAME" }'),
        ("[http]\ntoken = { env = 'A', file = 'b' }", '2: http.token: must be { env = "NAME" }'),
    ],
)
def test_a_wrong_value_is_refused_in_words(text: str, message: str) -> None:
    (problem,) = problems_of(text)

    assert f"{problem} END".startswith(f"relay.toml:{message}")


@pytest.mark.parametrize("name", ["../x", "a/../b", ".x", "a b", "ü", "a\\n", "a/b/c/d/e", "", "x" * 129])
def test_a_stream_name_outside_the_grammar_is_refused(name: str) -> None:
    (problem,) = problems_of(f'[streams."{name}".streamkeys]')

    assert "not a stream name" in problem
    assert problem.startswith("relay.toml:1: streams.")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rtmp://h", ("h", 1935, False)),
        ("rtmp://[::]:1936/", ("::", 1936, False)),
        ("rtmp://127.0.0.1:0", ("127.0.0.1", 0, False)),
    ],
)
def test_a_listener_knows_host_and_port(url: str, expected: tuple[str, int, bool]) -> None:
    listen = Listen(url=url)

    assert (listen.host, listen.port, listen.tls) == expected


def test_rtmps_listens_on_443_unless_said_otherwise() -> None:
    listen = Listen(url="rtmps://h", certificate=Path("c"), private_key=Path("k"))

    assert (listen.port, listen.tls) == (443, True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("rtmp://127.0.0.1:1936", "rtmp://127.0.0.2:1936"),
        ("rtmp://0.0.0.0:1936", "rtmp://0.0.0.0:1937"),
        ("rtmp://0.0.0.0:1936", "rtmp://[::1]:1936"),
        ("rtmp://0.0.0.0:0", "rtmp://127.0.0.1:0"),
    ],
)
def test_listeners_that_do_not_meet_are_allowed(one: str, other: str) -> None:
    config = config_of(f"[[listen]]\nurl = '{one}'\n[[listen]]\nurl = '{other}'")

    assert [listen.url for listen in config.listen] == [one, other]


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "[::1]:1", "localhost:1", "127.8.8.8:1"])
def test_http_on_loopback_needs_no_token(listen: str) -> None:
    assert Http(listen=listen).token is None


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "relay.example:1", "localhost.example:1"])
def test_http_beyond_loopback_needs_a_token(listen: str) -> None:
    with pytest.raises(ValueError, match="token is needed"):
        Http(listen=listen)

    assert Http(listen=listen, token=SecretRef.of("t")).token


# Files.


def test_a_byte_order_mark_and_tabs_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_bytes(b"\xef\xbb\xbf[play]\r\n\tmerge_ms\t=\t5\r\n[limits]\r\nplayer = 1\r\n")
    config, problems = parse(read_source(path))

    assert config is None
    assert [(problem.line, problem.path) for problem in problems] == [(4, "limits.player")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a = 1\n\n[x\n", "3: not valid TOML: "),
        (b"[limits]\nhandshake_s = 10s\n", "2: not valid TOML: "),
        (b"[streams.a]\n[streams.a]\n", "2: not valid TOML: Cannot declare"),
        (b'a = "x', "1: not valid TOML: Unterminated string (end of the file)"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "3: is not a text file (NUL byte)"),
        (b"a = 1\nb = '\xff'\n", "2: is not UTF-8 text (byte 0xff)"),
        ("a = 1".encode("utf-16"), "1: is UTF-16; save it as UTF-8"),
        (b"a = " + b"9" * 5000, "1: not valid TOML: Exceeds the limit"),
        (b"a = " + b"[" * 20_000, "1: "),
    ],
)
def test_a_file_that_is_not_toml_is_refused_with_its_line(data: bytes, message: str, tmp_path: Path) -> None:
    assert refusal_of(data, tmp_path).startswith(message)


def test_a_number_with_a_unit_gets_a_hint(tmp_path: Path) -> None:
    said = refusal_of(b"[limits]\nhandshake_s = 10s\n", tmp_path)

    assert "did you mean 10?" in said


@pytest.mark.parametrize(("size", "accepted"), [(-1, True), (0, True), (1, False)])
def test_a_file_of_more_than_1_mib_is_refused(size: int, accepted: bool, tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_bytes(b"#" * (MAX_FILE_BYTES + size))
    if accepted:
        assert read_source(path).data == {}
    else:
        with pytest.raises(ConfigFileError, match="larger than 1024 KiB"):
            read_source(path)


@pytest.mark.parametrize("what", ["missing", "directory"])
def test_a_file_that_cannot_be_read_is_an_error_not_a_crash(what: str, tmp_path: Path) -> None:
    path = tmp_path if what == "directory" else tmp_path / "missing.toml"
    with pytest.raises(ConfigFileError, match="cannot be read"):
        read_source(path)


def test_deep_nesting_is_refused_by_the_models_too() -> None:
    deep = "[plugins.x]\na = " + "[" * 300 + "]" * 300
    (problem,) = problems_of(deep)

    assert "nested too deeply" in problem


def test_an_error_can_be_caught_as_the_projects_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_source(tmp_path / "missing.toml")


# Secrets.


def test_a_secret_in_the_file_never_shows_in_an_error() -> None:
    text = """\
[http]
token = ["CANARY-1"]
[streams.a.streamkeys]
primry = "CANARY-2"
[[listen]]
url = "rtmp://u:CANARY-3@h/live/CANARY-4?k=CANARY-5"
[limits]
players = "CANARY-6"
"""
    shown = "\n".join(problems_of(text))

    assert len(shown.splitlines()) == 3
    assert "CANARY" not in shown


def test_a_secret_shows_in_no_repr_of_the_configuration() -> None:
    config = config_of('[http]\ntoken = "CANARY-token"')

    assert "CANARY" not in repr(config) + str(config) + config.model_dump_json()
    assert config.http.token is not None
    assert config.http.token.secret.reveal() == "CANARY-token"


def test_a_secret_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_TEST_TOKEN", "from-env\n")
    (found,) = find_secrets(config_of('[http]\ntoken = { env = "RELAY_TEST_TOKEN" }').http)

    assert found[0] == ("token",)
    assert found[1].resolve().reveal() == "from-env"


def test_a_secret_file_is_relative_to_the_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")

    assert SecretRef("file", "token").resolve(tmp_path).reveal() == "from-file"


def test_systemds_credentials_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("etc", "credentials"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(name)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))

    assert SecretRef("file", "token").resolve(tmp_path / "etc").reveal() == "credentials"


@pytest.mark.parametrize(
    ("kind", "where", "message"),
    [
        ("env", "RELAY_TEST_UNSET", "the environment variable RELAY_TEST_UNSET is not set"),
        ("env", "RELAY_TEST_EMPTY", "is empty"),
        ("file", "missing", "cannot read"),
        ("file", "empty", "is empty"),
        ("file", "binary", "is not UTF-8 text"),
        ("file", "large", "is larger than 16 KiB"),
        ("file", ".", "cannot read"),
    ],
)
def test_a_secret_that_is_not_there_says_where_it_was_looked_for(
    kind: str, where: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_TEST_EMPTY", "\n")
    (tmp_path / "empty").write_bytes(b"\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"x" * 16_385)
    reference = SecretRef("env" if kind == "env" else "file", where)
    with pytest.raises(ConfigError, match=message):
        reference.resolve(tmp_path)


@pytest.mark.parametrize(("value", "exposed"), [("plain", True), ("sha256:" + "0" * 64, False), ("sha256:short", True)])
def test_only_a_secret_that_can_be_read_from_the_file_is_exposed(value: str, exposed: bool) -> None:
    assert SecretRef.of(value).exposed is exposed


def test_dollar_signs_in_a_value_are_left_alone() -> None:
    os.environ.setdefault("HOME", "/root")
    token = config_of('[http]\ntoken = "a$HOME${HOME}"').http.token

    assert token is not None
    assert token.secret.reveal() == "a$HOME${HOME}"


def test_relative_paths_count_from_the_folder_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("[[listen]]\nurl = 'rtmps://h'\ncertificate = 'tls/chain.pem'\nprivate_key = '/etc/key.pem'\n")

    config, problems = parse(read_source(file))

    assert problems == []
    assert config is not None
    assert config.listen[0].certificate == tmp_path / "tls" / "chain.pem"
    assert config.listen[0].private_key == Path("/etc/key.pem")


def test_so_do_those_of_plugins_and_without_a_file_they_count_from_the_working_directory(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("[plugins.streamkeys]\n[plugins.record]\ndirectory = 'recordings'\n")

    def directory(path: Path | None) -> object:
        found = {table.plugin.name: table.config for table in load_config(path).plugins}["record"]
        return found.model_dump()["directory"]

    assert directory(file) == tmp_path / "recordings"
    assert directory(None) == Path("var/recordings")
