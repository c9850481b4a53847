"""``[limits]``: what a peer may make us hold or do.

The rule it guards: every length, count, depth and timer that a peer can push has a number here, and a reason beside it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from relay.config_file import ConfigModel
from relay.rtmp.limits import KIB, MIB, STRANGERS_CHUNKS, WireLimits

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Bytes = Annotated[int, Field(ge=128, le=1024 * MIB)]


class Limits(ConfigModel):
    """``[limits]``: what a peer may make us hold or do. Above a limit only the guilty connection is closed."""

    connections: Count = 12_000
    """Open RTMP connections in all: room for `players`, `publishers` and those who are neither yet."""
    unauthenticated: Count = 200
    """Connections that may not publish or play yet. A TLS handshake is 0.9 ms of CPU and 26 KiB."""
    unauthenticated_per_ip: Count = 20
    """The same for one address; a production team behind one router needs a few."""
    new_per_ip_per_s: float = Field(default=4.0, gt=0, le=100_000)
    """New connections a second from one address, loopback excepted."""
    new_per_ip_burst: Count = 20
    """New connections that one address may open at once before `new_per_ip_per_s` counts."""
    tls_handshakes_per_s: float = Field(default=200.0, gt=0, le=100_000)
    """New TLS connections a second in all: 0.9 ms of CPU each, so these are a fifth of a core."""
    players: Count = 10_000
    """Players in all."""
    publishers: Count = 1_000
    """Encoders in all."""

    tls_handshake_s: Seconds = 10.0
    """A TLS handshake takes longer than this only when somebody holds it open."""
    handshake_s: Seconds = 10.0
    """RTMP handshake in total, from accept to C2, not per byte (SRS and ZLMediaKit allow 15 to 30)."""
    command_s: Seconds = 10.0
    """From the handshake to an accepted publish or play: no slow series of commands."""
    first_media_s: Seconds = 20.0
    """From the accepted publish to the first media message; some encoders start their camera only then."""
    publish_idle_s: Seconds = 10.0
    """An encoder without media for this long is gone. Its stream key is free again afterwards."""

    unauthenticated_bytes: Bytes = 128 * KIB
    """Memory of one connection before it may publish, and of a player always."""
    unauthenticated_message_bytes: Bytes = 64 * KIB
    """Largest message before that: a connect command is below 2 KiB."""
    unauthenticated_chunk_streams: int = Field(default=8, ge=2, le=65_597)
    """Chunk streams before that; encoders use 2 to 5."""
    video_message_bytes: Bytes = 8 * MIB
    """Largest video message; 8 MiB holds a 4K intra frame (nginx-rtmp stops at 1 MiB)."""
    audio_message_bytes: Bytes = 1 * MIB
    """Largest audio message, far above any coded audio frame."""
    command_message_bytes: Bytes = 256 * KIB
    """Largest command or data message."""
    chunk_streams: int = Field(default=32, ge=2, le=65_597)
    """Chunk streams of an accepted encoder (nginx-rtmp allows 32)."""
    partial_bytes: Bytes = 12 * MIB
    """Sum of the unfinished messages of an accepted encoder: 65,597 chunk streams of 16 MiB would be 1 TiB."""
    partial_age_s: Seconds = 30.0
    """An unfinished message older than this is an attack, not an encoder."""
    chunks_per_s: Count = 100_000
    """Chunk headers a second; an honest 50 Mbit/s at the smallest common chunk size of 128 is half of this. Before a
    connection may publish, and from players, 20,000 at most."""
    parse_ms_per_turn: float = Field(default=2.0, gt=0, le=1_000)
    """Parse work of one connection per reactor turn. Who needs more rests for as long as it took."""

    queue_bytes: Bytes = 8 * MIB
    """Packets that wait for one slow destination. Whole GOPs are dropped when this or `queue_ms` is reached."""
    queue_ms: int = Field(default=2_000, ge=100, le=600_000)
    """The same in time: what is older has no value in a live programme. A GOP that has begun may wait for twice as long
    while there is no later keyframe: platforms want one at least every 4 s."""

    http_header_s: Seconds = 10.0
    """Time to send the whole head of an HTTP request."""
    http_body_s: Seconds = 10.0
    """Time to send the body of an HTTP request."""
    http_body_bytes: Bytes = 1 * MIB
    """Largest body of an API request."""
    http_requests_per_ip: Count = 8
    """HTTP requests of one address that are answered at the same time; a browser opens 6 connections."""
    http_viewer_requests_per_ip: Count = 2_000
    """The same for what viewers ask of plugins: a low-latency player has two or three that wait for what comes next, so
    this is 600 viewers behind one router. A cache in front of the relay, one address too, joins equal requests."""

    def wire_before(self) -> WireLimits:
        """The bounds of a connection that may not publish or play yet."""
        message = self.unauthenticated_message_bytes
        return WireLimits(
            video=message,
            audio=message,
            command=message,
            chunk_streams=self.unauthenticated_chunk_streams,
            partial=min(message, self.unauthenticated_bytes),
            chunks_per_second=min(self.chunks_per_s, STRANGERS_CHUNKS),
            partial_age_s=self.partial_age_s,
        )

    def wire_after(self) -> WireLimits:
        """The bounds of a connection that may publish or play."""
        return WireLimits(
            video=self.video_message_bytes,
            audio=self.audio_message_bytes,
            command=self.command_message_bytes,
            chunk_streams=self.chunk_streams,
            partial=self.partial_bytes,
            chunks_per_second=self.chunks_per_s,
            partial_age_s=self.partial_age_s,
        )
