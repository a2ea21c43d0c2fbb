"""A toy that paints: a small transformer learns which token comes next, and samples pictures.

    python examples/next_token.py PICTURES --out samples.png

PICTURES is a folder of pictures; the middle square of each, shrunk to 64 x 64 px, is what it learns from. It takes ten
minutes on two cores. `--model NAME` learns the tokens of any other model of prow instead, such as those of an imported
One-D-Piece: all that is used here of a model is its ordered tokenizer (`prow.ordered`).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn

import prow
from prow.ordered import OrderedTokenizer

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
AT_ONCE = 64  # pictures that are tokenized together


class NextToken(nn.Module):
    """A causal transformer: from each prefix of a row the logits of its next token."""

    def __init__(self, alphabet: int, length: int, width: int = 96, layers: int = 3) -> None:
        super().__init__()
        self.start = alphabet  # stands before the first token
        self.embed, self.place = nn.Embedding(alphabet + 1, width), nn.Parameter(torch.zeros(length, width))
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, alphabet)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows [B, n] -> logits [B, n + 1, alphabet], of each token by those before it; at most `length` of them."""
        started = F.pad(rows, (1, 0), value=self.start)[:, : len(self.place)]
        length = started.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=rows.device)
        return self.head(self.blocks(self.embed(started) + self.place[:length], mask=mask, is_causal=True))


def load_rows(folder: Path, tokenizer: OrderedTokenizer) -> Tensor:
    """-> the tokens of each picture in a folder, int64 [pictures, tokens]."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise SystemExit(f"{folder}: no pictures, wanted files that end in {', '.join(sorted(SUFFIXES))}")
    side, rows = (tokenizer.tile, tokenizer.tile), []
    for first in range(0, len(paths), AT_ONCE):
        images = [Image.open(path).convert("RGB") for path in paths[first : first + AT_ONCE]]
        rows.append(tokenizer.encode(np.stack([np.asarray(ImageOps.fit(image, side)) for image in images])))
        print(f"\r{first + len(images):,} of {len(paths):,} pictures tokenized", end="", flush=True)
    print()
    return torch.from_numpy(np.concatenate(rows).astype(np.int64))


def bits(model: NextToken, rows: Tensor) -> Tensor:
    """-> the bits that a token of these rows takes, in the mean."""
    return F.cross_entropy(model(rows[:, :-1]).transpose(1, 2), rows) / np.log(2)


def train(model: NextToken, rows: Tensor, minutes: float, batch: int = 32, rate: float = 1e-3) -> None:
    """Train for some minutes on all rows but the last 1/16, on which it is tested."""
    held = max(1, len(rows) // 16)
    seen, unseen = rows[:-held], rows[-held:]
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01)
    start, step, told = time.monotonic(), 0, 0.0
    while (passed := (time.monotonic() - start) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, step / 100) * (1 - passed)
        loss = bits(model, seen[torch.randint(len(seen), (batch,))])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if passed >= told:
            print(f"step {step}: {loss.item():.2f} bits a token", flush=True)
            told += 0.1
    with torch.no_grad():
        test = torch.stack([bits(model, part) * len(part) for part in unseen.split(batch)]).sum() / len(unseen)
    print(f"after {step} steps {test.item():.2f} bits a token of pictures that it has not seen")


@torch.no_grad()
def sample(model: NextToken, count: int, temperature: float) -> Tensor:
    """-> sampled rows [count, length]."""
    rows = torch.zeros(count, 0, dtype=torch.int64)
    for _ in range(len(model.place)):
        chances = (model(rows)[:, -1] / temperature).softmax(-1)
        rows = torch.cat([rows, torch.multinomial(chances, 1)], 1)
    return rows


def sheet(pictures: np.ndarray, columns: int, side: int) -> Image.Image:
    """-> pictures uint8 [B, H, W, 3] in rows, each `side` px a side."""
    rows = -(-len(pictures) // columns)
    result = Image.new("RGB", (columns * side, rows * side))
    for i, picture in enumerate(pictures):
        large = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
        result.paste(large, (i % columns * side, i // columns * side))
    return result


def main(argv: list[str] | None = None) -> None:
    """Learn, sample, and write a picture: above some of the folder's in so few tokens, below samples."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("pictures", type=Path, metavar="PICTURES", help="folder of pictures")
    parser.add_argument("--out", type=Path, default=Path("samples.png"), metavar="PNG", help="default: %(default)s")
    parser.add_argument("--model", default="default", metavar="NAME", help="one that `prow models` lists")
    parser.add_argument("--side", type=int, help="px of a picture; default: that of the model, or 64")
    parser.add_argument("--tokens", type=int, default=96, help="the first ones of each; default: %(default)s")
    parser.add_argument("--minutes", type=float, default=10, help="of training; default: %(default)s")
    parser.add_argument("--count", type=int, default=24, help="of samples; default: %(default)s")
    parser.add_argument("--temperature", type=float, default=0.9, help="default: %(default)s")
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    tokenizer = prow.ordered_tokenizer(args.model, side=args.side, tokens=args.tokens)
    rows = load_rows(args.pictures, tokenizer)
    model = NextToken(tokenizer.alphabet, tokenizer.tokens)
    train(model, rows, args.minutes)
    some = rows[torch.linspace(0, len(rows) - 1, min(8, len(rows))).long()]
    pictures = tokenizer.decode(torch.cat([some, sample(model, args.count, args.temperature)]).numpy())
    sheet(pictures, 8, 96).save(args.out)
    print(f"{args.out}: in the first row pictures of the folder in {args.tokens} tokens, then {args.count} samples")


if __name__ == "__main__":
    main()
