"""Models as ordered tokenizers, rows of symbols as batches, and the example that learns from them."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import draw_picture
from PIL import Image
from test_external import Halves

import prow
from prow import registry
from prow.ordered import check_tokenizer, decode_tiles, encode_tiles
from prow.torch import collate_tokens, tokens_from_rows

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def toys(installed: None) -> Iterator[None]:
    """The toy model as the default, and a toy tokenizer."""
    prow.register_tokenizer("halves", Halves(), sha256=hashlib.sha256(b"halves").hexdigest())
    yield
    registry._registered.clear()


# -- any model as an ordered tokenizer ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "sizes"), [("default", {"side": 24, "tokens": 200}), ("halves", {}), ("halves", {"tokens": 9})]
)
def test_one_interface_for_all_models(model: str, sizes: dict[str, int]) -> None:
    """What is below knows nothing of the model but its name."""
    tokenizer = prow.ordered_tokenizer(model, **sizes)
    check_tokenizer(tokenizer)
    tiles = np.stack([draw_picture(tokenizer.tile, tokenizer.tile, seed) for seed in range(3)])
    rows = encode_tiles(tokenizer, tiles)
    errors = []
    for length in (1, tokenizer.tokens // 4, tokenizer.tokens):
        shown = decode_tiles(tokenizer, rows[:, :length])
        errors.append(np.mean((shown.astype(float) - tiles) ** 2))
    assert errors[0] > errors[1] > errors[2]
    noise = np.random.default_rng(0).integers(0, tokenizer.alphabet, rows.shape)
    assert decode_tiles(tokenizer, noise).shape == tiles.shape  # what was sampled


def test_a_row_is_that_of_a_file(installed: None) -> None:
    tokenizer, pixels = prow.ordered_tokenizer(side=24, tokens=100), draw_picture(24, 24)
    (row,) = tokenizer.encode(pixels[None])
    assert np.array_equal(row, prow.tokenize(pixels, bytes=57, effort=1).to_array()[:100])
    flat = np.full((1, 8, 8, 3), 90, np.uint8)
    tokenizer = prow.ordered_tokenizer(side=8, tokens=4000)
    (row,) = tokenizer.encode(flat)  # has less to say
    assert row[-1] == 0 < np.count_nonzero(row) < 4000
    shown = tokenizer.decode(row[None])
    assert np.array_equal(shown[0], np.asarray(prow.decode(prow.encode(flat[0], bytes=2000, effort=1))))


@pytest.mark.parametrize(
    ("model", "sizes", "reason"),
    [
        ("halves", {"side": 24}, "side 24 came, model halves has 16"),
        ("halves", {"tokens": 18}, "tokens 18 came, wanted a whole number from 1 to 17"),
        ("default", {"side": 5000}, "side 5000 came, wanted a whole number from 1 to 4,096"),
        ("default", {"tokens": -1}, "tokens -1 came, wanted a whole number from 1 to 4,096"),
    ],
)
def test_sizes_that_will_not_do(model: str, sizes: dict[str, int], reason: str) -> None:
    with pytest.raises(prow.InputError, match=reason):
        prow.ordered_tokenizer(model, **sizes)


def test_a_sampled_row_ends_where_it_says_nothing(installed: None) -> None:
    row = prow.tokenize(draw_picture(24, 24), bytes=60).to_array()
    good = prow.tokens_from_array(row[:40], width=24, height=24)
    for wrong in ([0, 7], [400], [3, 2, 1], [-1]):
        sampled = np.append(row[:40], wrong)
        assert prow.tokens_from_array(sampled, width=24, height=24, strict=False) == good
        with pytest.raises(prow.InputError):
            prow.tokens_from_array(sampled, width=24, height=24)
    assert prow.tokens_from_array(np.array([1]), width=24, height=24, strict=False).base is None
    with pytest.raises(prow.InputError, match=r"symbols int64 \[1, 2\] came"):
        prow.tokens_from_array(np.array([[1, 2]]), width=24, height=24, strict=False)


# -- batches ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["default", "halves"])
def test_tokens_become_a_batch_and_come_back(model: str) -> None:
    samples = [prow.tokenize(draw_picture(40, 24, n), bytes=40 + 9 * n, model=model) for n in range(3)]
    lengths = [len(tokens.to_array()) for tokens in samples]
    rows = collate_tokens(samples)
    assert rows.shape == (3, max(lengths)) and rows.dtype == torch.int64
    size = {"width": 40, "height": 24, "model": model}
    assert tokens_from_rows(rows, **size) == samples
    assert tokens_from_rows(collate_tokens(samples, length=5000), **size) == samples
    short = collate_tokens(samples, length=20)
    assert short.shape == (3, 20) and torch.equal(short, rows[:, :20])
    short[:, 15] = 9999
    assert tokens_from_rows(short, strict=False, **size) == tokens_from_rows(rows[:, :15], **size)


def test_batches_that_are_refused() -> None:
    several = [prow.tokenize(draw_picture(24, 24), bytes=40, model=model) for model in ("default", "halves")]
    with pytest.raises(prow.InputError, match="tokens of vocabularies 260 and 516 came in one batch"):
        collate_tokens(several)
    with pytest.raises(prow.InputError, match="no samples came"):
        collate_tokens([])
    for rows in (torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64)):
        with pytest.raises(prow.InputError, match=re.escape(f"rows {rows.dtype} {list(rows.shape)} came, wanted")):
            tokens_from_rows(rows, width=24, height=24)


# -- the example ------------------------------------------------------------------------------------------------


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("next_token", ROOT / "examples" / "next_token.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("model", ["default", "halves"])
def test_the_example_learns_and_samples(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(4):
        Image.fromarray(draw_picture(50, 40, seed)).save(tmp_path / f"{seed}.png")
    out, options = tmp_path / "samples.png", ["--minutes", "0.03", "--count", "3", "--tokens", "12", "--side", "16"]
    example().main([str(tmp_path), "--out", str(out), "--model", model, *options])
    assert Image.open(out).size == (8 * 96, 96)
    told = capsys.readouterr().out
    assert "4 of 4 pictures tokenized" in told and re.search(r"after \d+ steps [\d.]+ bits a token of pictures", told)


def test_the_example_knows_causality() -> None:
    """Logits of a token depend on those before it alone."""
    module = example()
    torch.manual_seed(0)
    model, rows = module.NextToken(30, 10, width=16, layers=2).eval(), torch.randint(30, (2, 10))
    changed = rows.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 30
    with torch.no_grad():
        a, b = model(rows), model(changed)
    assert a.shape == (2, 10, 30)
    torch.testing.assert_close(a[:, :7], b[:, :7])
    assert not torch.allclose(a[:, 7:], b[:, 7:])


def test_the_example_wants_pictures(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no pictures, wanted files that end in .jpeg, .jpg, .png, .webp"):
        example().main([str(tmp_path)])
