"""`prow truncate`: a prow file becomes a smaller one."""

from __future__ import annotations

import click

import prow

from ..input import name_of, naming, read, source_argument
from ..output import (
    check_free,
    check_json,
    force_option,
    json_option,
    out_argument,
    quiet_option,
    remark,
    tell_json,
    write,
)
from ..sizes import Size


@click.command()
@source_argument
@out_argument
@click.option("--bytes", "size", type=Size(), metavar="N", required=True, help="Size of the new file at most.")
@force_option
@quiet_option
@json_option
def truncate(source: str, out: str, size: int, force: bool, quiet: bool, as_json: bool) -> None:
    """Cut the prow file IN to N bytes, with a header that is right for what is left. Needs no model."""
    check_json(out, as_json)
    check_free(out, force=force)
    content = read(source)
    with naming(source):
        data = prow.truncate(content, size)
    write(out, data, force=force)
    tell_json(as_json, out=out, bytes=len(data))
    if len(content) < size and not quiet:
        remark(f"{name_of(source)} has only {len(content):,} of the {size:,} bytes asked for")
