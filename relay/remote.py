"""The command line's way to a relay that runs: one HTTP call to its API, found through its configuration.

Imports the configuration. The rule it guards: the token goes into a header, never into an address or a message.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from urllib.parse import quote

from relay.config import Config
from relay.errors import RelayError

TIMEOUT_S = 10.0


class RemoteError(RelayError):
    """The relay did not do it; the text says why, in its words if it had any."""


def switch(config: Config, stream: str, feed: str) -> str:
    """Ask the relay that runs with *config* to put *feed* on air; return the state of it."""
    answer = _post(config, f"/api/v1/streams/{quote(stream, safe='')}/switch", {"feed": feed})
    return str(answer.get("state", ""))


def _post(config: Config, path: str, body: dict[str, str]) -> dict[str, object]:
    http = config.http
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(http.host, http.host)  # noqa: S104 - the address we call
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    request = urllib.request.Request(
        f"http://{host}:{http.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    if http.token is not None:
        request.add_header("Authorization", f"Bearer {http.token.secret.reveal()}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        raise RemoteError(_said(error)) from None
    except (OSError, ValueError) as error:
        raise RemoteError(f"no answer from the relay at {http.listen}: {getattr(error, 'reason', error)}") from None
    return answer if isinstance(answer, dict) else {}


def _said(error: urllib.error.HTTPError) -> str:
    try:
        problem = json.load(error)
    except ValueError:
        problem = {}
    detail = problem.get("detail") or problem.get("code") if isinstance(problem, dict) else None
    return str(detail or f"the relay answered {error.code}")
