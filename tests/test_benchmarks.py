"""The rate-distortion benchmark on two small pictures: sizes, counts, determinism, resuming, formats."""

from __future__ import annotations

import copy
import dataclasses
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

from benchmarks import codecs, metrics, rd, summary  # noqa: E402

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

    monkeypatch.setattr(codecs.Format, "encode", refuse)


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
        factors = codecs.FACTORS if record["codec"].endswith("-scaled") else (1,)
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
    data = codecs.FORMATS["webp"].encode(image, point["quality"])
    decoded = np.asarray(codecs.FORMATS["webp"].decode(data))
    assert point["bytes"] == len(data)
    assert point["value"] == round(metrics.psnr(np.asarray(image), decoded), 4)


def test_every_metric_has_its_own_best_file(finished: tuple[Path, dict], corpus: Path) -> None:
    image = np.asarray(Image.open(corpus / "photo.png").convert("RGB"))
    for name in ("jpeg-scaled", "webp-scaled"):
        codec = next(c for c in rd.family_codecs(name.split("-")[0]) if c.name == name)
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


def test_lower_is_better_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Greys:
        name, settings = "greys", {}

        def code(self, image: np.ndarray, budget: int) -> list[codecs.Coded]:
            return [codecs.Coded(bytes(g), np.full_like(image, g), {"grey": g}, 0, 0) for g in range(1, budget)]

    red = metrics.Metric("Redness", 1, 1, False, lambda _, got: abs(float(got[0, 0, 0]) - 3))
    far = metrics.Metric("Far", 1, 1, True, lambda _, got: float(got[0, 0, 0]) if got[0, 0, 0] > 3 else None)
    monkeypatch.setattr(rd, "METRICS", {"red": red, "far": far})
    scores = rd.Scores(np.zeros((2, 2, 3), np.uint8))
    point = rd.measure(Greys(), 6, ["red", "far"], scores)
    assert (point["red"]["value"], point["red"]["grey"], point["red"]["bytes"]) == (0, 3, 3)
    assert (point["far"]["value"], point["far"]["grey"]) == (5, 5)
    point = rd.measure(Greys(), 3, ["red", "far"], scores)
    assert (point["red"]["value"], point["far"]["value"], point["far"]["bytes"]) == (1, None, 1)
    assert rd.measure(Greys(), 1, ["red"], scores) == {"budget": 1, "reached": False}


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


def test_records_of_the_first_kind_keep_what_is_right(tmp_path: Path) -> None:
    picture = rd.Picture(Path("a.png"), 200, 200, "5e" * 32)
    plain, scaled = rd.family_codecs("webp")
    points = [
        {"budget": 64, "bytes": None, "psnr": None, "ms_ssim": None},
        {"budget": 512, "bytes": 500, "psnr": 20.5, "ms_ssim": 0.75, "factor": 1, "quality": 3.5},
    ]
    with (tmp_path / "old.jsonl").open("w") as file:
        for codec in (plain, scaled):
            settings = {**codec.settings, "best_by": "psnr"}
            record = {"codec": codec.name, "settings": settings, "image": "a.png", "image_sha256": picture.sha256}
            file.write(json.dumps({**record, "points": points}) + "\n")
    records = rd.Records(tmp_path / "rd.jsonl", [tmp_path / "old.jsonl"])
    file = {"bytes": 500, "factor": 1, "quality": 3.5}
    known = {64: {"budget": 64, "reached": False}, 512: {"budget": 512, "reached": True}}
    known[512] |= {"psnr": {"value": 20.5, **file}}
    assert records.points(scaled, picture) == known  # its MS-SSIM was that of the file best by PSNR
    assert records.missing(scaled, picture, [64, 512], ["psnr"]) == {}
    assert records.missing(scaled, picture, [64, 512], ["psnr", "ms_ssim"]) == {"webp-scaled": {512: ["ms_ssim"]}}
    known[512] |= {"ms_ssim": {"value": 0.75, **file}}
    assert records.points(plain, picture) == known
    assert records.missing(plain, picture, [64, 512, 700], ["psnr", "ms_ssim"]) == {"webp": {700: ["psnr", "ms_ssim"]}}


def test_shipped_records_give_psnr_of_every_classical_codec() -> None:
    known: dict[str, set[str]] = {}
    for line in (rd.SHIPPED / "kodak-classical.jsonl").read_text().splitlines():
        record = rd.upgraded(json.loads(line))
        names = {name for p in record["points"] if p["reached"] for name in metrics.METRICS if name in p}
        known.setdefault(record["codec"], set()).update(names)
    assert set(known) >= {f"{name}{scaled}" for name in codecs.FORMATS for scaled in ("", "-scaled")}
    assert all("psnr" in names for names in known.values())


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    units = [[{"codec": "webp", "image": "a.png"}], [{"codec": "webp", "image": "b.png"}]]
    assert list(rd.shown(iter(units), 2)) == units
    assert capsys.readouterr().err == "1/2 webp a.png\n2/2 webp b.png\n"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert list(rd.shown(iter(units), 2)) == units
    assert "1/2 webp" not in capsys.readouterr().err


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


