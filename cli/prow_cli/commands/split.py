"""`prow split`: a prow file becomes numbered packets."""

from __future__ import annotations

from pathlib import Path

import click

from prow import links

from ..input import naming, read, source_argument
from ..interrupts import interrupts_later
from ..output import STDOUT, check_json, force_option, json_option, tell_json, write
from ..sizes import Size


@click.command()
@source_argument
@click.option("--packet", type=Size(), metavar="N", required=True, help="Bytes of a packet at most, 25 or more.")
@click.option("--parity", type=int, default=0, metavar="N", help="One more packet for each N (2 to 15), 0: none.")
@click.option("--out", "-o", required=True, metavar="DIR", help="Folder of the packets; - writes lines of hexadecimal.")
@force_option
@json_option
def split(source: str, packet: int, parity: int, out: str, force: bool, as_json: bool) -> None:
    """Cut the prow file IN into numbered packets for a link that loses some.

    Each is a file in DIR, named by its place in the order in which to send them. What arrives up to the first gap is
    a picture: see `prow join`.
    """
    check_json(out, as_json)
    folder = Path(out)
    if out != STDOUT and folder.exists() and not folder.is_dir():
        raise click.ClickException(f"{out} is a file, a folder was wanted")
    with naming(source):
        packets = links.split(read(source), packet, parity)
    if out == STDOUT:
        write(STDOUT, "".join(f"{one.hex()}\n" for one in packets).encode(), force=force)
        return
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise click.ClickException(
            f"{out} is not empty: packets of other files would be among these (--force adds them)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    digits = len(str(len(packets) - 1))
    with interrupts_later():  # all packets or none
        _write_all(packets, [folder / f"{number:0{digits}}.packet" for number in range(len(packets))], force)
    tell_json(as_json, out=out, packets=len(packets), bytes=sum(map(len, packets)))


def _write_all(packets: list[bytes], paths: list[Path], force: bool) -> None:
    """Write each; a failure leaves no new one."""
    written: list[Path] = []
    try:
        for path, one in zip(paths, packets, strict=True):
            is_new = not path.exists()
            write(str(path), one, force=force)
            if is_new:
                written.append(path)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
