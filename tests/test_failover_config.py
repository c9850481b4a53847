"""`[streams.S.failover]`: the contract's defaults, the template, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from relay.config import Config, Failover
from relay.config_file import ConfigFileError
from relay.plugintables import load_config
from relay.stream.policy import FailoverOptions

FULL = Path(__file__).parent.parent / "etc" / "relay.full.toml"


def failover(tmp_path: Path, text: str, stream: str = "show") -> Failover:
    file = tmp_path / "relay.toml"
    file.write_text("[plugins.streamkeys]\nany_key = 'loopback'\n" + text)
    return load_config(file).config.failover(stream)


def refused(tmp_path: Path, option: str) -> str:
    with pytest.raises(ConfigFileError) as caught:
        failover(tmp_path, f"[streams.show.failover]\n{option}\n")
    (problem,) = caught.value.problems
    return f"{problem.line}: {problem.path}: {problem.message}"


def test_the_defaults_are_those_of_the_contract() -> None:
    assert Failover().options() == FailoverOptions(
        mode="auto",
        splice="fast",
        video_stall_ms=1000,
        audio_stall_ms=3000,
        failback="stay",
        clear_s=10,
        dwell_s=30,
        hold_s=60,
        slate="auto",
        on_clean_end="failover",
    )


def test_the_full_sample_shows_every_option_with_its_default() -> None:
    table = tomllib.loads(FULL.read_text("utf-8"))["streams"]["townhall"]["failover"]

    assert list(table) == list(Failover.model_fields)
    assert Failover(**table) == Failover()


def test_a_stream_has_its_own_table_and_others_that_of_the_template(tmp_path: Path) -> None:
    text = "[streams.show.failover]\nhold_s = 5\n[streams.bare.streamkeys]\n[streams.'*'.failover]\nhold_s = 7\n"

    assert failover(tmp_path, text, "show").hold_s == 5
    assert failover(tmp_path, text, "anything").hold_s == 7
    assert failover(tmp_path, text, "bare").hold_s == 60


@pytest.mark.parametrize(
    ("slate", "found"), [("pictures/slate.png", "{folder}/pictures/slate.png"), ("/srv/a.png", "/srv/a.png")]
)
def test_a_slate_counts_from_the_folder_of_the_file(tmp_path: Path, slate: str, found: str) -> None:
    table = failover(tmp_path, f"[streams.show.failover]\nslate = '{slate}'\n")

    assert table.slate == found.format(folder=tmp_path)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("hold_s = -1", "hold_s: must be at least 0 (got -1)"),
        ("hold_s = 1801", "must be at most 1800"),
        ("video_stall_ms = 99", "must be at least 100"),
        ("video_stall_ms = 1.5", "must be a whole number"),
        ("bitrate_percent = 91", "must be at most 90"),
        ('failback = "primary"', '(did you mean "prefer-primary"?)'),
        ('mode = "both"', 'must be one of "auto", "switch", "merge"'),
        ("video_stall = 5", '(did you mean "video_stall_ms"?)'),
        ('slate = "atuo"', 'must be "auto", "none", or a picture or clip such as "/srv/slate.png"'),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(tmp_path: Path, option: str, said: str) -> None:
    problem = refused(tmp_path, option)

    assert problem.startswith("4: streams.show.failover.")
    assert said in problem


def test_a_slate_may_be_a_file(tmp_path: Path) -> None:
    text = '[streams.show.failover]\nslate = "/srv/slate.png"\n'

    assert failover(tmp_path, text).options().slate == "/srv/slate.png"


def test_a_misspelt_table_is_found(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match="did you mean"):
        failover(tmp_path, "[streams.show.failovr]\nhold_s = 5\n")


def test_a_configuration_made_in_code_works_alike() -> None:
    config = Config(streams={"show": {"failover": {"splice": "clean"}}})

    assert config.failover("show").splice == "clean"
    assert config.failover("other") == Failover()
