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
from prow.coding.codec import Codec, Wanted
from prow.entropy.context_model import PassContext, bins, position_inputs, rest_of_network
from prow.entropy.model import Model, StreamSpec
from prow.entropy.reader import read
from prow.entropy.tables import input_count, to_symbols
from prow.entropy.writer import write
from prow.format.config import CONFIGS, FULL, REFINE, STEPS
from prow.format.geometry import passes
from prow.training.tables_fit import ContextNetwork, Observed, fit_contexts, fit_static, observe

INPUTS = input_count(CONFIGS["toy"])


def with_tables(model: Model, **changes: np.ndarray) -> Model:
    """A model with some other tables."""
    return Model(model.config, dataclasses.replace(model.tables, **changes))


@given(st.lists(st.integers(0, 2**31 - 1), max_size=50))
def test_bins_are_those_of_the_specification(amounts: list[int]) -> None:
    assert bins(np.array(amounts, np.int64)).tolist() == [bin_of(a) for a in amounts]


def test_inputs_are_as_many_as_the_format_says(codec: Codec) -> None:
    model = codec.model
    pass_ = passes(100, 75, model.config)[1]
    known = PassContext(pass_, 30, model, None)
    position = position_inputs(pass_, 30, model, None)
    context = known.context_inputs(np.arange(5), np.zeros(5, np.int64))
    assert position.shape[0] == model.config.coefficients
    assert position.shape[1] + context.shape[1] == INPUTS == len(model.tables.w1) == 54


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_inputs_say_which_channel_an_integer_is_of(channels: int, codec: Codec) -> None:
    """Of pictures with any number of channels; the others say the same."""
    toy = codec.model.config
    last = channels * toy.tile**2 - sum(toy.token_dims[:-2])
    config = dataclasses.replace(toy, channels=channels, token_dims=(*toy.token_dims[:-2], last))
    assert config.coefficients == channels * toy.tile**2 and input_count(config) == INPUTS + channels - 3
    k = config.coefficients
    orders = np.stack([np.random.default_rng(kind).permutation(k) for kind in range(4)]).astype(np.int32)
    classes = np.zeros((4, STEPS, k), np.uint8)
    model = Model(config, dataclasses.replace(codec.model.tables, order=orders, classes=classes))
    pass_ = passes(20, 20, config)[1]
    position = position_inputs(pass_, 30, model, None)
    told = position[:, 10 : 10 + channels]
    assert np.array_equal(told.argmax(1), orders[pass_.kind] // toy.tile**2) and np.all(told.sum(1) == 1)
    context = PassContext(pass_, 30, model, None).context_inputs(np.arange(5), np.zeros(5, np.int64))
    assert position.shape[1] + context.shape[1] == input_count(config)


def test_integers_say_what_the_floats_learned(codec: Codec) -> None:
    torch.manual_seed(0)
    inputs = np.random.default_rng(0).integers(0, 12, (4000, INPUTS)).astype(np.int8)
    network = ContextNetwork(inputs)
    torch.nn.init.normal_(network.last.weight, std=0.3)
    tables = dataclasses.replace(codec.model.tables, **network.to_integers())
    with torch.no_grad():
        wanted = network(torch.from_numpy(inputs)).numpy()
    w1, b1, *_ = tables.weights
    found = rest_of_network(inputs.astype(np.float64) @ w1 + b1, tables)
    assert np.abs(wanted).max() > 5  # classes
    assert np.abs(found - wanted).max() < 1  # rounding is half of it


def test_a_network_of_a_bias_alone_shifts_too(codec: Codec) -> None:
    """The formula of the specification has no exception for weights of zero."""
    zeros = {n: np.zeros_like(getattr(codec.model.tables, n)) for n in ("w1", "w2", "w3")}
    model = with_tables(codec.model, **zeros, b3=np.array([3 * 2**18], np.int32))
    pass_ = passes(100, 75, model.config)[1]
    known = PassContext(pass_, 30, model, None)
    rank, tables = np.arange(5), model.tables
    wanted = np.minimum(tables.classes[1, pass_.step_index(30), rank].astype(int) + 3, len(tables.bank) - 1)
    assert known.classes(rank, np.zeros(5, np.int64)).tolist() == wanted.tolist()


def test_a_pass_knows_what_those_before_it_said_of_the_same_level(codec: Codec) -> None:
    """Magnitudes of the same coefficient add up, whatever its rank in either pass, to 4 at most; a new level begins
    anew."""
    config, rng = codec.model.config, np.random.default_rng(0)
    orders = [rng.permutation(config.coefficients) for _ in range(4)]
    model = with_tables(codec.model, order=np.stack(orders).astype(np.int32))
    plan = passes(40, 30, config)
    tile, number, full = 5, config.coefficients, plan[0].octaves
    before, known = None, np.zeros(number, int)  # by coefficient
    for pass_ in plan[full - 1 : full + 4]:  # half resolution, full resolution, three refining passes
        context = PassContext(pass_, 20, model, before, watch=True)
        values = rng.integers(-3, 4, number) * (rng.random(number) < 0.3)
        context.update(np.arange(number), np.full(number, tile), to_symbols(values)[0])
        order = orders[pass_.kind]
        if before is None or pass_.kind == FULL:
            known[:] = 0
        known[order] = np.minimum(known[order] + np.minimum(np.abs(values), 4), 4)
        held = context.held()
        assert held[tile, :-1].tolist() == known[order].tolist()
        assert not held[:, -1].any() and not np.delete(held, tile, axis=0).any()
        if pass_.kind == REFINE:
            assert (held != context.magnitudes).any()
            assert context.magnitudes_before.tolist() == before.held().tolist()
        before = context
    assert known.max() == 4


def test_what_is_known_of_a_coefficient_reaches_the_network(codec: Codec) -> None:
    """The same coefficient in the pass before is the first of those there."""
    config, plan = codec.model.config, passes(40, 30, codec.model.config)
    full = plan[plan[0].octaves]
    assert full.kind == FULL
    contexts, before = [], None
    for pass_ in (full, *plan[plan[0].octaves + 1 : plan[0].octaves + 3]):
        context = PassContext(pass_, 20, codec.model, before, watch=True)
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
    tables = dataclasses.replace(codec.model.tables, w1=w1, b1=b1, w2=w2, b2=b2, w3=w3, b3=b3)
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
    spec = StreamSpec(72, 56, codec.model)
    levels = spec.passes[0].octaves + 1
    targets = [codec.backend.targets(pixels, levels) for pixels in pictures]
    wanted = [Wanted(base, target) for target in targets for base in (16, 22, 28)]
    tokens = [coded.tokens for coded in codec.encode_many((72, 56), wanted)]
    linear = with_tables(codec.model, w3=np.zeros_like(codec.model.tables.w3))
    observed = Observed.join([observe(t, linear) for t in tokens[:24]])
    static = fit_static(linear.tables, observed)
    contexts = fit_contexts(static, observed, epochs=40)
    sizes = {}
    for name, tables in (("static", static), ("contexts", contexts)):
        model = Model(spec.model.config, tables)
        streams = [write(t, model) for t in tokens[24:]]
        sizes[name] = sum(map(len, streams))
        for t, stream in zip(tokens[24:], streams, strict=True):
            assert read(stream, StreamSpec(72, 56, model)).same_as(t)
    assert sizes["contexts"] < 0.95 * sizes["static"]


def test_what_is_observed_does_not_depend_on_the_network(codec: Codec, pictures: list[np.ndarray]) -> None:
    """A network is fitted to what was observed with tables that have none yet."""
    tokens = codec.encode(pictures[0], 22).tokens
    zeros = {n: np.zeros_like(getattr(codec.model.tables, n)) for n in ("w3", "b3")}
    shifting = with_tables(codec.model, **zeros | {"b3": np.array([2**18], np.int32)})
    one, other = (observe(tokens, model) for model in (with_tables(codec.model, **zeros), shifting))
    assert np.array_equal(one.inputs, other.inputs)
    assert one.inputs[:, 21:30].any() and one.inputs[:, 44:51].any()  # magnitudes near and before


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
