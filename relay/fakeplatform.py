"""``rtmp-relay fake-platform``: a fake platform as a program, for rehearsals and demonstrations.

    rtmp-relay fake-platform --listen rtmp://127.0.0.1:19350 --manners twitch --fault stall@10

Says in a line each who came, what they sent and how they left. It prints no keys.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall

from relay.errors import ConfigError
from relay.media.packets import MediaKind
from relay.net.endpoints import DEFAULT_PORTS
from relay.net.monotonic import use_monotonic_time
from relay.secret import Secret
from relay.testing_certificates import Authority
from relay.testing_faults import FAULTS, TLS_FAULTS, Fault
from relay.testing_logins import LoginGuard
from relay.testing_platforms import MANNERS, FakePlatform
from relay.testing_received import Session

OK, PROBLEM, USAGE = 0, 1, 2
REPORT_S = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one platform until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m relay.fakeplatform", **_ABOUT)
    add_options(parser)
    return run(parser.parse_args(arguments))


def add_command(commands: Any) -> None:
    """Add the command to the parser of `rtmp-relay`."""
    parser = commands.add_parser(
        "fake-platform", help="run a destination for rehearsals, with faults on order", **_ABOUT
    )
    add_options(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Run one platform until Ctrl-C."""
    from twisted.internet import reactor  # noqa: TID251 - this is a program

    use_monotonic_time(reactor)
    try:
        platform, host, port = _platform(options, reactor)
        url = platform.start(host, port)
    except ConfigError as error:
        return _complain(str(error), USAGE)
    except (CannotListenError, OSError) as error:
        return _complain(f"cannot listen on {options.listen}: {error}", PROBLEM)
    _say(f"{platform.manners.name} platform on {url}")
    if platform.tls and options.ca_dir:
        _say(f"clients must trust {platform.ca_file}")
    reports = LoopingCall(_report, platform)
    reports.start(REPORT_S, now=False).addErrback(lambda failure: _say(failure.getErrorMessage()))
    running: Any = reactor
    running.addSystemEventTrigger("before", "shutdown", platform.stop)
    running.run()
    return OK


_FAULTS = "\n".join(f"  {kind.form(name):<36}{kind.about}" for name, kind in FAULTS.items())
_ABOUT: dict[str, Any] = {
    "description": "A fake RTMP(S) destination with the manners, and the faults, of real ones.",
    "epilog": f"faults (add @SECONDS to those of a running publish):\n{_FAULTS}",
    "formatter_class": argparse.RawDescriptionHelpFormatter,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what a platform can be told."""
    parser.add_argument("--listen", default="rtmp://127.0.0.1:19350", metavar="URL", help="rtmp[s]://HOST:PORT[/APP]")
    parser.add_argument("--manners", choices=sorted(MANNERS), default="generic")
    parser.add_argument("--fault", action="append", default=[], metavar="FAULT", help="may be given several times")
    parser.add_argument("--key-env", metavar="NAME", help="know only the key in this environment variable")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="know only the keys in this file, one a line")
    parser.add_argument("--authmod", choices=("adobe", "llnw"), help="ask for a login (with --user and --password-env)")
    parser.add_argument("--user", default="", metavar="NAME", help="the user who may log in")
    parser.add_argument("--password-env", metavar="NAME", help="the variable that holds the password")
    parser.add_argument("--redirect", default="", metavar="URL", help="send every connect there (rtmp[s]://HOST/APP)")
    parser.add_argument("--ca-dir", type=Path, metavar="DIR", help="rtmps: make the CA and certificates here (ca.pem)")


def _platform(options: argparse.Namespace, reactor: Any) -> tuple[FakePlatform, str, int]:
    try:
        parts = urlsplit(options.listen)
        port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    except (ValueError, KeyError) as error:
        raise ConfigError("--listen", "write rtmp://HOST:PORT or rtmps://HOST:PORT") from error
    tls, app, own_app = parts.scheme == "rtmps", parts.path.strip("/"), MANNERS[options.manners].app
    if app and own_app and app != own_app:
        raise ConfigError("--listen", f"with the manners of {options.manners} the app is {own_app}; leave {app} out")
    faults = [Fault.parse(text) for text in options.fault]
    bare = [fault.name for fault in faults if fault.name in TLS_FAULTS and not tls]
    if bare:
        raise ConfigError("--fault", f"{bare[0]} is for rtmps:// only; write --listen rtmps://HOST:PORT")
    platform = FakePlatform(
        reactor,
        manners=MANNERS[options.manners],
        keys=_keys(options),
        faults=faults,
        tls=tls,
        authority=Authority(options.ca_dir) if tls and options.ca_dir else None,
        app=app,
        guard=_guard(options),
        redirect=options.redirect,
        on_event=_tell,
    )
    return platform, parts.hostname or "127.0.0.1", port


def _keys(options: argparse.Namespace) -> list[Secret] | None:
    if options.key_env is None and options.key_file is None:
        return None
    try:
        texts = [os.environ[options.key_env]] if options.key_env else options.key_file.read_text("utf-8").splitlines()
    except (KeyError, OSError, UnicodeDecodeError) as error:
        raise ConfigError("key", "there is no such variable" if options.key_env else f"{error}") from error
    return [Secret(text.strip()) for text in texts if text.strip()]


def _guard(options: argparse.Namespace) -> LoginGuard | None:
    if options.authmod is None:
        return None
    password = os.environ.get(options.password_env or "", "")
    if not options.user or not password:
        raise ConfigError("--authmod", "needs --user NAME and --password-env NAME of a variable that is set")
    return LoginGuard(options.authmod, options.user, Secret(password))


def _tell(what: str, session: Session) -> None:
    if what == "live":
        _say(f"connection {session.number}: on air{' (backup)' * session.backup}{' (test)' * session.test}")
    elif what == "refused":
        _say(f"connection {session.number}: refused")
    else:
        _say(f"connection {session.number}: over ({session.close}); {_sum(session)}")


def _sum(session: Session) -> str:
    pictures, sound = len(session.of(MediaKind.VIDEO)), len(session.of(MediaKind.AUDIO))
    keyframes = sum(one.keyframe for one in session.media)
    last = session.media[-1].timestamp / 1000 if session.media else 0.0
    return f"{session.bytes_in} bytes, {pictures} pictures ({keyframes} keyframes), {sound} sound, at {last:.1f} s"


def _report(platform: FakePlatform) -> None:
    for connection in platform.connections:
        if connection.publishing:
            _say(f"connection {connection.session.number}: {_sum(connection.session)}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _complain(line: str, code: int) -> int:
    sys.stderr.write(f"{line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
