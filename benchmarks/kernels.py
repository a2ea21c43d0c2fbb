"""How fast tokens become pixels on a GPU: `python -m benchmarks.kernels`.

    decoder    `Tokenizer.correct`: what it adds to tiles, before the loop filter
    attention  `prefix_attention` alone, the op in it that has a kernel
    picture    a file of 1,000 bytes, 768 x 512 px: decoded, and the same without reading the stream

each in these ways, in one run:

    torch            eager; attention is scaled_dot_product_attention with a mask
    compiled         the same through torch.compile with CUDA graphs
    triton           eager; attention is the Triton kernel
    triton compiled  both

Tiles are drawn from real files: a photo at --budgets, the last pass that has tokens, so each tile has as many tokens as
it got there. What each way computes is first compared with fp32 torch. Shares are of the matrix rate and of the memory
bandwidth that are measured in the same run; operations are those of the eager torch way, which computes masked
tokens too; bytes are weights, inputs and results, each once. Without a GPU it runs on the CPU, in the first way alone,
which says little but that it runs. --out is the whole result as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

import prow
from benchmarks.common.corpus import read_original
from benchmarks.common.machine import checkout, cpu_model, gpu_model, use_backend, versions
from benchmarks.common.options import check_names, numbers, parser_of
from benchmarks.common.output import check_place, write
from benchmarks.common.tables import plain
from prow import registry
from prow.api import read_tokens
from prow.backends import torch_ops
from prow.backends.torch_backend import TorchBackend, load_backend
from prow.coding.codec import Codec
from prow.format import container
from prow.format.geometry import passes
from prow.networks.condition import step_tensor
from prow.search import rate
from prow.search.effort import EFFORTS
from prow_kernels import prefix_attention

WAYS = ("torch", "compiled", "triton", "triton compiled")
ALLOWED = {"fp32": 1e-5, "bf16": 1e-2}  # relative error (root mean square) that a way may have above that of "torch"
EFFORT = 3  # of the files that tiles are drawn from
RATIO_AIM, PICTURE_AIM = 1.5, 2e-3  # the best way with the kernel over "compiled" from 256 tiles on; seconds a picture
WIDTH, HEIGHT, BUDGET = 768, 512, 1000  # px and bytes of `picture`
SEED = 20


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Arguments of `Tokenizer.correct` for tiles of one pass of a file; tensors have a row per tile."""

    values: Tensor
    counts: Tensor
    anchored: Tensor
    prediction: Tensor
    step: Tensor
    kind: int
    order: Tensor

    def draw(self, count: int) -> Tiles:
        """That many of them, drawn at random, one more than once if there are too few."""
        have, rng = len(self.counts), np.random.default_rng(SEED)
        picked = torch.from_numpy(rng.choice(have, count, replace=count > have)).to(self.counts.device)
        rows = {n: getattr(self, n)[picked] for n in ("values", "counts", "anchored", "prediction", "step")}
        return dataclasses.replace(self, **rows)

    def arguments(self) -> tuple[Any, ...]:
        return self.values, self.counts, self.anchored, self.prediction, self.step, self.kind, self.order


def tiles_of(backend: TorchBackend, pixels: np.ndarray, budget: int) -> Tiles:
    """The tiles of the last pass with tokens of a file of `budget` bytes. Their pictures are what they should become:
    no time depends on it."""
    room, model, device = budget - container.SMALL_HEADER_BYTES, backend.model, backend.device
    tokens = rate.at_bytes(Codec(backend), [pixels], room, EFFORTS[EFFORT])[0].tokens
    assert tokens.base is not None
    part, pass_ = tokens.passes[tokens.coded[-1]], passes(tokens.width, tokens.height, model.config)[tokens.coded[-1]]
    pictures = torch_ops.cut(backend.targets(pixels)[tokens.coded[-1]], pass_.level)
    return Tiles(
        torch.from_numpy(part.values.astype(np.float32)).to(device),
        torch.from_numpy(part.counts.astype(np.int64)).to(device),
        pictures,
        pictures,
        step_tensor(torch.full((len(part.counts),), pass_.step_index(tokens.base), device=device)),
        pass_.kind,
        torch.from_numpy(model.tables.order[pass_.kind].astype(np.int64)).to(device),
    )


