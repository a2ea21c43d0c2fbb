"""Transform, tiles, networks and loop filter: a new network is the linear codec, each part sees what it may see."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from conftest import Draw, awaken, zero_heads
from torch import Tensor

from prow.backends import base, torch_backend
from prow.backends.torch_ops import cut, double, halve, join, lap, pyramid, spread
from prow.coding.codec import Codec
from prow.format.config import CONFIGS, FULL, MIDDLE, START, filter_reach
from prow.format.geometry import Level, Pass
from prow.format.lapping import lap_matrix, reach, windows
from prow.format.tokens import empty_tokens
from prow.networks.condition import condition, pixel_scale, step_tensor
from prow.networks.loop_filter import LoopFilter
from prow.networks.tokenizer import Tokenizer, patchify, unpatchify
from prow.networks.transform import COLOUR, Anchor, colour_matrix
from prow.training.loop import Cut, run_passes
from prow.training.statistics import Statistics

TOY = CONFIGS["toy"]
T, K, N = TOY.tile, TOY.coefficients, TOY.tokens


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pixels(*shape: int, seed: int = 0) -> Tensor:
    """Grey levels 0 to 255."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 255


def sizes_of(level: Level) -> Tensor:
    """Height and width of each tile."""
    return torch.tensor([[height, width] for *_, width, height in level.boxes.tolist()])


@pytest.fixture
def network() -> Tokenizer:
    torch.manual_seed(0)
    return awaken(Tokenizer(TOY)).eval()


# -- anchor ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tile", "channels"), [(8, 3), (16, 3), (8, 1), (8, 4)])
def test_anchor_is_orthonormal_at_every_tile_size(tile: int, channels: int) -> None:
    """1x1, 1xT and Tx1 included: as many coefficients as samples, the same energy, and all of it comes back."""
    anchor = Anchor(tile, channels)
    sizes = torch.cartesian_prod(torch.arange(1, tile + 1), torch.arange(1, tile + 1))  # height, width
    inside = (torch.arange(tile) < sizes[:, :1])[:, :, None] & (torch.arange(tile) < sizes[:, 1:])[:, None]
    picture = randn(len(sizes), channels, tile, tile) * 50  # what lies outside of a tile must not matter
    coefficients = anchor(picture, sizes)
    inner = picture * inside[:, None]
    torch.testing.assert_close(coefficients.square().sum(1), inner.square().sum((1, 2, 3)), rtol=1e-4, atol=1e-2)
    absent = ~inside[:, None].expand(-1, channels, -1, -1).flatten(1)
    assert torch.all(coefficients[absent] == 0)
    torch.testing.assert_close(anchor.inverse(coefficients, sizes), inner, rtol=0, atol=1e-3)


def test_anchor_of_a_flat_tile_is_its_mean() -> None:
    sizes = torch.tensor([[8, 8], [1, 1], [3, 8]])
    coefficients = Anchor(8, 3)(torch.full((3, 3, 8, 8), 10.0), sizes)
    expected = 10 * 3**0.5 * torch.tensor([64.0, 1.0, 24.0]).sqrt()
    torch.testing.assert_close(coefficients[:, 0], expected, rtol=1e-5, atol=1e-4)
    assert float(coefficients[:, 1:].abs().max()) < 1e-3


def test_colour_transform_is_orthonormal() -> None:
    torch.testing.assert_close(COLOUR @ COLOUR.T, torch.eye(3), rtol=0, atol=1e-6)
    assert torch.equal(colour_matrix(3), COLOUR)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_channels_beyond_three_stay_by_themselves(channels: int) -> None:
    matrix, coloured = colour_matrix(channels), 3 if channels > 3 else 0
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(channels), rtol=0, atol=1e-6)
    assert torch.equal(matrix[coloured:, coloured:], torch.eye(channels - coloured))
    assert torch.equal(matrix[:coloured, :coloured], COLOUR[:coloured, :coloured])
    assert not matrix[:coloured, coloured:].any() and not matrix[coloured:, :coloured].any()


# -- tiles and levels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (8, 8), (17, 23), (64, 50)])
def test_cut_and_join(size: tuple[int, int]) -> None:
    width, height = size
    level = Level(width, height, T)
    picture = pixels(2, 3, height, width)
    tiles = cut(picture, level)
    assert tiles.shape == (2 * level.tiles, 3, T, T)
    assert torch.equal(join(tiles, level), picture)
    for (x, y, w, h), tile in zip(level.boxes.tolist(), tiles, strict=False):
        assert torch.equal(tile[:, :h, :w], picture[0, :, y : y + h, x : x + w])
        assert torch.equal(tile[:, h - 1 :, :w], tile[:, h - 1 : h, :w].expand(-1, T - h + 1, -1))  # replicated
        assert torch.equal(tile[:, :, w - 1 :], tile[:, :, w - 1 : w].expand(-1, -1, T - w + 1))


