"""Joins the configuration with its plugins: every ``[plugins.NAME]`` and ``[streams.S.NAME]`` against its model.

The rule it guards: what the core and all plugins have to say about a file comes out together, each with its line.
"""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from relay.config import CORE_TABLES, Config, open_source, parse
from relay.config_file import ConfigFileError, ConfigModel, Problem, Source, Table, closest, did_you_mean, validate
from relay.config_lines import Path as TablePath
from relay.errors import ConfigError, PluginError
from relay.localfiles import READABLE, Content, find_files
from relay.pluginfind import InstalledPlugin, PluginClass, import_plugin, installed_plugins
from relay.secretref import SecretRef, find_secrets

Installed = Mapping[str, list[InstalledPlugin]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginTables:
    """One enabled plugin with its validated options."""

    plugin: PluginClass
    config: ConfigModel
    stream_configs: Mapping[str, ConfigModel]
    stream_defaults: ConfigModel | None

    def secrets(self) -> Iterator[tuple[TablePath, SecretRef]]:
        """Yield every secret in these tables with its path in the file."""
        name = self.plugin.name
        yield from find_secrets(self.config, ("plugins", name))
        for stream, config in self.stream_configs.items():
            yield from find_secrets(config, ("streams", stream, name))

    def files(self) -> Iterator[tuple[TablePath, Path, Content]]:
        """Yield every file that these tables name, with its path in the configuration and what it must hold."""
        yield from find_files(self.config, ("plugins", self.plugin.name))
        for stream, config in self.stream_configs.items():
            yield from find_files(config, ("streams", stream, self.plugin.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """A valid configuration with the tables of its plugins, and what a person should know about it."""

    config: Config
    plugins: tuple[PluginTables, ...]
    warnings: tuple[Problem, ...]
    missing_secrets: tuple[Problem, ...]
    """Secrets that are not on this machine. Fatal for a start, worth a warning for a check."""


def load_config(path: Path | None, installed: Installed | None = None) -> LoadedConfig:
    """Read and check a file whole (None: the built-in configuration); raise ConfigFileError with everything wrong.

    Secrets are looked for but not required, so that a file can be checked anywhere.
    """
    source = open_source(path)
    config, problems = parse(source)
    plugins, streams = _raw_tables(source)
    tables, more = read_tables(plugins, streams, source, installed_plugins() if installed is None else installed)
    if config is None or problems or more:
        raise ConfigFileError([*problems, *more])
    return LoadedConfig(
        config=config,
        plugins=tuple(tables),
        warnings=tuple(_warnings(config, tables, path)),
        missing_secrets=tuple(resolve_secrets(config, tables)),
    )


def _raw_tables(source: Source) -> tuple[dict[str, Table], dict[str, dict[str, Table]]]:
    """Return the tables of plugins and streams as far as they are tables; the core's models report what is not."""
    return (
        {name: table for name, table in source.table("plugins").items() if isinstance(table, dict)},
        {
            stream: {name: table for name, table in tables.items() if isinstance(table, dict)}
            for stream, tables in source.table("streams").items()
            if isinstance(tables, dict)
        },
    )


def read_tables(
    plugins: Mapping[str, Table], streams: Mapping[str, Mapping[str, Table]], source: Source, installed: Installed
) -> tuple[list[PluginTables], list[Problem]]:
    """Import the configured plugins, in the order of their tables, and validate what belongs to them.

    What stands under a misspelt name is validated as what it was meant for, so that no error hides another.
    """
    tables: list[PluginTables] = []
    problems: list[Problem] = []
    claimed = {*plugins, *CORE_TABLES}
    for name, table in plugins.items():
        plugin: PluginClass | None
        try:
            plugin = import_plugin(name, installed)
        except PluginError as error:
            problems.append(source.problem(("plugins", name), error.message))
            plugin = _meant(name, plugins, installed)
        if plugin is None:
            continue
        claimed.add(plugin.name)
        read, wrong = _read_plugin(plugin, name, table, streams, source)
        problems += wrong
        if read is not None:
            tables.append(read)
    problems += _unclaimed(claimed, plugins, streams, source, installed)
    return tables, problems


def _meant(name: str, plugins: Iterable[str], installed: Installed) -> PluginClass | None:
    """Return the plugin that a table of a name that is not installed was probably meant for."""
    close = None if name in installed else closest(name, installed.keys() - set(plugins))
    try:
        return None if close is None else import_plugin(close, installed)
    except PluginError:
        return None


def _read_plugin(
    plugin: PluginClass, written: str, table: Table, streams: Mapping[str, Mapping[str, Table]], source: Source
) -> tuple[PluginTables | None, list[Problem]]:
    """Validate the tables of a plugin, whose name stands in the file as *written*."""
    config, problems = validate(plugin.config, table, source, ("plugins", written))
    model = plugin.stream_config
    defaults = {} if config is None else _defaults(model, table)
    stream_configs: dict[str, ConfigModel] = {}
    for stream, sub_tables in streams.items():
        for name in sorted({plugin.name, written} & sub_tables.keys()):
            at: TablePath = ("streams", stream, name)
            if model is None:
                problems.append(source.problem(at, f"the plugin {plugin.name} has no options for a single stream"))
                continue
            stream_config, wrong = validate(model, {**defaults, **sub_tables[name]}, source, at)
            problems += wrong
            if stream_config is not None:
                stream_configs[stream] = stream_config
    if config is None:
        return None, problems
    alone = None if model is None else validate(model, defaults, source)[0]
    read = PluginTables(plugin=plugin, config=config, stream_configs=stream_configs, stream_defaults=alone)
    return read, problems


def _defaults(model: type[ConfigModel] | None, table: Table) -> Table:
    """Return what a plugin's table says for every stream."""
    return {} if model is None else {key: value for key, value in table.items() if key in model.model_fields}


def _unclaimed(
    claimed: Collection[str],
    plugins: Mapping[str, Table],
    streams: Mapping[str, Mapping[str, Table]],
    source: Source,
    installed: Installed,
) -> Iterator[Problem]:
    """Say which sub-tables of streams nobody reads, and what else is wrong with them."""
    for stream, sub_tables in streams.items():
        for name in sub_tables.keys() - claimed:
            at: TablePath = ("streams", stream, name)
            meant: str | None = name
            if name in installed:
                message = f"the plugin {name} is not enabled: add a table [plugins.{name}]"
            else:
                meant = closest(name, claimed)
                message = "nothing reads this table; the tables of a stream belong to enabled plugins"
                message += did_you_mean(name, claimed)
            yield source.problem(at, message)
            model = _stream_model(meant, installed)
            if model is not None:
                defaults = _defaults(model, plugins.get(meant or "", {}))
                yield from validate(model, {**defaults, **sub_tables[name]}, source, at)[1]


def _stream_model(name: str | None, installed: Installed) -> type[ConfigModel] | None:
    """Return what validates the sub-table of this name."""
    if name in CORE_TABLES:
        return CORE_TABLES[name]
    try:
        return None if name is None else import_plugin(name, installed).stream_config
    except PluginError:
        return None


def resolve_secrets(config: Config, tables: Iterable[PluginTables]) -> list[Problem]:
    """Read every secret; return those that are not there."""
    problems = []
    source = config.source
    for path, secret in _all_secrets(config, tables):
        try:
            secret.resolve(source.directory)
        except ConfigError as error:
            problems.append(source.problem(path, error.message))
    return problems


def _all_secrets(config: Config, tables: Iterable[PluginTables]) -> Iterator[tuple[TablePath, SecretRef]]:
    yield from find_secrets(config.http, ("http",))
    for table in tables:
        yield from table.secrets()


def _warnings(config: Config, tables: Iterable[PluginTables], path: Path | None) -> Iterator[Problem]:
    """Say what works but should not stay so."""
    source = config.source
    tables = list(tables)
    exposed = [where for where, secret in _all_secrets(config, tables) if secret.exposed]
    for where in exposed:
        yield source.problem(
            where, 'the secret itself stands in this file; better { env = "NAME" } or { file = "PATH" }'
        )
    if exposed and path is not None and _readable_by_others(path):
        yield source.problem((), "holds secrets and can be read by everybody on this machine (chmod 600)")
    yield from _unusable_files(config, tables)
    if not any("authorize_publish" in table.plugin.hooks for table in tables):
        yield source.problem(
            (), "no enabled plugin decides who may publish, so nobody may; enable [plugins.streamkeys]"
        )


def _unusable_files(config: Config, tables: Iterable[PluginTables]) -> Iterator[Problem]:
    """Say which files cannot be used here: the relay would not listen, show the last picture instead, trust nobody."""
    files = list(find_files(config.listen, ("listen",)))
    for stream in config.streams:
        slate = config.failover(stream).slate
        if slate not in ("auto", "none"):
            files.append((("streams", stream, "failover", "slate"), Path(slate), READABLE))
    for table in tables:
        files += table.files()
    complaints = [(path, content.complaint(file)) for path, file, content in files]
    problems = (config.source.problem(path, complaint) for path, complaint in complaints if complaint)
    yield from sorted(problems, key=lambda problem: problem.line)


def _readable_by_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False


def plugin_problem(config: Config, name: str, error: ConfigError) -> Problem:
    """Give a plugin's ConfigError its line. A path of the plugin's own table may be given without the table's name."""
    path = error.path
    if not path.startswith((f"plugins.{name}", "streams.")):
        path = f"plugins.{name}.{path}" if path else f"plugins.{name}"
    return config.source.problem_at(path, error.message)
