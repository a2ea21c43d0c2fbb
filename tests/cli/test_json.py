"""`--json`: what was written, as one object on standard output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import assert_fails, invoke, run


def told(line: str) -> dict:
    result = run(line)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_single_files() -> None:
    facts = told("encode photo.png a.prow --bytes 500 --json")
    assert facts["out"] == "a.prow" and facts["bytes"] == 500 and facts["remarks"] == []
    assert told("decode a.prow a.png --json") == {
        "out": "a.png",
        "format": "PNG",
        "bytes": Path("a.png").stat().st_size,
        "remarks": [],
    }
    assert told("truncate a.prow b.prow --bytes 200 --json") == {"out": "b.prow", "bytes": 200}
    assert told("progress a.prow -o a.webp --json")["prefixes"][-1] == 500


def test_batches() -> None:
    Path("broken.png").write_text("none")
    result = invoke("encode photo.png broken.png out/ --bytes 300 --json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 1 and list(facts["errors"]) == ["broken.png"]
    assert (facts["written"], facts["bytes"], facts["skipped"]) == (1, 300, 0)
    again = json.loads(run("encode photo.png out/ --bytes 300 --json").stdout)
    assert (again["written"], again["skipped"], again["errors"]) == (0, 1, {})


def test_packets() -> None:
    run("encode photo.png a.prow --bytes 500")
    packets = told("split a.prow --packet 100 -o packets --json")["packets"]
    assert packets == len(list(Path("packets").iterdir()))
    (file,) = told("join packets -o b.prow --json")["files"]
    assert file == {"out": "b.prow", "bytes": 500, "present": packets, "count": packets}


@pytest.mark.parametrize(
    "line", ["encode photo.png - --bytes 500", "decode photo.prow -", "truncate photo.prow - --bytes 99"]
)
def test_standard_output_is_for_one_of_the_two(line: str) -> None:
    assert_fails(f"{line} --json", 2, "--json came with - as OUT")
