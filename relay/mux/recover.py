"""Where does the readable part of a cut-off file end? For recordings whose writer was killed or lost its power.

Pure over `read(offset, size)`, which returns what is there, like os.pread: nothing is opened, nothing is loaded whole,
the cost is one pass over the heads of the units. The answer is where to truncate; 0 means that nothing can be saved.

After a power failure a file may end in zeros that were never written: a unit that ends in zeros, with nothing but zeros
behind it, does not count as whole. (A TS packet in the middle of which the zeros begin is found out by this, too.) And
it may have holes before what was written last: `first_hole` finds them in what was not synced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from relay.media.flvfile import HEADER_SIZE, MAX_HEADER, SIGNATURE, TAG_HEADER_SIZE
from relay.mux.tspackets import PACKET

Read = Callable[[int, int], bytes]
"""read(offset, size) -> at most size bytes; fewer only at the end of the file."""

_WINDOW = 64 * 1024
"""Heads are small and near each other in audio, far apart in video; one read fetches several."""
_TAG_TYPES = frozenset({8, 9, 18})
_ZEROS = 8
"""Zero bytes at the end of a file that make its last unit suspect: coded frames end in a stop bit or a checksum."""
_TS_BLOCK = PACKET * 1024
PAGE = 4096
"""What a file system writes whole or not at all."""
_HOLE = bytes(16)
"""A page that ends in so many zeros was not written to its end. Coded media has no such row, nor has what we write
around it behind the head of a file; a row of the samples in a moof has 9 at most."""
_LEAST = 4
"""Zeros that are enough where it is known that a sync ended just before them: our units begin with fewer."""
_SCAN = 256 * PAGE
MAX_HEAD = 4 * 1024 * 1024
"""A moov or moof: 16 bytes for each frame, so this is a quarter of a million frames in one fragment."""
_HEADS = {b"moof": (b"mfhd", b"traf"), b"moov": (b"mvhd", b"mvex")}
"""The first and the last box inside. In that stands trun or trex, whose third number (data offset, description) is
never 0."""
_TOP_LEVEL = frozenset({
    *(b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"mfra", b"free"),
    *(b"skip", b"sidx", b"ssix", b"prft", b"emsg", b"uuid"),
})  # fmt: skip


class Window:
    """Reads small pieces in ascending order with few calls."""

    __slots__ = ("_data", "_read", "_start")

    def __init__(self, read: Read) -> None:
        self._read = read
        self._data = b""
        self._start = 0

    def get(self, offset: int, size: int) -> bytes:
        """Return *size* bytes at *offset*, or fewer at the end of the file."""
        at = offset - self._start
        if at < 0 or at + size > len(self._data):
            self._data = self._read(offset, max(size, _WINDOW))
            self._start = offset
            at = 0
        return self._data[at : at + size]


def first_hole(read: Read, synced: int) -> int | None:
    """Return where the first page that was not written whole breaks off, None when there is none from *synced* on.

    A page reaches the disk whole or not at all, in any order, and reads as zeros, or as what it held at the last sync
    and zeros. Not to be asked about the head of a file, where reserved room is zeros.
    """
    start = synced
    while data := read(start, _SCAN - start % PAGE):
        edge = PAGE - start % PAGE
        while edge < len(data) + PAGE:
            page = data[max(0, edge - PAGE) : edge]
            if page.endswith(_HOLE) or (start == synced and edge <= PAGE and len(page) >= _LEAST and not any(page)):
                return start + max(0, edge - PAGE) + len(page.rstrip(b"\0"))
            edge += PAGE
        start += len(data)
    return None


def head_flv(read: Read) -> int:
    """Return the end of an FLV file's first tag, which holds what is known of the whole file and room for more."""
    return next((stop for _, _, stop in flv_tags(read, flv_start(read))), 0)


def head_fmp4(read: Read) -> int:
    """Return the end of an MP4 file's moov."""
    return next((stop for name, _, _, stop in top_boxes(read) if name == b"moov"), 0)


