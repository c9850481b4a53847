"""A stream that comes back to itself is known by what its pushes call themselves."""

from __future__ import annotations

from relay.net.hops import MOST_TAGS, Hops
from relay.rtmp.client import FLASH_VER
from relay.rtmp.commands import MAX_FLASH_VER

HERE, THERE = Hops(b"here"), Hops(b"there")


def test_what_came_from_a_stream_is_known_there_and_nowhere_else() -> None:
    name = HERE.name_for("show", ["FMLE/3.0 (compatible; Lavf60)"])

    assert HERE.has_been("show", name)
    assert not HERE.has_been("other", name)
    assert not THERE.has_been("show", name)
    assert name.startswith(FLASH_VER.removesuffix(")"))
    assert "show" not in name


def test_it_is_known_after_a_way_through_other_relays() -> None:
    away = THERE.name_for("copy", ["OBS", HERE.name_for("show", [])])

    assert HERE.has_been("show", away)
    assert THERE.has_been("copy", away)


def test_encoders_are_not_taken_for_ours() -> None:
    for name in ("", "OBS", FLASH_VER, "x; via )", "x; via zz)", "x; via 0123)", "\u202e; via"):
        assert not HERE.has_been("show", name)
        assert HERE.name_for("show", [name]) == HERE.name_for("show", [])


def test_a_long_way_is_cut_to_what_servers_keep() -> None:
    name = ""
    for number in range(20):
        name = Hops(bytes([number])).name_for("show", [name])

    assert name.count(" ", name.index("via")) == MOST_TAGS
    assert len(name) < MAX_FLASH_VER
    assert Hops(bytes([19])).has_been("show", name)
