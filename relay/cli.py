"""The operator's command line: ``rtmp-relay run | check-config | check | switch | plugins | config-schema | hash-key``.

Exit codes: 0 fine, 1 something is wrong, 2 the configuration or the command line is wrong. What was asked for goes to
standard output, complaints go to standard error.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.scripts import twistd

from relay import __version__, checking, demo, fakeplatform, remote
from relay.config import CORE_TABLES, Config
from relay.config_file import ConfigFileError, ConfigModel, Problem
from relay.errors import ConfigError, PluginError, RelayError
from relay.log import clean_line, make_observer
from relay.net.expiry import look, worry
from relay.net.tls import load_context
from relay.pluginfind import PluginClass, import_plugin, installed_plugins
from relay.pluginhost import PluginHost
from relay.plugintables import LoadedConfig, load_config
from relay.secret import Secret

OK, PROBLEM, USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        code = command(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads, `head` perhaps, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PROBLEM
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rtmp-relay", description="Live ingest and restreaming.")
    parser.add_argument("--version", action="version", version=f"rtmp-relay {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="start the relay in the foreground, as `twistd -n rtmp-relay` does")
    _add_config(run)
    run.set_defaults(command=run_relay)

    check = commands.add_parser("check-config", help="say everything that is wrong with a configuration file")
    _add_config(check)
    check.set_defaults(command=check_config)

    checking.add_check(commands)
    fakeplatform.add_command(commands)
    demo.add_command(commands)

    switching = commands.add_parser("switch", help="put a feed of a stream on air, in the relay that runs")
    switching.add_argument("stream", metavar="STREAM", help="public name of the stream")
    switching.add_argument("feed", metavar="FEED", help="primary, backup, ...")
    switching.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help="the configuration that the relay runs with"
    )
    switching.set_defaults(command=switch_feed)

    plugins = commands.add_parser("plugins", help="list the installed plugins and their hooks")
    plugins.add_argument("--json", action="store_true", help="for programs")
    plugins.set_defaults(command=list_plugins)

    presets = commands.add_parser("presets", help="list the services that a target can name as its preset")
    presets.add_argument("name", nargs="?", metavar="NAME", help="say everything that is known about this one")
    presets.set_defaults(command=list_presets)

    schema = commands.add_parser("config-schema", help="print the JSON Schema of the configuration, for editors")
    schema.set_defaults(command=print_schema)

    hashing = commands.add_parser("hash-key", help="read a stream key from standard input and print its hash")
    hashing.set_defaults(command=hash_key)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="configuration file (TOML)")
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="the same, as twistd spells it")


def _config_path(options: argparse.Namespace) -> Path | None:
    path: Path | None = options.config if options.config is not None else options.file
    return path


def run_relay(options: argparse.Namespace) -> int:
    """Start the service that twistd starts. Only returns when the configuration is wrong or the relay has stopped."""
    path = _config_path(options)
    loaded = _load(path)
    if loaded is None or _complain(loaded.missing_secrets):
        return USAGE
    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "rtmp-relay"]
    if path is not None:
        sys.argv += ["--config", str(path)]
    twistd.run()
    return OK


def check_config(options: argparse.Namespace) -> int:
    """Print every error as ``FILE:LINE: path: what is wrong``. Secrets that are not on this machine are warnings."""
    loaded = _load(_config_path(options))
    if loaded is None:
        return USAGE
    broken, worries = _certificates(loaded.config)
    for warning in (*loaded.warnings, *worries, *loaded.missing_secrets):
        where = f"{warning.file}:{warning.line}: warning"
        print(
            f"{where}: {warning.path}: {warning.message}" if warning.path else f"{where}: {warning.message}",
            file=sys.stderr,
        )
    agree = bool(loaded.missing_secrets) or _plugins_agree(loaded)
    if _complain(broken) or not agree:
        return USAGE
    streams = len([name for name in loaded.config.streams if name != "*"])
    print(f"{loaded.config.source.file}: OK ({len(loaded.plugins)} plugins, {streams} streams)")
    return OK


def _load(path: Path | None) -> LoadedConfig | None:
    try:
        return load_config(path)
    except ConfigFileError as error:
        _complain(error.problems)
        return None


def _certificates(config: Config) -> tuple[list[Problem], list[Problem]]:
    """Return what is wrong with the certificates that are on this machine, and what should not stay so."""
    broken, worries = [], []
    for index, one in enumerate(config.listen):
        if one.certificate is None or one.private_key is None:
            continue
        if not all(os.path.isfile(path) and os.access(path, os.R_OK) for path in (one.certificate, one.private_key)):
            continue  # a warning already: the file may be checked on another machine
        try:
            load_context(one.certificate, one.private_key)
        except ConfigError as error:
            broken.append(config.source.problem(("listen", index, error.path), error.message))
            continue
        said = worry(look(one.certificate)[1], time.time())
        if said:
            worries.append(config.source.problem(("listen", index, "certificate"), said))
    return broken, worries


def _plugins_agree(loaded: LoadedConfig) -> bool:
    """Build the plugins and drop them: some things only a plugin's constructor sees, such as one key used twice."""
    with _warnings_to_stderr():
        try:
            PluginHost(loaded.config, clock=Clock())
        except ConfigFileError as error:
            _complain(error.problems)
            return False
    return True