@pytest.fixture
def fake_prow(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    """prow as a codec that stores the mean colour; `asked` and `extra` bytes of its files can be set."""
    control = {"extra": 0, "asked": []}
    model = SimpleNamespace(id=2, name="prow-small", sha256="5e" * 32, is_default=True, vivid_sha256=None)

    def encode(image: np.ndarray, *, bytes: int, model: str, profile: str, effort: int) -> bytearray:
        assert effort == codecs.EFFORT
        control["asked"].append((bytes, model, profile))
        if bytes < 32:
            raise prow.errors.BudgetError("too few")
        mean = image.reshape(-1, 3).mean(axis=0).astype(np.uint8).tobytes()
        return bytearray(mean + image.shape[1].to_bytes(2) + image.shape[0].to_bytes(2)).ljust(
            bytes + control["extra"], b"\0"
        )

    def decode(data: bytearray, *, style: str) -> Image.Image:
        assert style == "faithful"
        size = (int.from_bytes(data[3:5]), int.from_bytes(data[5:7]))
        return Image.new("RGB", size, tuple(data[:3]))

    for name, value in {"models": lambda: (model,), "encode": encode, "decode": decode}.items():
        monkeypatch.setattr(prow, name, value, raising=False)
    monkeypatch.setattr(prow, "BudgetError", prow.errors.BudgetError, raising=False)
    rd.family_codecs.cache_clear()
    yield control
    rd.family_codecs.cache_clear()


def test_prow_is_compared_with_the_others(fake_prow: dict, corpus: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("bjontegaard")
    options = ("--codecs", "prow,prow-bare,webp", "--budgets", "512,1024,2048", "--metrics", "psnr")
    results = run(corpus, tmp_path, *options)
    assert {model for *_, model in fake_prow["asked"]} == {"file", "bare"}
    assert set(results["comparison"]) == {"prow", "prow-bare"}
    assert list(results["comparison"]["prow"]) == ["prow-bare", "webp", "webp-scaled"]
    cell = results["comparison"]["prow"]["webp-scaled"]["psnr"]
    assert list(cell["wins"]) == ["512", "1024", "2048"]
    assert {(won["images"], won["share"]) for won in cell["wins"].values()} == {(2, 0)}
    assert cell["wins"]["512"]["difference"]["high"] < 0
    assert cell["bd_rate"] is None  # the mean colour does not get better with more bytes
    out = capsys.readouterr().out
    assert "| prow better in PSNR, dB, % of images |" in out
    assert "| prow, bare better in PSNR, dB, % of images |" in out
    assert "| bytes of prow for the same quality (BD-rate) | PSNR, dB |" in out


def test_prow_is_held_to_its_budget(fake_prow: dict, corpus: Path, tmp_path: Path) -> None:
    results = run(corpus, tmp_path, "--codecs", "prow", "--budgets", "16,64,512")
    assert results["codecs"]["prow"]["sha256"] == "5e" * 32
    assert [[p["reached"] for p in r["points"]] for r in results["records"]] == [[False, True, True]] * 2
    assert [[p["psnr"]["bytes"] for p in r["points"][1:]] for r in results["records"]] == [[64, 512]] * 2
    assert fake_prow["asked"] == [(b, "prow-small", "file") for b in (16, 64, 512)] * 2
    assert results["summary"]["prow"]["16"]["reached"] == 0
    fake_prow["extra"] = 1
    rd.family_codecs.cache_clear()  # it keeps files for the other style
    with pytest.raises(AssertionError, match="prow gave 65 bytes for a budget of 64"):
        run(corpus, tmp_path / "new", "--codecs", "prow", "--budgets", "64")
    with pytest.raises(ValueError, match="no model 'anchor': there are prow-small"):
        run(corpus, tmp_path, "--codecs", "anchor")


def test_cuts_are_all_of_one_master(
    fake_prow: dict, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts = []
    monkeypatch.setattr(prow, "truncate", lambda data, size: (cuts.append(size), data[:size])[1], raising=False)
    results = run(corpus, tmp_path, "--codecs", "prow-cuts", "--budgets", "64,512,20000")
    assert [[p["reached"] for p in r["points"]] for r in results["records"]] == [[True, True, False]] * 2
    assert [[p["psnr"]["bytes"] for p in r["points"][:2]] for r in results["records"]] == [[64, 512]] * 2
    assert fake_prow["asked"] == [(codecs.MASTER, "prow-small", "file")] * 2
    assert sorted(cuts) == [64, 64, 512, 512]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--codecs", "jpeg,gif"], "unknown codec 'gif': wanted some of prow, prow-cuts, prow-bare, anchor, jpeg"),
        (["--metrics", "lpips"], "unknown metric 'lpips': wanted some of psnr, ms_ssim, ssimulacra2, st_lpips"),
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
