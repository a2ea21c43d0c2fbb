"""`prow page`: a page with a slider over the bytes of prow files, which it decodes itself."""

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
from prow.format.container import MIN_BYTES
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

FOLDER = Path(__file__).parents[1] / "page"
BUILT = ("page.js", "runtime.wasm.gz")  # in FOLDER / "web", by `make web`
START = 713  # where the slider stands at first, of 1,000
_RUNGS = 4  # sizes an octave at which WebP and AVIF are made
_ORIGINAL = {"quality": 90}  # of the WebP file that stands for the original


def _size(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    try:
        return parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("sources", metavar="IMG...", nargs=-1, required=True)
@click.option("--out", "-o", required=True, metavar="HTML", help="The page.")
@click.option("--bytes", "budget", default="4k", callback=_size, metavar="N", help="Size of each prow file.")
@click.option("--effort", type=click.IntRange(1, 9), default=DEFAULT_EFFORT, help="Of prow: 1 (quick) to 9 (slow).")
@click.option("--max-side", type=click.IntRange(16, 8192), default=768, help="Shrink IMG to so many px a side first.")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@force_option
@quiet_option
@verbose_option
@json_option
def page(
    sources: tuple[str, ...],
    out: str,
    budget: int,
    effort: int,
    max_side: int,
    device: str,
    force: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Make a page that decodes the pictures IMG... while a slider moves over their bytes.

    The page holds a prow file a picture, the decoder and its model, and needs no network. Beside each stand the WebP
    and the AVIF file that fit into the same bytes, with the downscale that is best by PSNR.
    """
    check_json(out, as_json)
    check_free(out, force=force)
    script, runtime = _built()
    shown = [_shown(source, budget, effort, max_side, device) for source in sources]
    missing = {rival.name for rival in _rivals() if not rival.there()}
    for name in sorted(missing) if not quiet else ():
        remark(f"{name} is left out: this Pillow cannot write it")
    template = string.Template((FOLDER / "slider.html").read_text(encoding="utf-8"))
    content = template.substitute(
        title="prow: the bytes are a slider",
        note=html.escape(_note(budget)),
        start=START,
        data=json.dumps(shown).replace("<", "\\u003c"),  # nothing in it ends the element
        model=_text(_model()),
        runtime=_text(runtime),
        script=script.replace("</script", "<\\/script"),
    ).encode()
    write(out, content, force=force)
    files = {one["name"]: one["bytes"] for one in shown}
    tell(out, f"{len(content):,} bytes, {len(shown)} pictures", quiet=quiet, verbose=verbose)
    tell_json(as_json, out=out, bytes=len(content), files=files)


def _built() -> tuple[str, bytes]:
    """The page's script and its runtime. Raises click.ClickException if they are not built."""
    script, runtime = (FOLDER / "web" / name for name in BUILT)
    if not (script.is_file() and runtime.is_file()):
        raise click.ClickException(
            f"{script.parent} has no decoder for browsers: it is built by `make web` in a checkout of prow, "
            "and the wheel has it if it was built then"
        )
    return script.read_text(encoding="utf-8"), runtime.read_bytes()


def _model() -> bytes:
    from prow import registry
    from prow.web import web_model

    return web_model(registry.load("default"))


def _rivals() -> tuple[Any, ...]:
    from ..rivals import RIVALS

    return RIVALS


def _note(budget: int) -> str:
    return (
        f"Each picture is one prow file of {budget:,} bytes or fewer, and any prefix of it is a picture: the slider "
        "says how many of its bytes are decoded, here in the page. WebP and AVIF are files of their own for each size, "
        "with the best downscale by PSNR (1, 2, 4, 8, 16) and the highest quality that fits."
    )


def _shown(source: str, budget: int, effort: int, max_side: int, device: str) -> dict[str, Any]:
    """What the page is told of a picture (`Shown` in codec/prow_js/page/page.js)."""
    import numpy as np
    from PIL import Image

    from prow.image import load_rgb

    image = Image.fromarray(load_rgb(source))
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    data = prow.encode(pixels, bytes=budget, effort=effort, device=device)
    least = min(MIN_BYTES, len(data))
    return {
        "name": Path(source).name,
        "width": image.width,
        "height": image.height,
        "bytes": len(data),
        "least": least,
        "prow": _text(data),
        "original": _original(image),
        "rivals": {rival.name: _files(rival, pixels, least, len(data)) for rival in _rivals() if rival.there()},
    }


def _files(rival: Any, pixels: np.ndarray, least: int, most: int) -> list[dict[str, Any]]:
    """Files of a codec in rising order, at most one a rung."""
    rungs = [most]
    while (rung := round(rungs[-1] / 2 ** (1 / _RUNGS))) > least:
        rungs.append(rung)
    files: list[dict[str, Any]] = []
    for shot in rival.best(pixels, sorted(rungs)).values():
        if shot is not None and (not files or shot.size > files[-1]["bytes"]):
            files.append({"bytes": shot.size, "file": _text(shot.content), "how": shot.how})
    return files


def _original(image: Any) -> str:
    file = io.BytesIO()
    image.save(file, "WEBP", **_ORIGINAL)
    return "data:image/webp;base64," + _text(file.getvalue())


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
