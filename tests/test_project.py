"""The project around the code: the floors, the documentation, the service file, the wheel."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from relay.api import Sink
from relay.cli import main
from relay.pluginfind import import_plugin, plugin_from_class
from relay.plugintables import load_config

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_no_module_imports_from_a_floor_above_its_own() -> None:
    code = "import sys; sys.path[:0] = ['.', 'plugins']; from importlinter.cli import lint_imports_command as c; c()"

    result = run(sys.executable, "-c", code)

    assert result.returncode == 0, result.stdout + result.stderr


def test_every_package_is_in_the_floors_the_wheel_and_the_linter() -> None:
    plugins = {path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").exists()}

    assert {f"plugins/{name}" for name in plugins} <= set(
        PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    )
    assert plugins <= set(PROJECT["tool"]["importlinter"]["root_packages"])
    entry_points = PROJECT["project"]["entry-points"]["rtmp_relay"].values()
    assert {value.partition(":")[0] for value in entry_points} == plugins


def test_the_documentation_has_no_loose_ends() -> None:
    result = run(sys.executable, "docs/check.py")

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "operations.md"], ids=lambda page: page.name)
def test_every_configuration_in_the_documentation_is_accepted(page: Path, tmp_path: Path) -> None:
    texts = blocks(page, "toml")
    assert texts
    for text in texts:
        (tmp_path / "relay.toml").write_text(text)
        load_config(tmp_path / "relay.toml")  # raises with every problem


COMMANDS = sorted(
    {
        name
        for page in PAGES
        for text in blocks(page, "sh")
        for name in re.findall(r"(?<!-n )rtmp-relay ([a-z-]+)", text)
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_documentation_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])

    assert ended.value.code == 0
    assert f"rtmp-relay {command}" in capsys.readouterr().out


def test_the_promised_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert {"run", "demo", "test", "lint", "types", "bench", "docs", "soak", "clean", "wheel"} <= targets


def test_the_example_plugin_of_the_documentation_is_a_plugin() -> None:
    code, *_ = blocks(ROOT / "docs" / "plugins.md", "python")  # what follows are excerpts
    names: dict[str, object] = {}
    exec(compile(code, "docs/plugins.md", "exec"), names)
    installed = {"example": [plugin_from_class("example", names["ExamplePlugin"])]}

    plugin = import_plugin("example", installed)

    assert set(plugin.hooks) == {"authorize_publish", "open_sinks", "on_event"}
    assert isinstance(names["PictureCounter"](None), Sink)


def test_the_unit_starts_what_exists_and_gives_no_rights() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((ROOT / "etc" / "rtmp-relay.service").read_text())
    service = unit["Service"]

    assert "twistd --nodaemon --pidfile= rtmp-relay --config" in service["ExecStart"]
    assert service["CapabilityBoundingSet"] == "CAP_NET_BIND_SERVICE"
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == service["DynamicUser"] == "yes"
    assert (service["Type"], service["WatchdogSec"], service["LimitCORE"]) == ("notify", "30", "0")


def test_systemd_itself_finds_the_unit_tight() -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze: apt install systemd")

    result = run(program, "security", "--offline=true", "--threshold=20", "etc/rtmp-relay.service")

    assert result.returncode == 0, result.stdout[-2000:] + result.stderr


def test_what_prints_serves_or_stores_never_reveals_a_secret() -> None:
    blind = ["http/*", "stream/*", "media/*", "mux/*", "log*", "views", "events", "hookcalls", "pluginhost", "service"]
    files = [path for pattern in blind for path in (ROOT / "relay").glob(f"{pattern}.py")]

    assert len(files) > 20
    assert [path.name for path in files if ".reveal(" in path.read_text()] == []


def test_changelog_fragments_are_named_so_that_a_release_can_join_them() -> None:
    kinds = "feature|bugfix|breaking|security|performance|plugin-api|doc"
    names = [path.name for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md"]

    assert names
    assert [name for name in names if not re.fullmatch(rf"(\d+|\+[a-z0-9-]+)\.({kinds})\.md", name)] == []


def test_the_wheel_holds_the_twistd_plugin_and_no_package_of_twisteds(tmp_path: Path) -> None:
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    result = run(sys.executable, "-c", code, str(tmp_path))
    assert result.returncode == 0, result.stderr
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    assert "twisted/plugins/rtmp_relay.py" in names
    assert "relay/py.typed" in names
    assert "relay_streamkeys/__init__.py" in names
    strays = [n for n in names if n in ("twisted/__init__.py", "twisted/plugins/__init__.py") or "dropin.cache" in n]
    assert strays == []
    assert {name.split("/")[0] for name in names if not name.startswith("rtmp_relay-")} == {
        "relay",
        "twisted",
        *(
            package.removeprefix("plugins/")
            for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
        ),
    }
