"""Pushes each stream to its targets: YouTube, Twitch, Facebook, a server of your own, any RTMP or RTMPS address.

The plugin says where to push; connecting, waiting, queueing and starting again at a keyframe is `Context.push`'s work.
The rule it guards: a target is *url* and *key*, never one string, and the key never leaves this machine unless the
server's certificate is good (rtmps).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ConfigDict, Field, field_validator

from relay.api import ConfigError, ConfigModel, Context, PushTarget, SecretRef, Sink, StreamInfo, hookimpl, parse_url

__all__ = ["RestreamPlugin", "Target"]


class Target(ConfigModel):
    """``[streams.S.restream.T]``: one place to push to."""

    url: str
    """``rtmp://HOST[:PORT]/APP`` or ``rtmps://HOST[:PORT]/APP``, as the platform gives it, without the key."""
    key: SecretRef
    """The stream key the platform gives with it, exactly as it is."""
    ca_file: Path | None = None
    """PEM file with CAs to trust beside the system's, for a server with a certificate of your own (rtmps only)."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        try:
            parse_url(url)
        except ConfigError as error:
            raise ValueError(error.message) from error
        return url


class Targets(ConfigModel):
    """``[streams.S.restream]``: targets by name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Target] = Field(init=False)

    @property
    def by_name(self) -> Mapping[str, Target]:
        """Every target, in the order of the file."""
        return self.__pydantic_extra__


class RestreamPlugin:
    """Opens a push for every target of a stream that starts."""

    StreamConfig = Targets

    class Config(ConfigModel):
        """``[plugins.restream]``"""

        merge_ms: int = Field(default=50, ge=0, le=1_000)
        """Collect packets this long before sending them: many destinations cost a third, and platforms, which delay a
        stream by seconds, do not notice."""

    def __init__(self, config: Config, context: Context[Targets]) -> None:
        self._merge_ms = config.merge_ms
        self._context = context
        for stream, targets in context.configured_streams.items():
            for name, target in targets.by_name.items():
                if target.ca_file is not None and not target.url.startswith("rtmps:"):
                    raise ConfigError(f"streams.{stream}.restream.{name}.ca_file", "is for rtmps:// only")

    @hookimpl
    def open_sinks(self, stream: StreamInfo) -> Iterable[Sink]:
        """Return the push to all targets of the stream."""
        config = self._context.stream_config(stream.name)
        if config is None or not config.by_name:
            return ()
        targets = [
            PushTarget(name=name, url=target.url, key=target.key.secret, ca_file=target.ca_file)
            for name, target in config.by_name.items()
        ]
        return [self._context.push(stream.name, targets, merge_ms=self._merge_ms)]
