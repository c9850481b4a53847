"""Lines of a TOML text: every value is found where a person would look for it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config_lines import LineIndex, Path, show_path

SAMPLE = '''\
# comment with [brackets] and = signs

top = 1            # [not.a.table]
text = """
[fake]
x = "\\"""" # still a comment
"""
literal = \'\'\'
fake = 2
\'\'\'
[a."b.c".d]   # header
x = { y = 1, z = { "k k" = [1, 2] } }
list = [
  1,           # one
  { q = 1 },

  "three ] ]",
]
e.f.g = 2
[[items]]
n = 1
[items.sub]
m = 1
[[items]]
[[items.deep]]
[[items.deep]]
v = 1
'''.replace('x = "\\"""" # still a comment\n', "")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 3),
        (("text",), 4),
        (("literal",), 7),
        (("a",), 10),
        (("a", "b.c"), 10),
        (("a", "b.c", "d"), 10),
        (("a", "b.c", "d", "x", "y"), 11),
        (("a", "b.c", "d", "x", "z", "k k", 1), 11),
        (("a", "b.c", "d", "list"), 12),
        (("a", "b.c", "d", "list", 0), 13),
        (("a", "b.c", "d", "list", 1, "q"), 14),
        (("a", "b.c", "d", "list", 2), 16),
        (("a", "b.c", "d", "e", "f", "g"), 18),
        (("items",), 19),
        (("items", 0), 19),
        (("items", 0, "n"), 20),
        (("items", 0, "sub", "m"), 22),
        (("items", 1), 23),
        (("items", 1, "deep", 0), 24),
        (("items", 1, "deep", 1, "v"), 26),
    ],
)
def test_each_kind_of_value_has_its_line(path: Path, line: int) -> None:
    assert LineIndex(SAMPLE).line(path) == line


def test_the_sample_is_toml() -> None:
    assert tomllib.loads(SAMPLE)["items"][1]["deep"][1]["v"] == 1


def test_a_path_that_is_not_there_has_the_line_of_its_parent() -> None:
    index = LineIndex(SAMPLE)

    assert index.line(("items", 0, "sub", "missing", "deeper")) == 21
    assert index.line(("nowhere",)) == 1


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (("streams", "town-hall_1", "restream", "yt", "url"), "streams.town-hall_1.restream.yt.url"),
        (("listen", 0, "url"), "listen[0].url"),
        (("streams", "a/b", "x"), 'streams."a/b".x'),
        (("streams", 'q"\\', "x"), 'streams."q\\"\\\\".x'),
        (("streams", "*"), 'streams."*"'),
        ((), ""),
    ],
)
def test_a_path_is_shown_as_people_write_it(path: Path, shown: str) -> None:
    assert show_path(path) == shown


def test_a_shown_path_is_found_again_or_its_parent() -> None:
    index = LineIndex('[streams."a/b".keys]\nx = 1\n')

    assert index.find('streams."a/b".keys.x') == ("streams", "a/b", "keys", "x")
    assert index.find('streams."a/b".keys.missing') == ("streams", "a/b", "keys")
    assert index.find("elsewhere") is None


KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\x7f", min_codepoint=32), max_size=6)
VALUES = st.recursive(
    st.integers(-9, 9) | st.booleans() | st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def inline(value: object) -> str:
    """Write *value* as TOML on one line."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(key, ensure_ascii=False)} = {inline(item)}" for key, item in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def paths_below(value: object, path: Path) -> Iterator[Path]:
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths_below(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from paths_below(item, (*path, number))


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4))
def test_any_document_has_every_path_on_its_line(document: dict[str, dict[str, object]]) -> None:
    lines: list[str] = []
    expected: dict[Path, int] = {}
    for name, table in document.items():
        lines.append(f"[{json.dumps(name, ensure_ascii=False)}] # ]")
        expected[name,] = len(lines)
        for key, value in table.items():
            lines.append(f"{json.dumps(key, ensure_ascii=False)} = {inline(value)}")
            expected |= dict.fromkeys(paths_below(value, (name, key)), len(lines))
    text = "\n".join(lines)
    index = LineIndex(text)

    assert tomllib.loads(text) == document
    assert {path: index.line(path) for path in expected} == expected


@given(st.text(st.sampled_from("[]{}=.,\"'#\\\n ab1\t"), max_size=60))
def test_text_that_is_not_toml_ends_the_walk_without_an_error(text: str) -> None:
    assert LineIndex(text).line(("a",)) >= 1
