"""Who may connect: counts per relay and per address, with a ticket that is given back exactly once.

Everything here is arithmetic on `now`; the protocol classes ask and obey. Reason codes are stable.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

from relay.config_limits import Limits

Role = Literal["publisher", "player"]

REMEMBERED_ADDRESSES = 4096
"""Addresses whose rate and failures are remembered; the oldest is forgotten first, so memory stays bounded."""


@dataclass(slots=True)
class _Address:
    """What we remember of one peer address."""

    unauthenticated: int = 0
    tokens: float = 0.0
    refilled_at: float = 0.0
    failures: float = 0.0
    failed_at: float = 0.0


class Bucket:
    """Tokens that come back with time."""

    __slots__ = ("_most", "_per_s", "_refilled_at", "_tokens")

    def __init__(self, per_s: float, most: float, now: float = 0.0) -> None:
        self._per_s = per_s
        self._most = max(most, 1.0)
        self._tokens = self._most
        self._refilled_at = now

    def take(self, now: float) -> bool:
        """Take one; False when there is none."""
        self._tokens = min(self._most, self._tokens + (now - self._refilled_at) * self._per_s)
        self._refilled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


@dataclass(slots=True, eq=False)
class Ticket:
    """One admitted connection. `role` is None until it is authorised; *address* is what it is counted as."""

    address: str
    role: Role | None = None
    released: bool = field(default=False)


class Admission:
    """Counts connections and says no in time (L-CONN of the limits)."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._addresses: OrderedDict[str, _Address] = OrderedDict()
        self._handshakes = Bucket(limits.tls_handshakes_per_s, limits.tls_handshakes_per_s)
        self.connections = 0
        self.unauthenticated = 0
        self.roles: dict[Role, int] = {"publisher": 0, "player": 0}

    def admit(self, address: str, now: float, *, tls: bool = False) -> Ticket | str:
        """Return a ticket, or the reason code of the refusal. With *tls* a handshake is to come, which costs CPU."""
        limits = self._limits
        if self.connections >= limits.connections:
            return "limit.connections"
        if self.unauthenticated >= limits.unauthenticated:
            return "limit.unauthenticated"
        key = _counted_as(address)
        known = self._remember(key, now)
        if known.unauthenticated >= limits.unauthenticated_per_ip:
            return "limit.unauthenticated_per_ip"
        if not self._take_token(address, known, now):
            return "limit.new_per_ip"
        if tls and not self._handshakes.take(now):
            return "limit.tls_handshakes"
        known.unauthenticated += 1
        self.connections += 1
        self.unauthenticated += 1
        return Ticket(key)

    def authorize(self, ticket: Ticket, role: Role) -> str | None:
        """Turn an admitted connection into a publisher or player; return the reason code when there is no room."""
        limit = self._limits.publishers if role == "publisher" else self._limits.players
        if self.roles[role] >= limit:
            return f"limit.{role}s"
        if ticket.role is None:
            self._leave_unauthenticated(ticket)
        else:
            self.roles[ticket.role] -= 1
        ticket.role = role
        self.roles[role] += 1
        return None

    def deauthorize(self, ticket: Ticket) -> None:
        """The connection gave up its role but stays open: it counts as unauthenticated again."""
        if ticket.role is None or ticket.released:
            return
        self.roles[ticket.role] -= 1
        ticket.role = None
        self.unauthenticated += 1
        known = self._addresses.get(ticket.address)
        if known is None:
            known = self._addresses[ticket.address] = _Address(tokens=float(self._limits.new_per_ip_burst))
        known.unauthenticated += 1

    def release(self, ticket: Ticket) -> None:
        """The connection is closed. Calling it twice is harmless."""
        if ticket.released:
            return
        ticket.released = True
        self.connections -= 1
        if ticket.role is None:
            self._leave_unauthenticated(ticket)
        else:
            self.roles[ticket.role] -= 1

    def refusal_delay(self, address: str, now: float) -> float:
        """Count one failed authorisation and return how many seconds to hold back the refusal.

        Five a minute are free (people mistype); after that the delay doubles from 1 s. It stays below the command
        deadline, so a guesser holds one of its few connections instead of guessing.
        """
        known = self._remember(_counted_as(address), now)
        known.failures = max(0.0, known.failures - (now - known.failed_at) / 12.0) + 1.0
        known.failed_at = now
        excess = int(known.failures) - 5
        if excess <= 0:
            return 0.0
        return min(float(2 ** min(excess - 1, 6)), self._limits.command_s * 0.8)

    def _remember(self, address: str, now: float) -> _Address:
        known = self._addresses.get(address)
        if known is None:
            known = _Address(tokens=float(self._limits.new_per_ip_burst), refilled_at=now)
            self._addresses[address] = known
            self._forget_oldest()
        else:
            self._addresses.move_to_end(address)
        return known

    def _forget_oldest(self) -> None:
        while len(self._addresses) > REMEMBERED_ADDRESSES:
            for address, known in self._addresses.items():
                if known.unauthenticated == 0:
                    del self._addresses[address]
                    break
            else:
                return  # every one of them is connected right now, so `unauthenticated` bounds them

    def _take_token(self, address: str, known: _Address, now: float) -> bool:
        """Token bucket per address. Loopback is exempt: there it would only limit our own proxy or tunnel."""
        if is_loopback(address):
            return True
        limits = self._limits
        refill = (now - known.refilled_at) * limits.new_per_ip_per_s
        known.tokens = min(float(limits.new_per_ip_burst), known.tokens + refill)
        known.refilled_at = now
        if known.tokens < 1.0:
            return False
        known.tokens -= 1.0
        return True

    def _leave_unauthenticated(self, ticket: Ticket) -> None:
        self.unauthenticated -= 1
        known = self._addresses.get(ticket.address)
        if known is not None and known.unauthenticated > 0:
            known.unauthenticated -= 1


def _counted_as(address: str) -> str:
    """What *address* is counted as: an IPv6 host is given a whole /64, and IPv4 may come in IPv6 clothes."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(parsed) >> 64 << 64))


def is_loopback(address: str) -> bool:
    """Whether *address* is a loopback address, IPv4-mapped ones included."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback
