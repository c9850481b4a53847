"""Stream keys: who may publish to which stream as which feed, and who may play it. See README.md.

Imports relay.api and nothing else of ours. The rule it guards: every request costs the same comparisons over all keys,
whether it is right, wrong or about a stream that does not exist; and no key is ever written anywhere.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from relay.api import (
    TEMPLATE,
    Allow,
    ConfigError,
    ConfigModel,
    Context,
    Decision,
    Deny,
    PlayRequest,
    PublishRequest,
    SecretRefs,
    hookimpl,
    is_loopback,
    is_public_name,
    show_path,
)
from relay_streamkeys.keys import KeyRing, digest_of, offered_keys

KEY_REFUSED = "stream key not accepted; check the key in your encoder"
KEY_MISSING = "no stream key; put it into the stream key field of your encoder"
PLAY_REFUSED = "this stream needs a play key: add ?key=... to its name"


class StreamKeysPlugin:
    """Answers `authorize_publish` and `authorize_play` from the keys in the configuration."""

    class Config(ConfigModel):
        """``[plugins.streamkeys]``"""

        any_key: Literal["off", "loopback"] = "off"
        """``loopback``: an encoder on this machine may publish under any key, which is then the stream's name."""
        unknown: Literal["deny", "ask-next"] = "deny"
        """What to say to a key that is not ours: refuse, or leave the answer to the next plugin that decides."""
        min_length: int = Field(default=16, ge=1, le=1_024)
        """Warn about keys shorter than this many characters: they can be guessed."""

    class StreamConfig(ConfigModel, extra="allow"):
        """``[streams.S.streamkeys]``: one key or list of keys for each feed, by order of priority, and ``play``."""

        __pydantic_extra__: dict[str, SecretRefs]
        play: SecretRefs | None = None
        """Key or keys that players need. Without it everybody who reaches the listener may play."""

    def __init__(self, config: Config, context: Context[StreamConfig]) -> None:
        self._config = config
        self._context = context
        self._publish: KeyRing[Allow] = KeyRing()
        self._play: KeyRing[str] = KeyRing()
        self._play_locked: set[str] = set()
        for stream, keys in context.configured_streams.items():
            self._add_stream(stream, keys)
        if not self._publish and config.any_key == "off" and config.unknown == "deny":
            context.log.warn("no stream has a key, so nobody may publish")

    def _add_stream(self, stream: str, keys: StreamConfig) -> None:
        for priority, (feed, secrets) in enumerate((keys.__pydantic_extra__ or {}).items()):
            if not is_public_name(feed) or "/" in feed:
                raise ConfigError(_path(stream, feed), "not a feed name: A-Z a-z 0-9 _ . - are allowed")
            for index, digest in enumerate(self._digests(stream, feed, secrets)):
                key_id = f"{stream}.{feed}[{index}]"
                allow = Allow(stream_name=stream, feed=feed, priority=priority, key_id=key_id)
                known = self._publish.add(digest, allow)
                if known is not None:
                    raise ConfigError(
                        _path(stream, feed), f"the same key as {known.key_id}; it must say which feed is meant"
                    )
        if keys.play is not None:
            self._play_locked.add(stream)
            for digest in self._digests(stream, "play", keys.play):
                self._play.add(digest, stream)

    def _digests(self, stream: str, name: str, secrets: SecretRefs) -> list[bytes]:
        digests = []
        for secret in secrets:
            try:
                digest, length = digest_of(secret.secret)
            except ValueError as error:
                raise ConfigError(_path(stream, name), str(error)) from None
            if length is not None and length < self._config.min_length:
                self._context.log.warn(
                    "{path} is shorter than {wanted} characters and can be guessed",
                    path=_path(stream, name),
                    wanted=self._config.min_length,
                )
            digests.append(digest)
        return digests

    @hookimpl
    def authorize_publish(self, request: PublishRequest) -> Decision | None:
        """Find the feed that the offered key belongs to."""
        path = request.stream_key.reveal()
        in_query = offered_keys(request.query)
        by_query = [allow for key in in_query for allow in self._publish.find_all(key)]
        by_path = self._publish.find_all(request.stream_key)
        for allow in by_query:
            decision = self._for_path(allow, path)
            if decision is not None:
                return decision
        for allow in by_path:
            if allow.stream_name != TEMPLATE:
                return allow
        if not by_path and self._may_use_any_key(request.peer, path):  # a key must not become a public name
            return Allow(stream_name=path, feed="primary", key_id="any")
        if self._config.unknown == "ask-next":
            return None
        if not path and not in_query:
            return Deny(reason="no stream key", public=KEY_MISSING)
        return Deny(reason="unknown stream key", public=KEY_REFUSED)

    def _for_path(self, allow: Allow, path: str) -> Allow | None:
        """A key in the query opens the stream that the path names; the template's key any that is not declared."""
        if allow.stream_name != TEMPLATE:
            return allow if path in ("", allow.stream_name) else None
        if not is_public_name(path) or self._context.is_declared(path):
            return None
        return Allow(stream_name=path, feed=allow.feed, priority=allow.priority, key_id=allow.key_id)

    def _may_use_any_key(self, peer: str, path: str) -> bool:
        """A stream with keys of its own is never opened by its name."""
        if self._config.any_key != "loopback" or not is_loopback(peer) or not is_public_name(path):
            return False
        return path not in self._context.configured_streams

    @hookimpl
    def authorize_play(self, request: PlayRequest) -> Decision | None:
        """Let everybody play a stream without play keys, and key holders the others."""
        stream = request.stream_name
        lock = stream if self._context.is_declared(stream) else TEMPLATE
        opened = [name for key in offered_keys(request.query) for name in self._play.find_all(key)]
        if lock in opened:
            return Allow()
        if self._config.unknown == "ask-next":
            return None
        if lock not in self._play_locked:
            return Allow()
        return Deny(reason="no valid play key", public=PLAY_REFUSED)


def _path(stream: str, name: str) -> str:
    return show_path(("streams", stream, "streamkeys", name))
