"""What a classifier learns from few bytes a picture: `python -m benchmarks.datasets.study --data DIR`.

Pictures of 64 x 64 px from the mosaics in a folder have no labels. So what EfficientNet-Lite0 says of the originals is
sorted into eight clusters (k-means of its logits), and a small network, trained from nothing, is to say, of what is
left of a picture, in which cluster its original is. It is trained and tested on pictures of one codec and size, several
times with other random numbers. prow's files are cuts of one file of the largest size, of effort 1. WebP and JPEG have
their best downscale of 1, 2 and 4 by square error, for each picture. Takes the extras `bench` and `dataset`.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import prow
from benchmarks.common.options import check_counts, parser_of
from benchmarks.common.output import check_place, write
from benchmarks.common.tables import markdown
from benchmarks.tasks import top1
from prow.torch import ProwDataset, collate
from prow.training.data import THUMB, list_sources

BUDGETS = (100, 300, 1000)
SEEDS = (0, 1, 2)
CLUSTERS = 8
EPOCHS = 30
FITS = 0.99  # share of pictures that must have the size, or the codec is left out


def thumbs(folder: Path, count: int) -> np.ndarray:
    """-> pictures uint8 [N, 64, 64, 3], drawn from all mosaics."""
    pictures: list[np.ndarray] = []
    for mosaic in list_sources(folder)[1]:
        grid = np.asarray(mosaic.open())
        across, down = grid.shape[1] // THUMB, grid.shape[0] // THUMB
        tiles = grid[: down * THUMB, : across * THUMB].reshape(down, THUMB, across, THUMB, 3).swapaxes(1, 2)
        pictures += list(tiles.reshape(-1, THUMB, THUMB, 3))
    if len(pictures) < count:
        raise SystemExit(f"{len(pictures):,} pictures are in the mosaics of {folder}, wanted {count:,}")
    return np.stack([pictures[i] for i in np.random.default_rng(0).permutation(len(pictures))[:count]])


@torch.inference_mode()
def clusters(pictures: np.ndarray) -> Tensor:
    """-> the number of each picture's cluster."""
    weights = top1.load()
    said = torch.cat([top1.logits(weights, top1.prepared(picture)) for picture in pictures])
    points = nn.functional.normalize(said - said.mean(0), dim=1)
    torch.manual_seed(0)
    centres = points[torch.randperm(len(points))[:CLUSTERS]]
    for _ in range(50):
        labels = (points @ centres.T).argmax(1)
        sums = nn.functional.one_hot(labels, CLUSTERS).T.float() @ points
        centres = nn.functional.normalize(sums, dim=1)
    return labels.clone()


def by_prow(pictures: np.ndarray, budgets: tuple[int, ...]) -> dict[int, np.ndarray]:
    files = prow.encode_many(list(pictures), bytes=max(budgets), effort=1)
    decoded = {}
    for budget in budgets:
        samples = ProwDataset(files, cut=budget)
        batches = [collate([samples[i] for i in some])[0] for some in np.array_split(range(len(files)), 16)]
        decoded[budget] = torch.cat(batches).permute(0, 2, 3, 1).cpu().numpy()
    return decoded


def classical(kind: str, picture: np.ndarray, budget: int) -> np.ndarray | None:
    """-> what a format makes of a picture in this many bytes at its best; None if it cannot."""
    best, least = None, np.inf
    extra = {"optimize": True} if kind == "JPEG" else {"method": 4}
    for factor in (1, 2, 4):
        small = Image.fromarray(picture).resize((THUMB // factor,) * 2, Image.Resampling.LANCZOS)
        low, high, data = 0, 100, b""
        while low <= high:
            quality, file = (low + high) // 2, io.BytesIO()
            small.save(file, kind, quality=quality, **extra)
            if len(file.getvalue()) <= budget:
                low, data = quality + 1, file.getvalue()
            else:
                high = quality - 1
        if data:
            back = Image.open(io.BytesIO(data)).convert("RGB").resize((THUMB, THUMB), Image.Resampling.BICUBIC)
            error = np.square(np.asarray(back, np.float32) - picture).mean()
            if error < least:
                best, least = np.asarray(back), error
    return best


def by_format(kind: str, pictures: np.ndarray, budgets: tuple[int, ...]) -> dict[int, np.ndarray | float]:
    """-> pictures by budget, or else the share of them that have the size."""
    result: dict[int, np.ndarray | float] = {}
    for budget in budgets:
        first = [classical(kind, picture, budget) for picture in pictures[:50]]
        share = sum(one is not None for one in first) / len(first)
        if share < FITS:
            result[budget] = share
            continue
        all_of_them = first + [classical(kind, picture, budget) for picture in pictures[50:]]
        grey = np.full_like(pictures[0], 128)
        result[budget] = np.stack([grey if one is None else one for one in all_of_them])
    return result


def network() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((3, 24), (24, 48), (48, 96)):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.Conv2d(after, after, 3, 1, 1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(4 * 96, CLUSTERS))


def accuracy(pictures: np.ndarray, labels: Tensor, tested: int, seed: int) -> float:
    """-> on the last `tested` pictures, when trained on the others."""
    torch.manual_seed(seed)
    data = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 64 - 2
    train, model, count = data[:-tested], network(), len(data) - tested
    steps = EPOCHS * (count // 64)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for _ in range(EPOCHS):
        for some in torch.randperm(count)[: count // 64 * 64].split(64):
            seen = train[some].flip(-1) if torch.rand(()) < 0.5 else train[some]
            loss = nn.functional.cross_entropy(model(seen), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.inference_mode():
        return (model(data[-tested:]).argmax(1) == labels[-tested:]).float().mean().item()


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark; see the module's docstring."""
    parser = parser_of("datasets.study", __doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of mosaics, or of tars of them")
    parser.add_argument("--train", type=int, default=768, metavar="N", help="pictures; default: %(default)s")
    parser.add_argument("--test", type=int, default=384, metavar="N", help="pictures; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/datasets"), metavar="DIR", help="default: %(default)s")
    args = parser.parse_args(argv)
    check_counts(parser, args, "train", "test")
    check_place(args.out / "study.json", parser.prog)
    pictures = thumbs(args.data, args.train + args.test)
    labels = clusters(pictures)
    common = round(100 * labels[-args.test :].bincount().max().item() / args.test, 1)
    print(f"the most frequent cluster: {common} % of the test pictures", flush=True)
    ways: dict[str, Callable[..., dict]] = {"prow": by_prow}
    ways |= {name: functools.partial(by_format, name) for name in ("WebP", "JPEG")}

    def judged(pixels: np.ndarray) -> list[float]:
        return [round(100 * accuracy(pixels, labels, args.test, seed), 1) for seed in SEEDS]

    results: dict[str, dict[str, object]] = {"as they are": {"all": judged(pictures)}}
    print(results, flush=True)
    for name, way in ways.items():
        made = way(pictures, BUDGETS)
        results[name] = {str(b): judged(x) if isinstance(x, np.ndarray) else f"{x:.0%} fit" for b, x in made.items()}
        print(name, results[name], flush=True)
    write(
        args.out / "study.json",
        json.dumps({"train": args.train, "test": args.test, "most_frequent": common, "accuracy": results}) + "\n",
    )
    cells = [["", *(f"{budget:,} bytes" for budget in BUDGETS)]]
    for name in ways:
        values = [results[name][str(budget)] for budget in BUDGETS]
        cells.append([name, *(v if isinstance(v, str) else f"{sum(v) / len(v):.1f}" for v in values)])  # type: ignore
    print(markdown(cells))


if __name__ == "__main__":
    main()
