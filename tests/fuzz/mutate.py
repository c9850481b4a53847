"""Damage with a method: bytes changed where formats keep their lengths, counts and markers, and parts moved about."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random

INTERESTING = (0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 63, 64, 127, 128, 129, 254, 255)
LONG_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0xFFFFFE, 0xFFFFFF, 0x1000000)
EDGES = (*LONG_INTERESTING, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def damage(dice: Random, data: bytes, tokens: Sequence[bytes] = (), most: int = 4) -> bytes:
    """Return *data* with up to *most* faults in it; sometimes none, so that the good way is walked too."""
    wire = bytearray(data)
    for _ in range(dice.randint(0, most)):
        _one(dice, wire, tokens)
    return bytes(wire)


def _one(dice: Random, wire: bytearray, tokens: Sequence[bytes]) -> None:
    at = dice.randint(0, len(wire))
    span = dice.choice((1, 1, 2, 4, 11, 60))
    match dice.randrange(9):
        case 0:
            wire[at : at + 1] = bytes([dice.choice(INTERESTING)])
        case 1 if at < len(wire):
            wire[at] ^= 1 << dice.randrange(8)
        case 2:
            size = dice.choice((2, 3, 4))
            wire[at : at + size] = (dice.choice(EDGES) & (1 << 8 * size) - 1).to_bytes(size, "big")
        case 3:
            del wire[at : at + span]
        case 4:
            wire[at:at] = wire[at : at + span] * dice.choice((1, 2, 9))
        case 5 if tokens:
            wire[at:at] = dice.choice(tokens)
        case 6 if tokens:
            token = dice.choice(tokens)
            wire[at : at + len(token)] = token
        case 7:
            del wire[at:]
        case _:
            wire[at:at] = dice.randbytes(span)


def pieces(dice: Random, data: bytes, most: int = 6) -> list[bytes]:
    """Return *data* cut into pieces at random places, or near its ends, or into single bytes when it is short."""
    if len(data) < 400 and not dice.randrange(4):
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(dice.randint(0, len(data)) for _ in range(dice.randint(0, most)))
    return [data[a:b] for a, b in pairwise([0, *cuts, len(data)])]
