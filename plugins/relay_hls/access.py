"""Who may watch: asks the relay's plugins, and signs addresses for those who came with a key.

A stream that everybody may play has plain addresses, the same for all, so that a cache in front of the relay can serve
them. For any other, whoever asks with the right key gets playlists below ``~TOKEN/``, which all relative addresses in
them inherit. The rule it guards: no key is ever part of an address that we give out, and a token opens one stream, for
a while, until this relay stops.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping

from twisted.internet.interfaces import IReactorTime

from relay.api import Allow, Decision, PlayRequest, Secret

ALLOWED_S = 10.0
"""A yes is remembered so long: a player asks several times a second."""
DENIED_S = 1.0
MAX_ANSWERS = 4_096
"""Answers remembered, the oldest forgotten first: 1 MB."""
TOKEN_MARK = "~"  # noqa: S105 - no stream name may begin with it

Ask = Callable[[PlayRequest], Awaitable[Decision]]
_Asked = tuple[str, str, bool, bytes]


class Access:
    """Decides for one relay."""

    def __init__(self, ask: Ask, clock: IReactorTime, *, valid_s: float) -> None:
        self._ask = ask
        self._clock = clock
        self._valid_s = valid_s
        self._secret = secrets.token_bytes(32)
        self._answers: OrderedDict[_Asked, tuple[Decision, float]] = OrderedDict()
        self._asked = 0

    # Plugins.

    def known(self, stream: str, peer: str, tls: bool, query: Mapping[str, Secret]) -> Decision | None:
        """Return the answer to this question if it was given a moment ago."""
        found = self._answers.get(self._question(stream, peer, tls, query))
        return found[0] if found is not None and self._clock.seconds() < found[1] else None

    async def decide(self, stream: str, peer: str, tls: bool, query: Mapping[str, Secret]) -> Decision:
        """Ask whether whoever sends *query* may play *stream*."""
        question = self._question(stream, peer, tls, query)
        self._asked += 1
        request = PlayRequest(
            connection_id=f"hls{self._asked}", peer=peer, tls=tls, app="hls", stream_name=stream, query=query
        )
        decision = await self._ask(request)
        keep_s = ALLOWED_S if isinstance(decision, Allow) else DENIED_S
        self._answers.pop(question, None)
        self._answers[question] = (decision, self._clock.seconds() + keep_s)
        if len(self._answers) > MAX_ANSWERS:
            self._answers.popitem(last=False)
        return decision

    def _question(self, stream: str, peer: str, tls: bool, query: Mapping[str, Secret]) -> _Asked:
        if not query:
            return (stream, peer, tls, b"")
        said = b"".join(name.encode() + b"\0" + value.digest() for name, value in sorted(query.items()))
        return (stream, peer, tls, hmac.digest(self._secret, said, "sha256"))

    # Tokens.

    def token(self, stream: str) -> str:
        """Return a path segment that opens *stream*."""
        until = f"{int(self._clock.seconds() + self._valid_s):x}"
        return f"{TOKEN_MARK}{until}.{self._signature(stream, until)}"

    def opens(self, token: str, stream: str) -> bool:
        """Whether *token* is one of ours for *stream*, and still good."""
        until, _, signature = token.removeprefix(TOKEN_MARK).partition(".")
        good = hmac.compare_digest(self._signature(stream, until).encode(), signature.encode())
        return good and int(until, 16) > self._clock.seconds()

    def _signature(self, stream: str, until: str) -> str:
        # The clock of the signature is the relay's own, which no step of the time of day moves; like the secret, it
        # ends with this process.
        said = f"{until}\0{stream}".encode("utf-8", "surrogatepass")
        return urlsafe_b64encode(hmac.digest(self._secret, said, "sha256")[:18]).decode()
