"""All cases, and which numbers of the catalogue are checked elsewhere."""

from __future__ import annotations

from tests.spec.cases import chunks, commands, control, handshake, media, names, values
from tests.spec.model import Case

CASES: list[Case] = [
    *handshake.CASES,
    *chunks.CASES,
    *control.CASES,
    *values.CASES,
    *commands.CASES,
    *media.CASES,
    *names.CASES,
]

SCENARIOS = (8, 13, 38, 65, 66, 67, 77, 79, 114, 115, 116, 118, 119, 120, 121, 122, 123, 124, 125, 126)
"""Several connections, or time: tests/spec/test_scenarios.py."""

ELSEWHERE = {
    68: "loops through other relays: tests/net/test_hops.py, tests/test_service.py",
    78: "needs the control API",
    100: "recordings",
    107: "playlists",
    110: "the HTTP API has no JSONP to test",
    117: "a pulled cable needs a network namespace: failover tests",
}
