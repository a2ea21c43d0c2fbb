"""The rate-distortion benchmark on two small pictures: sizes, counts, determinism, resuming, formats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw
from skimage import data as photos

import prow
import prow.errors

pytest.importorskip("pytorch_msssim")
pytest.importorskip("matplotlib")

from benchmarks import codecs, metrics, rd  # noqa: E402

BUDGETS = (512, 2048)
NAMES = ("jpeg", "jpeg-scaled", "webp", "webp-scaled")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photo of 176 x 164 px and a drawing of 96 x 80 px (too small for MS-SSIM)."""
    folder = tmp_path_factory.mktemp("corpus")
    Image.fromarray(photos.astronaut()).resize((176, 164)).save(folder / "photo.png")
    drawing = Image.new("RGB", (96, 80), "#20406a")
    ImageDraw.Draw(drawing).ellipse((12, 8, 70, 66), fill="#e8b040", outline="white", width=3)
    drawing.save(folder / "drawing.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


def run(corpus: Path, out: Path, *more: str) -> dict:
    """Run the benchmark in this process and return its results."""
    options = ["--codecs", "jpeg,webp", "--budgets", ",".join(map(str, BUDGETS)), "--fresh", *more]
    rd.main(["--data", str(corpus), "--out", str(out), *options])
    return json.loads((out / "rd.json").read_text())


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """An output folder of a finished run, and its results."""
    out = tmp_path_factory.mktemp("out")
    return out, run(corpus, out)


@pytest.fixture
def no_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise AssertionError("an encode that the records should have saved")

    monkeypatch.setattr(codecs.Format, "encode", refuse)


def test_results_have_every_codec_image_and_budget(finished: tuple[Path, dict]) -> None:
    out, results = finished
    assert set(results) == {
        *("schema", "corpus", "budgets", "commit", "versions", "codecs", "summary", "records"),
    }
    assert results["schema"] == 1
    assert results["corpus"]["images"] == 2 and len(results["corpus"]["sha256"]) == 64
    assert results["budgets"] == list(BUDGETS)
    assert tuple(results["codecs"]) == tuple(results["summary"]) == NAMES
    assert {"python", "prow", "numpy", "torch", "pytorch-msssim"} <= set(results["versions"])
    assert {"pillow", "webp"} == set(results["codecs"]["webp"]["versions"])
    found = [(r["codec"], r["image"], r["width"], r["height"]) for r in results["records"]]
    images = (("drawing.png", 96, 80), ("photo.png", 176, 164))
    assert found == [(name, *image) for name in NAMES for image in images]
    assert (out / "rd.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert len((out / "rd.jsonl").read_text().splitlines()) == len(found)


def test_no_file_is_over_its_budget(finished: tuple[Path, dict]) -> None:
    _, results = finished
    for record in results["records"]:
        assert [point["budget"] for point in record["points"]] == list(BUDGETS)
        for point in record["points"]:
            if point["bytes"] is None:
                assert point["psnr"] is None and point["ms_ssim"] is None
                continue
            assert 0 < point["bytes"] <= point["budget"]
            assert point["factor"] in (codecs.FACTORS if record["codec"].endswith("-scaled") else (1,))
            assert (point["ms_ssim"] is None) == (record["image"] == "drawing.png")


def test_rate_is_the_length_of_the_file(finished: tuple[Path, dict], corpus: Path) -> None:
    record = next(r for r in finished[1]["records"] if (r["codec"], r["image"]) == ("webp", "photo.png"))
    point = record["points"][1]
    image = Image.open(corpus / "photo.png").convert("RGB")
    data = codecs.FORMATS["webp"].encode(image, point["quality"])
    decoded = np.asarray(codecs.FORMATS["webp"].decode(data))
    assert point["bytes"] == len(data)
    assert point["psnr"] == round(metrics.psnr(np.asarray(image), decoded), 4)


def test_summary_means_only_what_was_reached(finished: tuple[Path, dict]) -> None:
    summary = finished[1]["summary"]
    points = [r["points"][0] for r in finished[1]["records"] if r["codec"] == "jpeg"]
    assert points[1]["bytes"] is None  # plain JPEG cannot have a photo of this size in 512 bytes
    assert summary["jpeg"]["512"]["reached"] == sum(p["bytes"] is not None for p in points)
    assert {name: summary[name]["2048"]["reached"] for name in NAMES} == dict.fromkeys(NAMES, 2)
    for name in ("jpeg", "webp"):  # factor 1 is one of the factors
        assert summary[f"{name}-scaled"]["2048"]["psnr"] >= summary[name]["2048"]["psnr"]
    assert rd.summarise([{"bytes": None, "psnr": None, "ms_ssim": None}]) == {
        **{"reached": 0, "bytes": None, "psnr": None, "ms_ssim": None},
    }


@pytest.mark.usefixtures("no_encodes")
def test_second_run_encodes_nothing(finished: tuple[Path, dict], corpus: Path, capsys) -> None:
    out, results = finished
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert run(corpus, out) == results
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert "4 results known, 0 to do" in capsys.readouterr().err


def test_killed_run_goes_on(finished: tuple[Path, dict], corpus: Path, tmp_path: Path, capsys) -> None:
    lines = (finished[0] / "rd.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "rd.jsonl").write_text("".join(lines[:6]) + lines[6][:-20])  # all of JPEG, half of WebP
    assert run(corpus, tmp_path) == finished[1]
    assert "3 results known, 1 to do" in capsys.readouterr().err
    assert (tmp_path / "rd.jsonl").read_bytes() == (finished[0] / "rd.jsonl").read_bytes()


def test_two_processes_find_the_same(finished: tuple[Path, dict], corpus: Path, tmp_path: Path) -> None:
    results = run(corpus, tmp_path, "--jobs", "2", "--limit", "1")
    assert results["records"] == [r for r in finished[1]["records"] if r["image"] == "drawing.png"]


def test_only_a_new_budget_is_measured(finished: tuple[Path, dict], corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "rd.jsonl").write_bytes((finished[0] / "rd.jsonl").read_bytes())
    run(corpus, tmp_path, "--codecs", "jpeg", "--budgets", "512,1024,2048")
    added = [json.loads(line) for line in (tmp_path / "rd.jsonl").read_text().splitlines()[8:]]
    assert [[p["budget"] for p in record["points"]] for record in added] == [[1024]] * 4


def test_other_settings_are_not_reused(finished: tuple[Path, dict], corpus: Path) -> None:
    records = rd.Records(finished[0] / "rd.jsonl", [])
    picture = rd.find_pictures(corpus, 1)[0]
    same = codecs.Classical("webp", codecs.Encodes(codecs.FORMATS["webp"]), (1,))
    faster = codecs.Classical("webp", codecs.Encodes(codecs.Format("WEBP", [{"method": 0}], "webp")), (1,))
    assert set(records.points(same, picture)) == set(BUDGETS)
    assert records.points(faster, picture) == {}


@pytest.mark.parametrize("name", codecs.FORMATS)
def test_bisection_finds_the_best_quality(name: str, corpus: Path) -> None:
    if name == "jxl":
        pytest.importorskip("pillow_jxl")
    image = np.asarray(Image.open(corpus / "drawing.png"))
    encodes = codecs.Encodes(codecs.FORMATS[name])
    rung = encodes.best_rung(image, 2, 900)
    assert rung is not None
    assert len(encodes.file(image, 2, rung)) <= 900
    next_rungs = range(rung + 1, rung + 1 + codecs.LOOK_AHEAD)
    assert all(len(encodes.file(image, 2, r)) > 900 for r in next_rungs)
    decoded = encodes.format.decode(encodes.file(image, 2, rung))
    assert (decoded.size, decoded.mode) == ((48, 40), "RGB")
    assert encodes.best_rung(image, 1, 30) is None


def test_table_counts_images_that_got_there() -> None:
    cells = [{"reached": n, "psnr": p} for n, p in ((0, None), (1, 20.014), (2, 21.5))]
    results = {
        "corpus": {"images": 2},
        "budgets": [64, 128, 256],
        "summary": {"jpeg-scaled": dict(zip("abc", cells, strict=True))},
    }
    assert rd.table(results, "psnr").splitlines() == [
        "| PSNR, dB             | 64 B |     128 B | 256 B |",
        "|----------------------|-----:|----------:|------:|",
        "| jpeg, best downscale |    - | 20.01 (1) | 21.50 |",
    ]


def test_metrics() -> None:
    grey = np.full((170, 161, 3), 100, np.uint8)
    assert metrics.psnr(grey, grey) == metrics.PSNR_OF_EQUALS
    assert metrics.psnr(grey, grey + np.uint8(1)) == pytest.approx(48.1308, abs=1e-4)
    noise = np.random.default_rng(5).integers(0, 256, grey.shape, np.uint8)
    assert metrics.ms_ssim(noise, noise) == pytest.approx(1.0)
    assert metrics.ms_ssim(grey[:, :160], grey[:, :160]) is None
    with pytest.raises(ValueError, match=r"\[170, 161, 3\] and \[170, 160, 3\]"):
        metrics.psnr(grey, grey[:, :160])


@pytest.fixture
def fake_prow(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    """prow as a codec that stores the mean colour; `asked` and `extra` bytes of its files can be set."""
    control = {"extra": 0, "asked": []}
    model = SimpleNamespace(id=2, name="prow-small", sha256="5e" * 32, is_default=True)

    def encode(image: np.ndarray, *, bytes: int, model: str) -> bytearray:
        control["asked"].append((bytes, model))
        if bytes < 32:
            raise prow.errors.BudgetError("too few")
        mean = image.reshape(-1, 3).mean(axis=0).astype(np.uint8).tobytes()
        return bytearray(mean + image.shape[1].to_bytes(2) + image.shape[0].to_bytes(2)).ljust(
            bytes + control["extra"], b"\0"
        )

    def decode(data: bytearray) -> Image.Image:
        size = (int.from_bytes(data[3:5]), int.from_bytes(data[5:7]))
        return Image.new("RGB", size, tuple(data[:3]))

    for name, value in {"models": lambda: (model,), "encode": encode, "decode": decode}.items():
        monkeypatch.setattr(prow, name, value, raising=False)
    monkeypatch.setattr(prow, "BudgetError", prow.errors.BudgetError, raising=False)
    rd.family_codecs.cache_clear()
    yield control
    rd.family_codecs.cache_clear()


def test_prow_is_held_to_its_budget(fake_prow: dict, corpus: Path, tmp_path: Path) -> None:
    results = run(corpus, tmp_path, "--codecs", "prow", "--budgets", "16,64,512")
    assert results["codecs"]["prow"]["sha256"] == "5e" * 32
    assert [[p["bytes"] for p in r["points"]] for r in results["records"]] == [[None, 64, 512]] * 2
    assert fake_prow["asked"] == [(b, "prow-small") for b in (16, 64, 512)] * 2
    assert results["summary"]["prow"]["16"]["reached"] == 0
    fake_prow["extra"] = 1
    with pytest.raises(AssertionError, match="prow gave 65 bytes for a budget of 64"):
        run(corpus, tmp_path / "new", "--codecs", "prow", "--budgets", "64")
    with pytest.raises(ValueError, match="no model 'anchor': there are prow-small"):
        run(corpus, tmp_path, "--codecs", "anchor")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--codecs", "jpeg,gif"], "unknown codec 'gif': wanted some of prow, anchor, jpeg"),
        (["--budgets", "12,many"], "--budgets is '12,many': wanted whole numbers"),
        (["--budgets", "0,12"], "must be 1 or more"),
        (["--limit", "0"], "must be 1 or more"),
    ],
)
def test_bad_options(options: list[str], message: str, corpus: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        run(corpus, tmp_path, *options)
    assert message in capsys.readouterr().err


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no images in .*: wanted files ending in .png"):
        run(tmp_path, tmp_path)
