"""Tokens as a sequence, and as one row of symbols: in stream order, nothing lost, nothing used that is not said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conftest import TOY, Draw
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import prow
from prow.entropy.check import check_tokens
from prow.entropy.model import StreamSpec
from prow.entropy.reader import read
from prow.entropy.tables import MAX_MAGNITUDE
from prow.entropy.writer import write
from prow.errors import InputError, ModelError
from prow.format import sequence
from prow.format.sequence import BYTE, ESCAPE, NEXT, PAD, STOP, VOCABULARY
from prow.format.tokens import PassTokens, Token, Tokens
from prow.registry import ModelFile

WIDTH, HEIGHT = 21, 13  # px: tiles of several sizes
ENDS = [0, *np.cumsum(TOY.token_dims)]
TIMES = settings(max_examples=60, deadline=None)


def draw_tokens(
    model: ModelFile, seed: int, width: int = WIDTH, height: int = HEIGHT, largest: int = 300, share: float = 0.5
) -> Tokens:
    """Tokens at random that a stream can say; `share` of the passes has some."""
    rng, parts, spec = np.random.default_rng(seed), [], StreamSpec(width, height, model)
    for pass_ in spec.passes:
        layout, tiles = model.layout(pass_), pass_.level.tiles
        counts = np.minimum(rng.geometric(0.4, tiles) - 1, layout.last) * (rng.random() < share)
        values = rng.laplace(0, rng.choice([0.3, 2, largest]), (tiles, model.config.coefficients)).round()
        values = values.clip(-MAX_MAGNITUDE, MAX_MAGNITUDE) * layout.sent(counts)
        parts.append(PassTokens(counts.astype(np.int16), values.astype(np.int16)))
    return dataclasses.replace(spec.empty(int(rng.integers(64))), passes=tuple(parts))


drawn = st.builds(
    lambda seed, width, height, largest, share: (seed, width, height, largest, share),
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([1, 40, 300, 40_000]),
    st.sampled_from([0.0, 0.3, 0.8, 1.0]),
)


@pytest.fixture(scope="module")
def tokens(toy_model: ModelFile) -> Tokens:
    return draw_tokens(toy_model, 3, share=0.8)


# -- a sequence -----------------------------------------------------------------------------------------------------


@TIMES
@given(drawn)
def test_iteration_is_in_stream_order(toy_model: ModelFile, key: tuple) -> None:
    """Pass by pass, round by round, tile by tile: and all of a tile's integers come, in their order."""
    tokens = draw_tokens(toy_model, *key)
    some = list(tokens)
    places = [(token.pass_index, token.token_index, token.tile) for token in some]
    assert places == sorted(set(places)) and len(some) == len(tokens)
    again = [np.zeros_like(part.values) for part in tokens.passes]
    counts = [np.zeros_like(part.counts) for part in tokens.passes]
    for index, tile, token, integers in some:
        assert len(integers) == TOY.token_dims[token]
        again[index][tile, ENDS[token] : ENDS[token + 1]] = integers
        counts[index][tile] += 1
    passes = tuple(PassTokens(*part) for part in zip(counts, again, strict=True))
    assert dataclasses.replace(tokens, passes=passes) == tokens


