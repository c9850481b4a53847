"""The twistd plugin: ``twistd -n rtmp-relay [--config FILE]``. One of two rooms that choose a reactor.

`reactor.seconds = time.monotonic` is the first thing that happens: Twisted's timers follow the wall clock otherwise,
and a clock step would fire or freeze every deadline at once (reliability.md M1).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.logfile import LogFile

from relay.config import Config, open_source, parse
from relay.config_file import ConfigFileError
from relay.errors import ConfigError, PluginError
from relay.log import make_observer
from relay.net.listen import ListenError
from relay.net.monotonic import use_monotonic_time
from relay.service import RelayService
from relay.systemd import Notifier

EXIT_CONFIG = 2
"""As `rtmp-relay check-config`."""


class Options(usage.Options):
    """Options of the twistd command; everything else is in the configuration file."""

    synopsis = "[--config FILE]"
    longdesc = (
        "Live ingest and restreaming: encoders publish once over RTMP or RTMPS, the relay fans out. "
        "Without --config: RTMP on 127.0.0.1:1935 for this machine only, HTTP on 127.0.0.1:8080."
    )
    optParameters: ClassVar = [["config", "c", None, "configuration file (TOML); see `rtmp-relay check-config`"]]


class TwistdService(RelayService):
    """The relay under twistd: brings its own log observer, and says bind errors in a line instead of a traceback."""

    def __init__(self, config: Config, reactor: Any, *, own_log: bool, twistd: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, reactor)
        self._own_log = own_log
        self._twistd = twistd or {}
        self._at_hangup: Any = signal.SIG_DFL
        Notifier(reactor).setServiceParent(self)  # type: ignore[no-untyped-call]

    def setServiceParent(self, parent: Any) -> None:
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]
        if self._own_log and hasattr(parent, "setComponent"):
            log = self.config.log
            parent.setComponent(
                ILogObserver, make_observer(_log_file(self._twistd, self._reactor), format=log.format, level=log.level)
            )

    def startService(self) -> None:
        super().startService()
        self._at_hangup = signal.signal(signal.SIGHUP, self._stay)

    def _stay(self, _number: int, _frame: object) -> None:
        """A closed terminal, or the habit of other servers, must not end a broadcast (reliability.md case 175)."""
        self._reactor.callFromThread(self._say_stay)

    def _say_stay(self) -> None:
        self.log.warn("SIGHUP changes nothing: a changed configuration is taken by a restart, SIGTERM stops the relay")

    def stopService(self) -> Deferred[Any]:
        def clean(result: object) -> object:
            for number, handler in {**before, signal.SIGHUP: self._at_hangup}.items():
                signal.signal(number, handler)
            # Twisted would end the process by the signal that stopped it; an orderly stop is exit code 0.
            if hasattr(self._reactor, "_exitSignal"):
                self._reactor._exitSignal = None
            return result

        before = self._hurry_at_the_next_signal() if getattr(self._reactor, "_exitSignal", None) else {}
        return super().stopService().addCallback(clean)

    def _hurry_at_the_next_signal(self) -> dict[int, Any]:
        """Whoever asks twice is in a hurry; Twisted would log a traceback and go on as before."""

        def again(_number: int, _frame: object) -> None:
            self._reactor.callFromThread(self.hurry)

        return {number: signal.signal(number, again) for number in (signal.SIGTERM, signal.SIGINT)}

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()
        except ListenError as error:
            sys.stderr.write(f"{error}\n")
            _tell_twistd(self._twistd, str(error))
            raise SystemExit(1) from error


def _log_file(twistd: Mapping[str, Any], reactor: Any) -> LogFile | None:
    """Open the file that twistd would log to, rotated at a megabyte and by SIGUSR1 as it does; None: standard output.

    Twisted's own observer knows no level and no secrets, and would pass on the control characters of any peer.
    """
    name = twistd.get("logfile") or ("" if twistd.get("nodaemon") else "twistd.log")
    if name in ("", "-"):
        return None
    file: LogFile = LogFile.fromFullPath(name)
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda _number, _frame: reactor.callFromThread(file.rotate))
    return file


def _tell_twistd(twistd: Mapping[str, Any], message: str) -> None:
    """Clear up what twistd clears up after an Exception only, and not after a SystemExit, which leaves no traceback.

    The parent of a daemon waits for a word of its child, for ever if none comes; it shows the first 98 bytes.
    """
    if twistd.get("statusPipe") is not None:
        os.write(twistd["statusPipe"], f"1 {message}".encode())
        os.close(twistd["statusPipe"])
    if twistd.get("pidfile"):
        Path(twistd["pidfile"]).unlink(missing_ok=True)


def load(path: Path | None) -> Config:
    """Read the configuration. Raises ConfigFileError with everything that is wrong."""
    config, problems = parse(open_source(path))
    if config is None or problems:
        raise ConfigFileError(problems)
    return config


def makeService(options: Options) -> IService:
    """Build the relay for twistd. A configuration error is printed line by line and exits with 2."""
    from twisted.internet import reactor  # noqa: TID251 - twistd has installed it by now

    use_monotonic_time(reactor)
    path = None if options["config"] is None else Path(options["config"])
    parent: Any = options.parent or {}
    impossible = not parent.get("nodaemon") and parent.get("logfile") == "-"  # twistd says so
    own_log = bool(parent) and not parent.get("syslog") and not impossible
    try:
        return TwistdService(load(path), reactor, own_log=own_log, twistd=parent)
    except (ConfigFileError, ConfigError, PluginError) as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(EXIT_CONFIG) from error
