from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config_limits import Limits
from relay.net.admission import REMEMBERED_ADDRESSES, Admission, Ticket, is_loopback

NOW = 1000.0


def admission(**limits: Any) -> Admission:
    roomy = {"new_per_ip_burst": 10_000, "unauthenticated_per_ip": 10_000, "unauthenticated": 10_000}
    return Admission(Limits(**{**roomy, **limits}))


def admitted(door: Admission, address: str = "192.0.2.1", now: float = NOW) -> Ticket:
    ticket = door.admit(address, now)
    assert isinstance(ticket, Ticket), ticket
    return ticket


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ("connections", "limit.connections"),
        ("unauthenticated", "limit.unauthenticated"),
        ("unauthenticated_per_ip", "limit.unauthenticated_per_ip"),
        ("new_per_ip_burst", "limit.new_per_ip"),
    ],
)
def test_as_many_as_the_limit_are_admitted_and_not_one_more(limit: str, code: str) -> None:
    door = admission(**{limit: 3})

    answers = [door.admit("192.0.2.1", NOW) for _ in range(4)]

    assert [isinstance(one, Ticket) for one in answers] == [True, True, True, False]
    assert answers[3] == code


@pytest.mark.parametrize("limit", ["connections", "unauthenticated", "unauthenticated_per_ip"])
def test_a_place_that_is_given_back_is_free_again(limit: str) -> None:
    door = admission(**{limit: 1})
    first = admitted(door)
    assert isinstance(door.admit("192.0.2.1", NOW), str)

    door.release(first)

    admitted(door)


def test_a_ticket_is_given_back_once_however_often_it_is_released() -> None:
    door = admission(connections=5)
    ticket, other = admitted(door), admitted(door)
    door.authorize(other, "player")

    door.release(ticket)
    door.release(ticket)
    door.release(other)
    door.release(other)
    door.deauthorize(other)

    assert (door.connections, door.unauthenticated, door.roles) == (0, 0, {"publisher": 0, "player": 0})


def test_limits_of_one_address_do_not_touch_another() -> None:
    door = admission(unauthenticated_per_ip=1)
    admitted(door, "192.0.2.1")

    admitted(door, "192.0.2.2")


def test_who_is_authorised_no_longer_counts_as_unauthenticated() -> None:
    door = admission(unauthenticated=1, unauthenticated_per_ip=1)
    door.authorize(admitted(door), "publisher")

    admitted(door)

    assert (door.connections, door.unauthenticated, door.roles["publisher"]) == (2, 1, 1)


@pytest.mark.parametrize(("role", "limit"), [("publisher", "publishers"), ("player", "players")])
def test_as_many_as_the_limit_of_a_role_are_authorised_and_not_one_more(role: Any, limit: str) -> None:
    door = admission(**{limit: 2})
    tickets = [admitted(door) for _ in range(3)]

    answers = [door.authorize(ticket, role) for ticket in tickets]

    assert answers == [None, None, f"limit.{limit}"]
    assert tickets[2].role is None
    assert door.unauthenticated == 1


def test_giving_up_a_role_makes_room_for_another_and_counts_as_unauthenticated_again() -> None:
    door = admission(publishers=1, unauthenticated_per_ip=1)
    ticket = admitted(door)
    door.authorize(ticket, "publisher")

    door.deauthorize(ticket)

    assert (door.roles["publisher"], door.unauthenticated) == (0, 1)
    assert door.admit("192.0.2.1", NOW) == "limit.unauthenticated_per_ip"
    assert door.authorize(ticket, "publisher") is None


def test_tokens_come_back_with_time_up_to_the_burst() -> None:
    door = admission(new_per_ip_burst=2, new_per_ip_per_s=4.0)
    for _ in range(2):
        admitted(door)
    assert door.admit("192.0.2.1", NOW + 0.24) == "limit.new_per_ip"

    admitted(door, now=NOW + 0.25)
    assert door.admit("192.0.2.1", NOW + 0.25) == "limit.new_per_ip"

    for _ in range(2):
        admitted(door, now=NOW + 60)
    assert door.admit("192.0.2.1", NOW + 60) == "limit.new_per_ip"


def test_tls_handshakes_have_a_budget_that_all_addresses_share_and_plain_connections_do_not_touch() -> None:
    door = admission(tls_handshakes_per_s=3)
    hosts = iter(range(1, 100))

    def knock(now: float, *, tls: bool) -> bool:
        answer = door.admit(f"192.0.2.{next(hosts)}", now, tls=tls)
        assert isinstance(answer, Ticket) or answer == "limit.tls_handshakes"
        return isinstance(answer, Ticket)

    assert [knock(NOW, tls=True) for _ in range(4)] == [True, True, True, False]
    assert knock(NOW, tls=False)
    assert [knock(NOW + 0.4, tls=True) for _ in range(2)] == [True, False]
    assert sum(knock(NOW + 60, tls=True) for _ in range(10)) == 3


