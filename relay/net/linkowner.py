"""What a link tells whoever opened it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from relay.errors import DestinationError
from relay.rtmp.events import ConnectRejected, ReconnectRequested

if TYPE_CHECKING:
    from relay.net.pushlink import PushLink


class LinkOwner(Protocol):
    """What a link tells its target."""

    def link_live(self, link: PushLink) -> None:
        """The destination accepted the publish."""
        ...

    def link_fell_in(self, link: PushLink) -> None:
        """Packets reach the link through its lane from now on."""
        ...

    def link_fell_out(self, link: PushLink) -> None:
        """Packets for the link go to the outbox from now on."""
        ...

    def link_progress(self, link: PushLink) -> None:
        """`PushLink.accepted` changed."""
        ...

    def link_asked(self, link: PushLink, event: ReconnectRequested) -> None:
        """The destination asks to come again; the link goes on."""
        ...

    def link_rejected(self, link: PushLink, event: ConnectRejected) -> None:
        """The server did not take our `connect`; the link is over. Called in the place of `link_lost`."""
        ...

    def link_lost(self, link: PushLink, error: DestinationError) -> None:
        """The attempt is over. Called once."""
        ...
