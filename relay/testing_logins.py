"""The server's side of Adobe's and Limelight's logins, for fake platforms. Use it from `relay.testing`."""

from __future__ import annotations

import base64
import hmac
import os
from typing import Literal

from relay.rtmp.auth import ADOBE, NONCE_COUNT, Credentials, adobe_response, limelight_response
from relay.rtmp.events import ConnectRequested
from relay.secret import Secret

_NO = "[ AccessManager.Reject ] : "


class LoginGuard:
    """Lets one user in who knows the password.

    Attributes:
        asked: how many challenges were given.
    """

    def __init__(self, authmod: Literal["adobe", "llnw"], user: str, password: Secret, *, opaque: bool = True) -> None:
        """Prepare a guard; without *opaque* Adobe's challenge itself is what is answered."""
        self.asked = 0
        self._authmod = authmod
        self._credentials = Credentials(user=user, password=password)
        self._opaque = opaque
        self._salt = _noise()
        self._open: set[str] = set()

    def refusal(self, event: ConnectRequested) -> str:
        """Return what a rejected `connect` is told; empty for one that may pass."""
        said = {name: value.reveal() for name, value in event.query.items()}
        if said.get("authmod") != self._authmod or "user" not in said:
            return f"{_NO}[ code=403 need auth; authmod={self._authmod} ] : "
        if said["user"] != self._credentials.user:
            return self._say("reason=nosuchuser")
        if "response" not in said:
            return self._say(f"reason=needauth&user={said['user']}&{self._challenge()}")
        return "" if self._is_good(event, said) else self._say("reason=authfailed")

    def _say(self, what: str) -> str:
        return f"{_NO}[ authmod={self._authmod} ] : ?{what}"

    def _challenge(self) -> str:
        self.asked += 1
        challenge = _noise()
        self._open.add(challenge)
        if self._authmod != ADOBE:
            return f"nonce={challenge}"
        return f"salt={self._salt}&challenge={challenge}" + (f"&opaque={challenge}" if self._opaque else "")

    def _is_good(self, event: ConnectRequested, said: dict[str, str]) -> bool:
        if self._authmod == ADOBE:
            # Without an opaque value nothing that comes back says which challenge is meant.
            asked = {said["opaque"]} & self._open if "opaque" in said else set(self._open)
            wanted = {one: adobe_response(self._credentials, self._salt, one, said["challenge"]) for one in asked}
        else:
            asked = {said["nonce"]} & self._open if said["nc"] == NONCE_COUNT else set()
            wanted = {one: limelight_response(self._credentials, event.app, one, said["cnonce"]) for one in asked}
        for one, response in wanted.items():
            if hmac.compare_digest(response, said["response"]):
                self._open.discard(one)  # each challenge is good once
                return True
        return False


def _noise() -> str:
    return base64.b64encode(os.urandom(6)).decode("ascii")
