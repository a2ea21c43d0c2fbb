"""The rate-distortion benchmark on two small pictures: sizes, counts, determinism, resuming."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from skimage import data as photos

pytest.importorskip("pytorch_msssim")
pytest.importorskip("matplotlib")

from benchmarks import rd  # noqa: E402
from benchmarks.codecs import classical  # noqa: E402
from benchmarks.codecs.families import find_codecs  # noqa: E402
from benchmarks.common import workers  # noqa: E402
from benchmarks.common.corpus import find_pictures  # noqa: E402
from benchmarks.quality import metrics, summary  # noqa: E402
from benchmarks.quality.records import Records  # noqa: E402

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


def untimed(results: dict) -> dict:
    """The same results without seconds, which differ from run to run."""
    results = copy.deepcopy(results)
    for point in (point for record in results["records"] for point in record["points"]):
        for file in (point[name] for name in metrics.METRICS if name in point):
            assert file.pop("encode_seconds") >= 0 and file.pop("decode_seconds") >= 0
    return results


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """An output folder of a finished run, and its results."""
    out = tmp_path_factory.mktemp("out")
    return out, run(corpus, out)


@pytest.fixture
def no_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise AssertionError("an encode that the records should have saved")

    monkeypatch.setattr(classical.Format, "encode", refuse)


def test_results_have_every_codec_image_and_budget(finished: tuple[Path, dict]) -> None:
    out, results = finished
    assert set(results) == {
        *("schema", "corpus", "budgets", "metrics", "commit", "versions", "codecs"),
        *("summary", "comparison", "records"),
    }
    assert results["schema"] == 2
    assert results["metrics"] == ["psnr", "ms_ssim"]
    assert results["comparison"] == {}  # prow is not among the codecs
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


def test_json_alone_is_printed(finished: tuple[Path, dict], corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, results = finished
    assert run(corpus, out, "--json") == json.loads(capsys.readouterr().out) == results


def test_no_file_is_over_its_budget(finished: tuple[Path, dict]) -> None:
    _, results = finished
    for record in results["records"]:
        assert [point["budget"] for point in record["points"]] == list(BUDGETS)
        factors = classical.FACTORS if record["codec"].endswith("-scaled") else (1,)
        for point in record["points"]:
            assert set(point) == {"budget", "reached"} | ({"psnr", "ms_ssim"} if point["reached"] else set())
            for name in ("psnr", "ms_ssim") if point["reached"] else ():
                assert 0 < point[name]["bytes"] <= point["budget"]
                assert point[name]["factor"] in factors
            if point["reached"]:
                assert (point["ms_ssim"]["value"] is None) == (record["image"] == "drawing.png")


def test_rate_is_the_length_of_the_file(finished: tuple[Path, dict], corpus: Path) -> None:
    record = next(r for r in finished[1]["records"] if (r["codec"], r["image"]) == ("webp", "photo.png"))
    point = record["points"][1]["psnr"]
    image = Image.open(corpus / "photo.png").convert("RGB")
    data = classical.FORMATS["webp"].encode(image, point["quality"])
    decoded = np.asarray(classical.FORMATS["webp"].decode(data, image.size))
    assert point["bytes"] == len(data)
    assert point["value"] == round(metrics.psnr(np.asarray(image), decoded), 4)


def test_every_metric_has_its_own_best_file(finished: tuple[Path, dict], corpus: Path) -> None:
    image = np.asarray(Image.open(corpus / "photo.png").convert("RGB"))
    for name in ("jpeg-scaled", "webp-scaled"):
        (codec,) = find_codecs([name])
        record = next(r for r in finished[1]["records"] if (r["codec"], r["image"]) == (name, "photo.png"))
        for point in record["points"]:
            files = codec.code(image, point["budget"])
            assert len({file.setting["factor"] for file in files}) == len(files) > 1
            for metric in ("psnr", "ms_ssim"):
                values = [metrics.METRICS[metric].of(image, file.image) or 0 for file in files]
                best = files[int(np.argmax(values))]
                found = point[metric]
                assert found["value"] == round(max(values), metrics.METRICS[metric].kept)
                assert (found["bytes"], found["factor"]) == (len(best.data), best.setting["factor"])


def test_summary_means_only_what_was_reached(finished: tuple[Path, dict]) -> None:
    found = finished[1]["summary"]
    points = [r["points"][0] for r in finished[1]["records"] if r["codec"] == "jpeg"]
    assert not points[1]["reached"]  # plain JPEG cannot have a photo of this size in 512 bytes
    assert found["jpeg"]["512"]["reached"] == sum(p["reached"] for p in points)
    assert {name: found[name]["2048"]["reached"] for name in NAMES} == dict.fromkeys(NAMES, 2)
    assert {name: found[name]["2048"]["ms_ssim"]["images"] for name in NAMES} == dict.fromkeys(NAMES, 1)
    for name in ("jpeg", "webp"):  # factor 1 is one of the factors
        for metric in ("psnr", "ms_ssim"):
            assert found[f"{name}-scaled"]["2048"][metric]["mean"] >= found[name]["2048"][metric]["mean"]
    assert summary.summarise([{"budget": 1, "reached": False}], ["psnr"]) == {
        "reached": 0,
        "psnr": {"images": 0, "mean": None, "low": None, "high": None, "bytes": None},
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
    assert untimed(run(corpus, tmp_path)) == untimed(finished[1])
    assert "3 results known, 1 to do" in capsys.readouterr().err
    assert (tmp_path / "rd.jsonl").read_text().startswith("".join(lines[:6]))
    assert len((tmp_path / "rd.jsonl").read_text().splitlines()) == len(lines)


def test_two_processes_find_the_same(finished: tuple[Path, dict], corpus: Path, tmp_path: Path) -> None:
    results = run(corpus, tmp_path, "--jobs", "2", "--limit", "1")
    assert untimed(results)["records"] == [r for r in untimed(finished[1])["records"] if r["image"] == "drawing.png"]


def test_only_a_new_budget_is_measured(finished: tuple[Path, dict], corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "rd.jsonl").write_bytes((finished[0] / "rd.jsonl").read_bytes())
    run(corpus, tmp_path, "--codecs", "jpeg", "--budgets", "512,1024,2048")
    added = [json.loads(line) for line in (tmp_path / "rd.jsonl").read_text().splitlines()[8:]]
    assert [[p["budget"] for p in record["points"]] for record in added] == [[1024]] * 4


def test_only_a_new_metric_is_measured(
    finished: tuple[Path, dict], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rd.jsonl").write_bytes((finished[0] / "rd.jsonl").read_bytes())
    grain = metrics.Metric("Grain", 1, 1, False, lambda wanted, got: float(np.abs(np.diff(got.astype(int))).mean()))
    monkeypatch.setitem(metrics.METRICS, "grain", grain)

    def refuse(*_: object) -> float:
        raise AssertionError("a value that the records should have saved")

    monkeypatch.setitem(metrics.METRICS, "psnr", dataclasses.replace(metrics.METRICS["psnr"], of=refuse))
    results = run(corpus, tmp_path, "--codecs", "jpeg", "--metrics", "psnr,grain")
    added = [json.loads(line) for line in (tmp_path / "rd.jsonl").read_text().splitlines()[8:]]
    assert [record["codec"] for record in added] == ["jpeg", "jpeg-scaled"] * 2
    assert all(set(p) == {"budget", "reached", "grain"} for r in added for p in r["points"] if p["reached"])
    points = [p for r in results["records"] for p in r["points"] if p["reached"]]
    assert all(set(p) == {"budget", "reached", "psnr", "grain"} for p in points)
    monkeypatch.undo()
    assert untimed(run(corpus, tmp_path)) == untimed(finished[1])  # the old values are still there


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    units = [[{"codec": "webp", "image": "a.png"}], [{"codec": "webp", "image": "b.png"}]]
    assert list(workers.shown(iter(units), 2)) == units
    assert capsys.readouterr().err == "1/2 webp a.png\n2/2 webp b.png\n"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert list(workers.shown(iter(units), 2)) == units
    assert "1/2 webp" not in capsys.readouterr().err


def test_other_settings_are_not_reused(finished: tuple[Path, dict], corpus: Path) -> None:
    records = Records(finished[0] / "rd.jsonl", fresh=True)
    picture = find_pictures(corpus, 1)[0]
    same = classical.Classical("webp", classical.Encodes(classical.FORMATS["webp"]), (1,))
    faster = classical.Encodes(classical.PillowFormat("WEBP", [{"method": 0}], "webp"))
    assert set(records.points(same, picture)) == set(BUDGETS)
    assert records.points(classical.Classical("webp", faster, (1,)), picture) == {}


def test_prow_is_compared_with_the_others(corpus: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("bjontegaard")
    options = ("--codecs", "prow,prow-bare,webp", "--budgets", "256,512,1024", "--metrics", "psnr", "--limit", "1")
    results = run(corpus, tmp_path, *options)
    assert [results["codecs"][name]["profile"] for name in ("prow", "prow-bare")] == ["file", "bare"]
    assert set(results["comparison"]) == {"prow", "prow-bare"}
    assert [name for name in results["comparison"]["prow-bare"] if name != "prow-vivid"] == [
        "prow",
        "webp",
        "webp-scaled",
    ]
    cell = results["comparison"]["prow"]["webp-scaled"]["psnr"]
    assert [(budget, won["images"]) for budget, won in cell["wins"].items()] == [("256", 1), ("512", 1), ("1024", 1)]
    assert cell["bd_rate"]["budgets"] == [256, 512, 1024]
    out = capsys.readouterr().out
    assert "| prow better in PSNR, dB, % of images |" in out
    assert "| prow, bare better in PSNR, dB, % of images |" in out
    assert "| bytes of prow for the same quality (BD-rate) | PSNR, dB |" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--codecs", "jpeg,gif"],
            "unknown codec 'gif': wanted some of prow, prow-cuts, prow-bare, prow-faces, anchor, jpeg",
        ),
        (["--metrics", "lpips"], "unknown metric 'lpips': wanted some of psnr, ms_ssim, ssimulacra2, st_lpips"),
        (["--budgets", "12,many"], "--budgets is '12,many': wanted whole numbers"),
        (["--budgets", "0,12"], "--budgets is '0,12': wanted numbers from 1 to"),
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
