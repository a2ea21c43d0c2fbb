"""`prow compare`: the page, what is in it, and its slider in a browser."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import draw_picture
from PIL import Image, features

import prow
from benchmarks.common.browser import CHROMIUM, seen_in_chromium
from prow_cli.rivals import RIVALS, _Encodes, psnr

from .conftest import INPUTS, PHOTO, assert_fails, names, run

# Run in the page after its own script: moves the slider, changes a choice, writes down what is seen.
PROBE = """
(async () => {
  const at = (id) => document.getElementById(id), seen = {};
  const move = (id, value, kind) => { at(id).value = value; at(id).dispatchEvent(new Event(kind)); };
  const width = async (id) => {
    const image = at(id).querySelector("img");
    if (!image.complete) await new Promise((done, failed) => { image.onload = done; image.onerror = failed; });
    return image.naturalWidth;
  };
  const box = () => at("stage").getBoundingClientRect();
  seen.width = box().width;
  move("split", "25", "input");
  seen.clip = getComputedStyle(at("left")).clipPath;
  seen.first = [at("left-codec").value, at("right-codec").value, at("left-caption").innerText, await width("left")];
  move("right-codec", "AVIF", "change");
  move("budget", "60", "change");
  seen.none = [at("right").className, at("right").innerText, at("right-caption").innerText];
  move("left-codec", "original", "change");
  seen.original = [at("left-caption").innerText, await width("left")];
  at("stage").setPointerCapture = () => {}; // there is no such pointer
  at("stage").dispatchEvent(new PointerEvent("pointerdown", { clientX: box().left + box().width / 4, pointerId: 1 }));
  seen.dragged = at("split").value;
  return JSON.stringify(seen);
})().catch((error) => JSON.stringify(String(error))).then((body) => fetch("/", { method: "POST", body }));
"""


def data_of(page: str) -> Any:
    return json.loads(page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])


def pixels_of(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def test_the_page_holds_what_it_says() -> None:
    assert run("compare photo.png --budgets 60,0.6k -o page.html").output == ""
    page = Path("page.html").read_text(encoding="utf-8")
    assert "<title>photo.png, compared</title>" in page and "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", page)
    data, original = data_of(page), np.asarray(PHOTO)
    assert (data["width"], data["height"], data["budgets"]) == (64, 48, [60, 600])
    assert np.array_equal(pixels_of(data["original"]["picture"]), original)
    assert list(data["shots"]) == ["prow", *(one.name for one in RIVALS if one.there())]
    for shots in data["shots"].values():
        for budget, shot in shots.items():
            if shot is not None:
                assert shot["bytes"] <= int(budget)
                decibels = psnr(original, pixels_of(shot["picture"]))
                assert shot["how"].startswith(f"PSNR {decibels:.2f} dB, ")
    wanted = prow.decode(prow.encode(original, bytes=600))
    assert np.array_equal(pixels_of(data["shots"]["prow"]["600"]["picture"]), np.asarray(wanted))
    assert "quality" in data["shots"]["WebP"]["600"]["how"]


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_what_a_codec_cannot_do_is_said() -> None:
    run("compare photo.png --budgets 60 -o page.html --effort 1")
    assert data_of(Path("page.html").read_text(encoding="utf-8"))["shots"]["AVIF"]["60"] is None


def test_a_rival_has_its_best_downscale() -> None:
    pixels = draw_picture(96, 64)
    for rival in RIVALS:
        if rival.there():
            best = rival.best(pixels, [10, 450])
            others = [_Encodes(rival, pixels, factor).within(450) for factor in (1, 2, 4, 8, 16)]
            values = [psnr(pixels, one.pixels) for one in others if one is not None]
            assert best[450] is not None and best[450].size <= 450
            assert psnr(pixels, best[450].pixels) == max(values)
            assert best[10] is None


def test_large_pictures_are_shrunk_and_names_are_text() -> None:
    name = "a<b>&.png"
    Image.fromarray(draw_picture(200, 100)).save(name)
    run(f"compare {name} --budgets 100 --max-side 50 -o page.html --effort 1")
    page = Path("page.html").read_text(encoding="utf-8")
    assert "<title>a&lt;b&gt;&amp;.png, compared</title>" in page and "shrunk from 200 x 100 px" in page
    assert (data_of(page)["width"], data_of(page)["height"]) == (50, 25)


def test_what_is_refused() -> None:
    assert_fails("compare photo.png --budgets few -o page.html", 2, "few")
    assert_fails("compare photo.png --budgets 10 -o page.html", 1, "10", "32")
    assert_fails("compare none.png -o page.html", 1, "none.png")
    assert_fails("compare photo.png -o photo.png", 1, "photo.png exists already")
    assert names() == INPUTS


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is not tried in a browser")
@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_the_slider_works_in_a_browser(tmp_path: Path) -> None:
    run("compare photo.png --budgets 60,600 -o page.html --effort 1")
    page = Path("page.html").read_text(encoding="utf-8")
    seen, data = seen_in_chromium(page, PROBE, tmp_path), data_of(page)
    assert isinstance(seen, dict), seen
    assert (seen["width"], seen["clip"]) == (64, "inset(0px 75% 0px 0px)")
    shot = data["shots"]["prow"]["600"]
    assert seen["first"] == ["prow", "WebP", f"prow: {shot['bytes']} bytes\n{shot['how']}", 64]
    assert seen["none"] == [
        "layer none",
        "AVIF cannot hold this picture in 60 bytes",
        "AVIF: -\nnot possible in 60 bytes",
    ]
    assert seen["original"] == ["original\n64 x 48 px", 64]
    assert seen["dragged"] == "25"
