"""docs/commands.md, of the commands' own help: `python -m prow_cli.docs > docs/commands.md`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from .main import main

WIDTH = 80  # columns of a terminal
_TOP = """# Commands

Each command with its help, as `prow COMMAND --help` prints it. This page is written by
`python -m prow_cli.docs > docs/commands.md`, and a test compares the two. How to use them is in [usage.md](usage.md).

Commands and options complete themselves in a shell that has this line in its start-up file:

```sh
eval "$(_PROW_COMPLETE=bash_source prow)"    # ~/.bashrc; zsh_source in ~/.zshrc
_PROW_COMPLETE=fish_source prow | source     # ~/.config/fish/completions/prow.fish
```

With `NO_COLOR` set nothing is coloured; only the bar of a batch ever is, and only on a terminal.
"""


def helps() -> Iterator[tuple[str, str]]:
    """Name and help of `prow`, of each command and of those in it, for a terminal of WIDTH columns."""
    settings = {**main.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    top = click.Context(main, info_name="prow", **settings)
    yield "prow", main.get_help(top)
    for name, command in main.commands.items():
        context = click.Context(command, parent=top, info_name=name)
        yield f"prow {name}", command.get_help(context)
        for inner, one in command.commands.items() if isinstance(command, click.Group) else ():
            yield f"prow {name} {inner}", one.get_help(click.Context(one, parent=context, info_name=inner))


def page() -> str:
    """All of docs/commands.md."""
    parts = [f"## {name}\n\n```\n{text.rstrip()}\n```\n" for name, text in helps()]
    return "\n".join([_TOP, *parts])


if __name__ == "__main__":
    click.echo(page(), nl=False)
