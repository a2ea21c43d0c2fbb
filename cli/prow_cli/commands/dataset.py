"""`prow dataset`: many pictures in Parquet files, on one machine or on many."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import click

from prow.options import DEFAULT_EFFORT, STYLES

from ..interrupts import raise_on_interrupt
from ..output import json_option, tell_json
from ..sizes import Size

Command = Callable[..., None]


@click.group()
def dataset() -> None:
    """Encode, decode and cut datasets of pictures.

    SRC is a folder of pictures, Parquet files or WebDataset tars, or one such file; DST becomes a folder of Parquet
    files. A picture that cannot be read becomes a row with its error. A run that was stopped continues when it is
    started again. Takes pip install 'prow[dataset]'.
    """


def _shared(picture_column: str) -> Callable[[Command], Command]:
    """What all that make a dataset have in common."""
    count = click.IntRange(min=1)
    options = (
        click.argument("src", metavar="SRC"),
        click.argument("dst", metavar="DST"),
        click.option("--column", metavar="NAME", help=f"That of the pictures; {picture_column}."),
        click.option("--drop", multiple=True, metavar="NAME", help="Leave this column of SRC out; may come again."),
        click.option("--shard", type=count, default=1000, metavar="N", help="Pictures in each file of DST."),
        click.option("--batch", type=count, metavar="N", help="Pictures that a worker reads at once.", default=32),
        click.option("--runner", type=click.Choice(["local", "ray"]), default="local", help="ray: see RAY_ADDRESS."),
        click.option("--concurrency", type=count, metavar="N", help="Workers; by default one for each core."),
    )

    def add(command: Command) -> Command:
        return functools.reduce(lambda inner, option: option(inner), reversed(options), command)

    return add


_keep = click.option("--keep", is_flag=True, help="Keep the column of the pictures, too.")
_device = click.option("--device", default="auto", help="auto, cpu or cuda.")


@dataset.command()
@_shared("in Parquet image by default, in tars the ending of a name")
@click.option("--bytes", "size", type=Size(), metavar="N", required=True, help="Size of each prow file at most.")
@click.option("--effort", type=click.IntRange(1, 9), default=DEFAULT_EFFORT, help="1 (quick) to 9 (slow).")
@click.option("--model", default="default", metavar="NAME", help="One that `prow models` lists.")
@click.option("--psnr", is_flag=True, help="Add a column with the PSNR in dB: takes decoding.")
@_keep
@_device
def encode(src: str, dst: str, size: int, **options: Any) -> None:
    """Encode the pictures of SRC: DST has its columns, and prow, width, height, bytes, error."""
    _run("encode", src, dst, bytes=size, **options)


@dataset.command()
@_shared("prow by default")
@click.option(
    "--format", "picture_format", type=click.Choice(["png", "webp", "jpeg"]), default="png", help="Of the pictures."
)
@click.option("--style", type=click.Choice(STYLES), default=STYLES[0], hidden=True, help="As of prow decode.")
@_keep
@_device
def decode(src: str, dst: str, **options: Any) -> None:
    """Decode the prow files of SRC: DST has a column image instead of prow."""
    _run("decode", src, dst, **options)


@dataset.command()
@_shared("prow by default")
@click.option("--bytes", "size", type=Size(), metavar="N", required=True, help="Size of each prow file at most.")
def truncate(src: str, dst: str, size: int, **options: Any) -> None:
    """Cut the prow files of SRC. Needs no model."""
    _run("truncate", src, dst, bytes=size, **options)


@dataset.command()
@click.argument("folder", metavar="DST")
@json_option
def stats(folder: str, as_json: bool) -> None:
    """Sum up the dataset DST, finished or not."""
    import prow.dataset

    one = prow.dataset.stats(folder)
    tell_json(as_json, **dataclasses.asdict(one))
    if as_json:
        return
    good = one.rows - one.errors
    shards = f"{one.shards:,}" if one.wanted_shards is None else f"{one.shards:,} of {one.wanted_shards:,}"
    click.echo(f"shards    {shards}")
    click.echo(f"rows      {one.rows:,}, {one.errors:,} with an error")
    if one.bytes and good:
        click.echo(f"bytes     {one.bytes:,}, {one.bytes / good:,.1f} a picture")
    if good:
        click.echo(f"pixels    {one.pixels:,}, {one.pixels / good:,.0f} a picture")
    if one.psnr is not None:
        click.echo(f"PSNR      {one.psnr:.2f} dB, the mean")
    for message, count in one.messages:
        click.echo(f"error     {count:,} times: {message}")


def _run(name: str, src: str, dst: str, **options: Any) -> None:
    """Call the library, and say what came of it."""
    raise_on_interrupt()  # Daft and Ray have processes to end
    import prow.dataset

    if options["column"] is None and name != "encode":
        del options["column"]
    one = getattr(prow.dataset, name)(src, dst, **options)
    click.echo(f"{one.rows:,} rows, {one.errors:,} with an error, in {one.shards:,} shards, {one.made:,} of them new")
