"""What the demo and the fake platform of the command line are made of. `.ci/run` runs the demo itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay import demo
from relay.cli import main
from relay.plugintables import load_config
from relay.testing_faults import TLS_FAULTS


def test_the_configuration_of_the_demo_is_a_good_one(tmp_path: Path) -> None:
    keys = {name: f"demo-{name}-0123456789" for name in (*demo.FEEDS, *demo.PLATFORMS)}
    path = tmp_path / "relay.toml"
    path.write_text(demo.configuration(keys, {"youtube": 19351, "twitch": 19352}))
    path.chmod(0o600)
    loaded = load_config(path)

    assert {one.plugin.name for one in loaded.plugins} == {"streamkeys", "hls", "record", "restream"}
    assert set(loaded.config.streams) == {demo.STREAM}


def test_a_pause_is_as_long_as_a_target_gets_nothing() -> None:
    pauses = demo.Pauses()
    for now, sent in ((0.0, 10), (0.1, 20), (0.2, 20), (0.5, 20), (0.6, 30), (0.7, 40)):
        pauses.note({"targets": [{"name": "out", "bytes_sent": sent}]}, now)

    assert pauses.longest["out"] == pytest.approx(0.5)


def test_a_look_that_took_long_is_no_pause() -> None:
    pauses = demo.Pauses()
    pauses.note({"targets": [{"name": "out", "bytes_sent": 10}]}, 0.0)
    pauses.note({"targets": [{"name": "out", "bytes_sent": 90}]}, 2.5, steady=False)

    assert pauses.longest["out"] == 0.0


def test_a_fault_that_there_is_not_is_refused_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fake-platform", "--fault", "stal"]) == 2
    assert "did you mean stall?" in capsys.readouterr().err


def test_an_app_that_the_manners_do_not_have_is_refused_not_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fake-platform", "--listen", "rtmp://127.0.0.1:0/live", "--manners", "twitch"]) == 2
    assert capsys.readouterr().err == "--listen: with the manners of twitch the app is app; leave live out\n"


@pytest.mark.parametrize("fault", sorted(TLS_FAULTS))
def test_a_fault_of_tls_needs_tls(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fake-platform", "--listen", "rtmp://127.0.0.1:0", "--fault", fault]) == 2
    assert capsys.readouterr().err == f"--fault: {fault} is for rtmps:// only; write --listen rtmps://HOST:PORT\n"


def test_the_help_of_a_fake_platform_says_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fake-platform", "--help"])

    assert "half-open" in capsys.readouterr().out
