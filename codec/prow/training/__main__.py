"""Command line of the training: `python -m prow.training --data DIR --config prow-small --minutes 90 --resume`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from ..format.config import CONFIGS
from ..registry import parse_model
from .evaluate import rd_figures, validation_images
from .export import export
from .finish import fit_tables
from .trainer import Options, Trainer, log_line

BOOTSTRAP_BATCHES = 60
SAVE_EVERY_MINUTES = 3.0
COLLECT_MINUTES = 7.0
# What `--gpu` stands for: the shipped model, nine minutes more (docs/gpu.md).
GPU = ["--minutes", "9", "--device", "cuda", "--bf16", "--compile", "inductor", "--resident"]
GPU += ["--pixels", "1048576", "--rate", "1e-3"]
GPU += ["--keep-tables", "--init", str(Path(__file__).parents[1] / "weights" / "prow-small.safetensors")]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m prow.training", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ (tars or pictures) and val/")
    parser.add_argument("--config", choices=sorted(CONFIGS), default="prow-small")
    parser.add_argument("--minutes", type=float, required=True, help="of training, all resumed runs together")
    parser.add_argument("--out", type=Path, help="folder for state, log and weights (default runs/CONFIG)")
    parser.add_argument("--resume", action="store_true", help="go on from the state in the output folder")
    parser.add_argument("--init", type=Path, help="model file whose weights a new run starts from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast (on a CPU for the loop filters alone)")
    parser.add_argument("--pixels", type=int, default=4 * 128 * 128, help="px a batch")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--kappa", type=float, default=Options.kappa, help="price of a bit in squared steps")
    parser.add_argument("--collect-minutes", type=float, default=COLLECT_MINUTES, help="of encoding for the tables")
    parser.add_argument(
        "--export-only", action="store_true", help="write weights and tables of the saved state, or of --init"
    )
    parser.add_argument("--keep-tables", action="store_true", help="those of --init: new weights, the same tokens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", metavar="BACKEND", help="of torch.compile, for the networks: inductor")
    parser.add_argument("--resident", action="store_true", help="decode all photos once and keep them on the device")
    parser.add_argument("--gpu", action="store_true", help="other defaults: nine minutes more for the shipped model")
    args, _ = parser.parse_known_args()
    args = parser.parse_args([*GPU, *sys.argv[1:]] if args.gpu else None)
    if args.keep_tables and not args.init:
        parser.error("--keep-tables came without --init, whose tables are wanted")
    return args


def main() -> None:
    args = parse()
    out = args.out or Path("runs") / args.config
    options = Options(
        data=args.data / "train",
        out=out,
        config=args.config,
        minutes=args.minutes,
        pixels=args.pixels,
        rate=args.rate,
        kappa=args.kappa,
        device=args.device,
        bf16=args.bf16,
        compile=args.compile,
        resident=args.resident,
        seed=args.seed if not args.resume else args.seed + int(time.time()),
    )
    trainer = Trainer(options)
    if (args.resume or args.export_only) and trainer.state_file.exists():
        trainer.load()
    else:
        if args.init:
            trainer.start_from(args.init)
        trainer.bootstrap(BOOTSTRAP_BATCHES, order=not args.init)
    if not args.export_only and trainer.config.network:
        train(trainer, args.data / "val")
    if args.keep_tables:
        trainer.save()
        print(export(trainer.average.cpu(), parse_model(args.init.read_bytes(), str(args.init)).tables, out))
        return
    minutes = args.collect_minutes * 6 / 7
    if args.export_only and args.init:
        first = parse_model(args.init.read_bytes(), str(args.init)).tables
    else:
        trainer.collect(args.collect_minutes / 7)
        trainer.save()
        first = trainer.statistics.tables()
    tables = fit_tables(trainer.average.cpu(), first, options.data, minutes)
    print(export(trainer.average, tables, out))


def train(trainer: Trainer, val: Path) -> None:
    """Train until the minutes are used up; log every minute, save every few."""
    options = trainer.options
    options.out.mkdir(parents=True, exist_ok=True)
    images = validation_images(val, 6, 384, trainer.device)
    logged = saved = last = time.monotonic()
    losses: list[float] = []
    pixels = trainer.pixels
    while trainer.minutes < options.minutes:
        losses.append(trainer.train_on_batch())
        now = time.monotonic()
        trainer.minutes, last = trainer.minutes + (now - last) / 60, now
        if now - logged >= 60 or trainer.minutes >= options.minutes:
            figures = rd_figures(trainer.average, images, trainer.statistics, options.kappa)
            loss = sum(losses) / len(losses)
            record = {
                "minutes": round(trainer.minutes, 2),
                "updates": trainer.updates,
                "megapixels_a_second": round((trainer.pixels - pixels) / (now - logged) / 1e6, 4),
                "loss": round(loss, 4),
                **figures,
            }
            log_line(options.out / "log.jsonl", record)
            logged, losses, pixels = time.monotonic(), [], trainer.pixels
        if now - saved >= 60 * SAVE_EVERY_MINUTES:
            trainer.save()
            saved = time.monotonic()
    trainer.save()


if __name__ == "__main__":
    main()
