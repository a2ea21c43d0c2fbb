"""`prow models`: what is installed."""

from __future__ import annotations

import dataclasses
import json

import click

import prow


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.option(
    "--verbose", "-v", is_flag=True, help="Also say what each backend does on this machine, and if nothing, why."
)
def models(as_json: bool, verbose: bool) -> None:
    """List the models that are installed."""
    if as_json:
        facts: dict[str, object] = {"models": [dataclasses.asdict(one) for one in prow.models()]}
        click.echo(json.dumps({**facts, "backends": _backends()} if verbose else facts))
        return
    for one in prow.models():
        mark = "*" if one.is_default else " "
        styles = "faithful, vivid" if one.vivid_sha256 else "faithful"
        click.echo(f"{mark} {one.id:>3}  {one.name:<12} {one.weights_bytes:>12,} bytes  {styles:<16} {one.description}")
    click.echo("* the default")
    if verbose:
        for name, what in _backends().items():
            click.echo(f"backend {name:<8} {what}")


def _backends() -> dict[str, str]:
    """What each does on this machine, for the default model."""
    from prow import registry
    from prow.backends import select

    return select.explain(registry.load("default").config)
