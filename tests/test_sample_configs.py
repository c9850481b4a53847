"""The files in etc/ are documentation that cannot be wrong: they are loaded, and the full one holds every option."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from relay.config import Config, Http, Listen, Log, Play, Rtmp
from relay.config_file import ConfigModel
from relay.config_limits import Limits
from relay.pluginfind import import_plugin, installed_plugins
from relay.plugintables import LoadedConfig, load_config

ETC = Path(__file__).parent.parent / "etc"
FULL = ETC / "relay.full.toml"

_ABSENT = re.compile(r": cannot read /etc/(letsencrypt|ssl)/")


def shipped() -> list[str]:
    project = tomllib.loads((ETC.parent / "pyproject.toml").read_text("utf-8"))
    return list(project["project"]["entry-points"]["rtmp_relay"])


@pytest.mark.parametrize("file", sorted(ETC.glob("*.toml")), ids=lambda path: path.name)
def test_a_sample_is_a_good_configuration(file: Path) -> None:
    loaded = load_config(file)

    assert isinstance(loaded, LoadedConfig)
    wrong = [str(warning) for warning in loaded.warnings if not _ABSENT.search(str(warning))]
    assert wrong == []


def keys_of(table: object) -> Iterator[str]:
    """Yield every key of a document, at any depth."""
    if isinstance(table, dict):
        for key, value in table.items():
            yield key
            yield from keys_of(value)
    elif isinstance(table, list):
        for item in table:
            yield from keys_of(item)


@pytest.mark.parametrize("model", [Config, Listen, Http, Rtmp, Play, Limits, Log], ids=lambda model: model.__name__)
def test_every_option_of_the_core_is_in_the_full_sample(model: type[ConfigModel]) -> None:
    present = set(keys_of(tomllib.loads(FULL.read_text("utf-8"))))

    assert [name for name in model.model_fields if name not in present] == []


def options_of(model: type[BaseModel]) -> Iterator[str]:
    schema = model.model_json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        yield from part.get("properties", {})


@pytest.mark.parametrize("name", shipped())
def test_every_option_of_a_shipped_plugin_is_in_the_full_sample(name: str) -> None:
    document = tomllib.loads(FULL.read_text("utf-8"))
    plugin = import_plugin(name, installed_plugins())
    of_streams = set(keys_of([tables.get(name) for tables in document["streams"].values()]))
    wanted = [] if plugin.stream_config is None else list(options_of(plugin.stream_config))

    assert [option for option in plugin.config.model_fields if option not in document["plugins"].get(name, {})] == []
    assert [option for option in wanted if option not in of_streams] == []


def test_the_full_sample_shows_the_defaults_of_the_core() -> None:
    document = tomllib.loads(FULL.read_text("utf-8"))
    for name, model in {"rtmp": Rtmp, "play": Play, "limits": Limits, "log": Log}.items():
        assert model(**document[name]) == model()
