"""Faults that a fake platform has on order. Use them from `relay.testing`.

A fault is written `NAME`, `NAME=VALUE` or `NAME@SECONDS`: `stall@5` stops reading five seconds after the publish was
granted. `FAULTS` says what each does.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import Enum

from relay import amf0
from relay.errors import ConfigError
from relay.rtmp import messages as m
from relay.rtmp.framing import CONNECTION_CSID, frame
from relay.rtmp.server import ServerConnection

DEEP = 4096
"""Levels of nested arrays in `deep-amf`."""
FLOOD_BYTES = 60_000
"""Length of each description in `flood`."""


class Stage(Enum):
    """When a fault takes effect."""

    LISTEN = "listen"
    ACCEPT = "accept"
    CONNECT = "connect"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Kind:
    """What there is to know about one fault."""

    stage: Stage
    about: str
    value: str = ""
    """Name of its value; empty when it takes none."""
    choices: tuple[str, ...] = ()
    """The values it takes; none means a number."""

    def form(self, name: str) -> str:
        """Return how a fault of this kind is written."""
        value = "|".join(self.choices) or self.value
        return f"{name}={value}" if value else name


FAULTS = {
    "refuse": Kind(Stage.LISTEN, "does not listen"),
    "expired": Kind(Stage.LISTEN, "shows a certificate that has expired (rtmps)"),
    "wrong-host": Kind(Stage.LISTEN, "shows a certificate for another host (rtmps)"),
    "untrusted": Kind(Stage.LISTEN, "shows a certificate signed by an unknown CA (rtmps)"),
    "self-signed": Kind(Stage.LISTEN, "shows a certificate signed by itself (rtmps)"),
    "silent": Kind(Stage.ACCEPT, "accepts TCP (and TLS) and never speaks"),
    "tls-garbage": Kind(Stage.ACCEPT, "answers a TLS hello with noise"),
    "tls-cut": Kind(Stage.ACCEPT, "closes in the middle of its TLS hello"),
    "http": Kind(Stage.ACCEPT, "answers whatever comes with an HTTP error"),
    "tiny-chunks": Kind(Stage.CONNECT, "announces and sends with a chunk size of 1"),
    "deep-amf": Kind(Stage.CONNECT, f"answers connect with {DEEP} nested arrays"),
    "mute": Kind(Stage.CONNECT, "shakes hands and answers nothing after that"),
    "acks": Kind(
        Stage.CONNECT, "acknowledges wrongly, or not at all", "HOW", choices=("increments", "never", "backwards")
    ),
    "stall": Kind(Stage.LIVE, "stops reading; the connection stays"),
    "slow": Kind(Stage.LIVE, "reads so many kilobits per second", "KBIT"),
    "reset": Kind(Stage.LIVE, "resets the connection"),
    "close": Kind(Stage.LIVE, "closes without a word"),
    "half-close": Kind(Stage.LIVE, "sends its FIN and goes on reading"),
    "half-open": Kind(
        Stage.LIVE, "is as good as dead: never reads, writes or closes again, while the kernel takes bytes"
    ),
    "flood": Kind(Stage.LIVE, "sends so many megabytes of onStatus", "MB"),
}
"""Every fault by name."""

CERTIFICATE_FAULTS = frozenset({"expired", "wrong-host", "untrusted", "self-signed"})
TLS_FAULTS = CERTIFICATE_FAULTS | {"tls-garbage", "tls-cut"}
"""Those that a platform without TLS cannot have."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault on order; see `FAULTS`."""

    name: str
    value: str = ""
    after_s: float = 0.0

    @property
    def stage(self) -> Stage:
        """When it takes effect."""
        return FAULTS[self.name].stage

    @property
    def number(self) -> float:
        """Its value as a number."""
        return float(self.value)

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read ``NAME[=VALUE][@SECONDS]``. Raises ConfigError that says what is possible."""
        name, _, seconds = text.partition("@")
        name, _, value = name.partition("=")
        kind = FAULTS.get(name)
        if kind is None:
            close = difflib.get_close_matches(name, FAULTS, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(FAULTS)}"
            raise ConfigError("fault", f"there is no fault {name!r}; {hint}")
        if kind.choices and value not in kind.choices:
            raise ConfigError("fault", f"write {kind.form(name)}")
        if not kind.choices and bool(kind.value) != _is_number(value):
            raise ConfigError("fault", f"write {kind.form(name)}")
        if seconds and (kind.stage is not Stage.LIVE or not _is_number(seconds)):
            raise ConfigError("fault", f"{name} takes no @SECONDS" if _is_number(seconds) else f"write {name}@SECONDS")
        return cls(name, value, float(seconds or 0))


def _is_number(text: str) -> bool:
    try:
        return 0 <= float(text) < 1e9
    except ValueError:
        return False


def deep_error(depth: int = DEEP) -> bytes:
    """Return an `_error` to connect whose information is *depth* nested arrays, as chunks of 128 bytes."""
    nested = b"\x0a\x00\x00\x00\x01" * depth + b"\x05"
    return frame(CONNECTION_CSID, 0, m.COMMAND, 0, amf0.encode("_error", 1.0, None) + nested, 128)


def flood_status(stream_id: int, chunk_size: int) -> bytes:
    """Return one long onStatus."""
    info: dict[str, amf0.Value] = {
        "level": "status",
        "code": "NetStream.Publish.Notify",
        "description": "x" * FLOOD_BYTES,
    }
    return frame(5, 0, m.COMMAND, stream_id, amf0.encode("onStatus", 0.0, None, info), chunk_size)


class OddServerConnection(ServerConnection):
    """A server whose acknowledgements are strange."""

    acks = ""

    def _acknowledge(self, now: float) -> None:
        if not self.acks:
            super()._acknowledge(now)
            return
        received = self._reader.bytes_received
        if self.acks == "increments":
            self._send_control(m.ACKNOWLEDGEMENT, m.u32(received - self._acked_at))
        elif self.acks == "backwards":
            self._send_control(m.ACKNOWLEDGEMENT, m.u32(0x7FFF_FFFF - received))
        self._acked_at = received
        self._ack_due = received + self._ack_step
