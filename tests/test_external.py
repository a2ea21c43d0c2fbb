"""Ordered tokenizers as models: every function of prow works with them, and what they lack is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_picture, psnr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import prow
import prow.pillow  # noqa: F401 - Image.open reads prow files
from format_spec import VECTORS, make_external
from format_spec.external import decode_external
from format_spec.model_file import Refused
from format_spec.reader import Violation
from prow import registry
from prow.api import read_tokens
from prow.coders import work
from prow.coding.tiles import cut, join
from prow.entropy.tables import TOTAL
from prow.external.model import ExternalModel, external_id
from prow.external.tables import fit
from prow.format import container, sequence
from prow.format.limits import TILE_PIXEL
from prow.format.tiling import starts, tile_count
from prow.ordered import OrderedTokenizer, check_tokenizer
from prow.progress import told_to
from prow.search.allocate import in_order_of_gain

GOLDEN = json.loads(make_external.INDEX.read_text())
GRID = 4  # cells along a side of a tile of `Halves`


class Halves:
    """A toy: mean colours of parts of a tile, the whole first, then cell by cell."""

    tile, tokens, alphabet = 16, 1 + GRID**2, 512

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        cells = tiles.reshape(len(tiles), GRID, 4, GRID, 4, 3).mean((2, 4)).reshape(len(tiles), -1, 3)
        colours = np.concatenate([cells.mean(1, keepdims=True), cells], axis=1) // 32
        return colours.astype(int) @ [64, 8, 1]

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        known = np.concatenate([tokens[:, 1:], np.repeat(tokens[:, :1], self.tokens - tokens.shape[1], axis=1)], axis=1)
        colours = np.stack([known // 64, known // 8 % 8, known % 8], axis=2) * 32 + 16
        cells = colours.reshape(len(tokens), GRID, 1, GRID, 1, 3)
        return np.broadcast_to(cells, (len(tokens), GRID, 4, GRID, 4, 3)).reshape(-1, 16, 16, 3).astype(np.uint8)


SHA256 = hashlib.sha256(b"halves").hexdigest()


@pytest.fixture(autouse=True)
def halves() -> Iterator[ExternalModel]:
    prow.register_tokenizer("halves", Halves(), sha256=SHA256, description="a toy")
    model = registry.find("halves")
    assert isinstance(model, ExternalModel)
    yield model
    registry._registered.clear()
    registry.forget()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return draw_picture(70, 50)


# -- the public functions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(70, 50), (16, 16), (5, 40), (1, 1)])
@pytest.mark.parametrize("letterbox", [False, True])
def test_any_picture_becomes_a_file_of_the_size_asked_for(size: tuple[int, int], letterbox: bool) -> None:
    pixels = draw_picture(*size)
    for profile in ("file", "bare"):
        data = prow.encode(pixels, bytes=40, model="halves", letterbox=letterbox, profile=profile)
        tiles = tile_count(*size, 16, letterbox=letterbox)
        assert len(data) == 40 if tiles > 4 else len(data) <= 40
        assert np.asarray(prow.decode(data)).shape == pixels.shape


def test_more_bytes_are_a_better_picture(picture: np.ndarray) -> None:
    values = [psnr(picture, prow.decode(prow.encode(picture, bytes=n, model="halves"))) for n in (60, 120, 240, 500)]
    assert values == sorted(values) and values[-1] > values[0] + 3


def test_a_cut_file_is_a_file(picture: np.ndarray) -> None:
    data = prow.encode(picture, bytes=300, model="halves")
    lengths = []
    for n in range(12, len(data) + 1):
        if n < 16:
            with pytest.raises(prow.ModelError, match=f"{n - 12} of the 4 bytes came that name the file's model"):
                prow.decode(data[:n])
            continue
        tokens, shorter = read_tokens(data[:n]), prow.truncate(data, n) if n > 16 else b""
        assert not shorter or (len(shorter) == n and read_tokens(shorter) == tokens)
        lengths.append(len(tokens))
    assert lengths == sorted(lengths) and lengths[0] == 0
    with pytest.raises(prow.BudgetError, match="16 bytes came, at least 17 wanted"):
        prow.truncate(data, 16)


def test_inspect_and_pillow(picture: np.ndarray) -> None:
    data = prow.encode(picture, bytes=200, model="halves")
    facts = prow.inspect(data)
    assert (facts.model, facts.model_id, facts.external_id, facts.mode) == ("halves", 127, SHA256[:8], "RGB")
    assert facts.tokens_per_pass is None and facts.step is None
    facts = prow.inspect(data, tokens=True)
    assert facts.tokens_per_pass is not None and facts.step is None
    (one,) = facts.tokens_per_pass
    assert (one.kind, one.width, one.height, one.tiles, one.step) == ("tiles", 70, 50, 20, None)
    assert one.tokens == len(read_tokens(data)) > 100
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["model"] == "halves"
        image.draft(None, (8, 8))  # there is nothing smaller
        assert np.array_equal(np.asarray(image), np.asarray(prow.decode(data)))
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PROW", bytes=200, model="halves")
    assert buffer.getvalue() == data


def test_many_pictures_at_once(picture: np.ndarray) -> None:
    pictures = [picture, picture[::-1].copy(), draw_picture(33, 20)]
    files = prow.encode_many(pictures, bytes=90, model="halves")
    assert files == [prow.encode(one, bytes=90, model="halves") for one in pictures]
    files.append(prow.encode(picture, bytes=90))
    for image, data in zip(prow.decode_many(files), files, strict=True):
        assert np.array_equal(np.asarray(image), np.asarray(prow.decode(data)))


def test_quality_is_a_share_of_the_tokens(picture: np.ndarray) -> None:
    for quality, count in ((0, 1), (50, 9), (100, 17)):
        tokens = prow.tokenize(picture, quality=quality, model="halves")
        assert set(tokens.passes[0].counts.tolist()) == {count}
    assert read_tokens(prow.encode(picture, quality=50, model="halves")).passes[0].counts.tolist() == [9] * 20


def test_a_quality_in_db_is_reached(picture: np.ndarray) -> None:
    data = prow.encode(picture, psnr=18, model="halves")
    assert psnr(picture, prow.decode(data)) >= 18 > psnr(picture, prow.decode(data[:-8]))
    with pytest.raises(prow.InputError, match="psnr 60 dB came, model halves reaches"):
        prow.encode(picture, psnr=60, model="halves")


def test_tokens_are_a_sequence_and_a_row(picture: np.ndarray, halves: ExternalModel) -> None:
    tokens = prow.tokenize(picture, bytes=150, model="halves")
    first = tokens[0]
    assert (first.pass_index, first.tile, first.token_index) == (0, 0, 0) and 0 <= int(first.integers[0]) < 512
    assert len(list(tokens)) == len(tokens) and tokens[:30] == tokens[:40][:30] != tokens
    assert len({tokens, prow.tokenize(picture, bytes=150, model="halves")}) == 1
    assert np.asarray(prow.detokenize(tokens[:30])).shape == picture.shape
    row = tokens.to_array(1000)
    assert tokens.vocabulary == 516 and row.dtype == np.int32 and row.max() < 516
    assert prow.tokens_from_array(row, width=70, height=50, model="halves") == tokens
    for n in range(0, len(tokens), 7):
        assert len(prow.tokens_from_array(row[:n], width=70, height=50, model="halves")) == n - (row[:n] == 2).sum()
        assert halves.read(halves.trimmed(tokens[:n]), 70, 50) == tokens[:n]
    boxed = prow.tokenize(picture, quality=100, model="halves", letterbox=True)
    again = prow.tokens_from_array(boxed.to_array(), width=70, height=50, model="halves", letterbox=True)
    assert again == boxed != dataclasses.replace(again, external=tokens.external)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([516], "symbol 516 at 0 came, wanted 0 to 515"),
        ([4, 1], "symbol 1 at 1 came, wanted 2, or 4 and more"),
        ([3], "symbol 3 at 0 came"),
        ([4] * 18, "symbol at 17 came, wanted NEXT: pass 0 has no more tokens"),
        ([0, 4], "PAD at 0 came"),
    ],
)
def test_rows_that_say_nothing_are_refused(row: list[int], reason: str) -> None:
    with pytest.raises(prow.InputError, match=reason):
        prow.tokens_from_array(np.array(row), width=16, height=16, model="halves")


def test_tokens_that_no_file_can_say_are_refused(picture: np.ndarray) -> None:
    tokens = prow.tokenize(picture, quality=10, model="halves")
    part, external = tokens.passes[0], tokens.external
    assert external is not None
    for changed, reason in (
        ({"passes": (dataclasses.replace(part, counts=part.counts + 20),)}, "tile 0: 23 tokens came, wanted 0 to 17"),
        ({"passes": (dataclasses.replace(part, values=part.values + 1),)}, "tile 0, token 3: 1 came, wanted 0 behind"),
        ({"passes": (dataclasses.replace(part, values=part.values - 999),)}, "tile 0, token 0: .* wanted 0 to 511"),
        ({"passes": (dataclasses.replace(part, values=part.values[1:]),)}, r"values int32 \[19, 17\] came"),
        ({"passes": (part, part)}, "several passes"),
        ({"base": 32}, "a base"),
        ({"external": external._replace(alphabet=9)}, "tokens of another model"),
        ({"external": external._replace(letterbox=True)}, r"counts int16 \[20\] came, wanted integers \[1\]"),
    ):
        with pytest.raises(prow.InputError, match=reason):
            prow.detokenize(dataclasses.replace(tokens, **changed))
    with pytest.raises(prow.ModelError, match="0 of the 4 bytes"):
        prow.detokenize(dataclasses.replace(tokens, external=None))


# -- what a model lacks -----------------------------------------------------------------------------------------------


def test_what_a_model_lacks_is_refused(picture: np.ndarray) -> None:
    data = prow.encode(picture, bytes=100, model="halves")
    for call, error, reason in (
        (lambda: prow.encode(picture, bytes=99, effort=6, model="halves"), prow.InputError, "effort 6 came, model hal"),
        (lambda: prow.decode(data, style="vivid"), prow.ModelError, "style 'vivid' came, model halves has 'faithful'"),
        (lambda: prow.decode(data, octaves=1), prow.InputError, "octaves 1 came, wanted a whole number from 0 to 0"),
        (lambda: prow.encode(picture, bytes=99, letterbox=True), prow.InputError, "letterbox came, model prow-small"),
        (
            lambda: prow.encode(picture, bytes=99, model="halves", focus=[(0, 0, 9, 9)]),
            prow.InputError,
            "focus came, model halves has none",
        ),
        (lambda: prow.encode(picture, bytes=31, model="halves"), prow.BudgetError, "31 bytes came"),
        (lambda: registry.load("halves"), prow.ModelError, "model 'halves' came, installed in the package are"),
        (lambda: prow.encode(picture, bytes=99, model="wholes"), prow.ModelError, "installed are .*, halves"),
    ):
        with pytest.raises(error, match=reason):
            call()


def test_grey_and_alpha_become_rgb_and_that_is_said() -> None:
    assert prow.decode(prow.encode(draw_picture(20, 20)[:, :, 0], bytes=90, model="halves")).mode == "RGB"
    clear = np.dstack([draw_picture(20, 20), np.full((20, 20), 9, np.uint8)])
    with pytest.warns(prow.ProwWarning, match="model halves keeps no alpha: put on white"):
        data = prow.encode(clear, bytes=90, model="halves")
    assert np.asarray(prow.decode(data)).mean() > 220


def test_a_model_that_is_not_there(picture: np.ndarray) -> None:
    data = prow.encode(picture, bytes=100, model="halves")
    registry._registered.clear()
    registry.forget()
    with pytest.raises(prow.ModelError, match=f"needs the external model {SHA256[:8]}, there are none; import the wei"):
        prow.decode(data)
    facts = prow.inspect(data)
    assert (facts.model, facts.external_id, facts.tokens_per_pass) == (None, SHA256[:8], None)
    assert len(prow.truncate(data, 50)) == 50
    with Image.open(io.BytesIO(data)) as image, pytest.raises(OSError, match="needs the external model"):
        assert image.info["model"] is None
        image.load()


# -- limits, checks and cuts ------------------------------------------------------------------------------------------


def test_pixels_are_limited(picture: np.ndarray) -> None:
    data = prow.encode(picture, bytes=90, model="halves", max_pixels=3500)
    for writer in (prow.encode, prow.tokenize, lambda p, **more: prow.encode_many([p], **more)):
        with pytest.raises(prow.LimitError, match="70 x 50 px are 3,500 pixels, the limit is 3,499"):
            writer(picture, bytes=90, model="halves", max_pixels=3499)
    for reader in (prow.decode, read_tokens, lambda d, **more: prow.decode_many([d], **more)):
        with pytest.raises(prow.LimitError, match="70 x 50 px are 3,500 pixels, the limit is 3,499"):
            reader(data, max_pixels=3499)


def test_work_is_the_pixels_of_tiles_with_tokens(halves: ExternalModel) -> None:
    counts, values = np.array([1, 0, 17, 3], np.int16), np.zeros((4, 17), np.int32)
    assert work(halves, halves.tokens_of(counts, values, 32, 32)) == 3 * 16**2 * TILE_PIXEL
    assert work(halves, halves.tokens_of(counts[:1], values[:1], 32, 32, letterbox=True)) == 16**2 * TILE_PIXEL
    assert work(halves, halves.tokens_of(counts * 0, values, 32, 32)) == 0


def test_work_is_limited(picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prow.encode(picture, quality=100, model="halves")
    monkeypatch.setattr("prow.format.limits._MOST_WORK", 400_000)  # 400 symbols
    for reader in (read_tokens, prow.decode):
        with pytest.raises(prow.LimitError, match="decoding takes 0.0 s of two cores or more, the limit is 0.0 s"):
            reader(data)
    assert prow.inspect(data).tokens_per_pass is None
    with pytest.raises(prow.LimitError, match="decoding takes"):
        prow.inspect(data, tokens=True)
    few = prow.encode(picture, bytes=32, model="halves")
    assert len(read_tokens(few)) > 0
    with pytest.raises(prow.LimitError, match="decoding takes") as caught:
        prow.decode(few)
    enough = int(re.findall(r"max_pixels=(\d+)", str(caught.value))[0])
    assert prow.decode(few, max_pixels=enough).size == (70, 50)


def test_want_of_memory_is_a_limit_error(picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prow.encode(picture, bytes=90, model="halves")

    def greedy(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Halves, "encode", greedy)
    monkeypatch.setattr(Halves, "decode", greedy)
    for attempt in (lambda: prow.encode(picture, model="halves"), lambda: prow.decode(data)):
        with pytest.raises(prow.LimitError, match="70 x 50 px, 3,500 pixels, take more memory than this process"):
            attempt()


def test_block_checks_and_cuts(picture: np.ndarray) -> None:
    data = prow.encode(np.tile(picture, (6, 6, 1)), quality=100, model="halves", check="crc32")
    broken = data[:1500] + bytes([data[1500] ^ 1]) + data[1501:]
    facts = prow.inspect(broken)
    assert (facts.state, facts.check, facts.sure_bytes, facts.external_id) == ("damaged", "crc32", 1024, SHA256[:8])
    with pytest.raises(prow.DamagedError, match="behind its first 1,024 bytes"):
        prow.decode(broken)
    with pytest.warns(prow.CutWarning, match="1,024 of"):
        cut_short = prow.decode(data[:1024])
    assert np.array_equal(np.asarray(prow.decode(broken, strict=False)), np.asarray(cut_short))
    assert cut_short.info == {"state": "cut", "bytes": 1024}
    at_start = data[:12] + bytes([data[12] ^ 1]) + data[13:]  # the external id itself
    with pytest.raises(prow.ModelError, match="0 of the 4 bytes came"):
        prow.decode(at_start, strict=False)


# -- registering ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["default", "prow-small", "", "Halves", "a/b", "..", "a b", ".a", "-a", 3])
def test_names_that_will_not_do(name: str) -> None:
    with pytest.raises(prow.InputError, match="came"):
        prow.register_tokenizer(name, Halves(), sha256=SHA256)


def test_an_external_id_is_taken_once() -> None:
    with pytest.raises(prow.InputError, match="other came, but model halves has the same external id"):
        prow.register_tokenizer("other", Halves(), sha256=SHA256)
    with pytest.raises(prow.InputError, match="sha256 'abc' came, wanted 64 hexadecimal digits"):
        prow.register_tokenizer("other", Halves(), sha256="abc")


def test_what_is_no_tokenizer_is_refused() -> None:
    with pytest.raises(prow.InputError, match="a int without tile, tokens, alphabet, encode, decode came"):
        check_tokenizer(3)
    wrong = Halves()
    wrong.alphabet = 1
    with pytest.raises(prow.InputError, match="a tokenizer with alphabet 1 came, wanted a whole number from 2 to 65,5"):
        check_tokenizer(wrong)
    wrong.alphabet, wrong.tile = 512, 2
    with pytest.raises(prow.InputError, match="a tokenizer with tokens 17 came, wanted a whole number from 1 to 12"):
        check_tokenizer(wrong)
    assert isinstance(Halves(), OrderedTokenizer)


def test_what_a_tokenizer_gives_is_checked(picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Halves, "encode", lambda self, tiles: np.full((len(tiles), 17), 512))
    with pytest.raises(prow.InputError, match="a tokenizer gave 512 to 512, wanted 0 to 511"):
        prow.encode(picture, bytes=99, model="halves")
    monkeypatch.setattr(Halves, "encode", lambda self, tiles: np.zeros((len(tiles), 16)))
    with pytest.raises(prow.InputError, match=r"gave float64 \[8, 16\], wanted integers \[8, 17\]"):
        prow.encode(picture, bytes=99, model="halves")
    monkeypatch.undo()
    data = prow.encode(picture, bytes=99, model="halves")
    monkeypatch.setattr(Halves, "decode", lambda self, tokens: np.zeros((len(tokens), 16, 16, 3)))
    with pytest.raises(prow.InputError, match="a tokenizer gave float64"):
        prow.decode(data)


def test_progress_is_told(picture: np.ndarray) -> None:
    told = []
    with told_to(lambda *one: told.append(one)):
        prow.encode(picture, quality=20, model="halves")
    assert told == [("encoding", 8, 20), ("encoding", 16, 20), ("encoding", 20, 20)]
    prow.encode(picture, quality=20, model="halves")
    assert len(told) == 3


# -- tiles and tokens --------------------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(1, 64))
def test_tiles_cover_a_side(length: int, tile: int) -> None:
    places = starts(length, tile)
    assert places[0] == 0 and len(places) == -(-length // tile)
    assert all(0 < b - a <= tile for a, b in zip(places, places[1:], strict=False))
    assert length < tile or places[-1] == length - tile


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 99))
def test_cut_and_join(width: int, height: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    tiles = cut(pixels, 16, letterbox=False)
    assert tiles.shape == (tile_count(width, height, 16, letterbox=False), 16, 16, 3)
    assert np.abs(join(tiles, width, height, letterbox=False).astype(int) - pixels).max() <= 1
    (boxed,) = cut(pixels, 16, letterbox=True)
    assert boxed.shape == (16, 16, 3)
    assert join(boxed[None], width, height, letterbox=True).shape == pixels.shape


def test_tokens_go_where_they_help_most() -> None:
    flat, busy = [100, 99, 98, 98], [1000, 600, 500, 300]
    order = in_order_of_gain([0, 1, 2, 4], np.array([flat, busy], float), 6)
    assert order.tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 0, 1]
    assert np.bincount(order).tolist() == [6, 6]


def test_a_busy_tile_gets_more_tokens() -> None:
    pixels = np.full((32, 64, 3), 100, np.uint8)
    pixels[:, 32:] = draw_picture(32, 32) // 4 * 4
    tokens = prow.tokenize(pixels, bytes=80, model="halves")
    counts = tokens.passes[0].counts.reshape(2, 4)
    assert counts[:, 2:].mean() > 2 * counts[:, :2].mean()
    quick = prow.tokenize(pixels, bytes=80, model="halves", effort=1)
    assert np.ptp(quick.passes[0].counts) <= 1
    slow_error, quick_error = (np.mean((np.asarray(prow.detokenize(t), float) - pixels) ** 2) for t in (tokens, quick))
    assert slow_error < 0.8 * quick_error


# -- streams -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", GOLDEN["vectors"], ids=lambda vector: vector["file"].removesuffix(".prow"))
def test_both_readers_read_the_golden_tokens(vector: dict) -> None:
    facts = GOLDEN["models"][vector["model"]]
    data = (make_external.FILES / vector["file"]).read_bytes()
    sizes = (facts["tile"], facts["tokens"], facts["alphabet"])
    told = decode_external(data, *sizes, bytes.fromhex(facts["sha256"]), facts["tables"])
    assert {"file": vector["file"], "model": vector["model"], **told} == vector
    (model,) = (model for model in make_external.models() if model.name == vector["model"])
    header, payload, state = container.parse(data)
    assert payload[:4] == model.external_id and state == vector["state"]
    tokens = model.read(payload[4:], header.width, header.height)
    rows, part = [], tokens.passes[0]
    for row, count in zip(part.values, part.counts, strict=True):
        assert not row[count:].any()
        rows.append(row[:count].tolist())
    assert rows == vector["tiles"] and tokens.external and tokens.external.letterbox == vector["letterbox"]
    assert model.read(model.trimmed(tokens), header.width, header.height) == tokens


def test_the_golden_vectors_are_as_generated() -> None:
    files = make_external.files()
    assert all((VECTORS / name).read_bytes() == content for name, content in files.items())
    assert {f"external/{vector['file']}" for vector in GOLDEN["vectors"]} == files.keys() - {"external.json"}


def test_the_independent_reader_refuses_other_models_and_damage() -> None:
    data = bytearray((make_external.FILES / "plain_tiles.prow").read_bytes())
    with pytest.raises(Refused, match="R10"):
        decode_external(bytes(data), 8, 6, 10, bytes(32))
    data[-1] ^= 1
    with pytest.raises(Violation, match="R9"):
        decode_external(bytes(data), 8, 6, 10, bytes(32))


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=60), st.integers(1, 40), st.integers(1, 40))
def test_any_bytes_are_a_stream(content: bytes, width: int, height: int) -> None:
    model = make_external.models()[0]
    whole = model.read(content, width, height)
    model.check(whole)
    shorter = model.read(content[: len(content) // 2], width, height)
    assert len(shorter) <= len(whole)
    if shorter.external == whole.external:
        assert whole[: len(shorter)] == shorter


def test_tables_are_part_of_the_id(halves: ExternalModel) -> None:
    tables = np.full((17, 512), TOTAL // 512, "<i4")
    other = dataclasses.replace(halves, tables=tables)
    assert other.external_id != halves.external_id == bytes.fromhex(SHA256[:8])
    assert other.external_id == external_id(SHA256, tables)
    for wrong in (tables[1:], tables.astype(np.int64), tables - np.eye(17, 512, dtype="<i4"), tables * 0):
        with pytest.raises(prow.ModelError, match="tables"):
            dataclasses.replace(halves, tables=wrong)


def test_fitted_tables_save_bits_and_say_how_many() -> None:
    rng, shares = np.random.default_rng(0), np.random.default_rng(1).exponential(size=(17, 512)) ** 4
    shares /= shares.sum(1, keepdims=True)
    drawn, fresh = (np.stack([rng.multinomial(300, row) for row in shares]) for _ in range(2))
    tables, bits = fit(drawn)
    assert tables.dtype == np.dtype("<i4") and np.all(tables.sum(1, dtype=np.int64) == TOTAL) and tables.min() >= 1
    taken = -(fresh * np.log2(tables / TOTAL)).sum() / fresh.sum()
    assert bits < 8 and abs(taken - bits) < 0.1
    assert fit(np.zeros((17, 512), np.int64))[0].shape == (17, 512)


def test_rows_of_many_values() -> None:
    counts, values = np.array([2, 0, 1], np.int16), np.zeros((3, 2), np.int32)
    values[0], values[2, 0] = (65535, 7), 300
    row = sequence.values_to_symbols(counts, values)
    assert row.tolist() == [65539, 2, 304, 11]
    again = sequence.values_from_symbols(row, 3, 2, 65536)
    assert np.array_equal(again[0], counts) and np.array_equal(again[1], values)


def test_models_lists_it(tmp_path: Path) -> None:
    (one,) = (info for info in prow.models() if info.external_id)
    assert (one.id, one.name, one.external_id, one.sha256, one.is_default) == (127, "halves", SHA256[:8], SHA256, False)
