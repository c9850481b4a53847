"""The audience of each stream: made when the first player comes, gone when the last one leaves."""

from __future__ import annotations

from relay.net.audience import Audience
from relay.net.flusher import Flusher
from relay.stream.registry import Registry
from relay.stream.ring import Ring
from relay.stream.stream import Stream


class Audiences:
    """Finds or makes the audience of a live stream. A stream without players costs no framing at all."""

    def __init__(self, registry: Registry, flusher: Flusher) -> None:
        self._registry = registry
        self._flusher = flusher
        self._by_name: dict[str, Audience] = {}
        self._before: dict[str, tuple[int, int]] = {}
        """Bytes and drops of earlier audiences: a counter must not fall when the last player of a stream leaves."""
        registry.on_ended.append(self._stream_ended)

    def is_live(self, name: str) -> bool:
        """Whether there is a stream *name* that can be played."""
        stream = self._registry.get(name)
        return stream is not None and stream.started

    def of(self, name: str) -> Audience | None:
        """Return the audience of the stream *name*, or None while it is not live."""
        stream = self._registry.get(name)
        if stream is None or not stream.started:
            return None
        audience = self._by_name.get(name)
        return self._open(stream) if audience is None else audience

    def existing(self, name: str) -> Audience | None:
        """Return the audience of *name* if it has one now."""
        return self._by_name.get(name)

    def _stream_ended(self, stream: Stream, reason: str) -> None:
        self._before.pop(stream.name, None)

    def bytes_out(self, name: str) -> int:
        """Bytes sent to players of the live stream *name* so far."""
        audience = self._by_name.get(name)
        return self._before.get(name, (0, 0))[0] + (0 if audience is None else audience.bytes_out)

    def dropped(self, name: str) -> int:
        """Players of the live stream *name* that were dropped so far because they did not read."""
        audience = self._by_name.get(name)
        return self._before.get(name, (0, 0))[1] + (0 if audience is None else audience.dropped)

    def _open(self, stream: Stream) -> Audience:
        def forget() -> None:
            if self._by_name.get(stream.name) is audience:
                self._before[stream.name] = (self.bytes_out(stream.name), self.dropped(stream.name))
                del self._by_name[stream.name]
            stream.detach(audience)

        audience = Audience(self._flusher, Ring(), forget)
        self._by_name[stream.name] = audience
        stream.attach(audience)
        audience.flush()
        return audience
