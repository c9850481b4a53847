from __future__ import annotations

import pytest

from relay.net.chorus import Chorus


class Sock:
    """A socket that takes what it is told to."""

    def __init__(self, *answers: int | OSError) -> None:
        self.answers = list(answers)
        self.got: list[bytes] = []

    def send(self, data: bytes) -> int:
        answer = self.answers.pop(0) if self.answers else len(data)
        if isinstance(answer, OSError):
            raise answer
        self.got.append(data[:answer])
        return answer


def chorus_of(*socks: Sock) -> Chorus[Sock]:
    chorus: Chorus[Sock] = Chorus()
    for sock in socks:
        chorus.add(sock, sock.send)
    return chorus


def test_everybody_gets_the_very_same_bytes() -> None:
    first, second = Sock(), Sock()
    data = b"x" * 1000

    assert chorus_of(first, second).send_all(data) == []

    assert first.got[0] is not None
    assert [first.got, second.got] == [[data], [data]]


@pytest.mark.parametrize("error", [BlockingIOError(), ConnectionResetError(), BrokenPipeError()])
def test_a_full_or_broken_socket_is_out_and_costs_the_others_nothing(error: OSError) -> None:
    before, broken, after = Sock(), Sock(error), Sock()
    chorus = chorus_of(before, broken, after)

    assert chorus.send_all(b"one") == [(broken, 0)]
    assert chorus.send_all(b"two") == []

    assert [before.got, broken.got, after.got] == [[b"one", b"two"], [], [b"one", b"two"]]


def test_who_takes_a_part_is_named_with_the_part() -> None:
    partly, whole = Sock(2), Sock()
    chorus = chorus_of(partly, whole)

    assert chorus.send_all(b"abcd") == [(partly, 2)]
    assert len(chorus) == 1


def test_several_failures_in_a_row_are_told_apart() -> None:
    socks = [Sock(BlockingIOError()), Sock(OSError()), Sock(), Sock(1), Sock(BlockingIOError())]

    assert chorus_of(*socks).send_all(b"ab") == [(socks[0], 0), (socks[1], 0), (socks[3], 1), (socks[4], 0)]


def test_members_come_and_go_between_two_sendings() -> None:
    stays, leaves, comes = Sock(), Sock(), Sock()
    chorus = chorus_of(stays, leaves)
    chorus.send_all(b"1")

    assert chorus.discard(leaves) is True
    assert chorus.discard(leaves) is False
    chorus.add(comes, comes.send)
    chorus.send_all(b"2")

    assert [stays.got, leaves.got, comes.got] == [[b"1", b"2"], [b"1"], [b"2"]]


def test_nobody_is_nobody() -> None:
    assert chorus_of().send_all(b"x") == []
