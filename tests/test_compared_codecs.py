"""The codecs that prow is compared with, prow as one of them, and what is kept of their files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import prow
from benchmarks.codecs import classical, prow_codec
from benchmarks.codecs.codec import Codec, Coded, code_within
from benchmarks.codecs.families import family_codecs, find_codecs
from benchmarks.common.corpus import Picture
from benchmarks.quality import measure, metrics, plot, published_points, records

# -- classical codecs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", classical.FORMATS)
def test_bisection_finds_the_best_quality(name: str, draw) -> None:
    package = {"jxl": "pillow_jxl", "heic": "pillow_heif", "vvc": "imageio_ffmpeg"}.get(name, "PIL")
    pytest.importorskip(package)
    image = draw(96, 80)
    encodes = classical.Encodes(classical.FORMATS[name])
    rung = encodes.best_rung(image, 2, 900)
    assert rung is not None
    assert len(encodes.file(image, 2, rung)) <= 900
    next_rungs = range(rung + 1, rung + 1 + classical.LOOK_AHEAD)
    assert all(len(encodes.file(image, 2, r)) > 900 for r in next_rungs)
    decoded = encodes.format.decode(encodes.file(image, 2, rung), (48, 40))
    assert (decoded.size, decoded.mode) == ((48, 40), "RGB")
    assert encodes.best_rung(image, 1, 30) is None


def test_vvc_streams_hold_nothing_but_vvc() -> None:
    """vvenc may write warnings to standard output, where the stream goes: they counted as bytes of it once."""
    pytest.importorskip("imageio_ffmpeg")
    vvc = classical.FORMATS["vvc"]
    image = Image.new("RGB", (37, 21), (200, 30, 90))
    data = vvc.encode(image, 20)
    kinds = {unit[1] >> 3 for unit in data.split(b"\0\0\1")[1:]}  # nal_unit_type, H.266 7.3.1.2
    assert kinds <= {8, 15, 16, 20}  # IDR_N_LP, SPS, PPS, AUD: Table 5
    assert len(data) < 120
    decoded = np.asarray(vvc.decode(data, image.size)).astype(int)
    assert decoded.shape == (21, 37, 3)
    assert np.abs(decoded - np.asarray(image)).max() <= 8


# -- which file counts, and what is kept of it -----------------------------------------------------------------------


def test_lower_is_better_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Greys:
        name, settings = "greys", {}

        def code(self, image: np.ndarray, budget: int) -> list[Coded]:
            return [Coded(bytes(g), np.full_like(image, g), {"grey": g}, 0, 0) for g in range(1, budget)]

    red = metrics.Metric("Redness", 1, 1, False, lambda _, got: abs(float(got[0, 0, 0]) - 3))
    far = metrics.Metric("Far", 1, 1, True, lambda _, got: float(got[0, 0, 0]) if got[0, 0, 0] > 3 else None)
    monkeypatch.setattr(measure, "METRICS", {"red": red, "far": far})
    scores = measure.Scores(np.zeros((2, 2, 3), np.uint8))
    point = measure.measure(Greys(), 6, ["red", "far"], scores)
    assert (point["red"]["value"], point["red"]["grey"], point["red"]["bytes"]) == (0, 3, 3)
    assert (point["far"]["value"], point["far"]["grey"]) == (5, 5)
    point = measure.measure(Greys(), 3, ["red", "far"], scores)
    assert (point["red"]["value"], point["far"]["value"], point["far"]["bytes"]) == (1, None, 1)
    assert measure.measure(Greys(), 1, ["red"], scores) == {"budget": 1, "reached": False}


def test_records_of_the_first_kind_keep_what_is_right(tmp_path: Path) -> None:
    picture = Picture(Path("a.png"), 200, 200, "5e" * 32)
    plain, scaled = family_codecs("webp")
    points = [
        {"budget": 64, "bytes": None, "psnr": None, "ms_ssim": None},
        {"budget": 512, "bytes": 500, "psnr": 20.5, "ms_ssim": 0.75, "factor": 1, "quality": 3.5},
    ]
    with (tmp_path / "rd.jsonl").open("w") as file:
        for codec in (plain, scaled):
            settings = {**codec.settings, "best_by": "psnr"}
            record = {"codec": codec.name, "settings": settings, "image": "a.png", "image_sha256": picture.sha256}
            file.write(json.dumps({**record, "points": points}) + "\n")
    kept = records.Records(tmp_path / "rd.jsonl", fresh=True)
    file = {"bytes": 500, "factor": 1, "quality": 3.5}
    known = {64: {"budget": 64, "reached": False}, 512: {"budget": 512, "reached": True}}
    known[512] |= {"psnr": {"value": 20.5, **file}}
    assert kept.points(scaled, picture) == known  # its MS-SSIM was that of the file best by PSNR
    assert kept.missing([scaled], picture, [64, 512], ["psnr"]) == {}
    assert kept.missing([scaled], picture, [64, 512], ["psnr", "ms_ssim"]) == {"webp-scaled": {512: ["ms_ssim"]}}
    known[512] |= {"ms_ssim": {"value": 0.75, **file}}
    assert kept.points(plain, picture) == known
    assert kept.missing([plain], picture, [64, 512, 700], ["psnr", "ms_ssim"]) == {"webp": {700: ["psnr", "ms_ssim"]}}


def test_shipped_records_give_psnr_of_every_classical_codec() -> None:
    known: dict[str, set[str]] = {}
    for line in (records.SHIPPED / "kodak-classical.jsonl").read_text().splitlines():
        record = records.upgraded(json.loads(line))
        names = {name for p in record["points"] if p["reached"] for name in metrics.METRICS if name in p}
        known.setdefault(record["codec"], set()).update(names)
    assert set(known) >= {f"{name}{scaled}" for name in classical.USUAL for scaled in ("", "-scaled")}
    assert all("psnr" in names for names in known.values())


# -- prow ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_prow(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    """prow whose files say nothing; `asked` is what came, and `extra` bytes of its files can be set."""
    control = {"extra": 0, "asked": []}
    model = SimpleNamespace(name="prow-small", sha256="5e" * 32, is_default=True, external_id=None, vivid_sha256=None)

    def encode(image: np.ndarray, *, bytes: int, model: str, profile: str, effort: int, focus: list) -> bytearray:
        assert (effort, focus) == (prow_codec.EFFORT, [])
        control["asked"].append((bytes, model, profile))
        if bytes < 32:
            raise prow.BudgetError("too few")
        return bytearray(bytes + control["extra"])

    fake = {"models": lambda: (model,), "encode": encode, "decode": lambda data, style: Image.new("RGB", (48, 64))}
    for name, value in fake.items():
        monkeypatch.setattr(prow, name, value)
    family_codecs.cache_clear()
    yield control
    family_codecs.cache_clear()


def sizes(codec: Codec, image: np.ndarray, *budgets: int) -> list[int | None]:
    """-> bytes of a codec's only file at each budget."""
    return [next((len(file.data) for file in code_within(codec, image, b)), None) for b in budgets]


