"""What pictures are still good for: the classifier, the reader of text, its pictures, and the benchmark itself."""

from __future__ import annotations

import importlib.metadata
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as photos

from benchmarks.codecs.codec import BEST_BY, Coded
from benchmarks.codecs.families import FAMILIES, family_codecs
from benchmarks.common import faces
from benchmarks.quality import metrics, summary
from benchmarks.quality.records import upgraded
from benchmarks.tasks import __main__ as tasks
from benchmarks.tasks import ocr, tables, text_pictures, top1, trials

CATS = (281, 282, 283, 284, 285)  # the classes of domestic cats


def skip_without(*packages: str) -> None:
    """Skip a test that needs a package which is not installed."""
    for package in packages:
        try:
            importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed")


# -- faces -----------------------------------------------------------------------------------------------------------


def test_faces_are_found_at_their_place() -> None:
    skip_without(faces.PACKAGE)
    picture = photos.astronaut()
    (face,) = faces.find(picture)
    assert faces.overlap(face, (170, 60, 110, 110)) > faces.SAME
    assert faces.find(photos.coffee()) == []
    assert trials.faces_found("a.png", picture, picture) == (1, {"found": 1, "faces": 1})
    moved = np.roll(picture, 150, axis=1)
    assert len(faces.find(moved)) == 1
    assert trials.faces_found("a.png", picture, moved) == (0, {"found": 0, "faces": 1})


def test_overlap_is_intersection_over_union() -> None:
    assert faces.overlap((0, 0, 4, 4), (0, 0, 4, 4)) == 1
    assert faces.overlap((0, 0, 4, 4), (2, 0, 4, 4)) == 8 / 24
    assert faces.overlap((0, 0, 4, 4), (4, 0, 4, 4)) == 0


def test_faces_task_wants_faces(tmp_path: Path) -> None:
    skip_without(faces.PACKAGE)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    Image.fromarray(photos.coffee()).save(corpus / "coffee.png")
    command = f"--data {corpus} --tasks faces --codecs prow-faces --budgets 600 --fresh --out {tmp_path / 'a.json'}"
    with pytest.raises(SystemExit, match="no face was found"):
        tasks.main(command.split())
    Image.fromarray(photos.astronaut()).save(corpus / "astronaut.png")
    tasks.main(command.split())
    found = json.loads((tmp_path / "a.json").read_text())["tasks"]["faces"]
    assert found["corpus"]["images"] == 1
    assert found["originals"]["mean"] == 1
    assert found["records"][0]["points"][0]["faces"]["faces"] == 1


# -- the classifier ------------------------------------------------------------------------------------------------


def test_the_classifier_knows_a_cat_and_a_cup() -> None:
    skip_without(top1.PACKAGE)
    assert top1.classify(photos.chelsea()) in CATS
    assert top1.classify(photos.coffee()) == 967  # espresso


def test_the_classifier_wants_exactly_its_weights() -> None:
    weights = {name: torch.zeros(shape) for name, shape in top1.shapes().items()}
    assert len(weights) == 296 and top1.checked(weights) is weights
    with pytest.raises(ValueError, match=r"weight '_fc.bias' has shape \(10,\), wanted \(1000,\)"):
        top1.checked({**weights, "_fc.bias": torch.zeros(10)})


def test_the_classifier_sees_the_middle() -> None:
    picture = np.zeros((256, 512, 3), np.uint8)
    picture[16:240, 144:368] = 255
    assert top1.prepared(picture).shape == (1, 3, 224, 224)
    assert top1.prepared(picture).min() == 1
    assert top1.prepared(picture[:, :130]).shape == (1, 3, 224, 224)


# -- pictures of text and their reader -----------------------------------------------------------------------------


def test_text_pictures_are_of_every_size_and_background() -> None:
    found = text_pictures.text_pictures()
    assert [(t.size, t.background) for t in found] == [(s, b) for s in text_pictures.SIZES for b in text_pictures.INKS]
    assert len({t.name for t in found}) == len(found) == 16
    assert text_pictures.text_pictures.__wrapped__() == found
    assert all(word in text_pictures.TEXT.split() for t in found for line in t.lines for word in line.split())
    assert all(t.words == len(" ".join(t.lines).split()) >= 5 for t in found)


def test_text_is_drawn_in_its_boxes_and_nowhere_else() -> None:
    for text in text_pictures.text_pictures():
        image = text.draw()
        assert image.size == (text_pictures.WIDTH, text_pictures.HEIGHT) and image.tobytes() == text.draw().tobytes()
        ink = np.any(np.asarray(image) != text_pictures.background(text.background), axis=2)
        for left, top, right, bottom in text.boxes:
            assert ink[top:bottom, left:right].any()
            ink[top:bottom, left:right] = False
        assert not ink.any()


