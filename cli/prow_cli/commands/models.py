"""`prow models`: what is installed, and models of other tokenizers."""

from __future__ import annotations

import dataclasses
import json

import click

import prow

from ..output import json_option, quiet_option, remark, tell_json, warnings_into
from ..progress_bar import progress_bar


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.option(
    "--verbose", "-v", is_flag=True, help="Also say what each backend does on this machine, and if nothing, why."
)
@click.pass_context
def models(context: click.Context, as_json: bool, verbose: bool) -> None:
    """List the models that are installed; import those of others."""
    if context.invoked_subcommand is not None:
        if as_json or verbose:
            raise click.UsageError("--json and --verbose of `prow models` came with a command of it")
        return
    remarks: list[str] = []
    with warnings_into(remarks):
        infos = prow.models()
    for line in remarks:
        remark(line)
    if as_json:
        facts: dict[str, object] = {"models": [dataclasses.asdict(one) for one in infos]}
        click.echo(json.dumps({**facts, "backends": _backends()} if verbose else facts))
        return
    width = max(len(one.name) for one in infos)
    for one in infos:
        mark = "*" if one.is_default else " "
        styles = "faithful, vivid" if one.vivid_sha256 else "faithful"
        what = one.description + (f" (external id {one.external_id})" if one.external_id else "")
        click.echo(f"{mark} {one.id:>3}  {one.name:<{width}} {one.weights_bytes:>12,} bytes  {styles:<16} {what}")
    click.echo("* the default")
    if verbose:
        for name, what in _backends().items():
            click.echo(f"backend {name:<8} {what}")


@models.command("import")
@click.argument("name", metavar="NAME")
@click.argument("file", metavar="FILE")
@click.option("--force", is_flag=True, help="Replace a model of this name; files made with it become unreadable.")
@quiet_option
@json_option
def import_command(name: str, file: str, force: bool, quiet: bool, as_json: bool) -> None:
    """Make a model NAME of the weights in FILE, which are copied.

    FILE is the model.safetensors or pytorch_model.bin of One-D-Piece S-256, B-256 or L-256. Each tensor is checked, and
    no code in it is run. Models go into a folder of this user, or into PROW_MODELS.
    """
    with progress_bar(quiet=quiet):
        one = prow.import_model(name, file, replace=force)
    if not quiet:
        remark(f"model {one.name}: {one.weights_bytes:,} bytes, external id {one.external_id}; {one.description}")
    tell_json(as_json, **dataclasses.asdict(one))


@models.command("fit-tables")
@click.argument("name", metavar="NAME")
@click.option("--data", required=True, metavar="DIR", help="A folder of pictures, such as those to be encoded.")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@quiet_option
@json_option
def fit_tables(name: str, data: str, device: str, quiet: bool, as_json: bool) -> None:
    """Fit the frequencies of the imported model NAME to pictures: files get smaller.

    Files that are made from then on can be read where the model has these tables; those made before stay readable.
    """
    with progress_bar(quiet=quiet):
        one, bits = prow.fit_tables(name, data, device=device)
    if not quiet:
        remark(f"model {one.name}: {bits:.3f} bits a token of new pictures; external id {one.external_id}")
    tell_json(as_json, bits_per_token=round(bits, 4), **dataclasses.asdict(one))


def _backends() -> dict[str, str]:
    """What each does on this machine, for the default model."""
    from prow import registry
    from prow.backends import select

    return select.explain(registry.load("default").config)