def test_one_token(tokens: Tokens) -> None:
    some = list(tokens)
    for place in (0, 1, len(some) // 2, len(some) - 1, -1, -len(some)):
        one = tokens[place]
        assert isinstance(one, Token) and one[:3] == some[place][:3]
        assert np.array_equal(one.integers, some[place].integers)
    for place in (len(some), -len(some) - 1):
        with pytest.raises(IndexError):
            tokens[place]


@TIMES
@given(drawn, st.integers(0, 400))
def test_a_slice_is_the_first_tokens(toy_model: ModelFile, key: tuple, length: int) -> None:
    tokens = draw_tokens(toy_model, *key)
    cut = tokens[:length]
    check_tokens(cut, toy_model)
    assert len(cut) == min(length, len(tokens))
    for mine, its in zip(cut, tokens, strict=False):
        assert mine[:3] == its[:3] and np.array_equal(mine.integers, its.integers)


def test_slices_count_as_those_of_lists(tokens: Tokens) -> None:
    length = len(tokens)
    assert length > 20
    assert tokens[:] == tokens[: length + 5] == tokens[0::1] == tokens
    assert tokens[:-3] == tokens[: length - 3] != tokens
    assert len(tokens[:0]) == 0 and tokens[:0].base == tokens.base
    assert tokens[:9][:5] == tokens[:5]


@pytest.mark.parametrize(
    ("key", "came"), [(slice(3, 9), "from 3 by 1"), (slice(None, None, 2), "from 0 by 2"), (slice(-2, None), "by 1")]
)
def test_other_slices_are_refused(tokens: Tokens, key: slice, came: str) -> None:
    with pytest.raises(InputError, match=f"a slice from .*{came[-4:]} came, wanted one from 0 by 1"):
        tokens[key]


@TIMES
@given(drawn, st.integers(0, 60))
def test_a_slice_can_be_written_and_read(toy_model: ModelFile, key: tuple, length: int) -> None:
    cut = draw_tokens(toy_model, *key)[:length]
    assert read(write(cut, toy_model), StreamSpec(cut.width, cut.height, toy_model)) == cut


def test_a_cut_file_has_the_first_tokens(installed: None, draw: Draw) -> None:
    """All of all rounds but the last, of which each token may be there in part."""
    data = prow.encode(draw(37, 29), bytes=400)
    whole = prow.api.read_tokens(data)
    for size in (30, 60, 150, 300):
        some = prow.api.read_tokens(data[:size])
        last = some[-1]
        rounds = [(token.pass_index, token.token_index) for token in some]
        before = rounds.index((last.pass_index, last.token_index))
        assert 0 < before < len(some) < len(whole)
        assert some[:before] == whole[:before]


def test_a_slice_decodes(installed: None, draw: Draw) -> None:
    tokens = prow.tokenize(draw(37, 29), bytes=300)
    pictures = [prow.detokenize(tokens[:length]) for length in (0, 1, 12, len(tokens))]
    assert {picture.size for picture in pictures} == {(37, 29)}
    assert len({picture.tobytes() for picture in pictures}) > 2
    assert pictures[-1] == prow.detokenize(tokens)


def test_equality_and_hash(toy_model: ModelFile, tokens: Tokens) -> None:
    again = draw_tokens(toy_model, 3, share=0.8)
    assert tokens == again and hash(tokens) == hash(again) and len({tokens, again}) == 1
    others = [
        dataclasses.replace(tokens, base=(tokens.base or 0) ^ 1),
        dataclasses.replace(tokens, width=tokens.width + 1),
        dataclasses.replace(tokens, model_id=1),
        dataclasses.replace(tokens, passes=tokens.passes[:-1]),
        tokens[:-1],
    ]
    assert all(other != tokens for other in others) and len({tokens, *others}) == 6
    assert tokens != "tokens" and tokens != list(tokens)


def test_a_picture_without_tokens_is_true(toy_model: ModelFile) -> None:
    nothing = StreamSpec(WIDTH, HEIGHT, toy_model).empty(None)
    assert len(nothing) == 0 and nothing and list(nothing) == []


def test_tokens_made_by_hand_have_a_length_and_say_what_they_lack(tokens: Tokens) -> None:
    bare = dataclasses.replace(tokens, token_dims=())
    assert len(bare) == len(tokens) and bare == tokens
    for use in (lambda: bare[:3], lambda: bare[0], lambda: list(bare), lambda: bare.to_array()):
        with pytest.raises(InputError, match="tokens without token_dims came"):
            use()


# -- what no stream says --------------------------------------------------------------------------------------------


def changed(tokens: Tokens, index: int, **arrays: np.ndarray) -> Tokens:
    parts = list(tokens.passes)
    parts[index] = dataclasses.replace(parts[index], **arrays)
    return dataclasses.replace(tokens, passes=tuple(parts))


def with_value(tokens: Tokens, index: int, tile: int, rank: int, value: int) -> Tokens:
    values = tokens.passes[index].values.astype(np.int32)
    values[tile, rank] = value
    return changed(tokens, index, values=values)


def bad_tokens(tokens: Tokens) -> dict[str, Tokens]:
    """By what the message says."""
    last = len(tokens.passes) - 1
    part, counts = tokens.passes[last], tokens.passes[last].counts
    (tile, *_), count = np.flatnonzero(counts), int(counts[np.flatnonzero(counts)[0]])
    beyond = with_value(tokens, last, tile, ENDS[count], 7)
    lost = np.append(counts[:-1], TOY.tokens + 1).astype(np.int16)
    negative = np.append(counts[:-1], -1).astype(np.int16)
    place = rf"pass {last}, tile {tile}"
    return {
        f"{place}: 7 at rank {ENDS[count]} came, wanted 0 where its {count} tokens": beyond,
        f"{place}: 32768 at rank 0 came, wanted -32767 to 32767": with_value(tokens, last, tile, 0, 32_768),
        rf"pass {last}, tile {len(counts) - 1}: {TOY.tokens + 1} tokens came, wanted 0 to": changed(
            tokens, last, counts=lost
        ),
        rf"pass {last}, tile {len(counts) - 1}: -1 tokens came": changed(tokens, last, counts=negative),
        rf"pass {last}: counts int16 \[{len(counts) - 1}\] came, wanted integers": changed(
            tokens, last, counts=counts[:-1]
        ),
        rf"pass {last}: values float64 \[": changed(tokens, last, values=part.values.astype(float)),
        rf"pass {last}: values list came": changed(tokens, last, values=part.values.tolist()),
        rf"{last} passes came, 21 x 13 px of model toy want {last + 1}": dataclasses.replace(
            tokens, passes=tokens.passes[:-1]
        ),
        "base 64 came, wanted 0 to 63 or None": dataclasses.replace(tokens, base=64),
        "0 x 13 px came, wanted whole numbers": dataclasses.replace(tokens, width=0),
        "came without a base, wanted one": dataclasses.replace(tokens, base=None),
    }


def test_what_no_stream_says_is_refused(installed: None, toy_model: ModelFile) -> None:
    """Wherever tokens from outside are used."""
    tokens = draw_tokens(toy_model, 5, share=1)
    check_tokens(tokens, toy_model)
    for reason, bad in bad_tokens(tokens).items():
        with pytest.raises(InputError, match=reason):
            write(bad, toy_model)
        with pytest.raises(InputError, match=reason):
            prow.detokenize(bad)


def test_integers_that_a_small_tile_lacks_are_refused(toy_model: ModelFile) -> None:
    """Though they stand in a token that it has."""
    tokens = StreamSpec(5, 5, toy_model).empty(32)
    layout = toy_model.layout(StreamSpec(5, 5, toy_model).passes[0])
    tokens.passes[0].counts[0] = count = layout.last[0]
    (rank, *_) = np.flatnonzero(~layout.exists[0, : ENDS[count]])
    check_tokens(tokens, toy_model)
    tokens.passes[0].values[0, rank] = 1
    with pytest.raises(InputError, match=f"1 at rank {rank} came, wanted 0"):
        check_tokens(tokens, toy_model)


def test_other_things_than_tokens_are_refused(installed: None) -> None:
    with pytest.raises(InputError, match="tokens of type bytes came"):
        prow.detokenize(b"tokens")  # type: ignore[arg-type]


# -- one row of symbols ---------------------------------------------------------------------------------------------


@TIMES
@given(drawn, st.integers(0, 9))
def test_nothing_is_lost_in_a_row_of_symbols(toy_model: ModelFile, key: tuple, more: int) -> None:
    tokens = draw_tokens(toy_model, *key)
    row = tokens.to_array()
    assert row.dtype == np.int16 and row.min() > PAD and row.max() < VOCABULARY
    padded = tokens.to_array(len(row) + more)
    assert np.array_equal(padded[: len(row)], row) and not padded[len(row) :].any() and len(padded) == len(row) + more
    for array in (row, padded, padded.astype(np.int64)):
        again = Tokens.from_array(array, tokens.width, tokens.height, TOY)
        assert again == tokens and again.token_dims == tokens.token_dims


@TIMES
@given(drawn, st.floats(0, 1))
def test_any_row_cut_short_is_the_first_tokens(toy_model: ModelFile, key: tuple, share: float) -> None:
    """All whole ones, and then perhaps one of which the first integers are there."""
    tokens = draw_tokens(toy_model, *key)
    row = tokens.to_array()
    cut = Tokens.from_array(row[: int(share * len(row))], tokens.width, tokens.height, TOY)
    check_tokens(cut, toy_model)
    assert cut.base == (tokens.base if int(share * len(row)) else None)
    assert cut[:-1] == dataclasses.replace(tokens, base=cut.base)[: max(0, len(cut) - 1)]
    if len(cut):
        mine, its = cut[-1], tokens[len(cut) - 1]
        assert mine[:3] == its[:3]
        wrong = np.flatnonzero(mine.integers != its.integers)
        assert not len(wrong) or not mine.integers[wrong[0] :].any()


@TIMES
@given(st.lists(st.integers(0, VOCABULARY - 1), max_size=60))
def test_any_symbols_are_tokens_or_refused(toy_model: ModelFile, symbols: list[int]) -> None:
    """And what is read says the same again."""
    try:
        tokens = Tokens.from_array(np.array(symbols, int), WIDTH, HEIGHT, TOY)
    except InputError:
        return
    assert Tokens.from_array(tokens.to_array(), WIDTH, HEIGHT, TOY) == tokens
    assert len(tokens.to_array()) <= len(symbols) + 400  # a last token that is cut off is filled


def test_the_vocabulary_is_as_documented() -> None:
    """By hand: two passes of which the first has two tiles; tokens of one and two integers."""
    ends = np.array([1, 3])
    counts, values = np.array([0, 2]), np.array([[0, 0, 0], [5, -128, 300]])
    nothing = np.zeros(1, int), np.zeros((1, 3), int)
    one = np.array([1]), np.array([[127, 0, 0]])
    row = sequence.to_symbols(32, [(counts, values), nothing, one, nothing], ends)
    assert VOCABULARY == 260 and (PAD, NEXT, STOP, ESCAPE, BYTE) == (0, 1, 2, 3, 4)
    first_round, second_round = [STOP, BYTE + 128 + 5], [BYTE + 0, ESCAPE, BYTE + 129, BYTE + 44]
    assert row.tolist() == [BYTE + 32, *first_round, *second_round, NEXT, NEXT, BYTE + 255]


def test_length(tokens: Tokens) -> None:
    needed = len(tokens.to_array())
    wanted = f"length {needed - 1} came, wanted at least {needed}, which these {len(tokens)} tokens take"
    with pytest.raises(InputError, match=wanted):
        tokens.to_array(needed - 1)
    assert len(tokens[:5].to_array(needed - 1)) == needed - 1


@pytest.mark.parametrize(
    ("symbols", "reason"),
    [
        ([[40]], r"symbols int64 \[1, 1\] came, wanted integers \[N\]"),
        ([40.0], r"symbols float64 \[1\] came"),
        ([40, 260], "symbol 260 at 1 came, wanted 0 to 259"),
        ([40, -1], "symbol -1 at 1 came"),
        ([40, 130, 0, 130], "PAD at 2 came before the last symbol at 3"),
        ([NEXT], "symbol 1 at 0 came, wanted the base: 4 to 67"),
        ([68], "symbol 68 at 0 came, wanted the base"),
        ([40, ESCAPE, 130, STOP], "ESCAPE at 1 came without two BYTEs behind it"),
        ([40, 130, NEXT], "NEXT at 2 came, wanted an integer: token 0 of tile 0 in pass 0 has 3"),
        ([40, ESCAPE, 4, 4, 130, STOP], "STOP at 5 came, wanted an integer"),
        ([40, STOP, 130], "symbol at 2 came, wanted NEXT: pass 0 has no more tokens"),
        ([40, *[NEXT] * 20, 130], r"symbol 1 at \d+ came behind the last of \d+ passes"),
    ],
)
def test_bad_symbols_are_refused(symbols: list, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Tokens.from_array(np.array(symbols), 8, 8, TOY)


def test_no_symbols_are_a_picture_of_which_nothing_came(toy_model: ModelFile) -> None:
    for array in ([], [0, 0, 0]):
        tokens = Tokens.from_array(np.array(array, int), WIDTH, HEIGHT, TOY)
        assert tokens == StreamSpec(WIDTH, HEIGHT, toy_model).empty(None)
        assert len(tokens.to_array()) == 0


def test_tokens_from_array(installed: None, draw: Draw) -> None:
    tokens = prow.tokenize(draw(37, 29), bytes=300)
    row = tokens.to_array(4096)
    assert prow.tokens_from_array(row, width=37, height=29) == tokens
    assert prow.detokenize(prow.tokens_from_array(row, width=37, height=29, model="toy")) == prow.detokenize(tokens)
    with pytest.raises(ModelError, match="model 'other' came"):
        prow.tokens_from_array(row, width=37, height=29, model="other")
    for width in (0, -1, 2.5, True, 65_536):
        with pytest.raises(InputError, match="px came, wanted whole numbers from 1 to 65,535"):
            prow.tokens_from_array(row, width=width, height=29)  # type: ignore[arg-type]


def test_a_size_above_the_limit_is_refused_before_it_takes_memory(installed: None) -> None:
    with pytest.raises(InputError, match="60000 x 60000 px came, wanted at most 67,108,864 pixels"):
        prow.tokens_from_array(np.zeros(5, np.int16), width=60_000, height=60_000)


def test_tokens_from_array_refuses_what_no_file_says(installed: None) -> None:
    """A picture of one pixel has one coefficient of each channel; here come others."""
    row = np.full(1 + ENDS[-1], BYTE + 129, np.int16)
    row[0] = BYTE + 32
    with pytest.raises(InputError, match="pass 0, tile 0: "):
        prow.tokens_from_array(row, width=1, height=1)


@pytest.mark.usefixtures("installed")
def test_alpha_stands_behind_colour_in_each_pass(draw: Draw) -> None:
    image = Image.fromarray(draw(50, 34))
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    tokens = prow.tokenize(image, bytes=900)
    assert tokens.alpha is not None and len(tokens) == sum(
        int(part.counts.sum()) for part in (*tokens.passes, *tokens.alpha)
    )
    assert [token.pass_index for token in tokens] == sorted(token.pass_index for token in tokens)
    assert tokens[: len(tokens)] == tokens != prow.tokenize(image.convert("RGB"), bytes=900)
    assert prow.detokenize(tokens[:1]).mode == "RGB" and prow.detokenize(tokens[:-5]).mode == "RGBA"
    with pytest.raises(prow.InputError, match="has alpha came, wanted those of opaque colour"):
        tokens.to_array()
