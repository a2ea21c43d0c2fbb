"""Tables as text: the first row and the first column say what they hold."""

from __future__ import annotations

Rows = list[list[str]]


def label(codec: str) -> str:
    """-> a codec's name for readers."""
    return codec.replace("-scaled", ", best downscale").replace("-bare", ", bare").replace("-vivid", ", vivid")


def markdown(rows: Rows) -> str:
    """-> rows of cells as a table, the first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |" for row in rows]
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def plain(rows: Rows) -> str:
    """-> the same without lines, for terminals."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  " + row[0].ljust(widths[0]) + "".join(f"  {cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )
