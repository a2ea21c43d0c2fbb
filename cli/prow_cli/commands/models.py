"""`prow models`: what is installed."""

from __future__ import annotations

import click

import prow


@click.command()
@click.option("--verbose", is_flag=True, help="Also say what each backend does on this machine, and if nothing, why.")
def models(verbose: bool) -> None:
    """List the models that are installed."""
    for one in prow.models():
        mark = "*" if one.is_default else " "
        styles = "faithful, vivid" if one.vivid_sha256 else "faithful"
        click.echo(f"{mark} {one.id:>3}  {one.name:<12} {one.weights_bytes:>12,} bytes  {styles:<16} {one.description}")
    click.echo("* the default")
    if verbose:
        from prow import registry
        from prow.backends import select

        for name, what in select.explain(registry.load("default").config).items():
            click.echo(f"backend {name:<8} {what}")
