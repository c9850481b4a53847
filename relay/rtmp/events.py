"""What the protocol core tells its user. Plain data; media arrives as `Message` itself, because it is the hot path.

`ServerConnection.receive_data` and `ClientConnection.receive_data` return a list of these. The rule: an event is
either a question (the user must answer with one of the connection's verbs) or a fact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.secret import Secret


@dataclass(slots=True, eq=False)
class Message:
    """One complete RTMP message.

    Attributes:
        type_id: message type (RTMP 1.0 §7, 8 audio, 9 video, 18 AMF0 data, 20 AMF0 command...).
        timestamp: absolute 32-bit time in ms, after delta and extended timestamp are resolved.
        stream_id: message stream id (msid).
        csid: chunk stream id it arrived on.
        payload: the message body.
    """

    type_id: int
    timestamp: int
    stream_id: int
    csid: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeCompleted:
    """C0-C2 / S0-S2 are done. Fact. *digest* says which form the peer used."""

    digest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the peer announced in connect (E-RTMP v2 §connect). Absence does not mean "cannot"."""

    fourccs: frozenset[str] = frozenset()
    caps_ex: int = 0
    object_encoding: int = 0

    @property
    def any_codec(self) -> bool:
        """The peer sent the wildcard ``*``."""
        return "*" in self.fourccs

    @property
    def reconnect(self) -> bool:
        """The peer understands NetConnection.Connect.ReconnectRequest."""
        return bool(self.caps_ex & 0x01)

    @property
    def multitrack(self) -> bool:
        """The peer understands multitrack messages."""
        return bool(self.caps_ex & 0x02)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectRequested:
    """Server: `connect` arrived. Answer with `accept_connect()` or `reject_connect(description)`.

    Attributes:
        app: path segments of the app, normalised, without query, ``live`` or ``live/abc``. What follows the first may
            be a key (OBS puts its whole URL path here), so it is kept out of the repr.
        tc_url: as sent, for diagnosis only; holds secrets when people paste keys into it.
        flash_ver: what the peer calls itself, cut to 256 characters.
        query: parameters found in tcUrl and app.
        command: the whole command object, decoded; holds the same secrets.
    """

    app: str = field(repr=False)
    tc_url: Secret
    flash_ver: str
    query: Mapping[str, Secret]
    capabilities: Capabilities
    command: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRequested:
    """Server: `publish` arrived on *stream_id*. Answer with `accept_publish(stream_id)` or `reject_publish(...)`.

    *name* is the path below the app's first segment joined with the stream name, without query and slashes at its
    ends; *query* merges tcUrl, app and name (first one wins). The name is a key, so it is wrapped.
    """

    stream_id: int
    app: str
    name: Secret
    query: Mapping[str, Secret]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishEnded:
    """Server: the encoder ended its publish on purpose (FCUnpublish, deleteStream, closeStream). Fact, sent once."""

    stream_id: int
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayRequested:
    """Server: `play` or `play2` arrived. Answer with `accept_play(stream_id)` or `reject_play(...)`."""

    stream_id: int
    app: str
    name: str
    query: Mapping[str, Secret]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayEnded:
    """Server: the player closed its stream. Fact."""

    stream_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayGated:
    """Server: the player paused, resumed, or switched audio or video off or on. Fact; None means unchanged."""

    stream_id: int
    paused: bool | None = None
    audio: bool | None = None
    video: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectAccepted:
    """Client: the server said NetConnection.Connect.Success. Fact."""

    properties: Mapping[str, Any]
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectRejected:
    """Client: `_error` to connect. Fact; the attempt is over. *info* may hold a redirect (``ex.redirect``)."""

    code: str
    description: str
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishAccepted:
    """Client: NetStream.Publish.Start (or one of the forms servers use instead). Media may be sent. Fact."""

    stream_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRefused:
    """Client: the server refused our publish. Fact; the attempt is over."""

    code: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayAccepted:
    """Client: the server started playing to us. Fact."""

    stream_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayRefused:
    """Client: the server refused our play or ended it. Fact."""

    code: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReceived:
    """Client: any other onStatus, while connected. Fact."""

    level: str
    code: str
    description: str
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectRequested:
    """Client: NetConnection.Connect.ReconnectRequest (E-RTMP v2 §Reconnect). *tc_url* may be empty or relative."""

    tc_url: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """The peer acknowledged *total* bytes (its 32-bit counter as sent). For statistics only. Fact."""

    total: int


Event = (
    HandshakeCompleted
    | ConnectRequested
    | PublishRequested
    | PublishEnded
    | PlayRequested
    | PlayEnded
    | PlayGated
    | ConnectAccepted
    | ConnectRejected
    | PublishAccepted
    | PublishRefused
    | PlayAccepted
    | PlayRefused
    | StatusReceived
    | ReconnectRequested
    | Acknowledged
    | Message
)
