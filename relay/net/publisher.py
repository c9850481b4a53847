"""The role of a connection that publishes: asking permission, taking its feed, passing media on, being judged idle.

One encoder per feed. A second one with the same right is refused while the first sends media, and takes over when the
first has been silent for `TAKEOVER_S`: an encoder whose network dropped comes back before we can know that it left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import deferLater

from relay.decisions import Allow, Deny, PublishRequest
from relay.events import FeedEnded, FeedStarted, PublishRefused
from relay.media.flv import FlvDemuxer
from relay.rtmp.events import Message, PublishRequested
from relay.rtmp.names import is_public_name
from relay.stream.feeds import Feed
from relay.stream.stream import Stream

if TYPE_CHECKING:
    from relay.net.ingest import IngestProtocol

TAKEOVER_S = 2.0
"""Silence after which the same key may take over (reliability.md case 66)."""

TAKEOVER_POLL_S = 0.1

BAD_NAME = "NetStream.Publish.BadName"
DENIED = "NetStream.Publish.Denied"

KICKED = "The operator has ended this publish."

GENERIC_REFUSAL = "Publishing refused: the stream key is not accepted. Check the key in your encoder."


class Publisher:
    """What a connection is from `publish` to its end."""

    def __init__(self, connection: IngestProtocol, stream_id: int) -> None:
        self.connection = connection
        self._door = connection.door
        self._stream_id = stream_id
        self._demuxer = FlvDemuxer()
        self._read = self._demuxer.read
        self.feed: Feed | None = None
        self.stream: Stream | None = None
        self._silent_s = 0.0
        self._seen = 0
        self._left = False

    @property
    def granted(self) -> bool:
        """Whether media is taken."""
        return self.feed is not None

    def streams(self, name: str) -> bool:
        """Whether it is a feed of this stream."""
        return self.stream is not None and self.stream.name == name

    # Asking.

    async def request(self, event: PublishRequested) -> None:
        """Ask the plugins, take the feed, tell the encoder."""
        connection = self.connection
        decision = await self._door.deciders.authorize_publish(
            PublishRequest(
                connection_id=connection.connection_id,
                peer=connection.peer,
                tls=connection.tls,
                app=event.app,
                stream_key=event.name,
                query=event.query,
            )
        )
        if self._gone:
            return
        if isinstance(decision, Deny):
            await self._deny(decision)
            return
        refusal = await self._take_feed(decision)
        if refusal is not None and not self._gone:
            self._refuse(BAD_NAME, *refusal)

    @property
    def _gone(self) -> bool:
        return self._left or self.connection.closed

    async def _deny(self, decision: Deny) -> None:
        door, connection = self._door, self.connection
        door.answers["publish-denied"] += 1
        await door.hold_back(connection.peer)
        if not self._gone:
            self._refuse(DENIED, "auth.publish_denied", decision.reason, decision.public or GENERIC_REFUSAL)

    def _refuse(self, status: str, code: str, reason: str, public: str) -> None:
        connection = self.connection
        self._door.deciders.emit(
            PublishRefused(connection_id=connection.connection_id, peer=connection.peer, reason=reason)
        )
        connection.rtmp.reject_publish(self._stream_id, status, public)
        connection.flush()
        connection.refuse(code, reason)

    async def _take_feed(self, decision: Allow) -> tuple[str, str, str] | None:
        """Become the feed the decision names; return (code, reason, public text) when that is not possible."""
        name = decision.stream_name
        if not is_public_name(name):
            return "name.bad", "a plugin allowed a bad stream name", "Publishing refused: bad stream name."
        if self._door.hops.has_been(name, self.connection.flash_ver):
            return (
                "forward.loop",
                f"a target leads stream {name} back to itself",
                "This stream comes from here already.",
            )
        kept_out = self._kept_out(decision)
        if kept_out is not None:
            return kept_out
        free = await self._is_free(decision)
        if free and not self._gone:
            if not await self._my_turn(decision):
                public = "This encoder reconnects too often; wait some seconds."
                return "limit.publish_rate", f"feed {decision.feed} of {name} is taken too often", public
            free = await self._is_free(decision)  # somebody may have come while we waited
        if not free:
            public = "Another encoder is live with this key."
            return "publish.busy", f"feed {decision.feed} of {name} is in use", public
        if self._gone:
            return None
        kept_out = self._kept_out(decision)  # somebody may have been kicked meanwhile
        if kept_out is not None:
            return kept_out
        door, connection = self._door, self.connection
        if door.draining:
            return "shutdown", "the relay is shutting down", "The relay is shutting down."
        code = door.admission.authorize(connection.ticket, "publisher")
        if code is not None:
            return code, "too many publishers", "The relay is full: too many encoders are connected."
        self._start(decision)
        return None

    def _kept_out(self, decision: Allow) -> tuple[str, str, str] | None:
        door = self._door
        seconds = door.turnstile.barred_s(decision.stream_name, decision.feed, door.clock.seconds())
        if not seconds:
            return None
        why = f"feed {decision.feed} of {decision.stream_name} was kicked and is kept out for {seconds:.0f} s more"
        return "publish.kicked", why, KICKED

    async def _my_turn(self, decision: Allow) -> bool:
        """Wait as long as this feed has to after its last publishes; False when that is too long."""
        clock = self._door.clock
        wait = self._door.turnstile.wait_s(decision.stream_name, decision.feed, clock.seconds())
        if wait:
            await deferLater(clock, wait)
        return wait is not None

    def _current(self, decision: Allow) -> Feed | None:
        stream = self._door.registry.get(decision.stream_name)
        return None if stream is None else stream.find_feed(decision.feed)

    async def _is_free(self, decision: Allow) -> bool:
        """Wait until nobody has the feed or its encoder has been silent for TAKEOVER_S; False when it sends.

        Others may wait as well: whoever comes first has the feed, and is judged anew by the rest.
        """
        clock = self._door.clock
        judged: Feed | None = None
        seen = 0
        while not self._gone:
            old = self._current(decision)
            if old is None:
                return True
            if old is not judged:
                judged, seen = old, old.packets_total
            elif old.packets_total != seen:
                return False
            if clock.seconds() - (old.last_packet_at or old.opened_at) >= TAKEOVER_S:
                return True
            await deferLater(clock, TAKEOVER_POLL_S)
        return True

    def _start(self, decision: Allow) -> None:
        door, connection = self._door, self.connection
        door.answers["publish-allowed"] += 1
        old = self._current(decision)
        self.stream = stream = door.registry.get_or_create(decision.stream_name)
        self.feed = feed = stream.open_feed(decision.feed, decision.priority, door.clock.seconds())
        door.publishers[feed] = self
        if old is not None and old in door.publishers:  # opened first, ended second: the programme goes on
            public = "Another encoder took over with this key."
            door.publishers[old].revoke("publish.taken_over", "the same key came back after silence", public)
        door.deciders.emit(
            FeedStarted(
                stream=stream.name, feed=feed.name, connection_id=connection.connection_id, peer=connection.peer
            )
        )
        door.log.info(
            "publisher {connection_id} from {peer} started feed {feed} of stream {stream} ({encoder})",
            connection_id=connection.connection_id,
            peer=connection.peer,
            feed=feed.name,
            stream=stream.name,
            encoder=connection.flash_ver,
        )
        connection.trust()
        early = connection.rtmp.accept_publish(self._stream_id)
        connection.flush()
        connection.take(early, door.clock.seconds())

    def odd(self) -> dict[str, int]:
        """What was tolerated so far, by code."""
        return {**self._demuxer.odd, **self.connection.rtmp.odd}

    # Media.

    def media(self, message: Message, now: float) -> None:
        """Pass one message on. The hot path: nothing here but the way of a packet."""
        feed = self.feed
        if feed is None:
            return
        packet = self._read(message.type_id, message.timestamp, message.payload)
        if packet is not None:
            feed.push(packet, now)
            if self._demuxer.more:
                for following in self._demuxer.take():
                    feed.push(following, now)

    def tick(self, seconds: float) -> None:
        """Judge silence in running time: no first picture or sound, or none any more. Metadata alone is no media."""
        feed = self.feed
        if feed is None:
            return
        total = feed.video_frames_total + feed.audio_frames_total
        if total != self._seen:
            self._seen = total
            self._silent_s = 0.0
            return
        self._silent_s += seconds
        limits = self._door.limits
        if total == 0 and self._silent_s >= limits.first_media_s:
            self.connection.refuse("publish.no_media", f"no media within {limits.first_media_s:g} s of publish")
        elif total and self._silent_s >= limits.publish_idle_s:
            self.connection.refuse("publish.idle", f"no media for {limits.publish_idle_s:g} s")

    # The end.

    def kick(self, cooloff_s: float) -> None:
        """End it by the operator's word, and keep its feed out for so long."""
        feed, stream = self.feed, self.stream
        if feed is not None and stream is not None:
            self._door.turnstile.bar(stream.name, feed.name, cooloff_s, self._door.clock.seconds())
            self.revoke("publish.kicked", f"kicked; kept out for {cooloff_s:g} s", KICKED)

    def revoke(self, code: str, reason: str, public: str) -> None:
        """Take the grant back: tell the encoder *public*, then close its connection."""
        self.connection.rtmp.end_publish(self._stream_id, public)
        self.connection.flush()
        self.connection.refuse(code, reason)

    def leave(self, reason: str) -> None:
        """Give the feed back; called once, whatever ended the role."""
        if self._left:
            return
        self._left = True
        feed, self.feed = self.feed, None
        if feed is None:
            return
        connection, stream = self.connection, self.stream
        assert stream is not None  # noqa: S101 - a publisher with a feed has its stream
        self._door.publishers.pop(feed, None)
        self._door.deciders.emit(
            FeedEnded(stream=stream.name, feed=feed.name, connection_id=connection.connection_id, reason=reason)
        )
        self._door.log.info(
            "publisher {connection_id} ended feed {feed} of stream {stream}: {reason}",
            connection_id=connection.connection_id,
            feed=feed.name,
            stream=stream.name,
            reason=reason,
        )
        feed.end(reason, self._door.clock.seconds())
