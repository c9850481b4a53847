"""The six hooks: their names, their arguments and their documentation are the contract."""

from __future__ import annotations

import inspect

import pytest

from relay import hookspecs
from relay.pluginfind import new_plugin_manager

HOOKS = {
    "authorize_publish": ["request"],
    "authorize_play": ["request"],
    "open_sinks": ["stream"],
    "http_resources": [],
    "services": [],
    "on_event": ["event"],
}


def test_there_are_exactly_six_hooks() -> None:
    assert {name for name in vars(new_plugin_manager().hook) if not name.startswith("_")} == set(HOOKS)


@pytest.mark.parametrize(("hook", "arguments"), HOOKS.items())
def test_a_hook_has_at_most_one_argument_and_says_what_it_is_for(hook: str, arguments: list[str]) -> None:
    spec = getattr(hookspecs, hook)

    assert list(inspect.signature(spec).parameters) == arguments
    assert len(inspect.getdoc(spec) or "") > 30