# -- measuring -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def way(name: str) -> Iterator[Callable[[Callable], Callable]]:
    """What to make of a function so that it runs in that way."""
    with use_backend("triton" if name.startswith("triton") else "torch"):
        if not name.endswith("compiled"):
            yield lambda function: function
            return
        torch._dynamo.reset()
        yield lambda function: torch.compile(function, mode="reduce-overhead", dynamic=False)
        torch._dynamo.reset()


def seconds(call: Callable[[], Any], least: float) -> float:
    """Median time of a call; repeated for at least so many seconds, after warming up, and waiting for the GPU."""
    for _ in range(3):  # compiles, captures graphs
        call()
    return Timer("call()", globals={"call": call}).blocked_autorange(min_run_time=least).median


def error_of(got: Tensor, wanted: Tensor) -> float:
    """Relative root mean square error."""
    return float((got.double() - wanted.double()).norm() / wanted.double().norm().clamp(min=1e-30))


def measure_ways(
    function: Callable[..., Tensor], oracle: Tensor, arguments: tuple[Any, ...], args: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Seconds and error of each way; "failed" instead where a way does not run or computes something else."""
    cells: dict[str, dict[str, Any]] = {}
    with way("torch"), torch.inference_mode():
        allowed = ALLOWED[args.dtype] + error_of(function(*arguments), oracle)
    for name in args.ways:
        try:
            with way(name) as prepare, torch.inference_mode():
                call = prepare(function)
                error = error_of(call(*arguments), oracle)
                if not error <= allowed:
                    cells[name] = {"failed": f"relative error {error:.2g}, wanted at most {allowed:.2g}"}
                    continue
                cells[name] = {"seconds": seconds(lambda call=call: call(*arguments), args.seconds), "error": error}
        except Exception as failure:  # whatever a compiler throws: the other ways still count
            cells[name] = {"failed": f"{type(failure).__name__}: {failure}".splitlines()[0]}
    return cells


def machine_rates(device: str, dtype: torch.dtype, least: float) -> dict[str, float]:
    """Operations a second of a large matrix product, bytes a second of a large copy (read and written)."""
    side, large = (8192, 1 << 28) if device == "cuda" else (768, 1 << 22)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.empty(large, device=device)
    target = torch.empty_like(source)
    return {
        "operations": 2 * side**3 / seconds(lambda: a @ b, least),
        "bytes": 2 * source.numel() * source.element_size() / seconds(lambda: target.copy_(source), least),
    }


def measure_decoder(
    backend: TorchBackend, tiles: Tiles, rates: dict[str, float], args: argparse.Namespace
) -> dict[str, Any]:
    """One batch through `correct`: what it takes in each way, and its share of what the machine can do."""
    network, arguments = backend.network, tiles.arguments()
    network.bf16 = False
    with way("torch"), torch.inference_mode():
        oracle = network.correct(*arguments)
        with FlopCounterMode(display=False) as counter:
            network.correct(*arguments)
    network.bf16 = args.dtype == "bf16"
    moved = [*network.decoder.parameters(), *(t for t in arguments if isinstance(t, Tensor)), oracle]
    size = sum(t.numel() * t.element_size() for t in moved)
    cells = measure_ways(network.correct, oracle, arguments, args)
    for cell in cells.values():
        if "seconds" in cell:
            cell["share_of_operations"] = counter.get_total_flops() / cell["seconds"] / rates["operations"]
            cell["share_of_bytes"] = size / cell["seconds"] / rates["bytes"]
    return cells


def measure_attention(backend: TorchBackend, tiles: Tiles, args: argparse.Namespace) -> dict[str, Any]:
    """The op alone, at the decoder's sizes."""
    config, rng = backend.model.config, torch.Generator().manual_seed(SEED)
    head = config.heads, config.width // config.heads
    slots = (config.tile // config.patch) ** 2, config.tokens, config.tokens
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    q, k, v = (torch.randn(len(tiles.counts), n, *head, generator=rng).to(backend.device, dtype) for n in slots)
    with way("torch"), torch.inference_mode():
        oracle = prefix_attention(q.float(), k.float(), v.float(), tiles.counts)
    return measure_ways(prefix_attention, oracle, (q, k, v, tiles.counts), args)


def measure_picture(backend: TorchBackend, pixels: np.ndarray, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a whole file, and of its tokens alone, in the eager ways: levels have shapes of their own."""
    cells: dict[str, Any] = {}
    with way("torch"):
        data = prow.encode(Image.fromarray(pixels), bytes=BUDGET, model=args.model, effort=EFFORT, device=args.device)
    tokens, codec = read_tokens(data), Codec(backend)
    backend.network.bf16 = args.dtype == "bf16"
    for name in (n for n in args.ways if not n.endswith("compiled")):
        with way(name):
            cells[name] = {
                "file": seconds(lambda: codec.backend.to_image(codec.decode(read_tokens(data))), args.seconds),
                "tokens": seconds(lambda: codec.decode(tokens), args.seconds),
            }
    return cells


def collect(args: argparse.Namespace, name: str, original: np.ndarray) -> dict[str, Any]:
    """All there is to know, ready for JSON."""
    pixels = np.asarray(ImageOps.fit(Image.fromarray(original), (WIDTH, HEIGHT), Image.Resampling.LANCZOS))
    model = registry.load(args.model)
    backend = load_backend(model, args.device)
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    rates = machine_rates(args.device, dtype, args.seconds)
    rows = []
    for budget in args.budgets:
        pool = tiles_of(backend, pixels, budget)
        for count in args.tiles:
            tiles = pool.draw(count)
            facts = {"budget": budget, "tiles": count, "tokens_per_tile": float(tiles.counts.double().mean())}
            decoder, attention = measure_decoder(backend, tiles, rates, args), measure_attention(backend, tiles, args)
            rows.append({**facts, "decoder": decoder, "attention": attention})
            print(f"{budget:,} bytes, {count:,} tiles", file=sys.stderr)
    return {
        "schema": 1,
        "commit": checkout(),
        "versions": versions(["torch", *(["triton"] if importlib.util.find_spec("triton") else [])]),
        "device": gpu_model() if args.device == "cuda" else cpu_model(),
        "dtype": args.dtype,
        "model": model.config.name,
        "image": name,
        "rates": rates,
        "rows": rows,
        "picture": measure_picture(backend, pixels, args),
    }


# -- report --------------------------------------------------------------------------------------------------------


def show(results: dict[str, Any]) -> str:
    """The tables as text."""
    rates = results["rates"]
    lines = [
        f"{results['model']}, {results['dtype']}, on {results['device']}: a matrix product has "
        f"{rates['operations'] / 1e12:.3g} T operations/s, a copy {rates['bytes'] / 1e9:.4g} GB/s"
    ]
    side = registry.load(results["model"]).config.tile
    for part in ("decoder", "attention"):
        head = ["bytes", "tiles", "tokens a tile", part, "ms", "tiles/s", "Mpx/s", "x compiled", "operations", "bytes"]
        lines += ["", plain([head, *(cells for row in results["rows"] for cells in _cells(row, part, side))])]
    failed = [
        f"  {part}, {row['tiles']:,} tiles, {name}: {cell['failed']}"
        for row in results["rows"]
        for part in ("decoder", "attention")
        for name, cell in row[part].items()
        if "failed" in cell
    ]
    lines += ["", "failed:", *failed] if failed else []
    picture = results["picture"]
    lines += ["", plain([["picture", "file, ms", "tokens, ms"], *([n, *_ms(c)] for n, c in picture.items())])]
    return "\n".join([*lines, "", *aims(results)])


def _cells(row: dict[str, Any], part: str, side: int) -> Iterator[list[str]]:
    compiled = row[part].get("compiled", {}).get("seconds")
    for name, cell in row[part].items():
        start = [f"{row['budget']:,}", f"{row['tiles']:,}", f"{row['tokens_per_tile']:.2f}", name]
        if "failed" in cell:
            yield [*start, *["failed"] * 3, "-", "-", "-"]
            continue
        rate = row["tiles"] / cell["seconds"]
        speed = [f"{1e3 * cell['seconds']:.3f}", f"{rate:,.0f}", f"{rate * side**2 / 1e6:,.2f}"]
        ratio = f"{compiled / cell['seconds']:.2f}" if compiled else "-"
        shares = [cell.get(f"share_of_{what}") for what in ("operations", "bytes")]
        yield [*start, *speed, ratio, *("-" if share is None else f"{100 * share:.1f} %" for share in shares)]


def _ms(cell: dict[str, float]) -> list[str]:
    return [f"{1e3 * cell[part]:.2f}" for part in ("file", "tokens")]


def aims(results: dict[str, Any]) -> list[str]:
    """What we aim at, as far as this machine can tell."""
    lines = []
    for row in results["rows"]:
        cells = row["decoder"]
        ours = [c["seconds"] for n, c in cells.items() if n.startswith("triton") and "seconds" in c]
        compiled = cells.get("compiled", {}).get("seconds")
        if row["tiles"] >= 256 and ours and compiled:
            ratio = compiled / min(ours)
            verdict = "met" if ratio >= RATIO_AIM else "missed"
            what = f"{row['budget']:,} bytes, {row['tiles']:,} tiles"
            lines.append(f"{what}: {ratio:.2f} x compiled, aim {RATIO_AIM} {verdict}")
    if "triton" in results["picture"]:
        took = results["picture"]["triton"]["file"]
        verdict = "met" if took <= PICTURE_AIM else "missed"
        lines.append(f"picture: {1e3 * took:.2f} ms, aim {1e3 * PICTURE_AIM:.0f} {verdict}")
    return lines or ["no aim can be judged without a GPU"]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = parser_of("kernels", __doc__)
    gpu = torch.cuda.is_available()
    parser.add_argument("--image", type=Path, metavar="FILE", help="default: a photo that ships with scikit-image")
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], default="cuda" if gpu else "cpu", help="default: %(default)s"
    )
    parser.add_argument("--dtype", choices=list(ALLOWED), help="default: bf16 on a GPU, fp32 on a CPU")
    parser.add_argument("--ways", metavar="LIST", help=f"of {', '.join(WAYS)}; default: on a GPU all, on a CPU torch")
    parser.add_argument("--tiles", default="1,16,256,4096", metavar="LIST", help="default: %(default)s")
    parser.add_argument("--budgets", default="512,2048,8192", metavar="LIST", help="bytes; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=0.2, help="that a way is repeated for; default: %(default)s")
    parser.add_argument("--model", default="default", metavar="NAME", help="default: the installed default model")
    parser.add_argument(
        "--out", type=Path, default=Path("build/kernels.json"), metavar="FILE.json", help="default: %(default)s"
    )
    args = parser.parse_args(argv)
    if args.device == "cuda" and not gpu:
        parser.error("--device is cuda: torch finds no GPU")
    args.dtype = args.dtype or ("bf16" if args.device == "cuda" else "fp32")
    args.ways = args.ways or ",".join(WAYS if args.device == "cuda" else WAYS[:1])
    check_names(parser, args, {"ways": WAYS})
    args.tiles = numbers(parser, "tiles", args.tiles, int, 1, 1 << 16)
    args.budgets = numbers(parser, "budgets", args.budgets, int, container.MIN_BYTES, 1 << 20)
    if not args.seconds > 0:
        parser.error(f"--seconds is {args.seconds}: must be above 0")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; 1 if a way failed."""
    args = parse_args(argv)
    try:
        name, original = read_original(args.image)
        if not registry.load(args.model).config.network:
            raise SystemExit(f"kernels: model {args.model!r} has no network, so there is nothing to measure")
    except prow.ProwError as error:
        raise SystemExit(f"kernels: {error}") from None
    check_place(args.out, "kernels")
    results = collect(args, name, original)
    write(args.out, json.dumps(results, indent=1) + "\n")
    print(show(results))
    cells = [cell for row in results["rows"] for part in ("decoder", "attention") for cell in row[part].values()]
    return int(any("failed" in cell for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
