"""The report as text."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.acceptance.files import Report
from benchmarks.acceptance.promises import FALL
from benchmarks.common.tables import plain

SEAM_AIM, GAIN_AIM = 1.10, 0.6  # ratio, dB


def show(results: Report) -> str:
    """The whole report as text."""
    corpus, sections = results["corpus"], results["sections"]
    lines = [f"model {results['model']} on {corpus['images']} images of {corpus['name']}", ""]
    for name, section in sections.items():
        verdict = {True: "passed", False: "FAILED"}.get(section.get("passed"), "measured")
        lines += [f"{name}: {verdict}", *SHOWN[name](section), ""]
    return "\n".join(lines).rstrip()


def _show_budgets(section: Report) -> list[str]:
    listed = [f"  too long: {n} at {b} bytes has {size}" for n, b, size in section["over"]]
    listed += [f"  nothing left to say: {n} at {b} bytes has {size}" for n, b, size in section["short"]]
    listed += [f"  too short: {n} at {b} bytes has {size}" for n, b, size in section["lazy"]]
    exact = section["files"] - len(listed)
    return [f"  {exact} of {section['files']} files have exactly their budget", *listed]


def _show_prefixes(section: Report) -> list[str]:
    rows = [["bytes", "PSNR of the whole, dB", "worst fall of the mean", "from-to", "worst of one image", "which"]]
    for budget, report in section["by_budget"].items():
        start, end = report["worst_mean_fall_bytes"]
        name, single_start, single_end = report["worst_single"]
        mean = [f"{report['worst_mean_fall_db']:.3f}", f"{start}-{end}"]
        single = [f"{report['worst_single_fall_db']:.3f}", f"{name} {single_start}-{single_end}"]
        rows.append([str(budget), f"{report['mean_psnr'][-1]:.2f}", *mean, *single])
    failures = [f"  does not decode: {n} at {b} bytes, first {cut}: {e}" for n, b, cut, e in section["failures"]]
    return [f"  falls in dB per 10 % of growth; {FALL} of the mean is allowed", plain(rows), *failures]


def _show_tokens(section: Report) -> list[str]:
    lines = [f"  {name.replace('_', ' ')}: {value}" for name, value in section.items() if name != "passed"]
    return [line.replace("[]", "none") for line in lines]


def _show_seams(section: Report) -> list[str]:
    if not section:
        return ["  no image has more than one tile"]
    ratio, name = section["worst"]
    return [
        f"  at {section['budget']} bytes {section['ratio']:.3f} (aim: at most {SEAM_AIM:.2f}), "
        f"of the originals {section['ratio_of_originals']:.3f}, worst {ratio:.3f} ({name})"
    ]


def _show_pairs(section: Report) -> list[str]:
    names = list(next(iter(section.values())))
    rows = [["bytes", *names], *([b, *(f"{report[n]:.2f}" for n in names)] for b, report in section.items())]
    return [plain(rows)]


def _show_anchor(section: Report) -> list[str]:
    return [*_show_pairs(section), f"  (aim: a gain of {GAIN_AIM} dB)"]


SHOWN: dict[str, Callable[[Report], list[str]]] = {
    "budgets": _show_budgets,
    "prefixes": _show_prefixes,
    "threads": _show_tokens,
    "perturbation": _show_tokens,
    "seams": _show_seams,
    "cuts": _show_pairs,
    "anchor": _show_anchor,
}
