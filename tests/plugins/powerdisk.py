"""A disk that remembers in which order things were asked of it, and shows what may be left of them when power fails.

What is not synced may be there or not, block by block and name by name: a file that was written may be shorter, have
holes that read as zeros, or stand under its old name, under its new one, or under none. Only a sync is believed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.plugins.recordrig import FaultyDisk

BLOCK = 4096
"""What reaches the disk whole or not at all: a page of the page cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was asked. *node* is the file or folder, *name* and *other* are names in it."""

    what: str
    at: float
    node: int
    name: str = ""
    target: int = 0
    other: str = ""
    offset: int = 0
    data: bytes = b""


class PowerDisk(FaultyDisk):
    """The real disk, whose changes are written down. The first *found* steps are what was there before."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.log: list[Step] = []
        self.names_of: dict[int, dict[str, int]] = {0: {}}
        self._clock = clock
        self._fds: dict[int, int] = {}
        self._next = 1
        self._content: dict[int, bytearray] = {}
        self._known = False
        self.found = 0

    def open_root(self, path: Path) -> int:
        fd = super().open_root(path)
        self._fds[fd] = 0
        if not self._known:
            self._known = True
            self._find(path)
        return fd

    def _find(self, root: Path) -> None:
        """Take what is there already for synced."""
        nodes = {root: 0}
        for path in sorted(root.rglob("*")):
            nodes[path] = self._add(nodes[path.parent], path.name)
            if path.is_file():
                self._change(nodes[path], 0, path.read_bytes())
        for node in (*nodes.values(),):
            self._note("sync", node)
        self.found = len(self.log)

    def open_folder(self, name: str, at: int) -> int:
        fd = super().open_folder(name, at)
        self._fds[fd] = self._at(at, name)
        return fd

    def make_folder(self, name: str, at: int) -> None:
        super().make_folder(name, at)
        self._link(at, name)

    def create(self, name: str, at: int) -> int:
        fd = super().create(name, at)
        self._fds[fd] = self._link(at, name)
        return fd

    def open(self, name: str, at: int) -> int:
        fd = super().open(name, at)
        self._fds[fd] = self._at(at, name)
        return fd

    def write(self, fd: int, data: bytes | memoryview) -> int:
        count = super().write(fd, data)
        self._written(fd, len(self._content[self._fds[fd]]), bytes(data[:count]))
        return count

    def write_at(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        count = super().write_at(fd, data, offset)
        self._written(fd, offset, bytes(data[:count]))
        return count

    def truncate(self, fd: int, size: int) -> None:
        super().truncate(fd, size)
        del self._content[self._fds[fd]][size:]
        self._note("truncate", self._fds[fd], offset=size)

    def sync_data(self, fd: int) -> None:
        self._synced(fd)

    def sync(self, fd: int) -> None:
        self._synced(fd)

    def rename(self, old: str, new: str, at: int) -> None:
        super().rename(old, new, at)
        names = self.names_of[self._fds[at]]
        names[new] = names.pop(old)
        self._note("rename", self._fds[at], name=old, other=new, target=names[new])

    def unlink(self, name: str, at: int) -> None:
        super().unlink(name, at)
        target = self.names_of[self._fds[at]].pop(name)
        self._note("unlink", self._fds[at], name=name, target=target)

    def close(self, fd: int) -> None:
        self._fds.pop(fd, None)
        super().close(fd)

    def _at(self, fd: int, name: str) -> int:
        return self.names_of[self._fds[fd]][name]

    def _link(self, fd: int, name: str) -> int:
        return self._add(self._fds[fd], name)

    def _add(self, folder: int, name: str) -> int:
        node, self._next = self._next, self._next + 1
        self.names_of[folder][name] = node
        self.names_of[node], self._content[node] = {}, bytearray()
        self._note("link", folder, name=name, target=node)
        return node

    def _written(self, fd: int, offset: int, data: bytes) -> None:
        self._change(self._fds[fd], offset, data)

    def _change(self, node: int, offset: int, data: bytes) -> None:
        content = self._content[node]
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data
        self._note("write", node, offset=offset, data=data)

    def _synced(self, fd: int) -> None:
        node = self._fds.get(fd)
        if node is None:
            return  # above the directory of all recordings
        if node in self._content and not self.names_of[node]:
            self._see_other_writers(fd, node)
        self._note("sync", node)

    def _see_other_writers(self, fd: int, node: int) -> None:
        """Write down what came into the file by other ways, as a file object over the descriptor."""
        size = os.fstat(fd).st_size if not os.path.isdir(f"/proc/self/fd/{fd}") else 0
        if size and (data := os.pread(fd, size, 0)) != self._content[node]:
            self._written(fd, 0, data)

    def _note(self, what: str, node: int, **more: Any) -> None:
        self.log.append(Step(what=what, at=self._clock(), node=node, **more))


class _File:
    """What may be on the disk of one file."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.durable = b""
        self.versions: dict[int, list[bytes]] = {}
        self.sizes: list[int] = []

    def write(self, offset: int, data: bytes) -> None:
        content = self.content
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data
        for block in range(offset // BLOCK, -(-(offset + len(data)) // BLOCK)):
            self.versions.setdefault(block, []).append(bytes(content[block * BLOCK : (block + 1) * BLOCK]))
        self.sizes.append(len(content))

    def truncate(self, size: int) -> None:
        del self.content[size:]
        self.sizes.append(size)

    def sync(self) -> None:
        self.durable = bytes(self.content)
        self.versions, self.sizes = {}, []

    def left(self, rng: Random) -> bytes:
        """One of the states in which it may be found."""
        how = rng.random()
        if how < 0.15:
            return self.durable
        if how < 0.3:
            return bytes(self.content)
        left = bytearray(self.durable)
        keep = rng.random()
        for block, versions in self.versions.items():
            if rng.random() < keep:
                version = rng.choice(versions) if rng.random() < 0.3 else versions[-1]
                left.extend(bytes(max(0, block * BLOCK + len(version) - len(left))))
                left[block * BLOCK : block * BLOCK + len(version)] = version
        size = rng.choice([len(self.durable), *self.sizes, *self.sizes[-1:] * 3])
        del left[size:]
        left.extend(bytes(size - len(left)))
        return bytes(left)


class _Folder:
    """Which names may be on the disk."""

    def __init__(self) -> None:
        self.durable: dict[str, int] = {}
        self.waiting: list[Step] = []

    def sync(self) -> None:
        self.durable = _apply(self.durable, self.waiting)
        self.waiting = []

    def left(self, rng: Random) -> dict[str, int]:
        """Mostly the first changes and not the last, as a journal would keep them; sometimes any of them."""
        if rng.random() < 0.7:
            return _apply(self.durable, self.waiting[: rng.randint(0, len(self.waiting))])
        return _apply(self.durable, [step for step in self.waiting if rng.random() < 0.5])


def _apply(before: dict[str, int], steps: Iterable[Step]) -> dict[str, int]:
    names = dict(before)
    for step in steps:
        if step.what == "link":
            names[step.name] = step.target
        elif step.what == "unlink" and names.get(step.name) == step.target:
            del names[step.name]
        elif step.what == "rename":
            if names.get(step.name) == step.target:
                del names[step.name]
            names[step.other] = step.target
    return names


def lose_power(log: Iterable[Step], directory: Path, rng: Random) -> None:
    """Make *directory* as it may be found when power failed after the last step of *log*."""
    files: dict[int, _File] = {}
    folders: dict[int, _Folder] = {0: _Folder()}
    for step in log:
        if step.what in ("link", "unlink", "rename"):
            folders.setdefault(step.node, _Folder()).waiting.append(step)
        elif step.what == "write":
            files.setdefault(step.node, _File()).write(step.offset, step.data)
        elif step.what == "truncate":
            files.setdefault(step.node, _File()).truncate(step.offset)
        elif step.node in folders:
            folders[step.node].sync()
        else:
            files.setdefault(step.node, _File()).sync()
    directory.mkdir(parents=True)
    for name, node in folders[0].left(rng).items():
        (directory / name).mkdir()
        # A file of two names, of which only one would go when its rename is complete, is two files here.
        for inner, target in folders.get(node, _Folder()).left(rng).items():
            (directory / name / inner).write_bytes(files.get(target, _File()).left(rng))
