"""Pushes each stream to its targets: YouTube, Twitch, Facebook, a server of your own, any RTMP or RTMPS address.

The plugin says where to push, what each target gets of the stream and whether its platform will like that; connecting,
waiting, queueing and starting again at a keyframe is `Context.push`'s work. The rule it guards: a target is *url* and
*key*, never one string, and the key never leaves this machine unless the server's certificate is good (rtmps).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from pydantic import Field, field_validator

from relay.api import ConfigError, ConfigModel, Context, PlaceToCheck, Sink, StreamInfo, hookimpl

from .checks import address_to_check, preset_facts, preset_lines, preset_to_check, target_to_check
from .control import TargetBook
from .ingests import IngestLists, fetch_with
from .options import Target, Targets
from .presets import find_preset

__all__ = ["RestreamPlugin", "Target"]


class RestreamPlugin:
    """Opens a push for every target of a stream that starts."""

    StreamConfig = Targets

    class Config(ConfigModel):
        """``[plugins.restream]``"""

        merge_ms: int = Field(default=50, ge=0, le=1_000)
        """Collect packets this long before sending them: many destinations cost a third, and platforms, which delay a
        stream by seconds, do not notice."""
        allow_networks: tuple[str, ...] = ()
        """Networks (CIDR) beside the public ones that targets given through the API may be in. Addresses in the
        configuration file are trusted."""
        ingest_lists: bool = True
        """Ask services that publish their ingest servers, as Twitch does, for the nearest one."""
        directory: Path | None = None
        """For lists of ingest servers and for the part of long delays that memory does not hold. Without it: systemd's
        cache directory, or the system's temporary one for delays and nothing for lists."""

        @field_validator("allow_networks")
        @classmethod
        def _check_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
            for network in networks:
                try:
                    ip_network(network)
                except ValueError as error:
                    raise ValueError(f"not a network; write 10.1.0.0/16 or fd00::/8 ({error})") from None
            return networks

        @property
        def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
            """`allow_networks`, read."""
            return tuple(map(ip_network, self.allow_networks))

    def __init__(self, config: Config, context: Context[Targets]) -> None:
        for stream, targets in context.configured_streams.items():
            for name, target in targets.by_name.items():
                url = target.url or find_preset(target.preset).url or ""
                for option, file in (("ca_file", target.ca_file), ("crl_file", target.crl_file)):
                    if file is not None and not url.startswith("rtmps:"):
                        raise ConfigError(f"streams.{stream}.restream.{name}.{option}", "is for rtmps:// only")
        directory = config.directory or _cache_directory()
        ingests = IngestLists(
            fetch=fetch_with(context.clock) if config.ingest_lists else None,
            seconds=context.clock.seconds,
            wall_clock=time.time,
            directory=directory,
            log=context.log,
        )
        self._book = TargetBook(
            context, merge_ms=config.merge_ms, networks=config.networks, ingests=ingests, directory=directory
        )
        context.control_targets(self._book)

    @hookimpl
    def open_sinks(self, stream: StreamInfo) -> Iterable[Sink]:
        """Return the push to all targets of the stream; without any it waits for one from the API."""
        return [self._book.open(stream.name)]

    @staticmethod
    def preset_lines(name: str | None = None) -> Iterator[str]:
        """Yield one line for each preset, or for each fact about one, for `rtmp-relay presets`. Raises ConfigError."""
        return preset_lines() if name is None else preset_facts(name)

    @staticmethod
    def preset_to_check(name: str) -> PlaceToCheck:
        """Return what `rtmp-relay check --preset` needs. Raises ConfigError when there is no such preset."""
        return preset_to_check(name)

    @staticmethod
    def address_to_check(url: str) -> PlaceToCheck | None:
        """Return what is known of an address, for `rtmp-relay check URL`; None when that is nothing."""
        return address_to_check(url)

    @staticmethod
    def target_to_check(targets: Targets, name: str) -> PlaceToCheck:
        """Return what `rtmp-relay check --target` needs. Raises ConfigError when the stream has no such target."""
        return target_to_check(targets, name)


def _cache_directory() -> Path | None:
    """Return systemd's cache directory of the relay, if it runs under systemd with one."""
    first = os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]
    return Path(first) if first else None