TO_LAP = [(8, 8), (9, 8), (8, 17), (17, 23), (64, 50), (40, 1), (1, 40), (16, 16)]


@pytest.mark.parametrize("size", TO_LAP)
def test_lapping_is_orthonormal_and_comes_back(size: tuple[int, int]) -> None:
    width, height = size
    level = Level(width, height, T)
    picture, other = (pixels(2, 3, height, width, seed=seed) for seed in (0, 1))
    kept = picture.clone()
    lapped = lap(picture, level)
    assert torch.equal(picture, kept) and lapped.shape == picture.shape
    torch.testing.assert_close(lapped.square().sum((1, 2, 3)), picture.square().sum((1, 2, 3)), rtol=1e-5, atol=0)
    torch.testing.assert_close((lapped * lap(other, level)).sum(), (picture * other).sum(), rtol=1e-5, atol=0)
    torch.testing.assert_close(lap(lapped, level, back=True), picture, rtol=0, atol=1e-3)
    torch.testing.assert_close(lap(lap(picture, level, back=True), level), picture, rtol=0, atol=1e-3)
    assert torch.allclose(lapped, picture, atol=1) == (level.tiles == 1)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (5, 7), (8, 1)])
def test_a_single_tile_is_not_lapped(size: tuple[int, int]) -> None:
    picture = pixels(1, 3, size[1], size[0])
    for back in (False, True):
        assert torch.equal(lap(picture, Level(*size, T), back=back), picture)


