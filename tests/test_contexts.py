"""The context network: its integers say what its floats learned, and what it learns saves bytes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from conftest import draw_picture
from hypothesis import given
from hypothesis import strategies as st

from format_spec.tokens import bin_of
from prow.codec import Codec
from prow.config import FULL, REFINE
from prow.contexts import PassContext, bins, position_inputs, rest_of_network
from prow.geometry import passes
from prow.stream import read, write
from prow.tables import INPUTS, to_symbols
from prow.training.contexts_fit import ContextNetwork, Observed, fit_contexts, fit_static, observe


@given(st.lists(st.integers(0, 2**31 - 1), max_size=50))
def test_bins_are_those_of_the_specification(amounts: list[int]) -> None:
    assert bins(np.array(amounts, np.int64)).tolist() == [bin_of(a) for a in amounts]


def test_inputs_are_as_many_as_the_format_says(codec: Codec) -> None:
    step = passes(100, 75, codec.config)[1]
    known = PassContext(step, 30, codec.config, codec.tables, None)
    position = position_inputs(step, 30, codec.config, codec.tables, None)
    context = known.context_inputs(np.arange(5), np.zeros(5, np.int64))
    assert position.shape[0] == codec.config.coefficients
    assert position.shape[1] + context.shape[1] == INPUTS == len(codec.tables.w1)


def test_integers_say_what_the_floats_learned(codec: Codec) -> None:
    torch.manual_seed(0)
    inputs = np.random.default_rng(0).integers(0, 12, (4000, INPUTS)).astype(np.int8)
    network = ContextNetwork(inputs)
    torch.nn.init.normal_(network.last.weight, std=0.3)
    tables = dataclasses.replace(codec.tables, **network.to_integers())
    with torch.no_grad():
        wanted = network(torch.from_numpy(inputs)).numpy()
    w1, b1, *_ = tables.weights
    found = rest_of_network(inputs.astype(np.float64) @ w1 + b1, tables)
    assert np.abs(wanted).max() > 5  # classes
    assert np.abs(found - wanted).max() < 1  # rounding is half of it


def test_a_network_of_a_bias_alone_shifts_too(codec: Codec) -> None:
    """The formula of the specification has no exception for weights of zero."""
    zeros = {n: np.zeros_like(getattr(codec.tables, n)) for n in ("w1", "w2", "w3")}
    tables = dataclasses.replace(codec.tables, **zeros, b3=np.array([3 * 2**18], np.int32))
    known = PassContext(passes(100, 75, codec.config)[1], 30, codec.config, tables, None)
    rank = np.arange(5)
    wanted = np.minimum(tables.classes[1, 30, rank].astype(int) + 3, len(tables.bank) - 1)
    assert known.classes(rank, np.zeros(5, np.int64)).tolist() == wanted.tolist()


def test_a_pass_knows_what_those_before_it_said_of_the_same_level(codec: Codec) -> None:
    """Magnitudes of the same coefficient add up, whatever its rank in either pass, to 4 at most; a new level begins
    anew."""
    config, rng = codec.config, np.random.default_rng(0)
    orders = [rng.permutation(config.coefficients) for _ in range(4)]
    tables = dataclasses.replace(codec.tables, order=np.stack(orders).astype(np.int32))
    plan = passes(40, 30, config)
    tile, number = 5, config.coefficients
    below, known = None, np.zeros(number, int)  # by coefficient
    for step in plan[plan[0].depth - 1 : plan[0].depth + 4]:  # half resolution, full resolution, three refining passes
        context = PassContext(step, step.step_index(20), config, tables, below, watch=True)
        values = rng.integers(-3, 4, number) * (rng.random(number) < 0.3)
        context.update(np.arange(number), np.full(number, tile), to_symbols(values)[0])
        order = orders[step.kind]
        if below is None or step.kind == FULL:
            known[:] = 0
        known[order] = np.minimum(known[order] + np.minimum(np.abs(values), 4), 4)
        held = context.held()
        assert held[tile, :-1].tolist() == known[order].tolist()
        assert not held[:, -1].any() and not np.delete(held, tile, axis=0).any()
        if step.kind == REFINE:
            assert (held != context.magnitudes).any()
            assert context.below_magnitudes.tolist() == below.held().tolist()
        below = context
    assert known.max() == 4


def test_what_is_known_of_a_coefficient_reaches_the_network(codec: Codec) -> None:
    """The same coefficient in the pass before is the first of those below."""
    config, plan = codec.config, passes(40, 30, codec.config)
    full = plan[plan[0].depth]
    assert full.kind == FULL
    contexts, before = [], None
    for step in (full, *plan[plan[0].depth + 1 : plan[0].depth + 3]):
        context = PassContext(step, 20, config, codec.tables, before, watch=True)
        before = context
        contexts.append(context)
        rank = context.rank_of[config.tile + 2]  # of a coefficient inside of the tile
        inputs = context.context_inputs(np.array([rank]), np.array([3]))[0]
        context.update(np.array([rank]), np.array([3]), to_symbols(np.array([2]))[0])
        assert inputs[24] == min(2 * (len(contexts) - 1), 4)


def test_sums_of_the_network_are_exact(codec: Codec) -> None:
    """The largest numbers that the format allows, against Python's integers."""
    rng = np.random.default_rng(0)
    hidden = 64
    w2, w3 = (rng.choice([-(2**15), 2**15 - 1, 12345], shape).astype(np.int16) for shape in ((hidden, hidden), hidden))
    b2, b3 = (rng.choice([-(2**31), 2**31 - 1], n).astype(np.int32) for n in (hidden, 1))
    w1, b1 = np.zeros((INPUTS, hidden), np.int16), np.zeros(hidden, np.int32)
    tables = dataclasses.replace(codec.tables, w1=w1, b1=b1, w2=w2, b2=b2, w3=w3, b3=b3)
    first = rng.integers(-(2**22), 2**23, (20, hidden))
    found = rest_of_network(first.astype(np.float64), tables)
    for row, shift in zip(first.tolist(), found.tolist(), strict=True):
        p = [min(max(x >> 6, 0), 2**15 - 1) for x in row]
        columns = w2.T.tolist()
        q = [sum(a * b for a, b in zip(p, c, strict=True)) + bias for c, bias in zip(columns, b2.tolist(), strict=True)]
        q = [min(max(x >> 12, 0), 2**15 - 1) for x in q]
        assert shift == (sum(a * b for a, b in zip(q, w3.tolist(), strict=True)) + int(b3[0]) + 2**17) >> 18


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Half of each is flat: what a context model can learn from."""
    found = []
    for seed in range(12):
        pixels = draw_picture(72, 56, seed)
        pixels[:, :36] = pixels[:, :36].mean((0, 1))
        found.append(pixels)
    return found


def test_contexts_save_bytes(codec: Codec, pictures: list[np.ndarray]) -> None:
    torch.manual_seed(0)
    config = codec.config
    levels = passes(72, 56, config)[0].depth + 1
    targets = [codec.targets(pixels, levels) for pixels in pictures]
    tokens = [
        codec.encode(p, b, targets=t).tokens for p, t in zip(pictures, targets, strict=True) for b in (16, 22, 28)
    ]
    linear = dataclasses.replace(codec.tables, w3=np.zeros_like(codec.tables.w3))
    observed = Observed.join([observe(t, config, linear) for t in tokens[:24]])
    static = fit_static(linear, observed)
    contexts = fit_contexts(static, observed, epochs=40)
    sizes = {}
    for name, tables in (("static", static), ("contexts", contexts)):
        streams = [write(t, config, tables) for t in tokens[24:]]
        sizes[name] = sum(map(len, streams))
        for t, stream in zip(tokens[24:], streams, strict=True):
            received = read(stream, t.width, t.height, t.model_id, config, tables)
            for a, b in zip(received.passes, t.passes, strict=True):
                assert np.array_equal(a.values, b.values)
    assert sizes["contexts"] < 0.95 * sizes["static"]


def test_what_is_observed_does_not_depend_on_the_network(codec: Codec, pictures: list[np.ndarray]) -> None:
    """A network is fitted to what was observed with tables that have none yet."""
    tokens = codec.encode(pictures[0], 22).tokens
    zeros = {n: np.zeros_like(getattr(codec.tables, n)) for n in ("w3", "b3")}
    shifting = dataclasses.replace(codec.tables, **zeros | {"b3": np.array([2**18], np.int32)})
    one, other = (observe(tokens, codec.config, t) for t in (dataclasses.replace(codec.tables, **zeros), shifting))
    assert np.array_equal(one.inputs, other.inputs)
    assert one.inputs[:, 21:30].any() and one.inputs[:, 44:51].any()  # magnitudes near and below


def test_thinning_leaves_each_pass_its_share(codec: Codec) -> None:
    kind, index = np.repeat([0, 1, 1], [5, 100, 900]), np.repeat([30, 27, 30], [5, 100, 900])
    order = np.random.default_rng(0).permutation(1005)
    integers = np.stack([kind, index, np.arange(1005), np.zeros(1005)], axis=1)[order].astype(np.int16)
    inputs = integers[:, 2:3].copy()
    flags = np.zeros((3, 7), np.int16)
    found = Observed(integers, inputs, flags).thinned(np.random.default_rng(1), 50)
    assert [np.sum((found.integers[:, :2] == pair).all(1)) for pair in ((0, 30), (1, 27), (1, 30))] == [5, 50, 50]
    assert np.array_equal(found.integers[:, 2], found.inputs[:, 0])  # rows still belong together
    assert len(np.unique(found.inputs)) == 105 and len(found.flags) == 3
