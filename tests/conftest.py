"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# Examples have no deadline: on a busy machine one of many thousand takes 200 ms, and nothing is wrong with the code.
settings.register_profile("relay", deadline=None)
settings.load_profile("relay")
