"""The entry point of `prow`: the group of its commands, and how they fail.

Exit code 0: done; 1: bad input, or a file that cannot be read or written; 2: wrong usage; 130: interrupted. Every
failure and every remark is one line on stderr. Nothing in this package imports torch: the library does, where it needs
it. Pillow and numpy wait until a command needs them, too.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, NoReturn

import click

from prow.errors import ProwError
from prow.options import thread_count

from .commands.compare import compare
from .commands.dataset import dataset
from .commands.decode import decode
from .commands.encode import encode
from .commands.info import info
from .commands.join import join
from .commands.models import models
from .commands.page import page
from .commands.placeholder import placeholder
from .commands.progress import progress
from .commands.split import split
from .commands.truncate import truncate
from .interrupts import INTERRUPTED
from .output import drop_stdout, remark


class OneLineErrors(click.Group):
    """A group whose failures are one line on stderr: exit code 2 for wrong usage, 1 for anything else."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run and leave the process; everything else as in click."""
        extra |= {"standalone_mode": False, "prog_name": "prow"}
        try:
            sys.exit(super().main(*args, **extra))
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(2)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "prow"
            _fail(f"{error.format_message()} (see '{command} --help')", 2)
        except click.Abort:
            _fail("interrupted", INTERRUPTED)
        except (click.ClickException, ProwError) as error:
            _fail(str(error), 1)
        except OSError as error:
            drop_stdout()
            _fail(_words(error), 1)


def _words(error: OSError) -> str:
    """What went wrong; without a file name and open, it is standard output."""
    if error.filename is None and error.errno == errno.EBADF:
        return f"standard output is closed, or takes nothing: {error.strerror}"
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _fail(message: str, code: int) -> NoReturn:
    remark(message)
    sys.exit(code)


@click.group(
    cls=OneLineErrors,
    commands=[encode, decode, info, truncate, split, join, compare, page, progress, placeholder, dataset, models],
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(package_name="prow", message="%(prog)s %(version)s")
def main() -> None:
    """Images in files that can be cut anywhere: any prefix of a prow file is a prow file.

    "-" as a file name is standard input or standard output.
    """
    # numpy's matrix products are small here: to start threads for them takes longer than these save.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if threads := thread_count():
        os.environ["OMP_NUM_THREADS"] = str(threads)  # torch takes it as it is


if __name__ == "__main__":
    main()
