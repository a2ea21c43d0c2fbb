"""Results are checked when they are read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from benchmarks.quality.records import SHIPPED  # noqa: E402
from benchmarks.report.__main__ import main  # noqa: E402
from benchmarks.report.results_file import ResultsError, load  # noqa: E402


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("", "No such file or directory, wanted a results file of benchmarks.rd"),
        ("{", "not JSON"),
        ("[]", r"the file is list '\[\]', wanted dict"),
        ("{}", "the file has no 'schema'"),
        (lambda r: r.update(schema=1), "schema is 1, wanted 2"),
        (lambda r: r.update(budgets=[]), "budgets is empty"),
        (lambda r: r.update(budgets=[128, True]), "an entry of budgets is bool 'True', wanted int"),
        (lambda r: r.update(metrics=["lpips"]), "metric 'lpips' is unknown, wanted some of psnr"),
        (lambda r: r["corpus"].pop("sha256"), "corpus has no 'sha256'"),
        (lambda r: r["summary"].pop("webp"), "summary has no 'webp'"),
        (lambda r: r["summary"]["webp"].pop("512"), "summary.webp has no '512'"),
        (lambda r: r["summary"]["webp"].update({"9": r["summary"]["webp"]["64"]}), "has budgets .*wanted those of"),
        (
            lambda r: r["summary"]["prow"]["512"]["psnr"].update(mean="high"),
            "summary.prow.512.psnr.mean is str 'high', wanted int or float or null",
        ),
        (lambda r: r["summary"]["prow"]["512"]["psnr"].update(low=None), "a mean without an interval"),
        (
            lambda r: r["comparison"]["prow"]["webp"]["psnr"]["wins"].pop("128"),
            "comparison.prow.webp.psnr.wins has no '128'",
        ),
    ],
)
def test_bad_results_are_refused(change: str | Callable[[dict], object], message: str, tmp_path: Path) -> None:
    results, out = tmp_path / "rd.json", tmp_path / "out" / "page.html"
    good = load(SHIPPED / "kodak.json") | {"records": []}
    if change:
        results.write_text(change if isinstance(change, str) else json.dumps((change(good), good)[1]))
    with pytest.raises(ResultsError, match=message):
        load(results)
    with pytest.raises(SystemExit, match=f"report: .*rd.json: .*{message}"):
        main([str(results), "--data", str(tmp_path), "--out", str(out)])
    assert not out.parent.exists()
