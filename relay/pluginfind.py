"""Finds installed plugins by entry point and imports the ones that are configured, nothing else.

The rule it guards: a plugin that cannot be used is refused before anything listens, by name and with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

import pluggy

from relay import hookspecs
from relay.config_file import ConfigModel, closest
from relay.errors import PluginError

API_VERSION = (1, 0)
"""What `relay.api` offers. The first number changes when something is taken away, the second when it grows."""

GROUP = "rtmp_relay"
"""Entry-point group of plugins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledPlugin:
    """A plugin that is installed, imported or not. *load* imports it."""

    name: str
    distribution: str
    version: str
    load: Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginClass:
    """A plugin that was imported and looks right."""

    name: str
    distribution: str
    version: str
    factory: Callable[..., object]
    config: type[ConfigModel]
    stream_config: type[ConfigModel] | None
    hooks: tuple[str, ...]


class NoOptions(ConfigModel):
    """The table of a plugin without options."""


def installed_plugins() -> dict[str, list[InstalledPlugin]]:
    """Return what is installed, by name. More than one under a name is an error only if that name is configured."""
    found: dict[str, list[InstalledPlugin]] = {}
    seen: set[tuple[str, str, str]] = set()
    for entry in entry_points(group=GROUP):
        plugin = _installed(entry)
        mark = (plugin.name, plugin.distribution, entry.value)
        if mark not in seen:  # one distribution may be on sys.path twice
            seen.add(mark)
            found.setdefault(plugin.name, []).append(plugin)
    return found


def _installed(entry: EntryPoint) -> InstalledPlugin:
    distribution = entry.dist
    return InstalledPlugin(
        name=entry.name,
        distribution=distribution.name if distribution else "?",
        version=distribution.version if distribution else "?",
        load=entry.load,
    )


def plugin_from_class(name: str, factory: type[object]) -> InstalledPlugin:
    """Return a plugin that needs no installation, for tests."""
    return InstalledPlugin(name=name, distribution="-", version="-", load=lambda: factory)


def import_plugin(name: str, installed: Mapping[str, list[InstalledPlugin]]) -> PluginClass:
    """Import the plugin called *name*; raise PluginError when it is missing, ambiguous, broken or does not fit."""
    candidates = installed.get(name, [])
    if not candidates:
        raise PluginError(name, "is not installed" + _suggest(name, installed))
    if len(candidates) > 1:
        places = " and ".join(f"{one.distribution} {one.version}" for one in candidates)
        raise PluginError(name, f"is provided twice, by {places}; uninstall one of them")
    plugin = candidates[0]
    try:
        factory = plugin.load()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise PluginError(name, f"{plugin.distribution} {plugin.version} cannot be imported: {reason}") from error
    return _check_class(plugin, factory)


def _check_class(plugin: InstalledPlugin, factory: object) -> PluginClass:
    name = plugin.name
    if not isinstance(factory, type):
        raise PluginError(name, f"its entry point must be a class, not {type(factory).__name__}")
    _check_version(name, getattr(factory, "requires_api", (API_VERSION[0], 0)))
    return PluginClass(
        name=name,
        distribution=plugin.distribution,
        version=plugin.version,
        factory=factory,
        config=_model(name, factory, "Config") or NoOptions,
        stream_config=_model(name, factory, "StreamConfig"),
        hooks=_check_hooks(name, factory),
    )


def _check_version(name: str, wanted: object) -> None:
    if not (isinstance(wanted, tuple) and len(wanted) == 2 and all(isinstance(part, int) for part in wanted)):
        raise PluginError(name, "requires_api must be a pair of numbers such as (1, 0)")
    if wanted[0] != API_VERSION[0] or wanted[1] > API_VERSION[1]:
        raise PluginError(name, f"needs relay.api {wanted[0]}.{wanted[1]}, this is {API_VERSION[0]}.{API_VERSION[1]}")


def _model(name: str, factory: type, attribute: str) -> type[ConfigModel] | None:
    model = getattr(factory, attribute, None)
    if model is None:
        return None
    if not (isinstance(model, type) and issubclass(model, ConfigModel)):
        raise PluginError(name, f"its {attribute} must be a subclass of relay.api.ConfigModel")
    return model


def _check_hooks(name: str, factory: type) -> tuple[str, ...]:
    """Return the hooks a class implements; refuse what would silently never be called."""
    checker = new_plugin_manager()
    known = {hook for hook in vars(checker.hook) if not hook.startswith("_")}
    hooks = []
    for attribute in dir(factory):
        if attribute.startswith("__"):
            continue
        options = checker.parse_hookimpl_opts(factory, attribute)
        if options is None:
            if attribute in known:
                raise PluginError(name, f"{attribute} is a hook but is not marked with @hookimpl")
            continue
        hook = options.get("specname") or attribute
        if options.get("wrapper") or options.get("hookwrapper"):
            raise PluginError(
                name, f"{hook} is a hook wrapper; the relay calls each plugin by itself, wrappers cannot work"
            )
        if hook not in known:
            if not options.get("optionalhook"):
                raise PluginError(name, f"there is no hook called {hook}" + _suggest(hook, known))
            continue
        hooks.append(hook)
    return tuple(hooks)


def new_plugin_manager() -> pluggy.PluginManager:
    """Return a pluggy manager that knows our hooks and no plugins."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def _suggest(wrong: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = closest(wrong, names)
    if close is not None:
        return f' (did you mean "{close}"?)'
    return f" (installed: {', '.join(names)})" if names else ""
