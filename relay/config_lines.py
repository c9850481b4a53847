"""Which line of a TOML file a value stands on. `tomllib` does not say, so this walks the text once more.

Only for text that `tomllib` accepted: the walk checks nothing and so stays small. The rule it guards: a path gets the
line where a person would look for it, and a path that is not in the text gets the line of its nearest parent.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

Path = tuple[str | int, ...]

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_STRINGS = (
    re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}(?!")', re.DOTALL),
    re.compile(r"'''.*?'{3,5}(?!')", re.DOTALL),
    re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


def show_path(path: Path) -> str:
    """Return the path as people write it: ``streams."a/b".restream.youtube.url``, ``listen[0].url``."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            name = part if _PLAIN.fullmatch(part) else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
            shown += f".{name}" if shown else name
    return shown


class LineIndex:
    """Lines of every table, key and array item of one TOML text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._lines: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}
        """Arrays of tables seen so far and the index of their last item."""
        self._scan()

    def line(self, path: Path) -> int:
        """Return the line of *path*, of its nearest parent, or 1."""
        for size in range(len(path), 0, -1):
            found = self._lines.get(path[:size])
            if found is not None:
                return found
        return 1

    def find(self, shown: str) -> Path | None:
        """Return the path that `show_path` writes as *shown*, or the longest parent of it that is in the text."""
        best: Path | None = None
        for path in self._lines:
            text = show_path(path)
            if text == shown:
                return path
            if shown.startswith((text + ".", text + "[")) and (best is None or len(path) > len(best)):
                best = path
        return best

    def _mark(self, path: Path, at: int) -> None:
        self._lines.setdefault(path, bisect_right(self._starts, at))

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()

    def _scan(self) -> None:
        table: Path = ()
        text = self._text
        while True:
            before = self._at
            self._skip(_BLANK)
            if self._at >= len(text):
                return
            if text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            if self._at == before:  # not TOML after all; never loop
                return

    def _header(self) -> Path:
        start = self._at
        double = self._text.startswith("[[", start)
        self._at += 2 if double else 1
        keys = self._key()
        self._at += 2 if double else 1
        path: Path = ()
        for key in keys[:-1]:
            path = self._inside((*path, key))
            self._mark(path, start)
        path = (*path, keys[-1])
        self._mark(path, start)
        if not double:
            return self._inside(path)
        self._arrays[path] = self._arrays.get(path, -1) + 1
        path = self._inside(path)
        self._mark(path, start)
        return path

    def _inside(self, path: Path) -> Path:
        """A header that goes through an array of tables means the array's last item."""
        return (*path, self._arrays[path]) if path in self._arrays else path

    def _key(self) -> list[str]:
        keys = []
        while True:
            self._skip(_SPACE)
            if self._text[self._at : self._at + 1] in ('"', "'"):
                start = self._at
                self._string()
                keys.append(_unquote(self._text[start : self._at]))
            else:
                start = self._at
                self._skip(_BARE_KEY)
                keys.append(self._text[start : self._at])
            self._skip(_SPACE)
            if self._text[self._at : self._at + 1] != ".":
                return keys
            self._at += 1

    def _pair(self, table: Path) -> None:
        start = self._at
        path = table
        for key in self._key():
            path = (*path, key)
            self._mark(path, start)
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: Path) -> None:
        first = self._text[self._at : self._at + 1]
        if first in ('"', "'"):
            self._string()
        elif first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._skip(_SCALAR)

    def _string(self) -> None:
        for pattern in _STRINGS:
            found = pattern.match(self._text, self._at)
            if found is not None:
                self._at = found.end()
                return
        self._at += 1

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while self._more("]"):
            before = self._at
            self._mark((*path, index), before)
            self._value((*path, index))
            index += 1
            self._comma()
            if self._at == before:  # not TOML after all; never loop
                return

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._more("}"):
            self._pair(path)
            self._comma()

    def _more(self, end: str) -> bool:
        self._skip(_BLANK)
        if self._at < len(self._text) and self._text[self._at] != end:
            return True
        self._at += 1
        return False

    def _comma(self) -> None:
        self._skip(_BLANK)
        if self._text[self._at : self._at + 1] == ",":
            self._at += 1


def _unquote(quoted: str) -> str:
    if quoted.startswith("'"):
        return quoted[1:-1]
    try:
        value = tomllib.loads(f"k = {quoted}")["k"]
    except tomllib.TOMLDecodeError:
        return quoted
    return value if isinstance(value, str) else quoted
