"""The report page: one file that holds all it shows."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import prow
from prow.errors import ProwError

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
pytest.importorskip("bjontegaard")

from benchmarks.codecs.families import find_codecs  # noqa: E402
from benchmarks.common import output  # noqa: E402
from benchmarks.quality import summary  # noqa: E402
from benchmarks.quality.records import Point  # noqa: E402
from benchmarks.report import __main__ as report  # noqa: E402
from benchmarks.report import gallery  # noqa: E402

BUDGETS = [100, 400, 1600]
OPTIONS = ("--codecs", "anchor,webp,webp-scaled", "--budgets", "40,300", "--cuts", "32,80,200", "--model", "anchor")


def points(value: float, reached: int = 2) -> list[Point]:
    """Points of two images, of which the first `reached` have this value; their bytes grow with it."""
    point = {"reached": True, "psnr": {"value": value, "bytes": round(4 * value**2)}}
    return [point] * reached + [{"reached": False}] * (2 - reached)


def tiny_results() -> dict:
    """Results of two images by three codecs; one of them reaches only the largest budget, and for one image."""
    found = {
        "prow": {b: points(20 + i) for i, b in enumerate(BUDGETS)},
        "webp": {b: points(24, int(b == BUDGETS[-1])) for b in BUDGETS},
        "webp-scaled": {b: points(19.5 + i) for i, b in enumerate(BUDGETS)},
    }
    return {
        "schema": 2,
        "corpus": {"name": "<tiny>", "images": 2, "sha256": "c0" * 32},
        "budgets": BUDGETS,
        "metrics": ["psnr"],
        "commit": "abc123",
        "versions": {"python": "3.11.0"},
        "codecs": {
            "prow": {"model": "prow-small", "sha256": "5e" * 32, "versions": {"torch": "2.6"}},
            "webp": {"format": "WEBP", "options": [{"method": 6}], "factors": [1]},
            "webp-scaled": {"format": "WEBP", "options": [{"method": 6}], "factors": [1, 2]},
        },
        "summary": {c: {str(b): summary.summarise(found[c][b], ["psnr"]) for b in BUDGETS} for c in found},
        "comparison": summary.compare(found, BUDGETS, ["psnr"]),
        "records": [],
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, draw: Callable[..., np.ndarray]) -> Path:
    """A folder with results in rd.json and one drawn image of 72 x 56 px in data."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "rd.json").write_text(json.dumps(tiny_results()))
    (folder / "data").mkdir()
    Image.fromarray(draw(72, 56)).save(folder / "data" / "drawing.png")
    return folder


def make(files: Path, out: Path, *options: str) -> str:
    report.main([str(files / "rd.json"), "--data", str(files / "data"), "--out", str(out), *(options or OPTIONS)])
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(files: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "new" / "page.html"
    found = make(files, out)
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    return found


def data_of(page: str) -> dict:
    """What the page's script reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def decoded(uri: str) -> np.ndarray:
    """-> the picture [H, W, 3] in a data URI."""
    kind, _, text = uri.partition(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text, validate=True))).convert("RGB"))


class Loads(HTMLParser):
    """Collects what a page refers to: links within it apart, nothing may be left."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            (tag, name, value)
            for name, value in attrs
            if name in ("src", "srcset", "href", "xlink:href", "data", "action", "poster")
            if not (value or "").startswith("#")
        ]


def test_page_is_one_file(page: str) -> None:
    assert page.startswith("<!doctype html>")
    assert "://" not in page  # not even a namespace
    assert Loads(page).found == []
    assert not re.search(r"@import|\burl\((?!#)|\bfetch\(|XMLHttpRequest|\bimport\b.*from", page)
    assert "default-src 'none'" in page


def test_page_holds_results(page: str) -> None:
    assert page.count("<svg") == 1 and "currentColor" in page
    assert "Results: &lt;tiny&gt;, 2 images<" in page
    for text in ("c0" * 32, "5e" * 32, "abc123", "prow-small", "method 6", "rd.json"):
        assert f">{text}<" in page
    cells = [re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in re.findall(r"<tr.*?</tr>", page, re.DOTALL)]
    assert ["webp", "-", "-", "24.00 (1)"] in cells
    scaled = "".join(f"<td>{v}.50<small>{v}.50 to {v}.50</small></td>" for v in (19, 20, 21))
    assert f'<th scope="row">webp, best downscale</th>{scaled}</tr>' in page
    assert ["than webp, best downscale", "100", "100", "100"] in cells
    assert any(row[0] == "against webp, best downscale" and re.fullmatch(r"-\d+\.\d %", row[1]) for row in cells)


