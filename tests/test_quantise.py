"""Quantising and prefix lengths against brute force: what the encoder calls best is best."""

from __future__ import annotations

import itertools

import pytest
import torch

from prow.networks.quantise import MAX_MAGNITUDE, Costs, choose_prefix, prefix_mask, quantise


def random_costs(generator: torch.Generator, width: int) -> Costs:
    """[1, width]: from nearly free zeros to zeros that are dearer than a one."""
    draws = torch.rand(3, 1, width, generator=generator)
    return Costs(zero=0.01 + 3 * draws[0], one=0.5 + 11 * draws[1], more=0.05 + 7 * draws[2])


def lagrangian(ratios: torch.Tensor, values: torch.Tensor, costs: Costs, kappa: float) -> torch.Tensor:
    """(coefficient - integer)**2 + kappa * bits, written down once more, in float64."""
    zero, one, more = (c.double() for c in (costs.zero, costs.one, costs.more))
    magnitude = values.double().abs()
    bits = torch.where(magnitude == 0, zero, one + more * (magnitude - 1))
    return (ratios.double() - values.double()) ** 2 + kappa * bits


@pytest.mark.parametrize("kappa", [0.0, 0.05, 0.08, 0.14])
def test_quantise_is_the_optimum(kappa: float) -> None:
    generator = torch.Generator().manual_seed(3)
    costs = random_costs(generator, 400)
    ratios = torch.randn(8, 400, generator=generator) * torch.tensor([0.3, 0.6, 1, 2, 4, 8, 16, 30])[:, None]
    values, gains = quantise(ratios, costs, kappa)
    every = torch.arange(-130, 131)[:, None, None].expand(-1, *ratios.shape)
    best = lagrangian(ratios, every, costs, kappa).amin(0)
    assert torch.all(values == values.round())
    torch.testing.assert_close(lagrangian(ratios, values, costs, kappa), best, rtol=1e-5, atol=1e-5)
    nothing = ratios.double().square()
    torch.testing.assert_close(gains.double(), best - nothing, rtol=1e-4, atol=1e-3)


def test_quantise_keeps_signs_and_has_a_dead_zone() -> None:
    costs = Costs(torch.tensor([[0.1]]), torch.tensor([[6.0]]), torch.tensor([[1.5]]))
    ratios = torch.tensor([[-2.2], [-0.6], [0.0], [0.6], [0.9], [2.2]])
    assert quantise(ratios, costs, 0.08)[0].flatten().tolist() == [-2, 0, 0, 0, 1, 2]
    assert quantise(ratios, costs, 0.0)[0].flatten().tolist() == [-2, -1, 0, 1, 1, 2]


def test_quantise_stays_within_the_alphabet() -> None:
    costs = Costs(torch.tensor([[0.1]]), torch.tensor([[1.0]]), torch.tensor([[0.05]]))
    values, _ = quantise(torch.tensor([[1e6], [-40_000.0], [32_766.9]]), costs, 0.08)
    assert values.flatten().tolist() == [MAX_MAGNITUDE, -MAX_MAGNITUDE, MAX_MAGNITUDE]


def test_costs_between_integers_are_linear() -> None:
    costs = Costs(torch.tensor([[0.5]]), torch.tensor([[4.0]]), torch.tensor([[2.0]]))
    values = torch.tensor([[0.0], [0.5], [1.0], [-1.0], [1.5], [-3.0]])
    assert costs.bits(values).flatten().tolist() == [0.5, 2.25, 4.0, 4.0, 5.0, 8.0]


# -- prefixes ----------------------------------------------------------------------------------------------------

ENDS = torch.tensor([2, 5, 6, 10])  # rank after each of 4 tokens


def prefix_price(
    gains: torch.Tensor, count: int, go: torch.Tensor, stop: torch.Tensor, kappa: float, last: int
) -> float:
    """The Lagrangian of one tile that sends `count` tokens, counted flag by flag."""
    price = float(gains[: [0, *ENDS.tolist()][count]].sum()) + kappa * float(go[:count].sum())
    return price + (kappa * float(stop[count]) if count < last else 0.0)


@pytest.mark.parametrize("kappa", [0.0, 0.08, 0.2])
def test_choose_prefix_is_the_optimum(kappa: float) -> None:
    generator = torch.Generator().manual_seed(4)
    tiles = 300
    gains = torch.randn(tiles, 10, generator=generator) * 0.5 + 0.1
    go, stop = (torch.rand(tiles, 4, generator=generator) * 6 for _ in range(2))
    last = torch.randint(1, 5, (tiles,), generator=generator)
    for tile in range(tiles):
        gains[tile, ENDS[last[tile] - 1] :] = 0  # coefficients that the tile lacks
    counts = choose_prefix(gains, ENDS, go, stop, kappa, last)
    assert torch.all(counts <= last)
    assert set(counts.tolist()) == {0, 1, 2, 3, 4}
    for tile in range(tiles):
        limit = int(last[tile])
        prices = [prefix_price(gains[tile], c, go[tile], stop[tile], kappa, limit) for c in range(limit + 1)]
        assert prices[int(counts[tile])] == pytest.approx(min(prices), abs=1e-5)


def test_choose_prefix_takes_flags_that_all_tiles_share() -> None:
    gains = torch.tensor([[-9.0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0.0] * 9 + [-9.0], [1.0] * 10])
    go, stop = torch.full((1, 4), 0.5), torch.full((1, 4), 1.0)
    counts = choose_prefix(gains, ENDS, go, stop, 0.1, torch.tensor([4, 4, 4]))
    assert counts.tolist() == [1, 4, 0]


def test_a_tile_at_its_last_token_pays_no_stop_flag() -> None:
    gains = torch.tensor([[-1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] * 2)
    go, stop = torch.full((1, 4), 0.1), torch.tensor([[0.1, 30.0, 30.0, 30.0]])
    assert choose_prefix(gains, ENDS, go, stop, 1.0, torch.tensor([1, 2])).tolist() == [1, 2]


def test_the_mask_of_a_prefix_keeps_its_tokens_and_no_more() -> None:
    mask = prefix_mask(torch.arange(5), ENDS, 10)
    assert mask.dtype == torch.bool
    kept = torch.arange(1, 11).repeat(5, 1) * mask
    for count, row in enumerate(kept.tolist()):
        end = [0, 2, 5, 6, 10][count]
        assert row == [*range(1, end + 1), *itertools.repeat(0, 10 - end)]
