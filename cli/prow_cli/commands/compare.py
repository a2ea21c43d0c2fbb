"""`prow compare`: a page with a slider between a picture, prow, WebP and AVIF at the same sizes."""

from __future__ import annotations

import base64
import html
import io
import json
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import prow
from prow.options import DEFAULT_EFFORT

from ..output import (
    check_free,
    check_json,
    force_option,
    json_option,
    quiet_option,
    remark,
    tell,
    tell_json,
    verbose_option,
    write,
)
from ..sizes import parse_size

if TYPE_CHECKING:
    import numpy as np

    from ..rivals import Shot

PAGE = Path(__file__).parents[1] / "page" / "compare.html"


def _budgets(_ctx: click.Context, _param: click.Parameter, value: str) -> list[int]:
    try:
        return sorted({parse_size(text) for text in value.split(",")})
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("source", metavar="IMG")
@click.option("--out", "-o", required=True, metavar="HTML", help="The page.")
@click.option("--budgets", default="200,500,1k,2k", callback=_budgets, metavar="N,N", help="Sizes of files in bytes.")
@click.option("--effort", type=click.IntRange(1, 9), default=DEFAULT_EFFORT, help="Of prow: 1 (quick) to 9 (slow).")
@click.option("--max-side", type=click.IntRange(16, 8192), default=1024, help="Shrink IMG to so many px a side first.")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@force_option
@quiet_option
@verbose_option
@json_option
def compare(
    source: str,
    out: str,
    budgets: list[int],
    effort: int,
    max_side: int,
    device: str,
    force: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Make a page that compares the picture IMG with prow, WebP and AVIF.

    The page has a slider between any two of them at each size. It holds all pictures and needs no network. WebP and
    AVIF have the downscale that is best by PSNR, at the highest quality that fits.
    """
    check_json(out, as_json)
    check_free(out, force=force)
    from PIL import Image

    from prow.image import load_rgb

    from ..rivals import RIVALS

    pixels = load_rgb(source)
    height, width = pixels.shape[:2]
    note = "Numbers are bytes of whole files, and PSNR to the original. "
    if max(width, height) > max_side:
        image = Image.fromarray(pixels)
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
        pixels = _array(image)
        note += f"The original was shrunk from {width:,} x {height:,} px before all else. "
    note += "WebP and AVIF have the best downscale by PSNR (1, 2, 4, 8, 16), each at the highest quality that fits."
    shots: dict[str, dict[int, Any]] = {
        "prow": {n: _entry(pixels, _of_prow(pixels, n, effort, device)) for n in budgets}
    }
    for rival in RIVALS:
        if rival.there():
            shots[rival.name] = {n: _entry(pixels, shot) for n, shot in rival.best(pixels, budgets).items()}
        elif not quiet:
            remark(f"{rival.name} is left out: this Pillow cannot write it")
    height, width = pixels.shape[:2]
    data = {
        "width": width,
        "height": height,
        "original": {"picture": _uri(pixels), "how": f"{width:,} x {height:,} px"},
        "budgets": budgets,
        "shots": shots,
    }
    template = string.Template(PAGE.read_text(encoding="utf-8"))
    told = json.dumps(data).replace("<", "\\u003c")  # nothing in it ends the element
    title = html.escape(f"{Path(source).name}, compared")
    page = template.substitute(title=title, note=html.escape(note), data=told).encode()
    write(out, page, force=force)
    tell(out, f"{len(page):,} bytes, {len(budgets)} sizes, {', '.join(shots)}", quiet=quiet, verbose=verbose)
    tell_json(as_json, out=out, bytes=len(page), budgets=budgets, codecs=list(shots))


def _of_prow(pixels: np.ndarray, budget: int, effort: int, device: str) -> Shot:
    from ..rivals import Shot

    data = prow.encode(pixels, bytes=budget, effort=effort, device=device)
    return Shot(_array(prow.decode(data, device=device)), data, f"effort {effort}")


def _entry(pixels: np.ndarray, shot: Shot | None) -> dict[str, Any] | None:
    """What the page is told of a picture; None if the codec cannot."""
    if shot is None:
        return None
    from ..rivals import psnr

    how = f"PSNR {psnr(pixels, shot.pixels):.2f} dB, {shot.how}"
    return {"picture": _uri(shot.pixels), "bytes": shot.size, "how": how}


def _array(image: Any) -> np.ndarray:
    import numpy as np

    return np.asarray(image)


def _uri(pixels: np.ndarray) -> str:
    """A picture [H, W, 3] uint8 as a data URI, without loss."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
