"""Every error this project raises on purpose; nothing here imports anything of ours.

The rule: an error says who is at fault. The peer -> `RemoteProtocolError` (relay.rtmp.errors); our own
code -> `LocalProtocolError`; the operator's file -> `ConfigError`; a plugin -> `PluginError`; the place we
push to -> `DestinationError`.
"""

from __future__ import annotations


class RelayError(Exception):
    """Base of every error raised on purpose."""


class ConfigError(RelayError):
    """The configuration is wrong at *path*, for example ``streams.townhall.restream.youtube.url``."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message


class PluginError(RelayError):
    """A plugin could not be found, built or called; *plugin* is its configured name."""

    def __init__(self, plugin: str, message: str) -> None:
        super().__init__(f"plugin {plugin}: {message}")
        self.plugin = plugin
        self.message = message


class DestinationError(RelayError):
    """A push attempt ended.

    *reason* is a stable code (``dns``, ``refused``, ``unreachable``, ``address-refused``, ``tls``, ``handshake``,
    ``protocol``, ``connect-rejected``, ``redirect-refused``, ``auth-needed``, ``auth-failed``, ``publish-refused``,
    ``closed-early``, ``closed``, ``reset``, ``stalled``, ``reconnect``); *detail* is a sentence for the operator
    without secrets.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
