"""Many files at once: the same pictures as one by one, in the same order, whatever their sizes and rates."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from conftest import Draw

import prow
from prow import api
from prow.backends import select
from prow.coding.codec import Codec
from prow.networks.vivid import Vivid
from prow.options import STYLES
from prow.registry import ModelFile

SIZES = [(70, 50), (33, 20), (70, 50), (1, 1), (70, 50), (33, 20), (70, 50)]
# Of the pictures of 70 x 50 px all but the last have tokens at full resolution, the second in refining passes, too.
BUDGETS = [500, 2000, 2500, 40, 550, 250, 12]


@pytest.fixture(scope="module")
def drawn(draw: Draw) -> list[np.ndarray]:
    return [draw(*size, seed=i) for i, size in enumerate(SIZES)]


@pytest.fixture
def files(installed: None, drawn: list[np.ndarray]) -> list[bytes]:
    """Whole files, one in the bare profile, and one cut behind its header."""
    found = [prow.encode(image, bytes=max(32, n), effort=3) for image, n in zip(drawn, BUDGETS, strict=True)]
    found[4] = prow.encode(drawn[4], bytes=BUDGETS[4], effort=3, profile="bare")
    found[6] = found[6][:12]
    return found


def test_the_files_are_what_they_should_be(files: list[bytes]) -> None:
    told = [prow.inspect(data, tokens=True).tokens_per_pass or () for data in files]
    sent = [{pass_.kind for pass_ in passes if pass_.tokens} for passes in told]
    assert ["full" in sent[i] for i in (0, 2, 4, 6)] == [True, True, True, False]
    assert ["refine" in sent[i] for i in (0, 2, 4, 6)] == [False, True, False, False]


def test_same_pictures_in_the_same_order(files: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [np.asarray(prow.decode(data), int) for data in files]
    assert len({x.tobytes() for x in wanted}) == len(files)
    for most in (1, 2 * 70 * 50, api._DECODE_PIXELS):
        monkeypatch.setattr(api, "_DECODE_PIXELS", most)
        found = prow.decode_many(iter(files))
        assert [image.size for image in found] == SIZES
        assert all(np.abs(np.asarray(a, int) - b).max() <= 1 for a, b in zip(found, wanted, strict=True))
    assert prow.decode_many([]) == []


def test_pictures_of_one_size_go_through_the_network_together(files: list[bytes], monkeypatch) -> None:
    batches = []
    images = Codec.images
    monkeypatch.setattr(
        Codec,
        "images",
        lambda self, batch, octaves=0: (batches.append(len(batch)), images(self, batch, octaves))[1],
    )
    prow.decode_many(files)
    assert batches == [3, 2, 1, 1]  # the one without tokens is only made larger


def test_rows_of_tiles_in_several_batches(files: list[bytes], codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [api.read_tokens(files[i]) for i in (0, 2, 4)]
    whole = codec.decode_many(batch)
    monkeypatch.setattr("prow.backends.base.TILES", 20)
    torch.testing.assert_close(codec.decode_many(batch), whole)
    torch.testing.assert_close([codec.decode(tokens) for tokens in batch], whole)
    other = api.read_tokens(files[1])
    with pytest.raises(ValueError, match="wanted one width, height and filter_octaves"):
        codec.decode_many([*batch, other])


def test_styles(files: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    network = Vivid()
    torch.nn.init.normal_(network.leave.weight, std=0.05)
    open_backend = select.open_backend

    def styled(*given, vivid: bool = False):
        backend = open_backend(*given)
        return dataclasses.replace(backend, vivid=network.eval()) if vivid else backend

    monkeypatch.setattr(select, "open_backend", styled)
    monkeypatch.setattr(ModelFile, "vivid_content", lambda self: b"")
    found = prow.decode_many(files, style="vivid")
    for image, data in zip(found, files, strict=True):
        assert np.abs(np.asarray(image, int) - np.asarray(prow.decode(data, style="vivid"), int)).max() <= 1
    assert np.any(np.asarray(found[2]) != np.asarray(prow.decode(files[2])))


def test_errors_say_which_file(files: list[bytes]) -> None:
    with pytest.raises(prow.HeaderError) as caught:
        prow.decode_many([files[0], b"", files[1]])
    assert caught.value.__notes__ == ["file 1 of those that came"]
    damaged = bytearray(files[0])
    damaged[-1] ^= 1
    with pytest.raises(prow.DamagedError):
        prow.decode_many([bytes(damaged)])
    assert len(prow.decode_many([bytes(damaged)], strict=False)) == 1
    with pytest.raises(prow.LimitError):
        prow.decode_many(files, max_pixels=100)
    with pytest.raises(prow.InputError, match="style 'loud'"):
        prow.decode_many(files, style="loud")  # type: ignore[arg-type]


@pytest.mark.parametrize("style", STYLES)
def test_a_model_that_onnx_runtime_decodes(style: str, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROW_BACKEND", "onnx")
    files = [prow.encode(draw(40, 30, seed=i), bytes=200, effort=1) for i in range(2)]
    for image, data in zip(prow.decode_many(files, style=style, device="cpu"), files, strict=True):
        assert np.array_equal(np.asarray(image), np.asarray(prow.decode(data, style=style, device="cpu")))


# -- encoding ------------------------------------------------------------------------------------------------------


def test_encoding_many_is_encoding_each(installed: None, drawn: list[np.ndarray], monkeypatch) -> None:
    """On the CPU the sums happen to be the same; files must have the asked size in any case."""
    for most in (1, 2 * 70 * 50, api._ENCODE_PIXELS):
        monkeypatch.setattr(api, "_ENCODE_PIXELS", most)
        found = prow.encode_many(iter(drawn), bytes=90, effort=4)
        assert [prow.inspect(data).width for data in found] == [size[0] for size in SIZES]
        for data, pixels in zip(found, drawn, strict=True):
            alone = prow.encode(pixels, bytes=90, effort=4)
            assert len(data) == len(alone) <= 90
            error = [np.square(np.asarray(prow.decode(d), float) - pixels).mean() for d in (data, alone)]
            assert error[0] <= 1.05 * error[1] + 0.1
    assert prow.encode_many([], bytes=90) == []


@pytest.mark.parametrize("asked", [{"quality": 30}, {"bpp": 1.5, "profile": "bare"}, {"bytes": 5000, "device": "cpu"}])
def test_encoding_many_takes_what_encode_takes(installed: None, drawn: list[np.ndarray], asked: dict) -> None:
    pictures = [pixels for pixels in drawn if pixels.size > 3]  # a pixel is too small for 1.5 bpp
    found = prow.encode_many(pictures, effort=1, **asked)
    alone = [len(prow.encode(pixels, effort=1, **asked)) for pixels in pictures]
    assert all(abs(len(data) - size) <= 2 for data, size in zip(found, alone, strict=True))
    assert [image.size for image in prow.decode_many(found)] == [size for size in SIZES if size != (1, 1)]


def test_pictures_of_one_size_are_encoded_together(installed: None, drawn: list[np.ndarray], monkeypatch) -> None:
    batches, encode_many = [], Codec.encode_many
    monkeypatch.setattr(
        Codec,
        "encode_many",
        lambda self, size, batch, **kw: (batches.append((size, len(batch))), encode_many(self, size, batch, **kw))[1],
    )
    prow.encode_many(drawn, bytes=60, effort=2)
    assert (SIZES[0], 4) in batches and (SIZES[1], 2) in batches
    assert len(batches) < 0.6 * sum(count for _, count in batches)


def test_encoding_many_names_the_picture_that_is_wrong(installed: None, drawn: list[np.ndarray]) -> None:
    with pytest.raises(prow.InputError) as caught:
        prow.encode_many([drawn[0], "nowhere.png"], bytes=60)
    assert caught.value.__notes__ == ["picture 1 of those that came"]
    with pytest.raises(prow.BudgetError):
        prow.encode_many(drawn, bytes=3)
