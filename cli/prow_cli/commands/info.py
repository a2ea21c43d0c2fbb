"""`prow info`: what a prow file says about itself."""

from __future__ import annotations

import dataclasses
import json

import click

import prow

from ..input import name_of, naming, read


@click.command()
@click.argument("source", metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.option("--verify", is_flag=True, help="Fail (exit code 1) unless the file is whole and its checks are right.")
@click.option("--tokens", is_flag=True, help="Count the tokens of each pass, for which they are all read.")
@click.option("--bare", is_flag=True, help="Take FILE for bare data even if its model is not installed.")
def info(source: str, as_json: bool, verify: bool, tokens: bool, bare: bool) -> None:
    """Say what the prow file FILE holds, without decoding it."""
    with naming(source):
        facts = prow.inspect(read(source), tokens=tokens, bare=bare)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(facts)))
    else:
        _tell(facts)
    if verify and (trouble := _trouble(facts)):
        raise click.ClickException(f"{name_of(source)}: {trouble}")


def _trouble(facts: prow.Info) -> str:
    """Why a file is not known to be right; "" if it is."""
    if facts.state == "damaged":
        where = "" if facts.sure_bytes is None else f" behind its first {facts.sure_bytes:,} bytes"
        return f"the file is damaged{where}: a checksum is wrong"
    if facts.state == "cut":
        return f"the file is cut: {facts.present_bytes:,} of {facts.declared_bytes:,} bytes, which no checksum covers"
    return "bare data holds no checksum" if facts.check is None else ""


def _tell(facts: prow.Info) -> None:
    """A line for each fact."""
    came = f"{facts.present_bytes:,} bytes"
    if facts.declared_bytes is not None:
        came = f"{facts.present_bytes:,} of {facts.declared_bytes:,} bytes, {facts.state}"
    click.echo(f"format    version {facts.version}, {facts.profile} profile")
    click.echo(f"model     {facts.model or 'not installed'} (id {facts.model_id})")
    click.echo(f"picture   {facts.width:,} x {facts.height:,} px" + (f", {facts.mode}" if facts.mode else ""))
    click.echo(f"size      {came}, {8 * facts.present_bytes / (facts.width * facts.height):.4f} bits per pixel")
    if facts.check is not None:
        sure = "none" if facts.sure_bytes is None else f"{facts.sure_bytes:,}"
        click.echo(f"check     {facts.check}, {sure} of the bytes known to be right")
    if facts.trailing_bytes:
        chunks = "".join(f", {tag.strip()} {size:,}" for tag, size in facts.extras.items())
        click.echo(f"extras    {facts.trailing_bytes:,} bytes after the stream, not needed for the picture{chunks}")
    if facts.step is not None:
        click.echo(f"step      {facts.step:.4g} grey levels at full resolution")
    for number, one in enumerate(facts.tokens_per_pass or (), 1):
        click.echo(
            f"pass {number:<4} {one.kind:<7} {one.width:>6,} x {one.height:<6,} px  {one.tiles:>6,} tiles  "
            f"step {one.step:>6.2f}  {one.tokens:>8,} tokens"
        )