def whole_flv(read: Read) -> int:
    """Return the end of the last whole tag with its PreviousTagSize; 0 when this is no FLV file."""
    end = flv_start(read)
    for _, _, stop in flv_tags(read, end):
        end = stop
    return end


def flv_start(read: Read) -> int:
    """Return where the first tag begins; 0 when this is no FLV file."""
    head = read(0, HEADER_SIZE)
    offset = int.from_bytes(head[5:9], "big")
    if len(head) < HEADER_SIZE or not head.startswith(SIGNATURE) or not HEADER_SIZE <= offset <= MAX_HEADER:
        return 0
    return offset + 4 if len(read(offset, 4)) == 4 else 0


def flv_tags(read: Read, start: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield head, start and end of each whole tag: of a known type, stream 0, and with the right size behind it."""
    window = Window(read)
    while start:
        head = window.get(start, TAG_HEADER_SIZE + 2)
        if len(head) < TAG_HEADER_SIZE or head[0] not in _TAG_TYPES or head[8:11] != b"\0\0\0":
            return
        size = int.from_bytes(head[1:4], "big") + TAG_HEADER_SIZE
        if window.get(start + size, 4) != size.to_bytes(4, "big"):
            return
        yield head, start, start + size + 4
        start += size + 4


def whole_ts(read: Read) -> int:
    """Return the end of the last whole packet of the unbroken row from the start of the file."""
    end = 0
    while True:
        block = read(end, _TS_BLOCK)
        whole = len(block) // PACKET
        good = next((n for n in range(whole) if block[n * PACKET] != 0x47), whole)
        end += good * PACKET
        if good < whole or len(block) < _TS_BLOCK:
            break
    if end and _is_torn(read, end):
        end -= PACKET
    return end


def whole_fmp4(read: Read) -> int:
    """Return the end of the last whole fragment (moof and mdat), or of moov; 0 when there is no whole moov."""
    whole = 0
    for name, start, _, stop in top_boxes(read):
        if name == b"mfra" or (name == b"mdat" and _is_torn(read, stop)):
            break
        if name in _HEADS and not _is_sound(name, read, start, stop):
            break
        if name == b"moov" or (name == b"mdat" and whole):
            whole = stop
    return whole


def top_boxes(read: Read) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield type, start, start of content and end of each box at top level that is whole."""
    window, start = Window(read), 0
    while True:
        head = window.get(start, 16)
        size, name, body = int.from_bytes(head[:4], "big"), head[4:8], start + 8
        if size == 1 and len(head) == 16:
            size, body = int.from_bytes(head[8:16], "big"), start + 16
        if name not in _TOP_LEVEL or size < body - start or len(read(start + size - 1, 1)) < 1:
            return
        yield name, start, body, start + size
        start += size


def _is_sound(name: bytes, read: Read, start: int, stop: int) -> bool:
    """Whether the boxes in a moof or moov fill it exactly and are the right ones; zeros in it would not."""
    if stop - start > MAX_HEAD:
        return False
    data = read(start, stop - start)
    inner = inner_boxes(data, 8, len(data))
    first, last = _HEADS[name]
    if not inner or inner[0][0] != first or inner[-1][0] != last:
        return False
    innermost = inner_boxes(data, *inner[-1][1:])
    return bool(innermost) and any(data[innermost[-1][1] + 8 : innermost[-1][1] + 12])


def inner_boxes(data: bytes, start: int, stop: int) -> list[tuple[bytes, int, int]]:
    """Return type, start of content and end of the boxes in a stretch; nothing when they do not fill it exactly."""
    found = []
    while start < stop:
        size = int.from_bytes(data[start : start + 4], "big")
        if size < 8 or start + size > stop:
            return []
        found.append((data[start + 4 : start + 8], start + 8, start + size))
        start += size
    return found


def _is_torn(read: Read, stop: int) -> bool:
    """Whether what ends at *stop* ends in zeros that were never written: one is enough where more follow it."""
    tail = read(stop - _ZEROS, 2 * _ZEROS)
    before, after = tail[:_ZEROS], tail[_ZEROS:]
    return not any(after) and not any(before[-1:] if after else before)
