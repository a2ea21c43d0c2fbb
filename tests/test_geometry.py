"""Levels, tiles and passes: every picture size has a plan that covers each pixel exactly once."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prow.format.config import CONFIGS, FULL, MIDDLE, REFINE, START, step_size
from prow.format.geometry import Level, Pass, levels, passes, split

CONFIG = CONFIGS["anchor"]  # tile 16
quick = settings(deadline=None, max_examples=200)


@quick
@given(st.integers(1, 65_535), st.integers(1, 64))
def test_split_is_even_and_complete(length: int, tile: int) -> None:
    parts = split(length, tile)
    assert sum(parts) == length
    assert len(parts) == -(-length // tile)
    assert parts == sorted(parts, reverse=True)
    assert max(parts) - min(parts) <= 1
    assert max(parts) <= tile
    assert length < tile or 2 * min(parts) >= tile - 1  # no slivers: half a tile, rounded down, at least


def test_split_by_example() -> None:
    assert split(1, 16) == [1]
    assert split(16, 16) == [16]
    assert split(17, 16) == [9, 8]
    assert split(50, 16) == [13, 13, 12, 12]


@quick
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 20))
def test_tiles_cover_every_pixel_once(width: int, height: int, tile: int) -> None:
    level = Level(width, height, tile)
    covered = np.zeros((height, width), int)
    for x, y, w, h in level.boxes:
        assert 1 <= w <= tile and 1 <= h <= tile
        covered[y : y + h, x : x + w] += 1
    assert np.all(covered == 1)
    assert level.tiles == len(level.boxes) == len(level.columns) * len(level.rows)


def test_tiles_are_in_raster_order() -> None:
    boxes = Level(20, 17, 16).boxes
    assert boxes.tolist() == [[0, 0, 10, 9], [10, 0, 10, 9], [0, 9, 10, 8], [10, 9, 10, 8]]
    assert boxes.dtype == np.int32


@quick
@given(st.integers(1, 65_535), st.integers(1, 65_535), st.sampled_from([8, 16, 32]))
def test_levels_halve_until_one_tile_holds_all(width: int, height: int, tile: int) -> None:
    pyramid = levels(width, height, tile)
    assert (pyramid[-1].width, pyramid[-1].height) == (width, height)
    assert pyramid[0].tiles == 1
    for small, large in zip(pyramid, pyramid[1:], strict=False):
        assert (small.width, small.height) == (-(-large.width // 2), -(-large.height // 2))
        assert max(large.width, large.height) > tile


PLANS = {
    # size: (size of the first level, number of levels)
    (1, 1): ((1, 1), 1),
    (16, 16): ((16, 16), 1),
    (17, 1): ((9, 1), 2),
    (64, 20): ((16, 5), 3),
    (65, 20): ((9, 3), 4),
    (768, 512): ((12, 8), 7),
    (1025, 1): ((9, 1), 8),
    (65_535, 1): ((16, 1), 13),
    (65_535, 65_535): ((16, 16), 13),
}


@pytest.mark.parametrize("size", PLANS)
def test_each_level_has_one_pass_and_full_resolution_is_refined(size: tuple[int, int]) -> None:
    (first, count), plan = PLANS[size], passes(*size, CONFIG)
    pyramid, refining = levels(*size, CONFIG.tile), len(CONFIG.refine_shifts)
    assert len(pyramid) == count and refining == 6
    assert [p.level for p in plan] == [*pyramid, *[pyramid[-1]] * refining]
    assert (plan[0].level.width, plan[0].level.height) == first
    assert (plan[-1].level.width, plan[-1].level.height) == size
    assert [p.octaves for p in plan] == [*range(count - 1, -1, -1), *[0] * refining]
    assert [p.kind for p in plan] == [START, *[MIDDLE] * (count - 2), *[FULL] * (count > 1), *[REFINE] * refining]


def test_a_plan_costs_no_memory_per_tile() -> None:
    """The header of a few bytes may ask for 65,535 px a side: looking at it must stay cheap."""
    tracemalloc.start()
    try:
        plan = passes(65_535, 65_535, CONFIG)
        tiles = [p.level.tiles for p in plan]
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert tiles[-1] == 4096 * 4096
    assert peak_bytes < 20_000


def test_refining_passes_follow_the_config() -> None:
    for shifts in ((), (7,), (6, 12, 18)):
        plan = passes(100, 50, dataclasses.replace(CONFIG, refine_shifts=shifts))
        refining = plan[4:]  # behind 13 x 7, 25 x 13, 50 x 25 and 100 x 50 px
        assert [p.kind for p in plan[:4]] == [START, MIDDLE, MIDDLE, FULL]
        assert [(p.kind, p.octaves, p.shift) for p in refining] == [(REFINE, 0, shift) for shift in shifts]
        assert {p.level for p in refining} <= {plan[3].level}


def test_steps_are_coarser_at_coarse_levels_and_finer_in_refining_passes() -> None:
    indices = [p.step_index(40) for p in passes(768, 512, CONFIG)]
    assert indices == [46, 45, 44, 43, 42, 41, 40, 36, 32, 28, 24, 20, 16]
    assert step_size(40) / step_size(36) == pytest.approx(2)
    steeper = dataclasses.replace(CONFIG, octave_step=3, refine_shifts=(5,))
    assert [p.step_index(40) for p in passes(768, 512, steeper)] == [58, 55, 52, 49, 46, 43, 40, 35]


def test_steps_stay_on_the_grid() -> None:
    plan = passes(768, 512, CONFIG)
    assert [p.step_index(60) for p in plan[:7]] == [63, 63, 63, 63, 62, 61, 60]
    assert [p.step_index(9) for p in plan[6:]] == [9, 5, 1, 0, 0, 0, 0]
    assert Pass(REFINE, plan[-1].level, 0, 6).step_index(3) == 0


def test_each_pass_is_finer_than_the_one_before() -> None:
    """The same detail has twice the coefficient a level up, so in units of full resolution each step is smaller."""
    for config in (CONFIGS["prow-small"], CONFIGS["toy"], CONFIG):
        plan = passes(768, 512, config)
        steps = [step_size(p.step_index(config.usual_base)) * 2**p.octaves for p in plan]
        ratios = [coarse / fine for coarse, fine in zip(steps, steps[1:], strict=False)]
        assert min(ratios) >= 1.99
        assert ratios[: plan[0].octaves] == pytest.approx([2 ** (1 + config.octave_step / 4)] * plan[0].octaves)


@pytest.mark.parametrize(
    "wrong", [{"usual_base": 2}, {"usual_base": 61}, {"octave_step": -1}, {"refine_shifts": (4, -1)}]
)
def test_schedules_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="usual_base|octave_step"):
        dataclasses.replace(CONFIG, **wrong)
    assert dataclasses.replace(CONFIG, usual_base=3).usual_base == 3
    assert dataclasses.replace(CONFIG, usual_base=60).usual_base == 60
