"""What `rtmp-relay check` and `rtmp-relay presets` want to know of a target or a preset, before the show."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from relay.api import ConfigError, PlaceToCheck, parse_url

from .options import Targets, Wanted
from .presets import Preset, find_preset, preset_file, presets


def preset_lines() -> Iterator[str]:
    """Yield one line for each preset."""
    for name, preset in presets().items():
        rate = f"{preset.video_kbps} kbit/s" if preset.video_kbps else ""
        yield f"{name:<14} {preset.title:<38} {rate:>13}  {preset.url or '(write url)'}"


def preset_facts(name: str) -> Iterator[str]:
    """Yield everything that is known about a preset, with its source and date. Raises ConfigError at once."""
    preset = _known(name)
    facts: dict[str, object] = {}
    for key, value in preset.model_dump().items():
        facts[key] = ", ".join(value) if isinstance(value, tuple) else value
        if key == "url" and preset.url is not None:
            facts["port"] = parse_url(preset.url).port
    facts["checked"] = preset_file().checked
    return (f"{key:<16} {_words(value)}" for key, value in facts.items())


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None or value == "" else str(value)


def _known(name: str) -> Preset:
    if name not in presets():
        raise ConfigError("preset", f"no preset of this name{_near(name, presets())}; `rtmp-relay presets` lists them")
    return find_preset(name)


def preset_to_check(name: str) -> PlaceToCheck:
    """Return a preset as a place without a key. Raises ConfigError when there is none of this name."""
    preset = _known(name)
    return _place(preset, preset.title, [preset.url] if preset.url is not None else [])


def address_to_check(url: str) -> PlaceToCheck | None:
    """Return an address of a service that we know, with the service's test mode; None for any other address."""
    preset = _service_at(url)
    return None if preset is None else _place(preset, preset.title, [url])


def _service_at(url: str) -> Preset | None:
    """Return the preset whose address this is, or whose servers have names like it. Raises ConfigError."""
    host = parse_url(url).host
    for preset in presets().values():
        own = [parse_url(one).host for one in (preset.url, preset.backup_url) if one is not None]
        # Domains that a service shares with others say nothing.
        domains = tuple(domain for domain in preset.ingest_domains if any(one.endswith(domain) for one in own))
        if host in own or (domains and host.endswith(domains)):
            return preset
    return None


def target_to_check(targets: Targets, name: str) -> PlaceToCheck:
    """Return a target of the configuration file. Raises ConfigError when there is none of this name."""
    options = targets.by_name.get(name)
    if options is None:
        raise ConfigError("target", f"the stream has no target {name}{_near(name, targets.by_name)}")
    wanted = Wanted(name=name, options=options, trusted=True)
    urls = [wanted.url()] if options.backup is None else [wanted.url(), options.backup]
    preset = wanted.preset if options.preset else _service_at(urls[0]) or wanted.preset
    place = _place(preset, preset.title if options.preset else name, urls)
    return PlaceToCheck(
        title=place.title,
        urls=urls,
        key=options.key,
        user=options.user or "",
        password=options.password,
        ca_file=options.ca_file,
        crl_file=options.crl_file,
        fingerprint=wanted.fingerprint,
        test_query=place.test_query,
        video_kbps=place.video_kbps,
        note=place.note,
    )


def _place(preset: Preset, title: str, urls: list[str]) -> PlaceToCheck:
    return PlaceToCheck(
        title=title, urls=urls, test_query=preset.test_query, video_kbps=preset.video_kbps, note=preset.note
    )


def _near(name: str, known: object) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)  # type: ignore[call-overload]
    return f" (did you mean {near[0]}?)" if near else ""