def test_a_refused_connection_costs_no_token_and_holds_no_place() -> None:
    door = admission(new_per_ip_burst=3, connections=1)
    ticket = admitted(door)
    for _ in range(5):
        assert door.admit("192.0.2.1", NOW) == "limit.connections"
    door.release(ticket)

    for _ in range(2):
        door.release(admitted(door))
    assert door.admit("192.0.2.1", NOW) == "limit.new_per_ip"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_exempt_from_the_rate_but_from_no_other_limit(address: str) -> None:
    door = admission(new_per_ip_burst=1, unauthenticated_per_ip=5)

    answers = [door.admit(address, NOW) for _ in range(6)]

    assert all(isinstance(one, Ticket) for one in answers[:5])
    assert answers[5] == "limit.unauthenticated_per_ip"


def test_a_host_that_is_given_a_whole_ipv6_network_is_one_address() -> None:
    door = admission(unauthenticated_per_ip=2)
    admitted(door, "2001:db8:1:2::1")
    admitted(door, "2001:db8:1:2:ffff::2")

    assert door.admit("2001:db8:1:2::3", NOW) == "limit.unauthenticated_per_ip"
    admitted(door, "2001:db8:1:3::1")


def test_ipv4_behind_a_dual_stack_listener_is_counted_by_its_ipv4_address() -> None:
    door = admission(unauthenticated_per_ip=1)
    admitted(door, "::ffff:192.0.2.1")

    assert door.admit("192.0.2.1", NOW) == "limit.unauthenticated_per_ip"
    admitted(door, "::ffff:192.0.2.2")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("not an address", False),
    ],
)
def test_loopback_addresses(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


def test_five_mistakes_are_free_then_the_delay_doubles_and_stays_below_the_deadline() -> None:
    door = admission(command_s=10.0)

    delays = [door.refusal_delay("192.0.2.1", NOW) for _ in range(12)]

    assert delays == [0, 0, 0, 0, 0, 1, 2, 4, 8, 8, 8, 8]
    assert door.refusal_delay("192.0.2.2", NOW) == 0


def test_mistakes_are_forgotten_at_five_a_minute() -> None:
    door = admission()
    for _ in range(6):
        door.refusal_delay("192.0.2.1", NOW)

    assert door.refusal_delay("192.0.2.1", NOW + 12) == 1
    assert door.refusal_delay("192.0.2.1", NOW + 12 + 120) == 0


def test_what_is_remembered_of_addresses_is_bounded_and_the_oldest_goes_first() -> None:
    door = admission(new_per_ip_burst=1)
    kept = admitted(door, "192.0.2.1")

    for number in range(REMEMBERED_ADDRESSES + 100):
        door.release(admitted(door, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))

    assert len(door._addresses) == REMEMBERED_ADDRESSES
    assert door.admit("192.0.2.1", NOW) == "limit.new_per_ip", "an address that is connected was forgotten"
    door.release(kept)


@given(
    st.lists(
        st.tuples(st.sampled_from(["admit", "publisher", "player", "deauthorize", "release"]), st.integers(0, 7)),
        max_size=60,
    )
)
def test_the_counts_are_always_those_of_the_tickets(steps: list[tuple[str, int]]) -> None:
    door = Admission(Limits(connections=5, unauthenticated=4, unauthenticated_per_ip=3, publishers=2, players=2))
    tickets: list[Ticket] = []
    for action, number in steps:
        if action == "admit":
            answer = door.admit(f"127.0.0.{number % 3 + 1}", NOW)
            tickets += [answer] if isinstance(answer, Ticket) else []
        elif tickets:
            ticket = tickets[number % len(tickets)]
            if action == "release":
                door.release(ticket)
            elif action == "deauthorize":
                door.deauthorize(ticket)
            elif not ticket.released:
                door.authorize(ticket, action)  # type: ignore[arg-type]

        held = [ticket for ticket in tickets if not ticket.released]
        assert door.connections == len(held) <= 5
        assert door.unauthenticated == sum(ticket.role is None for ticket in held)
        for role in ("publisher", "player"):
            assert door.roles[role] == sum(ticket.role == role for ticket in held) <= 2
