"""Train the vivid style of a model: `python -m prow.training.vivid --data DIR --minutes 25 --out DIR`.

A fifth of the minutes goes into pairs: crops of the training photos, coded by the installed model, cut at random, and
decoded. The rest is training on crops of these pairs. Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .. import registry
from ..backends.torch_backend import load_backend
from ..coding.codec import Codec, Wanted
from ..coding.vivid import condition, grain
from ..entropy.model import StreamSpec
from ..entropy.reader import read
from ..networks.vivid import Vivid
from . import st_lpips
from .data import SUFFIXES, crop_photo, find_sources
from .descent import Descent
from .trainer import log_line

SIDE, CROP = 256, 128  # px of a pair, and of what is learned from at once
SHORTEST = 0.01  # of the bytes of a stream: a pair has from so many to all, log uniform
FIDELITY, TONE = 10.0, 40.0  # weight of square errors (range 1), and of those of means of 8 x 8 px, beside ST-LPIPS
CRITIC = 0.1  # weight of the critic's judgement (hinge loss)
DATA_SHARE = 0.2  # of the minutes


@dataclasses.dataclass(frozen=True)
class Pair:
    """uint8 [3, H, W] original and decoded, and what the network is told."""

    original: Tensor
    decoded: Tensor
    cond: tuple[float, float]


def make_pair(codec: Codec, pixels: np.ndarray, share: float) -> Pair:
    """Code pixels [H, W, 3] up to the first pass at full resolution, cut the stream to a share of its bytes, decode
    what is left."""
    height, width = pixels.shape[:2]
    spec = StreamSpec(width, height, codec.model)
    targets = codec.backend.targets(pixels, spec.passes[0].octaves + 1)
    (coded,) = codec.encode_many((width, height), [Wanted(codec.model.config.usual_base, targets)])
    received = read(coded.content[: max(4, round(share * len(coded.content)))], spec)
    decoded = codec.decode(received).round().to(torch.uint8)
    return Pair(torch.from_numpy(pixels.copy()).permute(2, 0, 1), decoded, condition(received, spec))


class Critic(nn.Module):
    """A patch discriminator (Isola et al., arXiv:1611.07004): is a picture an original, given what was decoded?"""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = (6, width, 2 * width, 4 * width)
        convs = [nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in zip(widths, widths[1:], strict=False)]
        convs.append(nn.Conv2d(4 * width, 1, 3, padding=1))
        self.layers = nn.ModuleList(nn.utils.parametrizations.spectral_norm(conv) for conv in convs)

    def forward(self, picture: Tensor, decoded: Tensor) -> Tensor:
        x = torch.cat([picture, decoded], dim=1) / 64 - 2
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), 0.2)
        return self.layers[-1](x)


def random_pairs(codec: Codec, data: Path, minutes: float, rng: random.Random) -> list[Pair]:
    photos, _ = find_sources(data)
    until, pairs = time.monotonic() + 60 * minutes, []
    while time.monotonic() < until or not pairs:
        pixels = crop_photo(rng.choice(photos).open(), SIDE, SIDE, rng, whole=0.3)
        pairs.append(make_pair(codec, np.ascontiguousarray(pixels), SHORTEST ** rng.random()))
    return pairs


def validation_pairs(codec: Codec, folder: Path, count: int) -> list[Pair]:
    """The middle of `count` photos at half size, streams of all lengths."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    pairs = []
    for i, path in enumerate(paths[:: max(1, len(paths) // count)][:count]):
        photo = Image.open(path).convert("RGB").reduce(2)
        left, top = (photo.width - SIDE) // 2, (photo.height - SIDE) // 2
        pixels = np.asarray(photo.crop((left, top, left + SIDE, top + SIDE)))
        pairs.append(make_pair(codec, pixels, SHORTEST ** (i / max(1, count - 1))))
    return pairs


def stacked(pairs: list[Pair]) -> tuple[Tensor, Tensor, Tensor]:
    """Originals and decoded pictures as float [B, 3, H, W], and conditions [B, 2]."""
    originals, decoded = (torch.stack([getattr(p, n) for p in pairs]).float() for n in ("original", "decoded"))
    return originals, decoded, torch.tensor([p.cond for p in pairs])


def random_crops(pairs: list[Pair], count: int, rng: random.Random) -> tuple[Tensor, Tensor, Tensor]:
    """As `stacked`, of crops of CROP px, half of them mirrored."""
    crops = []
    for pair in rng.choices(pairs, k=count):
        top, left = rng.randrange(SIDE - CROP + 1), rng.randrange(SIDE - CROP + 1)
        one, other = (x[:, top : top + CROP, left : left + CROP] for x in (pair.original, pair.decoded))
        if rng.random() < 0.5:
            one, other = one.flip(2), other.flip(2)
        crops.append(Pair(one, other, pair.cond))
    return stacked(crops)


def losses(weights: st_lpips.Weights, painted: Tensor, originals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """ST-LPIPS, square error and square error of means of 8 x 8 px, of pictures [B, 3, H, W], 0 to 255."""
    with torch.autocast("cpu", torch.bfloat16, enabled=painted.requires_grad):
        with torch.no_grad():
            wanted = [x.float() for x in st_lpips.features(weights, originals / 127.5 - 1)]
        painted_features = (x.float() for x in st_lpips.features(weights, painted / 127.5 - 1))
        distance = st_lpips.between(weights, painted_features, wanted)
    error = (painted - originals) / 255
    return distance, error.square().mean(), F.avg_pool2d(error, 8).square().mean()


def _noise() -> Tensor:
    """[SIDE, SIDE]"""
    return torch.from_numpy(grain(SIDE, SIDE))


@torch.no_grad()
def figures(network: Vivid, weights: st_lpips.Weights, pairs: list[Pair]) -> dict[str, float]:
    """Mean ST-LPIPS and PSNR of decoded pictures and of the repainted ones."""
    rows = []
    for pair in pairs:
        original, decoded, cond = stacked([pair])
        painted = network(decoded, _noise()[None, None], cond)
        for picture in (decoded, painted):
            distance, error, _ = losses(weights, picture, original)
            rows += [float(distance), -10 * float(error.log10())]
    before, psnr_before, after, psnr = np.reshape(rows, (-1, 4)).mean(0).round(4).tolist()
    return {"st_lpips_faithful": before, "psnr_faithful": psnr_before, "st_lpips_vivid": after, "psnr_vivid": psnr}


def write(network: Vivid, folder: Path, name: str) -> Path:
    """NAME.safetensors, weights in half precision, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    temporary = path.with_suffix(".tmp")
    save_file({k: v.detach().half().contiguous() for k, v in network.state_dict().items()}, temporary)
    os.replace(temporary, path)
    return path


def train(
    network: Vivid, pairs: list[Pair], val: list[Pair], out: Path, name: str, minutes: float, rate: float, batch: int
) -> Vivid:
    """Train for some minutes, log and write every other one -> the moving average of the weights."""
    weights, rng = st_lpips.load(), random.Random(1)
    average = copy.deepcopy(network).requires_grad_(False)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.001)
    descent = Descent(optimiser, warm_up=50, fall=0.4, clip=1.0, average=(average, network), decay=0.995)
    critic = Critic()
    taught = Descent(torch.optim.Adam(critic.parameters(), lr=2 * rate, betas=(0.5, 0.99)), least=1.0)
    began = logged = time.monotonic()
    noise = _noise()
    while (used := (time.monotonic() - began) / 60) < minutes:
        originals, decoded, cond = random_crops(pairs, batch, rng)
        top, left = rng.randrange(SIDE - CROP), rng.randrange(SIDE - CROP)
        crop = noise[top : top + CROP, left : left + CROP].expand(batch, 1, -1, -1)
        # in float32: in bfloat16 oneDNN's weight gradients of dilated convolutions of 24 channels are wrong or NaN on
        # CPUs with AVX512_BF16 and without AMX (torch 2.13)
        painted = network(decoded, crop, cond)
        distance, error, tone = losses(weights, painted, originals)
        doubt = -critic(painted, decoded).mean()
        (distance + FIDELITY * error + TONE * tone + CRITIC * doubt).backward()
        descent.update(used / minutes)
        taught.optimiser.zero_grad(set_to_none=True)
        real, false = critic(originals, decoded), critic(painted.detach(), decoded)
        (F.relu(1 - real).mean() + F.relu(1 + false).mean()).backward()
        taught.update(used / minutes)
        if time.monotonic() - logged > 120:
            logged = time.monotonic()
            log_line(
                out / "vivid.jsonl",
                {"minutes": round(used, 1), "updates": descent.updates} | figures(average, weights, val),
            )
            write(average, out, name)
    print(json.dumps({"minutes": round(used, 1), "updates": descent.updates} | figures(average, weights, val)))
    print(write(average, out, name))
    return average


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m prow.training.vivid", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/, as for prow.training")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--batch", type=int, default=4, help=f"crops of {CROP} px an update")
    parser.add_argument("--init", type=Path, metavar="FILE", help="weights to start from")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = registry.load(args.model)
    codec = Codec(load_backend(model, "cpu"))
    network = Vivid()
    if args.init:
        network.load_state_dict({name: weights.float() for name, weights in load_file(args.init).items()})
    pairs = random_pairs(codec, args.data / "train", DATA_SHARE * args.minutes, random.Random(0))
    val = validation_pairs(codec, args.data / "val", 12)
    print(f"{len(pairs)} pairs", flush=True)
    minutes = (1 - DATA_SHARE) * args.minutes
    train(network, pairs, val, args.out, model.config.name, minutes, args.rate, args.batch)


if __name__ == "__main__":
    main()
