"""`rtmp-relay check`: what is to be checked and with which key, the check itself, and its verdict on paper.

The rule it guards: a key never comes from the command line, which everybody on the machine can read, and never goes to
the output.
"""

from __future__ import annotations

import argparse
import getpass
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relay.config_file import ConfigFileError
from relay.context import PlaceToCheck
from relay.errors import ConfigError, PluginError
from relay.log import clean_line
from relay.media.snow import MAX_KBPS
from relay.net.checkplan import CheckPlan, Report, facts_of
from relay.net.dnsthreads import DnsThreads
from relay.net.endpoints import parse_url
from relay.net.monotonic import use_monotonic_time
from relay.net.preflight import Preflight
from relay.net.trust import Trust, client_context
from relay.pluginfind import import_plugin, installed_plugins
from relay.plugintables import load_config
from relay.rtmp.auth import Credentials
from relay.secret import KNOWN_SECRETS, Secret, redact_urls
from relay.secretref import SecretRef

OK, PROBLEM, USAGE = 0, 1, 2

MAX_SECONDS = 600.0
"""Longer is no check but a load on a platform."""
MAX_STEP_S = 120.0

_SECRET_PARAMETERS = re.compile(r"key|token|auth|pass|secret|sig", re.IGNORECASE)
_HELP = """\
the key never stands on the command line, where every user of this machine can read it: it comes from --key-env,
--key-file, the target's own table, or is asked for. Without a test mode of the platform (Twitch has one) a grey picture
with noise is published: check before the event, an event that starts by itself would start.

exit codes: 0 good, 1 a problem, 2 the command or the configuration is wrong"""


def add_check(commands: Any) -> None:
    """Add the command to the parser of `rtmp-relay`."""
    parser = commands.add_parser(
        "check",
        help="try a destination before the show: name, port, TLS, key, upload",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", nargs="?", metavar="URL", help="rtmp[s]://HOST[:PORT]/APP, without the key")
    parser.add_argument("--preset", metavar="NAME", help="a service by name; `rtmp-relay presets` lists them")
    parser.add_argument("--target", metavar="STREAM/TARGET", help="a target of the configuration file, with its key")
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="the configuration file, for --target")
    parser.add_argument("--key-env", metavar="NAME", help="the environment variable that holds the key")
    parser.add_argument("--key-file", type=Path, metavar="PATH", help="the file that holds the key")
    parser.add_argument("--ca-file", type=Path, metavar="PATH", help="CAs to trust beside the system's (rtmps)")
    parser.add_argument("--fingerprint", type=_fingerprint, metavar="HEX", help="SHA-256 of the only good certificate")
    parser.add_argument("--mbps", type=_number(0.1, 250), default=6.0, metavar="N", help="planned bit rate (6)")
    parser.add_argument(
        "--destinations",
        type=int,
        default=1,
        metavar="N",
        help="send N times that rate: as many will share the line (1)",
    )
    parser.add_argument("--seconds", type=_number(1, MAX_SECONDS), default=10.0, metavar="N", help="of upload (10)")
    parser.add_argument(
        "--timeout", type=_number(0.2, MAX_STEP_S), default=10.0, metavar="N", help="most seconds a step may take (10)"
    )
    parser.add_argument("--no-publish", action="store_true", help="stop before the key is sent")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output, for programs")
    parser.set_defaults(command=check)


def _fingerprint(text: str) -> bytes:
    found = bytes.fromhex(text.replace(":", ""))
    if len(found) != 32:
        raise ValueError
    return found


_fingerprint.__name__ = "SHA-256: 64 hex digits, with or without colons"


