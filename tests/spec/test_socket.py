"""Every case against a running server, over TCP, beside a publisher and a player that must not notice."""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.spec.catalogue import CASES
from tests.spec.model import BYTES, Case
from tests.spec.server import Server, play_out

pytestmark = pytest.mark.integration

BY_NUMBER: dict[int, list[Case]] = defaultdict(list)
for _case in CASES:
    if _case.socket:
        BY_NUMBER[_case.number].append(_case)


@pytest.mark.parametrize("number", sorted(BY_NUMBER), ids="{:03}".format)
def test_bad_input_ends_as_the_catalogue_says(server: Server, number: int) -> None:
    wrong = [f"{case.id} ({case.title}): {fault}" for case in BY_NUMBER[number] if (fault := play_out(server, case))]

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("number", sorted(BY_NUMBER), ids="{:03}".format)
def test_one_byte_at_a_time_makes_no_difference(server: Server, number: int) -> None:
    short = [case for case in BY_NUMBER[number] if BYTES in case.deliveries and case_size(case) < 4000][:3]
    wrong = [f"{case.id} ({case.title}): {fault}" for case in short if (fault := play_out(server, case, 1))]

    assert not wrong, "\n".join(wrong)


def case_size(case: Case) -> int:
    """Bytes that the case sends."""
    return sum(len(piece) for piece in case.pieces() if isinstance(piece, bytes))


def test_the_log_is_json_and_names_no_key(server: Server) -> None:
    if server.relay is None:
        pytest.skip("the log of another server is not ours")
    text = server.relay.program.text

    assert server.relay.log()
    assert "spec-publish-key-" not in text
    assert "Traceback" not in text
