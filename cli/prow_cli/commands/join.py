"""`prow join`: packets become prow files."""

from __future__ import annotations

from pathlib import Path

import click

from prow import links

from ..input import STDIN, read
from ..output import STDOUT, check_free, check_json, force_option, json_option, remark, tell_json, write


@click.command()
@click.argument("sources", metavar="PACKETS...", nargs=-1, required=True)
@click.option("--out", "-o", required=True, metavar="FILE", help="The prow file; several senders get FILE-NUMBER each.")
@force_option
@json_option
def join(sources: tuple[str, ...], out: str, force: bool, as_json: bool) -> None:
    """Put PACKETS of `prow split` together: what came up to the first gap.

    PACKETS are files of one packet each, folders of such files, or - for lines of hexadecimal on standard input.
    They may be in any order, come twice, or come from several senders.
    """
    check_json(out, as_json)
    check_free(out, force=force)
    packets = [packet for source in sources for packet in _packets(source)]
    senders = links.arrivals(packets)
    dropped = len(packets) - sum(len(links.arrivals([packet])) for packet in packets)
    if dropped:
        remark(f"{dropped} of {len(packets)} dropped: damaged, or no packets")
    files = [sender for sender in senders if sender.data is not None]
    if len(files) > 1 and out == STDOUT:
        raise click.ClickException(
            f"packets of {len(files)} senders came, standard output takes one: wanted a file name"
        )
    names = {one.sender: out if len(files) == 1 else _named(out, one.sender) for one in files}
    for name in names.values():
        check_free(name, force=force)
    for one in senders:
        came = f"sender {one.sender:04x}: {one.present} of {one.count} packets came"
        if one.data is None:
            why = "its first one is missing" if one.leading == 0 else "they are of different files"
            remark(f"{came}, but {why}: no picture")
            continue
        write(names[one.sender], one.data, force=force)
        if one.leading < one.count:
            remark(f"{came}, {one.leading} before the first gap; {len(one.data):,} bytes in {names[one.sender]}")
    told = [
        {"out": names[one.sender], "bytes": len(one.data), "present": one.present, "count": one.count}
        for one in files
        if one.data is not None
    ]
    tell_json(as_json and bool(files), files=told)
    if not files:
        raise click.ClickException(f"no file could be put together of {len(packets)} packets")


def _packets(source: str) -> list[bytes]:
    if source == STDIN:
        return [_from_hex(line) for line in read(STDIN).split(b"\n") if line.strip()]
    path = Path(source)
    if path.is_dir():
        return [one.read_bytes() for one in sorted(path.iterdir()) if one.is_file() and not one.name.startswith(".")]
    return [path.read_bytes()]


def _from_hex(line: bytes) -> bytes:
    """The packet in a line; nothing for a line that is none, as radios put noise between."""
    try:
        return bytes.fromhex(line.decode("ascii"))
    except ValueError:
        return b""


def _named(out: str, sender: int) -> str:
    path = Path(out)
    return str(path.with_name(f"{path.stem}-{sender:04x}{path.suffix}"))
