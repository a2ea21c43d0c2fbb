"""Interrupts and kills, with few trials: nothing partial, no litter, no traceback; and that such things are seen."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from benchmarks.reliability import interrupts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at groups of processes")


def test_nothing_is_left_by_interrupts_and_kills(tmp_path: Path) -> None:
    out = tmp_path / "counts.json"
    assert interrupts.main(["--trials", "5", "--seed", "1", "--out", str(out)]) == 0, out.read_text()
    rows = json.loads(out.read_text())
    assert sum(row[result] for row in rows for result in interrupts.RESULTS) == 10
    assert [row["operation"] for row in rows] == 2 * list(interrupts.OPERATIONS)


@pytest.fixture
def place(tmp_path: Path) -> interrupts.Workplace:
    place = interrupts.Workplace(tmp_path, {"encode": {"out.prow": b"whole"}}, {"encode": 1.0})
    place.pristine.mkdir()
    (place.pristine / "old.prow").write_bytes(b"old")
    return place


@pytest.mark.parametrize(
    ("files", "code", "stderr", "alive", "result"),
    [
        ({"out.prow": b"whole"}, 0, "", False, "done"),
        ({}, 130, "prow: interrupted\n", False, "interrupted"),
        ({"out.prow": b"whole"}, 130, "prow: interrupted\n", False, "interrupted"),
        ({}, -signal.SIGKILL, "", False, "killed"),
        ({}, 0, "", False, "partial"),
        ({"out.prow": b"who"}, 130, "", False, "partial"),
        ({"old.prow": b"ol"}, 130, "", False, "partial"),
        ({".prow-12.tmp": b"whole"}, 130, "", False, "litter"),
        ({}, 130, "", True, "process"),
        ({}, 1, "ValueError: need at least one array to concatenate", False, "before prow"),
        ({}, 1, "Traceback\n  File prow_cli/main.py\nKeyboardInterrupt", False, "traceback"),
        ({}, 1, "prow: what?", False, "other exit"),
    ],
)
def test_faults_are_seen(
    place: interrupts.Workplace, files: dict[str, bytes], code: int, stderr: str, alive: bool, result: str
) -> None:
    folder = interrupts.copy(place)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    assert interrupts.verdict(place, "encode", folder, code, stderr, alive)[0] == result