def test_page_holds_pictures_as_they_were_decoded(page: str, files: Path) -> None:
    found = data_of(page)
    pixels = np.asarray(Image.open(files / "data" / "drawing.png"))
    (image,) = found["images"]
    assert (image["name"], image["width"], image["height"], image["reduced"]) == ("drawing.png", 72, 56, "")
    assert np.array_equal(decoded(found["pictures"][image["original"]]), pixels)
    assert [codec["label"] for codec in found["codecs"]] == ["anchor", "webp", "webp, best downscale"]
    assert list(image["shots"]) == ["anchor", "webp", "webp-scaled"]
    assert image["shots"]["webp"]["40"] is None
    for coder in find_codecs(["anchor", "webp-scaled"]):
        shot = image["shots"][coder.name]["300"]
        coded = {file.image.tobytes(): file for file in coder.code(pixels, 300)}[
            decoded(found["pictures"][shot["picture"]]).tobytes()
        ]
        assert shot["bytes"] == len(coded.data) <= 300
        assert re.match(r"PSNR \d\d\.\d\d dB", shot["notes"])
        assert "factor" not in coded.setting or (coded.setting["factor"] > 1) == ("downscaled by" in shot["notes"])
    assert "lossless WebP" in page and "at least" not in page
    assert "made the pictures of: webp; webp, best downscale." in page  # the results' settings are not today's


def test_page_walks_through_one_file(page: str, files: Path) -> None:
    found = data_of(page)
    walk = found["walk"]
    file = prow.encode(files / "data" / "drawing.png", bytes=200, model="anchor")
    assert walk["bytes"] == len(file) <= 200
    assert [step["bytes"] for step in walk["steps"]] == [32, 80, len(file)]
    for step in walk["steps"]:
        wanted = np.asarray(prow.decode(file[: step["bytes"]]))
        assert np.array_equal(decoded(found["pictures"][step["picture"]]), wanted)
    used = [found["images"][0]["original"], *(step["picture"] for step in walk["steps"])]
    used += [s["picture"] for shots in found["images"][0]["shots"].values() for s in shots.values() if s]
    assert sorted(set(used)) == list(range(len(found["pictures"])))  # no picture twice, none for nothing


def test_choices_come_from_the_results(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert report.default_codecs(tiny_results()) == ["prow", "webp-scaled"]
    assert report.default_codecs({"codecs": {"anchor": {}}}) == ["anchor"]
    assert report.default_codecs({"codecs": {"gif": {}}}) == []
    assert report.default_budgets(tiny_results()) == [100, 1600]
    found = make(files, tmp_path / "page.html", "--codecs", "jpeg-scaled", "--cuts", "none", "--max-side", "36")
    data = data_of(found)
    assert data["budgets"] == [100, 1600] and data["walk"] is None
    assert (data["images"][0]["width"], data["images"][0]["height"]) == (36, 28)
    assert data["images"][0]["reduced"] == "shrunk from 72 x 56 px"
    assert 'id="walk"' not in found
    monkeypatch.setattr(report, "FAMILIES", {})
    with pytest.raises(SystemExit, match="report: none of the results' codecs can be run here"):
        make(files, tmp_path / "none.html", "--cuts", "none")


def test_pictures_that_do_not_fit_are_packed_smaller(draw: Callable[..., np.ndarray]) -> None:
    album = gallery.Album()
    assert [album.add(draw(64, 48, seed)) for seed in (0, 1, 0)] == [0, 1, 0]
    uris, how = album.pack(1_000_000)
    assert how.startswith("lossless") and len(uris) == 2
    smaller, how = album.pack(sum(map(len, uris)) - 1)
    assert re.match(r"WebP of quality \d\d, which alters them: at least \d\d\.\d dB", how)
    assert sum(map(len, smaller)) < sum(map(len, uris))
    with pytest.raises(gallery.GalleryError, match="2 pictures take more than 500 bytes even as WebP of quality 90"):
        album.pack(500)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--codecs", "webp,gif"], "report: unknown codec 'gif': wanted some of prow, prow-vivid, prow-cuts"),
        (["--codecs", "anchor-scaled"], "report: unknown codec 'anchor-scaled'"),
        (["--budgets", "12,many"], "--budgets is '12,many': wanted whole numbers with commas"),
        (["--cuts", "8,100"], "--cuts is '8,100': wanted numbers from 32 to"),
        (["--images", "0"], "--images is 0: must be 1 or more"),
        (["--model", "nobody"], "unknown model 'nobody': wanted one of default, "),
        (["--data", "nowhere"], "no images in nowhere: wanted files ending in .png"),
        (["--out", "."], "report: . is a folder, wanted the name of a file"),
        (["--codecs", "webp-scaled", "--cuts", "none", "--max-mb", "0.0001"], "pictures take more than 100 bytes"),
    ],
)
def test_bad_options(options: list[str], message: str, files: Path, tmp_path: Path, capsys) -> None:
    base = [str(files / "rd.json"), "--data", str(files / "data"), "--out", str(tmp_path / "page.html")]
    with pytest.raises(SystemExit) as stopped:
        report.main([*base, *options])
    assert message in f"{stopped.value} {capsys.readouterr().err}"
    assert list(tmp_path.iterdir()) == []


def test_failure_leaves_the_old_page(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "page.html"
    out.write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(output.os, "replace", fail)
        report.write(out, "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("page.html", "old")]

    def refuse(*_: object, **__: object) -> None:
        raise ProwError("no")

    monkeypatch.setattr(prow, "encode", refuse)
    with pytest.raises(SystemExit, match="report: no"):
        make(files, out, "--codecs", "webp-scaled", "--budgets", "300")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("page.html", "old")]
