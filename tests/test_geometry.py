"""Levels, tiles and passes: every picture size has a plan that covers each pixel exactly once."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prow.config import CONFIGS, FULL, MIDDLE, REFINE, START, step_size
from prow.geometry import Level, Pass, every_other, levels, passes, split

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
    # size: (size of the first level, depths of the levels that every other pass is sent at, from full resolution on and
    # from half resolution on)
    (1, 1): ((1, 1), [0], [0]),
    (16, 16): ((16, 16), [0], [0]),
    (17, 1): ((9, 1), [1, 0], [1]),
    (64, 20): ((16, 5), [2, 0], [2]),
    (65, 20): ((9, 3), [3, 0], [3, 1]),  # an octave above the coarsest would be too close
    (768, 512): ((12, 8), [6, 4, 2, 0], [6, 3, 1]),
    (1025, 1): ((9, 1), [7, 4, 2, 0], [7, 5, 3, 1]),
    (65_535, 1): ((16, 1), [12, 10, 8, 6, 4, 2, 0], [12, 9, 7, 5, 3, 1]),
    (65_535, 65_535): ((16, 16), [12, 10, 8, 6, 4, 2, 0], [12, 9, 7, 5, 3, 1]),
}


@pytest.mark.parametrize("size", PLANS)
def test_passes(size: tuple[int, int]) -> None:
    (first, *_), plan = PLANS[size], passes(*size, CONFIG)
    pyramid = levels(*size, CONFIG.tile)
    count = len(pyramid)
    assert [p.level for p in plan] == [*pyramid, pyramid[-1]]
    assert (plan[0].level.width, plan[0].level.height) == first
    assert [p.depth for p in plan] == [*range(count - 1, -1, -1), 0]
    assert [p.kind for p in plan] == [START, *[MIDDLE] * (count - 2), *[FULL] * (count > 1), REFINE]
    assert [p.shift for p in plan] == [CONFIG.octave_shift * p.depth for p in plan[:-1]] + [6]


@pytest.mark.parametrize("size", PLANS)
def test_every_other_pass(size: tuple[int, int]) -> None:
    plan = passes(*size, CONFIG)
    for phase, depths in enumerate(PLANS[size][1:]):
        sent = [i for i in range(len(plan) - 1) if i not in every_other(plan, phase)]
        assert [plan[i].depth for i in sent] == depths
        fewer = [i for i in range(len(plan) - 1) if i not in every_other(plan, phase, lowest=False)]
        assert fewer == (sent if len(sent) < 3 else [sent[0], *sent[2:]])
    assert every_other(plan) == every_other(plan, 0) <= set(range(1, len(plan) - 1))


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
    config = dataclasses.replace(CONFIG, refine_shifts=(6, 12, 18))
    plan = passes(100, 50, config)
    assert [p.shift for p in plan if p.kind == REFINE] == [6, 12, 18]
    assert len({(p.level.width, p.level.height) for p in plan[-4:]}) == 1


def test_steps_are_finer_at_coarse_levels_and_never_below_the_grid() -> None:
    plan = passes(768, 512, CONFIG)
    indices = [p.step_index(40) for p in plan]
    assert indices == [22, 25, 28, 31, 34, 37, 40, 34]
    assert step_size(40) / step_size(36) == pytest.approx(2)
    assert Pass(REFINE, plan[-1].level, 0, 6).step_index(3) == 0
