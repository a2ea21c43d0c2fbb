"""`prow.torch`: prow files as training data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_picture
from torch.utils.data import DataLoader

import prow
from prow.torch import ProwDataset, collate, cut_file

HEADER = 12


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [prow.encode(draw_picture(24, 20, i), bytes=120, effort=1, model="anchor") for i in range(5)]


def test_batches_are_what_decode_gives(files: list[bytes]) -> None:
    batches = list(DataLoader(ProwDataset(files), 2, collate_fn=collate))
    assert [tuple(pictures.shape) for (pictures,) in batches] == [(2, 3, 20, 24), (2, 3, 20, 24), (1, 3, 20, 24)]
    together = torch.cat([pictures for (pictures,) in batches])
    assert together.dtype == torch.uint8
    for picture, data in zip(together, files, strict=True):
        wanted = np.asarray(prow.decode(data), int).transpose(2, 0, 1)
        assert np.abs(picture.cpu().numpy() - wanted).max() <= 1


def test_grey_and_alpha_become_three_channels() -> None:
    pixels = draw_picture(40, 30)
    shapes = [pixels[..., :1], pixels, np.dstack([pixels, np.full((30, 40), 90, np.uint8)])]
    files = [prow.encode(part, bytes=400) for part in shapes]
    (pictures,) = collate([(data,) for data in files], device="cpu")
    assert pictures.shape == (3, 3, 30, 40)
    assert torch.equal(pictures[0, 0], pictures[0, 2]) and pictures[2].float().mean() > pictures[1].float().mean()


def test_cut_at_a_number_of_bytes(files: list[bytes]) -> None:
    assert [data for (data,) in ProwDataset(files, cut=50)] == [data[:50] for data in files]
    assert cut_file(files[0], None) == cut_file(files[0], 5000) == files[0]
    assert cut_file(files[0], 1) == files[0][:HEADER]
    (pictures,) = collate([(files[0][:HEADER],)])
    assert pictures.shape == (1, 3, 20, 24)


def test_cut_at_random_by_the_seed(files: list[bytes]) -> None:
    def lengths(seed: int) -> list[int]:
        torch.manual_seed(seed)
        samples = ProwDataset(files * 60, cut=(20, 80))
        return [len(samples[i][0]) for i in range(len(samples))]

    first = lengths(1)
    assert first == lengths(1) != lengths(2)
    assert min(first) < 23 and max(first) > 76 and 20 <= min(first) <= max(first) <= 80
    assert 0.4 < np.mean(np.array(first) < 40) < 0.6  # as many in the lower octave


def test_sizes_that_differ(files: list[bytes]) -> None:
    other = prow.encode(draw_picture(30, 30), bytes=120, effort=1, model="anchor")
    with pytest.raises(prow.InputError, match="24 x 20 and 30 x 30 px"):
        collate([(files[0],), (other,)])
    assert collate([(files[0],), (other,)], size=(20, 24))[0].shape == (2, 3, 20, 24)


def test_bad_arguments(files: list[bytes], tmp_path: Path) -> None:
    for cut in (0, -5, (80, 20), (0, 5)):
        with pytest.raises(prow.InputError, match="cut"):
            ProwDataset(files, cut=cut)
    with pytest.raises(prow.InputError, match="no samples"):
        collate([])
    with pytest.raises(prow.InputError, match="label"):
        ProwDataset(files, columns=["label"])


def test_parquet(files: list[bytes], tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for i, cells in enumerate(([*files[:2], None], files[3:])):
        labels = [10 * i + n for n in range(len(cells))]
        table = pa.table({"prow": pa.array(cells, pa.binary()), "label": labels, "name": [f"{n}" for n in labels]})
        pq.write_table(table, tmp_path / f"part-{i}.parquet")
    samples = ProwDataset(tmp_path, columns=["label", "name"])
    assert len(samples) == 4
    pictures, labels, names = collate([samples[i] for i in range(4)])
    assert pictures.shape == (4, 3, 20, 24)
    assert labels.tolist() == [0, 1, 10, 11] and names == ["0", "1", "10", "11"]
    with pytest.raises(prow.InputError, match="column 'colour' came, .* has prow, label, name"):
        ProwDataset(tmp_path, columns=["colour"])
    with pytest.raises(prow.InputError, match="no Parquet files"):
        ProwDataset(tmp_path / "none")
