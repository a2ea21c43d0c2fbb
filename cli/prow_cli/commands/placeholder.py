"""`prow placeholder`: a picture becomes text of a few bytes, to put into HTML or JSON."""

from __future__ import annotations

import base64
import json

import click

import prow
from prow.options import DEFAULT_EFFORT, DEFAULT_PLACEHOLDER_BYTES

from ..input import name_of, picture, source_argument
from ..output import remark, warnings_into
from ..sizes import Size

MIME = "image/x-prow"


@click.command()
@source_argument
@click.option(
    "--bytes", "size", type=Size(), metavar="N", default=DEFAULT_PLACEHOLDER_BYTES, help="Size of it before base64."
)
@click.option(
    "--format",
    "text_format",
    type=click.Choice(["base64", "data-uri", "json"]),
    default="base64",
    help="json: with width, height, bytes and model.",
)
@click.option("--model", default="default", metavar="NAME", help="One that `prow models` lists.")
@click.option("--effort", type=click.IntRange(1, 9), default=DEFAULT_EFFORT, help="1 (quick) to 9 (slow).")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
def placeholder(source: str, size: int, text_format: str, model: str, effort: int, device: str) -> None:
    """Print a placeholder of the picture IN: N bytes of the bare profile, as text."""
    image, lost = picture(source)
    remarks = [f"{name_of(source)}: {one}" for one in lost]
    with warnings_into(remarks):
        data = prow.placeholder(image, size, model=model, effort=effort, device=device)
    text = base64.b64encode(data).decode("ascii")
    if text_format == "data-uri":
        text = f"data:{MIME};base64,{text}"
    elif text_format == "json":
        facts = prow.inspect(data)
        fields = {"width": facts.width, "height": facts.height, "bytes": len(data), "base64": text}
        text = json.dumps({**fields, "model": facts.model})
    click.echo(text)
    for one in remarks:
        remark(one)