def _complain(problems: Sequence[object]) -> bool:
    for problem in problems:
        print(clean_line(str(problem)), file=sys.stderr)
    return bool(problems)


@contextmanager
def _warnings_to_stderr() -> Iterator[None]:
    observer = make_observer(sys.stderr, format="text", level="warn")
    globalLogPublisher.addObserver(observer)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observer)


def switch_feed(options: argparse.Namespace) -> int:
    """Ask the running relay to put a feed on air."""
    loaded = _load(options.config)
    if loaded is None:
        return USAGE
    try:
        state = remote.switch(loaded.config, options.stream, options.feed)
    except RelayError as error:
        print(clean_line(str(error)), file=sys.stderr)
        return PROBLEM
    moment = "is on air" if state == "live" else "goes on air at its next keyframe"
    print(clean_line(f"feed {options.feed} of {options.stream} {moment}"))
    return OK


def list_plugins(options: argparse.Namespace) -> int:
    """List what is installed. Imports every plugin, which starting the relay does not."""
    rows: list[dict[str, object]] = []
    code = OK
    installed = installed_plugins()
    for name in sorted(installed):
        for one in installed[name]:
            row: dict[str, object] = {"name": name, "version": one.version, "distribution": one.distribution}
            try:
                row["hooks"] = list(import_plugin(name, {name: [one]}).hooks)
            except PluginError as error:
                row["error"] = error.message
                code = PROBLEM
            rows.append(row)
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        _print_plugins(rows)
    return code


def _print_plugins(rows: list[dict[str, object]]) -> None:
    if not rows:
        print("no plugins are installed", file=sys.stderr)
    for row in rows:
        hooks = row.get("hooks")
        does = " ".join(map(str, hooks)) if isinstance(hooks, list) else f"cannot be used: {row['error']}"
        print(f"{row['name']:<16} {row['version']:<10} {row['distribution']:<24} {does}")


def list_presets(options: argparse.Namespace) -> int:
    """Print the services that the restream plugin knows, one a line, or what it knows about one of them."""
    try:
        plugin: Any = import_plugin("restream", installed_plugins())
        for line in plugin.factory.preset_lines(options.name):
            print(line)
    except PluginError as error:
        print(clean_line(str(error)), file=sys.stderr)
        return PROBLEM
    except ConfigError as error:
        print(clean_line(error.message), file=sys.stderr)
        return USAGE
    return OK


def print_schema(options: argparse.Namespace) -> int:
    """Print the JSON Schema of the core's tables and of every installed plugin's."""
    print(json.dumps(config_schema(_usable_plugins()), indent=2))
    return OK


def _usable_plugins() -> list[PluginClass]:
    plugins = []
    installed = installed_plugins()
    for name in sorted(installed):
        try:
            plugins.append(import_plugin(name, installed))
        except PluginError as error:
            print(f"left out: {clean_line(str(error))}", file=sys.stderr)
    return plugins


def config_schema(plugins: Sequence[PluginClass]) -> dict[str, object]:
    """Return one JSON Schema for the whole file."""
    models: list[type[ConfigModel]] = [Config, *CORE_TABLES.values()]
    for plugin in plugins:
        models += [model for model in (plugin.config, plugin.stream_config) if model is not None]
    unique = dict.fromkeys(models)
    references, definitions = models_json_schema([(model, "validation") for model in unique], title="rtmp-relay")
    schema: dict[str, object] = {"$schema": "https://json-schema.org/draft/2020-12/schema", **definitions}
    top = definitions["$defs"].pop(references[Config, "validation"]["$ref"].rpartition("/")[2])
    top["properties"]["plugins"] |= _closed({p.name: references[p.config, "validation"] for p in plugins})
    per_stream = {name: references[model, "validation"] for name, model in CORE_TABLES.items()}
    per_stream |= {p.name: references[p.stream_config, "validation"] for p in plugins if p.stream_config is not None}
    top["properties"]["streams"]["additionalProperties"] = {"type": "object", **_closed(per_stream)}
    return {**schema, **top}


def _closed(properties: dict[str, dict[str, object]]) -> dict[str, object]:
    return {"properties": properties, "additionalProperties": False}


def hash_key(options: argparse.Namespace) -> int:
    """Print ``sha256:HEX`` of a key. It is read from standard input: an argument would show in the process list."""
    line = getpass.getpass("stream key: ") if sys.stdin.isatty() else sys.stdin.readline()
    key = line.strip("\r\n")
    if not key:
        print("no key on standard input", file=sys.stderr)
        return USAGE
    print(f"sha256:{Secret(key).digest().hex()}")
    return OK


if __name__ == "__main__":
    sys.exit(main())
