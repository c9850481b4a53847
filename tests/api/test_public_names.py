"""`relay.api` is the door for plugins: what is in it stays, and nothing else comes through it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from relay import api, testing
from relay.pluginfind import API_VERSION

PINNED = (Path(__file__).parent / "public_names.txt").read_text("utf-8").split()


def test_the_public_names_are_the_pinned_ones() -> None:
    assert api.__all__ == PINNED, "a name was added (write it into public_names.txt) or removed (a new major version)"


def test_every_public_name_exists_and_every_import_is_public() -> None:
    imported = {
        alias.asname or alias.name
        for node in ast.parse(Path(api.__file__).read_text("utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }

    assert imported == set(PINNED)
    assert [name for name in PINNED if not hasattr(api, name)] == []


def test_the_door_holds_no_code_and_no_any() -> None:
    body = ast.parse(Path(api.__file__).read_text("utf-8")).body

    assert {type(node) for node in body} == {ast.Expr, ast.ImportFrom, ast.Assign}
    assert "Any" not in {name.id for name in ast.walk(ast.Module(body, [])) if isinstance(name, ast.Name)}


def test_the_version_of_the_api_is_a_pair() -> None:
    assert api.API_VERSION == API_VERSION == (1, 0)


@pytest.mark.parametrize("name", testing.__all__)
def test_what_is_offered_for_tests_exists(name: str) -> None:
    assert getattr(testing, name) is not None
