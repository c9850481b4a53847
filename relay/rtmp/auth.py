"""Logins of RTMP servers that ask for a user name: Adobe's (``authmod=adobe``) and Limelight's (``authmod=llnw``).

Both are asked for in the description of a rejected `connect` and answered in the query of the next one, which needs a
connection of its own (rtmp.md §3.10). The rules it guards: the password never leaves this room, only a digest of it;
a server is answered once, so one that asks for ever is not followed; what it says is taken as it is (values are raw
base64, nothing is percent-encoded) or not at all.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from relay.errors import DestinationError
from relay.secret import Secret

ADOBE: Final = "adobe"
LIMELIGHT: Final = "llnw"

MAX_VALUE: Final = 255
"""Characters of a salt or challenge: what FFmpeg keeps of the whole description."""

NONCE_COUNT: Final = "00000001"
"""Each of Limelight's nonces is used once."""

_AUTHMOD = re.compile(r"authmod=([A-Za-z0-9_]+)")
_VALUE = re.compile(r"[!-%'->@-~]{1,255}")
"""Printable, and nothing that would begin another parameter: no blank, ``&`` or ``?``."""

_REFUSALS: Mapping[str, str] = {
    "authfailed": "the password is wrong",
    "nosuchuser": "there is no such user",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who we are to a destination."""

    user: str
    password: Secret


def is_user_name(text: str) -> bool:
    """Whether *text* can be sent as the user's name: it stands in a query, unescaped."""
    return _VALUE.fullmatch(text) is not None and "#" not in text


def _refused(detail: str) -> DestinationError:
    return DestinationError("auth-failed", detail)


class Login:
    """One login at one server: at most three connects, each over a connection of its own.

    Attributes:
        query: what the next `connect` adds to app and tcUrl; holds a digest of the password, never the password.
    """

    def __init__(self, credentials: Credentials, app: str, random: Callable[[int], bytes]) -> None:
        """Prepare a login for *app*, its path without query."""
        self.query = Secret("")
        self._credentials = credentials
        self._app = app
        self._random = random
        self._scheme = ""
        self._answered = False

    def go_on(self, description: str) -> None:
        """Take what a rejected connect said and prepare `query`. Raises DestinationError after the last word."""
        scheme, said = read_challenge(description)
        reason = said.get("reason", "")
        if reason in _REFUSALS:
            raise _refused(_REFUSALS[reason])
        if self._answered:
            raise _refused("the user name or the password is wrong")
        if scheme not in (ADOBE, LIMELIGHT) or self._scheme not in ("", scheme):
            raise _refused("it asks for a kind of login that we do not know")
        user = self._credentials.user
        if reason == "needauth":
            answer = self._adobe(said) if scheme == ADOBE else self._limelight(said)
            self._answered = True
            self.query = Secret(f"authmod={scheme}&user={user}&{answer}")
        elif self._scheme:
            raise _refused("it asks for a login again and says no challenge")
        else:
            self.query = Secret(f"authmod={scheme}&user={user}")
        self._scheme = scheme

    def _nonce(self) -> str:
        return self._random(4).hex()

    def _adobe(self, said: Mapping[str, str]) -> str:
        opaque = said.get("opaque", "")
        asked = opaque or _needed(said, "challenge")
        challenge = self._nonce()
        response = adobe_response(self._credentials, said.get("salt", ""), asked, challenge)
        answer = f"challenge={challenge}&response={response}"
        return f"{answer}&opaque={opaque}" if opaque else answer

    def _limelight(self, said: Mapping[str, str]) -> str:
        nonce, cnonce = _needed(said, "nonce"), self._nonce()
        response = limelight_response(self._credentials, self._app, nonce, cnonce)
        return f"nonce={nonce}&cnonce={cnonce}&nc={NONCE_COUNT}&response={response}"


def asks_for_login(description: str) -> bool:
    """Whether a rejected connect asks who we are, or does not like who we said we are."""
    return _AUTHMOD.search(description) is not None


def read_challenge(description: str) -> tuple[str, Mapping[str, str]]:
    """Return the scheme and the parameters that a description names; what is no proper value is left out."""
    found = _AUTHMOD.search(description)
    said: dict[str, str] = {}
    for part in description.partition("?")[2].strip().split("&"):
        name, _, value = part.partition("=")
        if _VALUE.fullmatch(value):
            said.setdefault(name, value)
    return "" if found is None else found[1].lower(), said


def adobe_response(credentials: Credentials, salt: str, asked: str, challenge: str) -> str:
    """Return Adobe's response to *asked*, which is the server's opaque value or, without one, its challenge."""
    salted = _base64_md5(f"{credentials.user}{salt}{credentials.password.reveal()}")
    return _base64_md5(f"{salted}{asked}{challenge}")


def limelight_response(credentials: Credentials, app: str, nonce: str, cnonce: str) -> str:
    """Return Limelight's response, which is HTTP's digest with names of its own."""
    place = app if "/" in app else f"{app}/_definst_"
    who = _hex_md5(f"{credentials.user}:live:{credentials.password.reveal()}")
    return _hex_md5(f"{who}:{nonce}:{NONCE_COUNT}:{cnonce}:auth:{_hex_md5(f'publish:/{place}')}")


def _needed(said: Mapping[str, str], name: str) -> str:
    if name not in said:
        raise _refused(f"it asks for a login and gives no {name}")
    return said[name]


def _md5(text: str) -> hashlib._Hash:
    return hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False)  # the servers' choice, not ours


def _base64_md5(text: str) -> str:
    return base64.b64encode(_md5(text).digest()).decode("ascii")


def _hex_md5(text: str) -> str:
    return _md5(text).hexdigest()