def _number(least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise ValueError
        return value

    read.__name__ = f"number from {least:g} to {most:g}"
    return read


@dataclass(frozen=True, slots=True)
class Order:
    """One address to check, and what to say about it before."""

    plan: CheckPlan
    notes: tuple[str, ...]


def check(options: argparse.Namespace) -> int:
    """Check what was asked for and return the exit code."""
    try:
        orders = list(_orders(options))
    except ConfigFileError as error:
        return _complain("\n".join(str(problem) for problem in error.problems))
    except (ConfigError, PluginError) as error:
        return _complain(str(error))
    from twisted.internet import reactor  # noqa: TID251 - this is a program

    use_monotonic_time(reactor)
    reports = _run(orders, reactor, quiet=options.json)
    if reports is None:
        return PROBLEM
    if options.json:
        results = [
            {"url": order.plan.url.display, **facts_of(report)} for order, report in zip(orders, reports, strict=True)
        ]
        _say(json.dumps({"good": all(report.good for report in reports), "results": results}, indent=2))
    return OK if all(report.good for report in reports) else PROBLEM


# What to check.


def _orders(options: argparse.Namespace) -> Iterator[Order]:
    place = _place(options)
    total = options.mbps * options.destinations
    if options.destinations < 1 or total * 1000 > MAX_KBPS:
        raise ConfigError("--destinations", f"1 or more, and at most {MAX_KBPS // 1000} Mbit/s in all")
    urls = [parse_url(url) for url in place.urls]
    key = None if options.no_publish else _key(options, place)
    if (options.ca_file or options.fingerprint) and not all(url.tls for url in urls):
        raise ConfigError("--ca-file", "and --fingerprint are for rtmps:// only")
    trust = Trust(
        ca_file=options.ca_file or place.ca_file,
        crl_file=place.crl_file,
        fingerprint=options.fingerprint or place.fingerprint,
    )
    if any(url.tls for url in urls):
        client_context(trust)  # a file that cannot be used is said before anything is checked
    for url in urls:
        plan = CheckPlan(
            url=url,
            key=key,
            title=place.title,
            test_query=place.test_query,
            login=None if place.password is None else Credentials(user=place.user, password=place.password.secret),
            trust=trust,
            mbps=options.mbps,
            destinations=options.destinations,
            seconds=options.seconds,
            step_s=options.timeout,
        )
        yield Order(plan, tuple(_notes(plan, place, wanted=not options.no_publish)))


def _place(options: argparse.Namespace) -> PlaceToCheck:
    """Return where to go: a target of the file, a preset, an address, or a preset with an address of one's own."""
    if options.target is not None:
        if options.url is not None or options.preset is not None:
            raise ConfigError("--target", "brings its address; leave URL and --preset out")
        return _target(options)
    place = PlaceToCheck(title="", urls=[])
    if options.preset is not None:
        plugin: Any = import_plugin("restream", installed_plugins()).factory
        place = plugin.preset_to_check(options.preset)
    if options.url is not None:
        url = _without_key(options.url)
        place = replace(place, urls=[url]) if options.preset is not None else _known_place(url)
    if not place.urls:
        what = (
            "the preset has no address of its own: write URL too"
            if options.preset
            else "write URL, --preset or --target"
        )
        raise ConfigError("", f"nothing to check; {what}")
    return place


def _known_place(url: str) -> PlaceToCheck:
    """Return an address with what is known of its service: its test mode broadcasts nothing."""
    try:
        plugin: Any = import_plugin("restream", installed_plugins()).factory
        known: PlaceToCheck | None = plugin.address_to_check(url)
    except PluginError:
        known = None
    return known or PlaceToCheck(title="", urls=[url])


def _target(options: argparse.Namespace) -> PlaceToCheck:
    stream, slash, name = options.target.rpartition("/")
    if not slash:
        raise ConfigError("--target", "write STREAM/TARGET")
    if options.config is None:
        raise ConfigError("--target", "needs --config FILE")
    loaded = load_config(options.config)
    tables = next((one for one in loaded.plugins if one.plugin.name == "restream"), None)
    targets = None if tables is None else tables.stream_configs.get(stream)
    if tables is None or targets is None:
        raise ConfigError("--target", f"there is no table [streams.{stream}.restream] in {options.config}")
    plugin: Any = tables.plugin.factory
    place: PlaceToCheck = plugin.target_to_check(targets, name)
    if place.key is not None and not options.no_publish and options.key_env is None and options.key_file is None:
        place.key.resolve(loaded.config.source.directory)
    if place.password is not None:
        place.password.resolve(loaded.config.source.directory)
    return place


def _without_key(text: str) -> str:
    """Return an address that holds no key, as far as one can see. Raises ConfigError, which repeats nothing of it."""
    try:
        parts = urlsplit(text)
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return text  # parse_url says what is wrong with it
    segments = parts.path.split("/")[1:]
    advice = "Write rtmp[s]://HOST/APP here and give the key by --key-env NAME, --key-file PATH, or when asked for it"
    if len([one for one in segments if one]) > 1 and segments[-1]:
        raise ConfigError(
            "URL",
            "seems to hold the stream key behind the app, where every user of this machine can read it. "
            f"{advice}. (If all of it is the app, end it with a slash.) The key was shown: better have a new one made",
        )
    if any(_SECRET_PARAMETERS.search(name) for name, _ in query):
        raise ConfigError("URL", f"holds a secret in its query. {advice}; or write the address into a target's url")
    return text


def _key(options: argparse.Namespace, place: PlaceToCheck) -> Secret | None:
    """Return the key; None when nobody gave one: then the check goes as far as it can without."""
    if options.key_env is not None and options.key_file is not None:
        raise ConfigError("--key-env", "and --key-file: write one of them")
    if options.key_env is not None:
        return SecretRef("env", options.key_env).resolve()
    if options.key_file is not None:
        return SecretRef("file", str(options.key_file)).resolve()
    if place.key is not None:
        return place.key.secret
    try:
        line = getpass.getpass("stream key: ") if sys.stdin.isatty() else sys.stdin.readline()
    except EOFError:
        line = ""
    if not line.strip():
        return None
    key = Secret(line.strip())
    KNOWN_SECRETS.add(key)
    return key


def _notes(plan: CheckPlan, place: PlaceToCheck, *, wanted: bool) -> Iterator[str]:
    if plan.key is None and wanted:
        yield "no key was given (--key-env NAME, --key-file PATH or standard input): this stops before the publish"
    if place.video_kbps is not None and plan.mbps * 1000 > place.video_kbps:
        yield f"{place.title} takes at most {place.video_kbps / 1000:g} Mbit/s of video"
    if plan.key is not None and not plan.test_query:
        yield "a grey picture with noise is published now; an event that starts by itself would start"


# The check.


def _run(orders: list[Order], reactor: Any, *, quiet: bool) -> list[Report] | None:
    reports: list[Report] = []
    failures: list[str] = []

    async def all_of_them() -> None:
        for order in orders:
            report = await _one(order, reactor, quiet=quiet)
            reports.append(report)

    def done(result: object) -> None:
        if isinstance(result, Failure):
            failures.append(result.getErrorMessage())
        if reactor.running:
            reactor.stop()

    names = DnsThreads(reactor)
    reactor.callWhenRunning(names.start)
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(all_of_them()).addBoth(done))
    reactor.run()
    names.stop()
    if failures or len(reports) < len(orders):
        _complain(failures[0] if failures else "interrupted")
        return None
    return reports


async def _one(order: Order, reactor: Any, *, quiet: bool) -> Report:
    plan = order.plan

    def tell(step: str, text: str) -> None:
        if not quiet:
            _say(f"  {step:<10} {text}")

    if not quiet:
        many = f" for {plan.destinations} destinations" if plan.destinations > 1 else ""
        rate = (
            f", {plan.mbps * plan.destinations:g} Mbit/s{many} for {plan.seconds:g} s" if plan.key is not None else ""
        )
        _say(f"{plan.title or plan.url.host}: {plan.url.display}{rate}")
    for note in order.notes:
        tell("note", note)
    report = await Preflight(reactor, plan, tell).run()
    if not quiet:
        _say(f"{'GOOD' if report.good else 'PROBLEM'}: {report.says}\nWhat to do: {report.do}")
    return report


def _say(text: str) -> None:
    sys.stdout.write(text if text.startswith("{") else "\n".join(map(clean_line, text.split("\n"))))
    sys.stdout.write("\n")
    sys.stdout.flush()


def _complain(text: str) -> int:
    sys.stderr.write("\n".join(clean_line(redact_urls(line)) for line in text.split("\n")) + "\n")
    return USAGE
