"""Many files at once: the same pictures as one by one, in the same order, whatever their sizes and rates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import prow
from prow import api, registry
from prow.codec import Codec
from prow.vivid import Vivid

Draw = Callable[..., np.ndarray]
SIZES = [(70, 50), (33, 20), (70, 50), (1, 1), (70, 50), (33, 20), (70, 50)]
BUDGETS = [
    60,
    2000,
    2500,
    40,
    300,
    100,
    12,
]  # of the pictures of 70 x 50 px only the second has tokens in every pass


@pytest.fixture(scope="module")
def drawn(draw: Draw) -> list[np.ndarray]:
    return [draw(*size, seed=i) for i, size in enumerate(SIZES)]


@pytest.fixture
def files(installed: None, drawn: list[np.ndarray]) -> list[bytes]:
    """Whole files, one in the bare profile, and one cut behind its header."""
    found = [prow.encode(image, bytes=max(32, n), effort=1) for image, n in zip(drawn, BUDGETS, strict=True)]
    found[4] = prow.encode(drawn[4], bytes=300, effort=1, profile="bare")
    found[6] = found[6][:12]
    return found


def test_same_pictures_in_the_same_order(files: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [np.asarray(prow.decode(data), int) for data in files]
    assert len({x.tobytes() for x in wanted}) == len(files)
    for most in (1, 2 * 70 * 50, api._BATCH_PIXELS):
        monkeypatch.setattr(api, "_BATCH_PIXELS", most)
        found = prow.decode_many(iter(files))
        assert [image.size for image in found] == SIZES
        assert all(np.abs(np.asarray(a, int) - b).max() <= 1 for a, b in zip(found, wanted, strict=True))
    assert prow.decode_many([]) == []


def test_pictures_of_one_size_go_through_the_network_together(files: list[bytes], monkeypatch) -> None:
    batches = []
    decode_many = Codec.decode_many
    monkeypatch.setattr(
        Codec, "decode_many", lambda self, batch: (batches.append(len(batch)), decode_many(self, batch))[1]
    )
    prow.decode_many(files)
    assert batches == [3, 2, 1, 1]  # the one without tokens is only made larger


def test_rows_of_tiles_in_several_batches(files: list[bytes], codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [api._tokens_of(files[i], True, 10**6) for i in (0, 2, 4)]
    whole = codec.decode_many(batch)
    monkeypatch.setattr("prow.codec._TILES", 20)
    torch.testing.assert_close(codec.decode_many(batch), whole)
    torch.testing.assert_close([codec.decode(tokens) for tokens in batch], whole)
    other = api._tokens_of(files[1], True, 10**6)
    with pytest.raises(ValueError, match="wanted one width, height and unfiltered"):
        codec.decode_many([*batch, other])


def test_styles(files: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    network = Vivid()
    torch.nn.init.normal_(network.leave.weight, std=0.05)
    monkeypatch.setattr(api, "vivid_network", lambda name, device: network.eval())
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


def test_a_model_that_onnx_runtime_decodes(draw: Draw) -> None:
    registry.load("prow-small")
    files = [prow.encode(draw(40, 30, seed=i), bytes=200, effort=1) for i in range(2)]
    for image, data in zip(prow.decode_many(files, device="cpu"), files, strict=True):
        assert np.array_equal(np.asarray(image), np.asarray(prow.decode(data, device="cpu")))
