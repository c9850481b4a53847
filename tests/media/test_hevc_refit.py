"""Fitting HEVC pictures to other parameter sets: what is read and what is refused. tests/net/test_slates.py decodes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.media.errors import MediaError
from relay.media.hevc_refit import Blocks, Parameters, Refit, misfit
from relay.testing import HEVC_CONFIG

PARAMETERS = Parameters.of(HEVC_CONFIG)
IDR = b"\x26\x01"
OTHER = {
    "depth": 10,
    "chroma_offsets": (1, 0),
    "qp_delta_depth": 3,
    "transform_skip": True,
    "wavefront": not PARAMETERS.blocks.wavefront,
    "smoothing": not PARAMETERS.blocks.smoothing,
}


def test_what_the_parameter_sets_say_is_read() -> None:
    blocks = PARAMETERS.blocks

    assert (blocks.width, blocks.height, blocks.depth) == (160, 96, 8)
    assert (blocks.smallest_block, blocks.largest_block, blocks.smallest_transform) == (4, 5, 2)
    assert misfit(replace(PARAMETERS, sample_offset=False), PARAMETERS) == ""


@pytest.mark.parametrize("name", OTHER)
def test_what_coded_blocks_depend_on_must_agree(name: str) -> None:
    ours = replace(PARAMETERS, sample_offset=False)
    theirs = replace(PARAMETERS, blocks=replace(PARAMETERS.blocks, **{name: OTHER[name]}))

    assert misfit(ours, theirs) == f"these differ: {name.replace('_', ' ')}"
    with pytest.raises(MediaError, match="differ"):
        Refit(ours, theirs)


@pytest.mark.parametrize(
    ("units", "why"),
    [
        ([b"\x02\x01\x80\x80"], "no IDR"),
        ([IDR + b"\x80\x80"] * 2, "in one slice"),
        ([], "in one slice"),
        ([IDR + b"\x00\x80"], "begin its picture"),
        ([IDR + b"\x80"], "early|exp-golomb|intra"),
    ],
)
def test_what_is_no_picture_of_ours_is_refused(units: list[bytes], why: str) -> None:
    refit = Refit(replace(PARAMETERS, sample_offset=False), PARAMETERS)

    with pytest.raises(MediaError, match=why):
        refit.picture(units)


@given(st.integers(23, len(HEVC_CONFIG) - 1), st.binary(min_size=1, max_size=8))
def test_damaged_parameter_sets_give_an_answer_or_our_error(at: int, junk: bytes) -> None:
    damaged = HEVC_CONFIG[:at] + junk + HEVC_CONFIG[at + len(junk) :]

    try:
        read = Parameters.of(damaged)
    except MediaError:
        return
    assert isinstance(read.blocks, Blocks)


@given(st.binary(max_size=60))
def test_any_slice_gives_a_picture_or_our_error(body: bytes) -> None:
    refit = Refit(replace(PARAMETERS, sample_offset=False), PARAMETERS)

    try:
        picture = refit.picture([IDR + body])
    except MediaError:
        return
    assert picture[4:6] == IDR