@pytest.mark.parametrize("name", ["text-14-waves.png", "text-48-faint.png"])
def test_undistorted_text_is_read(name: str) -> None:
    skip_without(*ocr.PACKAGES)
    text = next(t for t in text_pictures.text_pictures() if t.name == name)
    picture = np.asarray(text.draw())
    assert [ocr.read_line(picture, box) for box in text.boxes[:2]] == list(text.lines[:2])


def test_words_count_in_their_line_only(monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_pictures.text_pictures()[-1]
    picture = np.asarray(text.draw())
    lines = dict(zip(text.boxes, text.lines, strict=True))
    monkeypatch.setattr(ocr, "read_line", lambda _, box: lines[box])
    assert trials.words_read(text.name, picture, picture) == (1, {"read": text.words, "words": text.words})
    first = text.lines[0].split()
    monkeypatch.setattr(ocr, "read_line", lambda _, box: f"{first[0]} {first[1]}x" if box == text.boxes[0] else "")
    assert trials.words_read(text.name, picture, picture)[1]["read"] == 1
    monkeypatch.setattr(ocr, "read_line", lambda _, box: "".join(lines[box].split()))
    assert trials.words_read(text.name, picture, picture)[0] == 0


def test_equal_letters_in_a_row_count_once_and_blanks_not_at_all() -> None:
    letters = [ocr.BLANK, "a", "b", " "]
    assert ocr.spelled(np.array([0, 1, 1, 0, 1, 2, 2, 3, 3, 2, 0]), letters) == "aab b"
    assert ocr.spelled(np.array([0, 0]), letters) == ""


def test_a_line_must_be_inside_its_picture() -> None:
    with pytest.raises(ValueError, match=r"line is at \(0, 0, 9, 5\), must be inside a picture of 8 x 6 px"):
        ocr.read_line(np.zeros((6, 8, 3), np.uint8), (0, 0, 9, 5))


# -- the benchmark -------------------------------------------------------------------------------------------------


class Lossless:
    """A codec that keeps every pixel and counts the pictures it got."""

    name, settings = "lossless", {"level": 9, "best_by": BEST_BY}
    calls = 0

    def code(self, image: np.ndarray, budget: int) -> list[Coded]:
        Lossless.calls += 1
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        return [Coded(file.getvalue(), image, {}, 0, 0)] if len(file.getvalue()) <= budget else []


class Flat:
    """A codec that keeps a grey: "prow" for now, so that it is compared with others."""

    name, settings = "prow", {"model": "flat"}

    def code(self, image: np.ndarray, budget: int) -> list[Coded]:
        return [Coded(bytes(g), np.full_like(image, g), {"grey": g}, 0, 0) for g in (10, 128, 250)]


@pytest.fixture
def two_codecs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, kind in (("lossless", Lossless), ("prow", Flat)):
        monkeypatch.setitem(FAMILIES, name, lambda kind=kind: [kind()])
    family_codecs.cache_clear()
    yield
    family_codecs.cache_clear()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cat and a cup."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("chelsea", "coffee"):
        Image.fromarray(getattr(photos, name)()).resize((160, 120)).save(folder / f"{name}.png")
    return folder


def run(corpus: Path, out: Path, *more: str) -> dict:
    """Run the benchmark in this process and return its results."""
    options = ["--codecs", "prow,lossless", "--budgets", "300,200000", "--fresh", *more]
    tasks.main(["--data", str(corpus), "--out", str(out), *options])
    return json.loads(out.read_text())


@pytest.mark.usefixtures("two_codecs")
def test_a_lossless_codec_agrees_and_a_second_run_codes_nothing(corpus: Path, tmp_path: Path, capsys) -> None:
    skip_without(top1.PACKAGE)
    out = tmp_path / "new" / "found.json"
    results = run(corpus, out, "--tasks", "top1")
    found = results["tasks"]["top1"]
    assert found["settings"]["sha256"] == top1.WEIGHTS_SHA256
    assert found["corpus"]["images"] == 2 and len(found["corpus"]["sha256"]) == 64
    assert found["originals"] == {"mean": 1, "low": 1, "high": 1}
    assert {b: (cell["images"], cell["mean"]) for b, cell in found["summary"]["lossless"].items()} == {
        "300": (0, None),
        "200000": (2, 1),
    }
    assert [r["image"] for r in found["records"]] == ["chelsea.png", "coffee.png"] * 2
    assert (
        found["summary"]["prow"]["300"]["mean"] == 0 and found["comparison"]["prow"]["lossless"]["300"]["images"] == 0
    )
    printed = capsys.readouterr().out
    assert "prow loses to lossless in top1: 100.0 points at 200,000 B" in printed
    calls, lines = Lossless.calls, out.with_suffix(".jsonl").read_text()
    assert len(lines.splitlines()) == 4
    assert run(corpus, out, "--tasks", "top1") == results
    assert Lossless.calls == calls and out.with_suffix(".jsonl").read_text() == lines
    run(corpus, out, "--tasks", "top1", "--budgets", "300,500,200000")
    assert Lossless.calls == calls + 2


@pytest.mark.usefixtures("two_codecs")
def test_text_is_read_in_lossless_files_and_not_in_flat_ones(tmp_path: Path, capsys) -> None:
    skip_without(*ocr.PACKAGES)
    out = tmp_path / "found.json"
    tasks.main(f"--tasks words --codecs prow,lossless --limit 1 --budgets 200000 --fresh --out {out}".split())
    found = json.loads(out.read_text())["tasks"]["words"]
    assert found["originals"]["mean"] == found["summary"]["lossless"]["200000"]["mean"] == 1
    assert found["summary"]["prow"]["200000"]["mean"] == 0
    assert len(list((tmp_path / "found-text").glob("*.png"))) == 16
    assert "| words read of prow, %, by size of letters |" in capsys.readouterr().out


@pytest.mark.usefixtures("two_codecs")
def test_of_several_files_that_of_the_best_psnr_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    task = trials.Task("brightness", (), {}, lambda name, original, picture: (float(picture.max()) / 255, {"of": name}))
    monkeypatch.setitem(trials.TASKS, "top1", task)
    image = np.full((4, 5, 3), 140, np.uint8)
    trial = trials.Trial(Flat(), "top1")
    point = trials.measure(trial, "a.png", image, 300)["top1"]
    assert (point["grey"], point["bytes"], point["of"], point["value"]) == (128, 128, "a.png", round(128 / 255, 4))
    assert point["psnr"] == round(metrics.psnr(image, np.full_like(image, 128)), 4)
    with pytest.raises(AssertionError, match="prow gave 128 bytes for a budget of 100"):
        trials.measure(trial, "a.png", image, 100)
    assert trials.measure(trials.Trial(Lossless(), "top1"), "a.png", image, 9) == {"budget": 9, "reached": False}


def test_results_are_known_by_codec_and_task() -> None:
    settings = {task: trials.Trial(Lossless(), task).settings for task in trials.TASKS}
    assert settings["top1"]["codec"] == settings["words"]["codec"] == {"level": 9}
    assert settings["top1"]["chosen_by"] == "psnr" and settings["top1"] != settings["words"]
    record = {"codec": "lossless", "settings": settings["top1"], "image_sha256": "5e", "points": []}
    assert upgraded(record) is record  # records of this benchmark and of rd.py do not get into each other's way


def test_only_what_is_certain_is_called_a_loss() -> None:
    def cell(mean: float | None, low: float, high: float) -> dict:
        return {"images": 4, "mean": mean, "low": low, "high": high}

    cells = {"256": cell(-0.5, -0.7, -0.25), "1024": cell(-0.1, -0.2, 0.1), "2048": cell(None, 0, 0)}
    results = {
        "budgets": [256, 1024, 2048],
        "tasks": {
            "words": {"title": "words", "corpus": {"images": 4}, "comparison": {"prow": {"webp-scaled": cells}}},
        },
    }
    assert tables.losses(results, "words", "prow") == [
        "prow loses to webp, best downscale in words: 50.0 points at 256 B"
    ]
    assert tables.difference_table(results, "words", "prow").splitlines()[2] == (
        "| than webp, best downscale        | -50.0 [-70.0, -25.0] | -10.0 [-20.0, 10.0] |       - |"
    )
    del cells["256"]
    assert "loses to none in words" in tables.losses(results, "words", "prow")[0]


def test_differences_are_image_by_image() -> None:
    ours = [{"reached": True, "words": {"value": v, "bytes": 9}} for v in (1.0, 0.5, 0.0)]
    theirs = [{"reached": True, "words": {"value": v, "bytes": 7}} for v in (0.5, 0.25)] + [{"reached": False}]
    found = tasks.difference(ours, theirs, "words")
    assert (found["images"], found["mean"], found["low"], found["high"]) == (2, 0.375, 0.25, 0.5)
    assert tasks.summarise(theirs, "words") == {
        "images": 2,
        "mean": 0.375,
        "low": summary.interval([0.5, 0.25])[0],
        "high": 0.5,
        "bytes": 7,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--codecs", "jpeg,gif"], "unknown codec 'gif': wanted some of prow, prow-cuts, prow-bare"),
        (["--tasks", "chess"], "unknown task 'chess': wanted some of top1, words"),
        (["--budgets", "many"], "--budgets is 'many': wanted whole numbers"),
        (["--limit", "0"], "must be 1 or more"),
        (["--out", "folder"], "--out is folder: wanted the name of a file that ends in .json"),
        ([], "task 'top1' needs --data DIR"),
    ],
)
def test_bad_options(options: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit):
        tasks.main(options)
    assert message in capsys.readouterr().err


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", refuse)
    with pytest.raises(SystemExit, match="tasks: task 'words' needs the package rapidocr, .* --no-deps -c"):
        tasks.main(["--tasks", "words", "--out", str(tmp_path / "a.json")])