def test_prow_is_held_to_its_budget(fake_prow: dict, draw) -> None:
    image = draw(48, 64)
    (codec,) = find_codecs(["prow"])
    assert codec.settings["sha256"] == "5e" * 32
    assert sizes(codec, image, 16, 64, 512) == [None, 64, 512]
    assert sizes(codec, image, 64) == [64]  # kept, for the other style
    assert fake_prow["asked"] == [(b, "prow-small", "file") for b in (16, 64, 512)]
    fake_prow["extra"] = 1
    with pytest.raises(AssertionError, match="prow gave 66 bytes for a budget of 65"):
        code_within(codec, image, 65)
    with pytest.raises(ValueError, match="no model 'anchor': there are prow-small"):
        find_codecs(["anchor"])


def test_cuts_are_all_of_one_master(fake_prow: dict, draw, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = []
    monkeypatch.setattr(prow, "truncate", lambda data, size: (cuts.append(size), data[:size])[1])
    (codec,) = find_codecs(["prow-cuts"])
    assert [sizes(codec, draw(48, 64, seed), 64, 512, 20000) for seed in (0, 1)] == [[64, 512, None]] * 2
    assert fake_prow["asked"] == [(prow_codec.MASTER, "prow-small", "file")] * 2
    assert cuts == [64, 512] * 2


# -- published points ------------------------------------------------------------------------------------------------


def test_published_points_are_marked_on_kodak_alone() -> None:
    kodak = json.loads((records.SHIPPED / "kodak.json").read_text())
    for metric in ("psnr", "ms_ssim"):
        page = plot.as_svg(kodak, metric)
        assert all(f"{codec}, published" in page for codec in ("VTM", "StableCodec", "AEIC-ME"))
    assert "Minnen 2018" not in page  # reports no MS-SSIM
    others = {**kodak, "corpus": {**kodak["corpus"], "sha256": "5e" * 32}}
    assert "published" not in plot.as_svg(others, "psnr")
    assert published_points.MARKS.keys() == published_points.POINTS.keys()
