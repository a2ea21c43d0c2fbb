"""Results of the tasks as Markdown tables, and a sentence for every codec that prow loses to."""

from __future__ import annotations

from typing import Any

from benchmarks.common.tables import label, markdown
from benchmarks.quality.summary import LEVEL
from benchmarks.tasks import text_pictures

Cell = dict[str, Any]  # mean, low, high (bounds of its interval) and images, see summarise


def table(results: dict[str, Any], task: str) -> str:
    """-> shares in percent with their intervals: a row per codec and one for the originals, a column per budget."""
    of_task = results["tasks"][task]
    images = of_task["corpus"]["images"]
    rows = [
        [of_task["title"], *_budgets(results)],
        ["original", *[_percent({**of_task["originals"], "images": images}, images)] * len(results["budgets"])],
    ]
    for codec, summary in of_task["summary"].items():
        rows.append([label(codec), *(_percent(cell, images) for cell in summary.values())])
    return markdown(rows)


def difference_table(results: dict[str, Any], task: str, ours: str) -> str:
    """-> by how many percentage points our share is higher than that of each other codec, with intervals."""
    of_task = results["tasks"][task]
    rows = [[f"points that {label(ours)} has more: {of_task['title']}", *_budgets(results)]]
    for other, cells in of_task["comparison"][ours].items():
        shown = (_percent(cell, of_task["corpus"]["images"], "+") for cell in cells.values())
        rows.append([f"than {label(other)}", *shown])
    return markdown(rows)


def size_table(results: dict[str, Any], codec: str) -> str:
    """-> the share of words read, in percent, by size of letters: a row per size, a column per budget."""
    sizes = {text.name: text.size for text in text_pictures.text_pictures()}
    records = [record for record in results["tasks"]["words"]["records"] if record["codec"] == codec]
    rows = [[f"words read of {label(codec)}, %, by size of letters", *_budgets(results)]]
    for size in sorted({sizes[record["image"]] for record in records}):
        row = [f"{size} px"]
        for i in range(len(results["budgets"])):
            points = [record["points"][i] for record in records if sizes[record["image"]] == size]
            values = [point["words"]["value"] for point in points if point["reached"]]
            row.append(f"{100 * sum(values) / len(values):.1f}" if values else "-")
        rows.append(row)
    return markdown(rows)


def losses(results: dict[str, Any], task: str, ours: str) -> list[str]:
    """-> a sentence for each other codec that is better than ours for certain: the interval is all below 0."""
    sentences = []
    for other, cells in results["tasks"][task]["comparison"][ours].items():
        lost = [
            f"{-100 * cell['mean']:.1f} points at {int(budget):,} B"
            for budget, cell in cells.items()
            if cell["images"] > 1 and cell["high"] < 0  # one image has no interval to speak of
        ]
        if lost:
            sentences.append(f"{label(ours)} loses to {label(other)} in {task}: {', '.join(lost)}")
    return sentences or [f"{label(ours)} loses to none in {task}, as far as intervals of {LEVEL} % can tell"]


def all_tables(results: dict[str, Any]) -> list[str]:
    """-> for each task shares, then, if prow is among the codecs, how it compares, and where it loses."""
    texts = []
    for task, of_task in results["tasks"].items():
        texts.append(table(results, task))
        for ours in of_task["comparison"]:
            if task == "words":
                texts.append(size_table(results, ours))
            if of_task["comparison"][ours]:
                texts.append(difference_table(results, task, ours))
                texts.append("\n".join(losses(results, task, ours)))
    return texts


def _budgets(results: dict[str, Any]) -> list[str]:
    return [f"{b:,} B" for b in results["budgets"]]


def _percent(cell: Cell, images: int, sign: str = "") -> str:
    """-> "mean [low, high]" in percent, "(n)" behind it where only n images have a share, a dash where none has."""
    if cell["mean"] is None:
        return "-"
    mean, low, high = (100 * cell[key] for key in ("mean", "low", "high"))
    return f"{mean:{sign}.1f} [{low:.1f}, {high:.1f}]" + ("" if cell["images"] == images else f" ({cell['images']})")
