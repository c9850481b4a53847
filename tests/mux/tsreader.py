"""A small reader of transport streams, written from ISO/IEC 13818-1 and not from the writer."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Unit:
    """One PES packet."""

    pts: int
    dts: int
    random_access: bool
    payload: bytes
    stream_id: int
    at: int
    """Number of its first packet."""


@dataclass
class Stream:
    """What was read of one PID."""

    stream_type: int
    descriptors: bytes
    units: list[Unit] = field(default_factory=list)


@dataclass
class Programme:
    """A whole transport stream."""

    pcr_pid: int = -1
    streams: dict[int, Stream] = field(default_factory=dict)
    pcrs: list[tuple[int, int]] = field(default_factory=list)
    """Number of the packet, ticks of 27 MHz."""
    tables: list[int] = field(default_factory=list)
    """Numbers of the packets with a PAT."""


def crc(data: bytes) -> int:
    """CRC of Annex A bit by bit: 0 over a section with its CRC."""
    value = 0xFFFFFFFF
    for byte in data:
        for bit in range(7, -1, -1):
            feedback = value >> 31 ^ byte >> bit & 1
            value = (value << 1) & 0xFFFFFFFF ^ (0x04C11DB7 if feedback else 0)
    return value


def _stamp(data: bytes, prefix: int) -> int:
    assert data[0] >> 4 == prefix
    assert data[0] & data[2] & data[4] & 1, "marker bits"
    return (data[0] >> 1 & 7) << 30 | data[1] << 22 | data[2] >> 1 << 15 | data[3] << 7 | data[4] >> 1


def _unit(pes: bytes, random_access: bool, at: int) -> Unit:
    assert pes[:3] == b"\0\0\1"
    length, flags, head = int.from_bytes(pes[4:6], "big"), pes[7], pes[8]
    assert length in (0, len(pes) - 6)
    assert length or pes[3] & 0xF0 == 0xE0, "only video may leave its length out"
    pts = dts = _stamp(pes[9:14], 3 if flags & 0x40 else 2)
    if flags & 0x40:
        dts = _stamp(pes[14:19], 1)
    return Unit(pts, dts, random_access, pes[9 + head :], pes[3], at)


def _section(payload: bytes) -> bytes:
    assert payload[0] == 0
    length = int.from_bytes(payload[2:4], "big") & 0xFFF
    section = payload[1 : 4 + length]
    assert crc(section) == 0
    assert set(payload[4 + length :]) <= {0xFF}
    return section


def _map(programme: Programme, section: bytes) -> None:
    programme.pcr_pid = int.from_bytes(section[8:10], "big") & 0x1FFF
    position = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    while position < len(section) - 4:
        pid = int.from_bytes(section[position + 1 : position + 3], "big") & 0x1FFF
        size = int.from_bytes(section[position + 3 : position + 5], "big") & 0xFFF
        descriptors = section[position + 5 : position + 5 + size]
        programme.streams.setdefault(pid, Stream(section[position], descriptors))
        position += 5 + size


def read(data: bytes, counters: dict[int, int] | None = None, *, torn: bool = False) -> Programme:
    """Read a stream from its beginning; *counters* are those of the piece before, and are updated.

    *torn*: it may end within PES packets, which are left out then.
    """
    assert len(data) % 188 == 0
    programme, counters = Programme(), {} if counters is None else counters
    pmt_pid = -1
    open_units: dict[int, tuple[bytearray, bool, int]] = {}
    for at in range(len(data) // 188):
        packet = data[at * 188 : at * 188 + 188]
        assert packet[0] == 0x47
        pid, start = int.from_bytes(packet[1:3], "big") & 0x1FFF, bool(packet[1] & 0x40)
        control, counter = packet[3] >> 4 & 3, packet[3] & 15
        body, random_access = 4, False
        if control & 2:
            size = packet[4]
            body = 5 + size
            assert size == 183 if control == 2 else size <= 182 or (size == 183 and control == 2)
            if size:
                random_access = bool(packet[5] & 0x40)
                if packet[5] & 0x10:
                    field_ = int.from_bytes(packet[6:12], "big")
                    programme.pcrs.append((at, (field_ >> 15) * 300 + (field_ & 0x1FF)))
                    assert pid == programme.pcr_pid
        expected = (counters[pid] + bool(control & 1)) % 16 if pid in counters else counter
        assert counter == expected, f"continuity of PID {pid} at packet {at}"
        counters[pid] = counter
        payload = packet[body:]
        if not control & 1:
            continue
        if pid == 0:
            section = _section(payload)
            pmt_pid = int.from_bytes(section[10:12], "big") & 0x1FFF
            programme.tables.append(at)
        elif pid == pmt_pid:
            _map(programme, _section(payload))
        else:
            assert pid in programme.streams, f"PID {pid} before the tables"
            if start:
                if pid in open_units:
                    programme.streams[pid].units.append(_unit(bytes(open_units[pid][0]), *open_units[pid][1:]))
                open_units[pid] = (bytearray(), random_access, at)
            open_units[pid][0].extend(payload)
    for pid, unit in open_units.items():
        if torn and int.from_bytes(unit[0][4:6], "big") != len(unit[0]) - 6:
            continue
        programme.streams[pid].units.append(_unit(bytes(unit[0]), *unit[1:]))
    return programme


def adts_frames(data: bytes) -> list[bytes]:
    """The raw frames of a stretch of ADTS."""
    frames = []
    while data:
        assert data[0] == 0xFF
        assert data[1] & 0xF6 == 0xF0
        length = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
        frames.append(data[7 if data[1] & 1 else 9 : length])
        data = data[length:]
    return frames
