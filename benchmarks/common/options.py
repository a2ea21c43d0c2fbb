"""Command lines: what several benchmarks ask for in the same way."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

MOST_BYTES = 1 << 30  # that somebody may ask for


def parser_of(name: str, doc: str | None) -> argparse.ArgumentParser:
    """-> the parser of `python -m benchmarks.NAME`, with the first paragraph of its docstring."""
    return argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=(doc or "").split("\n\n")[0])


def check_names(parser: argparse.ArgumentParser, args: argparse.Namespace, lists: Mapping[str, Iterable[str]]) -> None:
    """Turn the `lists` (option to the names it may have) into lists; a usage error for a name that is unknown."""
    for option, known in lists.items():
        names = list(dict.fromkeys(getattr(args, option).split(",")))
        if unknown := [name for name in names if name not in known]:
            parser.error(f"unknown {option[:-1]} {unknown[0]!r}: wanted some of {', '.join(known)}")
        setattr(args, option, names)


def check_counts(parser: argparse.ArgumentParser, args: argparse.Namespace, *options: str) -> None:
    """A usage error if one of the options is there and below 1."""
    for option in options:
        if (count := getattr(args, option.replace("-", "_"))) is not None and count < 1:
            parser.error(f"--{option} is {count}: must be 1 or more")


def numbers(
    parser: argparse.ArgumentParser, option: str, text: str, kind: type[int] | type[float], least: float, most: int
) -> list[Any]:
    """-> the numbers in an option, ascending; a usage error if one is no number or out of bounds."""
    try:
        given = sorted({kind(number) for number in text.split(",")})
    except ValueError:
        whole = "whole numbers" if kind is int else "numbers"
        parser.error(f"--{option} is {text!r}: wanted {whole} with commas between them")
    if not all(least <= number <= most for number in given):
        parser.error(f"--{option} is {text!r}: wanted numbers from {least:g} to {most:,}")
    return given
