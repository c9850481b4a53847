"""When the certificate of a listener expires, for `/metrics`, and whether that is soon.

The rule it guards: whoever asks gets what is known and waits for no disk. The file is looked at in a thread, one look
at a time, and read when it has changed only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cryptography import x509

from twisted.internet.defer import Deferred
from twisted.logger import Logger

LOOK_S = 60.0
"""Certificates are renewed weeks before they expire; an alarm may be a minute late."""

Known = tuple[tuple[int, int, int], float]
"""What changes when the file does, and when the certificate in it expires; 0.0 when it cannot be read."""


WARN_DAYS = 3
"""ACME clients renew 30 days before the end; when so little is left, the renewal does not work."""


def worry(not_after: float, now: float) -> str:
    """Say, as the end of a sentence, that a certificate has expired or soon will; empty while all is well."""
    days = (not_after - now) / 86_400
    if not not_after or days > WARN_DAYS:
        return ""
    if days > 0:
        return f"expires in {days:.1f} days"
    return f"expired {-days:.1f} days ago: encoders and players that check it do not connect"


class Expiry:
    """The expiry of the first certificate in a PEM file. The watch ticks it; *in_thread* is `deferToThread`."""

    log = Logger(namespace="relay.tls")

    def __init__(self, path: Path, *, in_thread: Callable[..., Deferred[Known]]) -> None:
        self._path = path
        self._in_thread = in_thread
        self._known = look(path)
        self._age = 0.0
        self._looking = False

    @property
    def not_after(self) -> float:
        """When the certificate expires, seconds since the epoch; 0.0 when it could not be read."""
        return self._known[1]

    def tick(self, seconds: float) -> None:
        """Count *seconds* of running time; look at the file when it is due. A disk that hangs holds one thread."""
        self._age += seconds
        if self._age >= LOOK_S and not self._looking:
            self._age = 0.0
            self._looking = True
            self._in_thread(look, self._path, self._known).addCallbacks(self._looked, self._failed)

    def _looked(self, known: Known) -> None:
        self._looking = False
        self._known = known

    def _failed(self, failure: object) -> None:
        self._looking = False
        self.log.failure("cannot tell when {path} expires", failure, path=str(self._path))  # type: ignore[arg-type]


def look(path: Path, known: Known = ((0, 0, 0), 0.0)) -> Known:
    """Return what is known of the file by now. Blocks."""
    try:
        status = os.stat(path)
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        return known if stamp == known[0] else (stamp, _expiry(path.read_bytes()))
    except OSError:
        return (0, 0, 0), 0.0


def _expiry(pem: bytes) -> float:
    try:
        return x509.load_pem_x509_certificates(pem)[0].not_valid_after_utc.timestamp()
    except (ValueError, IndexError):
        return 0.0
