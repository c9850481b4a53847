"""Questions put to the *decide* hooks and the answers they may give. Fields are added, never removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRequest:
    """An encoder asks to publish.

    Attributes:
        connection_id: appears in every log line about this connection.
        peer: IP address of the peer, without port.
        tls: whether the encoder came over RTMPS.
        app: first path segment, ``live`` by default.
        stream_key: what stands where the key belongs, without the query. Wrapped, so it cannot be logged by accident.
        query: parameters of tcUrl, app and stream name merged, first one wins. Values may be secrets too.
    """

    connection_id: str
    peer: str
    tls: bool
    app: str
    stream_key: Secret
    query: Mapping[str, Secret] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayRequest:
    """A player asks for a stream by its public name."""

    connection_id: str
    peer: str
    tls: bool
    app: str
    stream_name: str
    query: Mapping[str, Secret] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """Yes. For publish, *stream_name* and *feed* say where the encoder belongs; for play they are ignored.

    *priority* orders feeds: 0 is the primary, higher numbers are backups. *key_id* names the credential without
    revealing it (so that the same key may take over from itself).
    """

    stream_name: str = ""
    feed: str = "primary"
    priority: int = 0
    key_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """No. *reason* is for our log; the encoder sees a generic refusal unless *public* says more."""

    reason: str = "not authorized"
    public: str = ""


Decision = Allow | Deny
