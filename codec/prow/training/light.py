"""Train the light loop filter of a model: `python -m prow.training.light --data DIR --minutes 40 --out DIR`.

The rest of the model stays as it is. First come examples: training photos at random sizes, coded by the model to
random budgets, some cut further, and decoded to where the light filter would begin. The minutes are those of learning
from crops of them. Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from .. import registry
from ..codec import Codec
from ..config import CONFIGS, MIDDLE, UNKNOWN_BASE
from ..geometry import passes
from ..rate import at_bytes
from ..stream import read
from ..tables import Tables
from ..tiling import double, pyramid
from ..tokenizer import Tokenizer, step_tensor
from .data import SUFFIXES, find_sources
from .export import export
from .loop import filter_loss
from .trainer import log_line

SIDES = (300, 1024)  # px of the longer side of an example
BUDGETS = (80, 2000)  # bytes of its stream
CUT = 0.2  # share of streams that are cut further
CROPS = (80, 40, 20)  # px of the first of one, two, or three levels that are learned from at once
REPORT_MINUTES = 2.0


@dataclasses.dataclass(frozen=True)
class Example:
    """Levels of a picture that get the light filter, one after the other.

    Attributes:
        context: float16 [3, H, W], what the first of them starts from.
        targets: uint8 [3, H, W] each, coarse to fine, of these levels, at most three, and of the one behind them.
        grid: grid index of the first one's step.
    """

    context: Tensor
    targets: list[Tensor]
    grid: int

    @property
    def levels(self) -> int:
        return len(self.targets) - 1


def make_example(codec: Codec, pixels: np.ndarray, budget: int, share: float) -> Example | None:
    """Code pixels [H, W, 3] to a budget, keep a share of the bytes, decode that up to the first light level; None if
    there is none, or too small a one."""
    height, width = pixels.shape[:2]
    plan = passes(width, height, codec.config)
    top = plan[0].depth
    content = at_bytes(codec, [pixels], budget, effort=1)[0].content[:budget]
    content = content[: max(4, round(share * len(content)))]
    tokens = read(content, width, height, codec.config.model_id, codec.config, codec.tables)
    light, full = tokens.filter_depths(codec.config)
    first, finest = full - 1, max(light, 1)
    levels = min(first - finest + 1, len(CROPS))
    if levels < 1 or min(height, width) >> first < CROPS[levels - 1]:
        return None
    context = codec.decode(tokens, last=top - first).half()
    wanted = pyramid(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float(), first + 1)[: levels + 1]
    grid = plan[top - first].step_index(UNKNOWN_BASE if tokens.base is None else tokens.base)
    return Example(context, [t[0].round().to(torch.uint8) for t in wanted], grid)


def random_examples(codec: Codec, data: Path, count: int, rng: random.Random) -> list[Example]:
    photos, _ = find_sources(data)
    found: list[Example] = []
    while len(found) < count:
        photo = rng.choice(photos).open()
        side, budget = (math.exp(rng.uniform(*map(math.log, bounds))) for bounds in (SIDES, BUDGETS))
        share = rng.uniform(0.3, 1) if rng.random() < CUT else 1.0
        example = make_example(codec, _shrunk(photo, side), round(budget), share)
        found += [] if example is None else [example]
    return found


def validation_examples(codec: Codec, folder: Path, count: int) -> list[Example]:
    """Of evenly chosen photos with a longer side of 768 px at most."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    found = []
    for i, path in enumerate(paths[:: max(1, len(paths) // count)][:count]):
        pixels = _shrunk(Image.open(path).convert("RGB"), 768)
        found.append(make_example(codec, pixels, (150, 400, 1000)[i % 3], 1.0))
    return [example for example in found if example is not None]


def _shrunk(photo: Image.Image, side: float) -> np.ndarray:
    scale = min(1.0, side / max(photo.size))
    size = round(photo.width * scale), round(photo.height * scale)
    return np.asarray(photo.resize(size, Image.Resampling.LANCZOS, reducing_gap=3))


def random_crops(examples: list[Example], count: int, rng: random.Random) -> tuple[Tensor, list[Tensor], Tensor]:
    """Contexts [B, 3, C, C], targets of each level, coarse to fine, and grid indices [B] of the first, of examples with
    equally many levels; half of them mirrored."""
    levels = rng.choice(examples).levels
    side, contexts, targets, grids = CROPS[levels - 1], [], [], []
    for one in rng.choices([e for e in examples if e.levels == levels], k=count):
        height, width = one.context.shape[-2:]
        # Rounding up may leave a level without the last row or column of what the one before it stands for.
        top, left = rng.randrange(max(1, height - side)), rng.randrange(max(1, width - side))
        turn = (2,) if rng.random() < 0.5 else ()
        contexts.append(_crop(one.context, top, left, side).flip(turn))
        scales = [(target, 2**i) for i, target in enumerate(one.targets)]
        targets.append([_crop(t, top * n, left * n, side * n).flip(turn) for t, n in scales])
        grids.append(one.grid)
    return (
        torch.stack(contexts).float(),
        [torch.stack(t).float() for t in zip(*targets, strict=True)],
        torch.tensor(grids),
    )


def _crop(picture: Tensor, top: int, left: int, side: int) -> Tensor:
    return picture[:, top : top + side, left : left + side]


def losses(
    model: Tokenizer, context: Tensor, targets: list[Tensor], grid: Tensor, *, light: bool
) -> tuple[Tensor, Tensor]:
    """Loss of a filter over all levels, and the picture that it arrives at, [B, 3, H, W] of the level behind them."""
    total = torch.zeros(())
    for place, (target, following) in enumerate(zip(targets, targets[1:], strict=False)):
        delta = step_tensor(grid + model.config.octave_shift * place)
        loss, picture, ahead = filter_loss(model, MIDDLE, target, context, following, delta, light=light)
        total = total + loss * 0.5 ** (len(targets) - 2 - place)
        context = double(picture.detach(), None if ahead is None else ahead.detach(), *following.shape[:1:-1])
    return total, context


@torch.no_grad()
def figures(model: Tokenizer, examples: list[Example]) -> dict[str, float]:
    """Mean PSNR (dB) of whole pictures behind the last level, with the light filter, the full one, and none."""
    found = []
    for one in examples:
        context, targets = one.context[None].float(), [t[None].float() for t in one.targets]
        grid, plain = torch.tensor([one.grid]), context
        for target in targets[1:]:
            plain = double(plain, None, *target.shape[:1:-1])
        painted = [losses(model, context, targets, grid, light=light)[1] for light in (True, False)]
        found.append([float(10 * torch.log10(255**2 / (p - targets[-1]).square().mean())) for p in (*painted, plain)])
    light, full, none = np.mean(found, axis=0).round(4).tolist()
    return {"psnr_light": light, "psnr_full": full, "psnr_none": none}


def train(
    model: Tokenizer, examples: list[Example], val: list[Example], options: argparse.Namespace
) -> Iterator[tuple[Tokenizer, dict[str, float]]]:
    """Train the light filter: every few minutes and at the end the model with the moving average of its weights, and
    how far it is."""
    rng, average = random.Random(1), copy.deepcopy(model).requires_grad_(False)
    weights, means = list(model.light_filter.parameters()), list(average.light_filter.parameters())
    optimiser = torch.optim.AdamW(weights, lr=options.rate, betas=(0.9, 0.99), weight_decay=0.001)
    began = reported = time.monotonic()
    step, used, recent = 0, 0.0, []
    while used < options.minutes:
        loss, _ = losses(model, *random_crops(examples, options.batch, rng), light=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        for group in optimiser.param_groups:
            fall = min(1.0, (1 - used / options.minutes) / 0.4 + 0.03)
            group["lr"] = options.rate * min(1.0, (step + 1) / 100) * fall
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        recent.append(float(loss.detach()))
        for mean, now in zip(means, weights, strict=True):
            mean.lerp_(now.detach(), 1 - min(0.999, (step + 1) / (step + 10)))
        used = (time.monotonic() - began) / 60
        if time.monotonic() - reported > 60 * REPORT_MINUTES or used >= options.minutes:
            told = {"minutes": round(used, 2), "step": step, "loss": round(float(np.mean(recent)), 4)}
            yield average, told | figures(average, val)
            reported, recent = time.monotonic(), []


def load_model(path: Path) -> tuple[Tokenizer, Tables]:
    """Network and tables of a model file, with today's config; without a light filter of its shape that starts anew."""
    model = registry.parse_model(path.read_bytes(), str(path))
    network = Tokenizer(CONFIGS[model.config.name])
    old = {k.removeprefix("network."): torch.from_numpy(v) for k, v in model.weights("network.").items()}
    own = {k: v for k, v in network.state_dict().items() if k.startswith("light_filter.")}
    fitting = {k: old[k] for k, v in own.items() if k in old and old[k].shape == v.shape}
    rest = {k: v for k, v in old.items() if not k.startswith("light_filter.")}
    network.load_state_dict(rest | own | fitting)
    return network, model.tables


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m prow.training.light", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/, as for prow.training")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--init", type=Path, required=True, metavar="FILE", help="model file; may lack a light filter")
    parser.add_argument("--examples", type=int, default=1500)
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--batch", type=int, default=8, help="crops a step")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model, tables = load_model(options.init)
    codec = Codec(model, tables)
    val = validation_examples(codec, options.data / "val", 24)
    examples = random_examples(codec, options.data / "train", options.examples, random.Random(0))
    print(f"{len(examples)} and {len(val)} examples", flush=True)
    for average, told in train(model, examples, val, options):
        log_line(options.out / "light.jsonl", told)
        print(told, flush=True)
        export(average, tables, options.out, model.config)


if __name__ == "__main__":
    main()