@pytest.mark.parametrize("lengths", [[8], [8, 8, 8], [7, 7, 6], [5, 4], [16] * 3 + [15] * 2, [1, 1]])
def test_windows_of_borders_do_not_overlap(lengths: list[int]) -> None:
    wide, places = reach(lengths), windows(lengths)
    assert wide == (min(lengths) // 2 if len(lengths) > 1 else 0)
    assert places.shape == (len(lengths) - 1, 2 * wide)
    assert len(np.unique(places)) == places.size
    for border, row in zip(np.cumsum(lengths), places, strict=False):
        assert row.tolist() == list(range(border - wide, border + wide))
    assert places.size == 0 or (places.min() >= 0 and places.max() < sum(lengths))


@pytest.mark.parametrize("wide", range(1, 9))
def test_the_matrix_of_a_border(wide: int) -> None:
    """Orthonormal, and the same from both sides; what is flat stays flat."""
    matrix = torch.from_numpy(lap_matrix(wide))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(2 * wide), rtol=0, atol=1e-5)
    torch.testing.assert_close(matrix.flip(0, 1), matrix, rtol=0, atol=1e-5)
    torch.testing.assert_close(matrix.sum(1), torch.ones(2 * wide), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", TO_LAP)
def test_a_flat_picture_stays_flat(size: tuple[int, int]) -> None:
    """So its tiles have but one coefficient a channel, as they had without lapping."""
    width, height = size
    level = Level(width, height, T)
    flat = torch.tensor([200.0, 30, 90])[None, :, None, None].expand(1, -1, height, width)
    torch.testing.assert_close(lap(flat, level), flat, rtol=0, atol=1e-3)
    coefficients = Anchor(T, 3)(cut(lap(flat, level), level), sizes_of(level)).view(-1, 3, T * T)
    assert float(coefficients[..., 1:].abs().max()) < 0.01 < float(coefficients[..., 0].abs().min())


def coarsely(picture: Tensor, level: Level, kept: int, *, lapped: bool) -> Tensor:
    """The picture by the lowest frequencies of each tile alone, kept x kept of them a channel."""
    anchor, sizes = Anchor(T, 3), sizes_of(level)
    coefficients = anchor(cut(lap(picture, level) if lapped else picture, level), sizes)
    low = torch.zeros(3, T, T)
    low[:, :kept, :kept] = 1
    joined = join(anchor.inverse(coefficients * low.flatten(), sizes), level)
    return lap(joined, level, back=True) if lapped else joined


@pytest.mark.parametrize("size", [(64, 48), (61, 45)])
def test_no_border_shows_where_tiles_are_lapped(size: tuple[int, int]) -> None:
    """A ramp, told by the means of its tiles, is a staircase without lapping; with it, its steps are smoothed."""
    width, height = size
    level = Level(width, height, T)
    ramp = (2.0 * torch.arange(width) + 1.5 * torch.arange(height)[:, None]).expand(1, 3, height, width)
    borders = np.cumsum(level.columns)[:-1]
    error, step = {}, {}
    for lapped in (False, True):
        got = coarsely(ramp, level, 1, lapped=lapped)
        error[lapped] = float((got - ramp)[..., T:-T, T:-T].square().mean())
        across = (got[..., 1:] - got[..., :-1])[..., T:-T, :]
        step[lapped] = float((across[..., borders - 1] - 2).abs().mean())
    assert step[False] > 10 and step[True] < 0.3 * step[False]
    assert error[True] < 0.85 * error[False]


def test_cut_takes_whole_rows_of_tiles() -> None:
    level, picture = Level(20, 30, T), pixels(1, 3, 30, 20)
    every = cut(picture, level)
    assert torch.equal(torch.cat([cut(picture, level, 0, 1), cut(picture, level, 1, 4)]), every)
    assert torch.equal(torch.cat([cut(picture, level, 0, 2), cut(picture, level, 2)]), every)


def test_spread_gives_each_tile_its_number_and_its_edges() -> None:
    level = Level(20, 9, T)
    coverage = spread(torch.arange(12.0), level)
    assert coverage.shape == (2, 3, 9, 20)
    for number, (x, y, w, h) in enumerate(level.boxes.tolist()):
        share, across, down = coverage[:, :, y : y + h, x : x + w].unbind(1)
        assert torch.all(share == torch.tensor([number, number + 6.0])[:, None, None])
        assert torch.all(across == torch.tensor([1.0, *[0] * (w - 2), -1]))
        assert torch.all(down == torch.tensor([1.0, *[0] * (h - 2), -1])[:, None])
    assert torch.all(spread(torch.zeros(1), Level(1, 1, T)) == 0)  # a single pixel is both ends


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 4), (17, 23)])
def test_halve_and_double_sizes(size: tuple[int, int]) -> None:
    width, height = size
    picture = pixels(1, 3, height, width)
    small = halve(picture)
    assert small.shape == (1, 3, -(-height // 2), -(-width // 2))
    level = Level(width, height, T)
    assert double(small, None, level).shape == picture.shape
    ahead = torch.full((1, 3, 2 * small.shape[2], 2 * small.shape[3]), 7.0)
    plain, more = (double(small.clamp(8, 200), added, level) for added in (None, ahead))
    torch.testing.assert_close(more, (plain + 7).clamp(max=255), rtol=0, atol=1e-4)
    # an odd side repeats its last row or column, so the last mean is over real pixels alone
    corner = picture[..., height - 1 - (height + 1) % 2 :, width - 1 - (width + 1) % 2 :].mean((2, 3))
    torch.testing.assert_close(small[..., -1, -1], corner)


def test_halve_and_double_are_aligned() -> None:
    """A ramp stays where it is: no shift by half a pixel in either direction."""
    ramp = (torch.arange(32.0)[:, None] * 3 + torch.arange(40.0)).expand(1, 3, 32, 40)
    small = halve(ramp)
    torch.testing.assert_close(small[0, 0, 2, 5], ramp[0, 0, 4:6, 10:12].mean())
    back = double(small, None, Level(40, 32, T))
    inner = (..., slice(3, -3), slice(3, -3))
    torch.testing.assert_close(halve(back)[inner], small[inner], rtol=0, atol=1e-3)
    assert float((back - ramp)[..., 6:-6, 6:-6].abs().max()) < 0.4  # a shift by half a pixel would be 2.0


def test_pyramid_runs_coarse_to_fine() -> None:
    shapes = [tuple(level.shape[-2:]) for level in pyramid(pixels(1, 3, 23, 17), 4)]
    assert shapes == [(3, 3), (6, 5), (12, 9), (23, 17)]


def test_patches_come_back() -> None:
    picture = pixels(2, 3, T, T)
    patches = patchify(picture, TOY.patch)
    assert patches.shape == (2, (T // TOY.patch) ** 2, 3 * TOY.patch**2)
    assert torch.equal(unpatchify(patches, TOY.patch), picture)


# -- networks ----------------------------------------------------------------------------------------------------


@pytest.fixture
def tiles() -> dict[str, Tensor]:
    """Six tiles of several sizes, their predictions, steps, order and received integers."""
    sizes = torch.tensor([[8, 8], [8, 5], [1, 1], [5, 8], [1, 8], [7, 6]])
    index = torch.arange(K)
    exists = (index % 64 // 8 < sizes[:, :1]) & (index % 8 < sizes[:, 1:])
    order = index.roll(17)
    values = (randn(6, K, seed=5) * 2).round() * exists[:, order]
    counts = torch.tensor([5, 3, 1, 0, 2, 4])
    ends = torch.tensor(TOY.token_dims).cumsum(0)
    values *= index < torch.cat([torch.zeros(1, dtype=torch.long), ends])[counts][:, None]
    step = step_tensor(torch.tensor([12, 20, 28, 36, 44, 52]))
    prediction = pixels(6, 3, T, T, seed=3)
    tile = (prediction + randn(6, 3, T, T) * 20).clamp(0, 255)
    given = {"tile": tile, "prediction": prediction, "sizes": sizes, "step": step}
    return {**given, "order": order, "values": values, "counts": counts}


def painted(network: Tokenizer, given: dict[str, Tensor], kind: int) -> Tensor:
    """What the received integers and the decoder make of the prediction."""
    anchored = given["prediction"] + network.restore(given["values"], given["sizes"], given["step"], given["order"])
    if not network.config.network:
        return anchored
    received = given["values"], given["counts"]
    return anchored + network.correct(*received, anchored, given["prediction"], given["step"], kind, given["order"])


def run(network: Tokenizer, given: dict[str, Tensor], kind: int) -> list[Tensor]:
    """What decoder and loop filter make of the tiles, and the prediction of the next level by them."""
    picture = painted(network, given, kind)
    share = (given["counts"] / N)[:, None, None, None].expand(-1, 3, T, T)
    finished, ahead = network.finish(picture, given["prediction"], share, given["step"], kind)
    return [picture, finished, double(finished, ahead, Level(2 * T, 2 * T, T))]


@pytest.mark.parametrize("kind", [START, FULL])
def test_a_new_network_is_the_linear_codec(kind: int, tiles: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    new = Tokenizer(TOY).eval()
    linear = Tokenizer(dataclasses.replace(TOY, network=False)).eval()
    assert not list(linear.parameters())
    assert linear.config.reach == 0 < new.config.reach
    for with_network, without in zip(run(new, tiles, kind), run(linear, tiles, kind), strict=True):
        assert torch.equal(with_network, without)


def test_restoring_is_the_inverse_of_analysing(network: Tokenizer, tiles: dict[str, Tensor]) -> None:
    """Whatever the network, the size of the tile, the step and the order: without rounding nothing is lost."""
    residual, rest = tiles["tile"] - tiles["prediction"], (tiles["sizes"], tiles["step"], tiles["order"])
    ratios = network.analyse(residual, *rest)
    assert ratios.shape == (6, K)
    for got, wanted, (h, w) in zip(network.restore(ratios, *rest), residual, tiles["sizes"].tolist(), strict=True):
        torch.testing.assert_close(got[:, :h, :w], wanted[:, :h, :w], rtol=0, atol=1e-2)
        assert not got[:, h:].any() and not got[:, :, w:].any()
    values = tiles["values"]
    torch.testing.assert_close(network.analyse(network.restore(values, *rest), *rest), values, rtol=0, atol=1e-3)


def test_the_order_says_which_coefficient_an_integer_is_of(network: Tokenizer, tiles: dict[str, Tensor]) -> None:
    sizes, step, order = tiles["sizes"], tiles["step"], tiles["order"]
    residual = tiles["tile"] - tiles["prediction"]
    straight, rolled = (network.analyse(residual, sizes, step, o) for o in (torch.arange(K), order))
    assert torch.equal(straight[:, order], rolled) and not torch.equal(straight, rolled)
    torch.testing.assert_close(straight * step[:, None], network.anchor(residual, sizes))
    one = torch.zeros(6, K)
    one[:, 5] = 3.0
    wanted = torch.zeros(6, K)
    wanted[:, order[5]] = 3 * step
    assert torch.equal(network.restore(one, sizes, step, order), network.anchor.inverse(wanted, sizes))


@pytest.mark.parametrize("kind", [START, MIDDLE, FULL])
def test_every_part_of_an_awake_network_has_an_effect(kind: int, network: Tokenizer, tiles: dict[str, Tensor]) -> None:
    linear = Tokenizer(dataclasses.replace(TOY, network=False)).eval()
    for awake, without in zip(run(network, tiles, kind), run(linear, tiles, kind), strict=True):
        assert float((awake - without).abs().max().detach()) > 0.01


def decode(network: Tokenizer, given: dict[str, Tensor], values: Tensor) -> Tensor:
    """The decoder's correction [6, 3, T, T], with nothing but `values` changed."""
    scale, cond = pixel_scale(given["step"]), condition(given["step"], FULL)
    return network.decoder(values, given["counts"], given["tile"], given["prediction"], cond, scale, given["order"])


@torch.no_grad()
def test_decoder_ignores_values_beyond_the_counts(network: Tokenizer, tiles: dict[str, Tensor]) -> None:
    ends = torch.tensor([0, *torch.tensor(TOY.token_dims).cumsum(0).tolist()])
    received = torch.arange(K) < ends[tiles["counts"]][:, None]
    noise = (randn(6, K, seed=9) * 10).round()
    clean, noisy = tiles["values"], torch.where(received, tiles["values"], noise)
    torch.testing.assert_close(decode(network, tiles, clean), decode(network, tiles, noisy), rtol=0, atol=1e-6)
    changed = (decode(network, tiles, clean) - decode(network, tiles, clean + received)).abs().amax((1, 2, 3))
    assert ((changed > 1e-5) == (tiles["counts"] > 0)).all()  # and it does look at what was received


@torch.no_grad()
def test_the_position_of_a_coefficient_matters_not_its_rank(network: Tokenizer, tiles: dict[str, Tensor]) -> None:
    """A pass with another order of coefficients finds the rows of its own coefficients in the same weights."""
    order, first = tiles["order"], TOY.token_dims[0]
    swapped = order.clone()  # the ranks of one token change places: the token stands for the same
    swapped[:first] = order[:first].flip(0)
    values = tiles["values"].clone()
    values[:, :first] = values[:, :first].flip(1)
    there = decode(network, tiles, tiles["values"])
    torch.testing.assert_close(decode(network, {**tiles, "order": swapped}, values), there, rtol=0, atol=1e-5)
    moved = (decode(network, tiles, values) - there).abs().amax((1, 2, 3))
    assert (moved > 1e-4)[tiles["values"][:, 0] != tiles["values"][:, first - 1]].any()
    shifted = (decode(network, {**tiles, "order": order.roll(1)}, tiles["values"]) - there).abs().amax((1, 2, 3))
    assert float(shifted.max()) > 1e-4


def backward_everywhere(network: Tokenizer, images: Tensor) -> None:
    """Gradients of all that is trained: by a batch with all tokens, and by one that is cut in its first pass, so that
    the light filter runs alone behind it."""
    network.train()
    for ending in (None, Cut(0, torch.ones(len(images)))):
        for result in run_passes(network, images, torch.tensor([20]), Statistics(TOY, "cpu"), 0.08, cut=ending):
            result.loss.backward()


def test_gradients_reach_every_parameter(network: Tokenizer, draw: Draw) -> None:
    backward_everywhere(network, torch.from_numpy(draw(40, 24)).permute(2, 0, 1)[None].float())
    without = [n for n, p in network.named_parameters() if p.grad is None or not float(p.grad.abs().max()) > 0]
    assert without == []
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)


def test_gradients_of_a_new_network_reach_its_zero_heads(draw: Draw) -> None:
    torch.manual_seed(0)
    network = Tokenizer(TOY)
    backward_everywhere(network, torch.from_numpy(draw(24, 24)).permute(2, 0, 1)[None].float())
    for head in zero_heads(network):
        assert head.grad is not None and float(head.grad.abs().max()) > 0


# -- loop filter -------------------------------------------------------------------------------------------------


def filtered(network: LoopFilter, picture: Tensor, prediction: Tensor) -> Tensor:
    return filtered_both(network, picture, prediction)[0]


def filtered_both(network: LoopFilter, picture: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor | None]:
    step = step_tensor(torch.tensor([30]))
    share = torch.full_like(picture, 0.5)
    with torch.no_grad():
        return network(picture, prediction, share, pixel_scale(step), condition(step, FULL))


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("name", ["picture", "prediction"])
def test_reach_of_the_filter(network: Tokenizer, axis: int, name: str) -> None:
    """What is further than `reach` from a block of even position and size changes nothing in it; what is nearer does.

    (The filter works on cells of 2 x 2 px, so of a single pixel this holds up to the border of its cell.)
    """
    reach, start, size = filter_reach(TOY.coarse_dilations), 40, 8
    given = {"picture": pixels(1, 3, 90, 90, seed=1), "prediction": pixels(1, 3, 90, 90, seed=2)}
    block = filtered(network.coarse_filter, **given).narrow(axis, start, size)
    assert reach % 2 == 0 and reach < start and reach <= TOY.reach

    def moved(first: int) -> float:
        """What a change of one row or column does to the block."""
        other = {n: t.clone() for n, t in given.items()}
        other[name].narrow(axis, first, 1).add_(60)
        return float((filtered(network.coarse_filter, **other).narrow(axis, start, size) - block).abs().max())

    assert moved(start - reach - 1) == moved(start + size + reach) == 0
    assert moved(start - 2) > 0 and moved(start + size + 1) > 0
    assert name != "picture" or moved(start - reach) > 0  # and no more than needed


@pytest.mark.parametrize(("kind", "light"), [(MIDDLE, True), (MIDDLE, False), (FULL, False)])
@pytest.mark.parametrize("size", [(30, 100), (45, 67), (9, 16)])
def test_strips_equal_the_whole(
    size: tuple[int, int], kind: int, light: bool, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    width, height = size
    level, rng = Level(width, height, TOY.tile), np.random.default_rng(0)
    counts = rng.integers(0, TOY.tokens + 1, level.tiles).astype(np.int16)
    parts = [dataclasses.replace(empty_tokens(level, TOY), counts=counts)]
    given = [pixels(1, 3, height, width, seed=s) for s in (1, 2)]
    pass_ = Pass(kind, level, 0, 0)
    whole, ahead = codec.backend.loop_filter(pass_, [28], parts, *given, light=light)
    monkeypatch.setattr(torch_backend, "BLOCK", 16)
    strips, strips_ahead = codec.backend.loop_filter(pass_, [28], parts, *given, light=light)
    assert strips.shape == (1, 3, height, width)
    torch.testing.assert_close(strips, whole, rtol=0, atol=1e-3)
    assert float((whole - given[0]).abs().max()) > 0.1  # the filter does something
    if kind == FULL:
        assert ahead is None and strips_ahead is None
    else:
        assert ahead is not None and strips_ahead is not None
        assert ahead.shape == (1, 3, 2 * height, 2 * (width + width % 2))
        torch.testing.assert_close(strips_ahead, ahead, rtol=0, atol=1e-3)
        assert float(ahead.abs().max()) > 0.1


def test_batches_of_tiles_equal_the_whole(codec: Codec, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = codec.encode(draw(60, 44), 24).tokens
    whole = codec.decode(tokens)
    monkeypatch.setattr(base, "TILES", 3)
    batches = codec.encode(draw(60, 44), 24).tokens
    torch.testing.assert_close(codec.decode(batches), whole, rtol=0, atol=1e-2)


@torch.no_grad()
def test_filter_takes_any_size(network: Tokenizer) -> None:
    for height, width in ((1, 1), (1, 9), (8, 1), (3, 5)):
        picture = pixels(1, 3, height, width)
        out, ahead = filtered_both(network.coarse_filter, picture, picture * 0.9)
        assert out.shape == picture.shape and ahead is not None
        assert double(out, ahead, Level(2 * width, 2 * height, T)).shape == (1, 3, 2 * height, 2 * width)


def test_the_filter_cannot_fall_asleep() -> None:
    """However far below zero its inner layers drift, its last layer still sees the picture and learns."""
    loop_filter = LoopFilter(3, 8, (1, 2), ahead=True)
    for layer in loop_filter.layers:
        assert isinstance(layer, torch.nn.Conv2d) and layer.bias is not None
        torch.nn.init.constant_(layer.bias, -50.0)
    picture, step = pixels(1, 3, 20, 20), step_tensor(torch.tensor([30]))
    args = (picture, picture * 0.9, torch.ones(1, 3, 20, 20), pixel_scale(step), condition(step, MIDDLE))
    loop_filter(*args)[0].square().mean().backward()
    grad = loop_filter.leave.weight.grad
    assert grad is not None and float(grad.flatten(1).std(1).min()) > 0


def test_finish_stays_within_0_to_255(network: Tokenizer) -> None:
    picture = randn(1, 3, 20, 20) * 400
    step = step_tensor(torch.tensor([50]))
    with torch.no_grad():
        out, _ = network.finish(picture, picture, torch.ones(1, 3, 20, 20), step, FULL)
    assert float(out.min()) == 0 and float(out.max()) == 255
