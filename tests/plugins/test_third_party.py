"""A plugin of somebody else: built, installed, found by its entry point, used, and refused when its options are wrong.

Everything happens in a directory of its own and without a network; hatchling and pip are those of the test extras.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "relay-greylist"
version = "3.1"
dependencies = ["rtmp-relay>=0.1"]

[project.entry-points.rtmp_relay]
greylist = "relay_greylist:GreylistPlugin"

[tool.hatch.build.targets.wheel]
packages = ["relay_greylist"]
"""

PLUGIN = '''
"""Refuses encoders from listed addresses, and lets the others publish under their key."""

from relay.api import Allow, ConfigError, ConfigModel, Context, Decision, Deny, PublishRequest, hookimpl, is_public_name


class GreylistPlugin:
    class Config(ConfigModel):
        refuse: list[str] = []

    def __init__(self, config: Config, context: Context) -> None:
        if "" in config.refuse:
            raise ConfigError("refuse", "an address is empty")
        self.refuse = config.refuse

    @hookimpl
    def authorize_publish(self, request: PublishRequest) -> Decision:
        if request.peer in self.refuse:
            return Deny(reason="greylisted")
        name = request.stream_key.reveal()
        return Allow(stream_name=name) if is_public_name(name) else Deny(reason="not a name")
'''

CONTRACT = """
from relay.testing import PluginContract
from relay_greylist import GreylistPlugin


class TestGreylist(PluginContract):
    name = "greylist"
    plugin = GreylistPlugin
    config = {"refuse": ["192.0.2.9"]}
    bad_configs = (({"refuse": 5}, "plugins.greylist.refuse"), ({"refuse": [""]}, "plugins.greylist.refuse"))
"""

USE = """
import sys
from pathlib import Path
from twisted.internet.task import Clock
from relay.plugintables import load_config
from relay.pluginhost import PluginHost
from relay.testing import publish_request, result_of

host = PluginHost(load_config(Path(sys.argv[1])).config, clock=Clock())
for peer in ("192.0.2.9", "192.0.2.1"):
    print(type(result_of(host.authorize_publish(publish_request("show", peer=peer)))).__name__)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build and install the distribution; return the directory it is installed in."""
    project, site = tmp_path_factory.mktemp("greylist"), tmp_path_factory.mktemp("site")
    (project / "pyproject.toml").write_text(PYPROJECT)
    (project / "relay_greylist").mkdir()
    (project / "relay_greylist" / "__init__.py").write_text(PLUGIN)
    (project / "relay_greylist" / "README.md").write_text("# greylist\n\n| `refuse` | addresses to refuse |\n")
    (project / "test_contract.py").write_text(CONTRACT)
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    python(site, "-m", "pip", "install", *options, "--target", str(site), str(project), check=True)
    (site / "test_contract.py").write_text(CONTRACT)
    return site


def python(site: Path, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    """Run Python with *site* on its path, as if the plugin were installed beside the relay."""
    root = Path(__file__).parent.parent.parent
    path = os.pathsep.join((str(site), str(root), str(root / "plugins")))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=site, env=environment, capture_output=True, text=True, timeout=120
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "relay.toml"
    path.write_text(text)
    return str(path)


def test_it_is_found_by_its_entry_point(site: Path) -> None:
    listed = json.loads(python(site, "-m", "relay.cli", "plugins", "--json", check=True).stdout)

    assert {
        "name": "greylist",
        "version": "3.1",
        "distribution": "relay-greylist",
        "hooks": ["authorize_publish"],
    } in listed


def test_it_decides(site: Path, tmp_path: Path) -> None:
    config = write(tmp_path, '[plugins.greylist]\nrefuse = ["192.0.2.9"]\n')

    assert python(site, "-c", USE, config, check=True).stdout.split() == ["Deny", "Allow"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("refuse = 5", "plugins.greylist.refuse: must be a list"),
        ("refuse = ['']", "plugins.greylist.refuse: an address is empty"),
        ("refuze = []", 'plugins.greylist.refuze: unknown key (did you mean "refuse"?)'),
    ],
)
def test_wrong_options_are_refused_with_file_and_line(line: str, message: str, site: Path, tmp_path: Path) -> None:
    config = write(tmp_path, f"[plugins.greylist]\n{line}\n")
    done = python(site, "-m", "relay.cli", "check-config", config)

    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{config}:2: {message}\n")


def test_it_passes_the_contract_suite(site: Path) -> None:
    done = python(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_contract.py")

    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_without_its_table_it_is_not_imported(site: Path, tmp_path: Path) -> None:
    config = write(tmp_path, "[plugins.streamkeys]\n")
    code = (
        "import sys, relay.cli; relay.cli.main(['check-config', sys.argv[1]]); print('relay_greylist' in sys.modules)"
    )

    assert python(site, "-c", code, config, check=True).stdout.split()[-1] == "False"
