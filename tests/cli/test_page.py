"""`prow page`: a page that decodes prow files while a slider moves over their bytes."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

import prow
from benchmarks.common.browser import CHROMIUM, seen_in_chromium
from prow import registry
from prow.web import web_model
from prow_cli.commands import page
from prow_cli.rivals import RIVALS

from .conftest import INPUTS, PHOTO, SIZE, assert_fails, names, run

BUILT = all((page.FOLDER / "web" / name).is_file() for name in page.BUILT)
needs_built = pytest.mark.skipif(not BUILT, reason="the decoder for browsers is not built (make web)")
PROBE = """
(async () => {
  const until = async (done) => { while (!done()) await new Promise((resolve) => setTimeout(resolve, 20)); };
  const encode = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  await until(() => document.querySelector("section")?.dataset.shown);
  const section = document.querySelector("section"), slider = section.querySelector("input");
  const figure = (name) => section.querySelector(`figure[data-codec="${name}"]`);
  const seen = [];
  for (const place of [0, 500, 1000]) {
    delete section.dataset.shown;
    slider.value = place;
    slider.dispatchEvent(new Event("input"));
    await until(() => section.dataset.shown);
    const canvas = figure("prow").querySelector("canvas"), { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    const image = figure("WebP").querySelector("img");
    await image.decode().catch(() => {});
    const told = { told: figure("prow").textContent, output: section.querySelector("output").value };
    const webp = { webp: figure("WebP").textContent, shown: image.naturalWidth };
    seen.push({ width, height, data: encode(data), bytes: Number(section.dataset.shown), ...told, ...webp });
  }
  return JSON.stringify(seen);
})().catch((error) => JSON.stringify(String(error.stack))).then((body) => fetch("/", { method: "POST", body }));
"""


def element(content: str, name: str) -> str:
    return content.partition(f'id="{name}">')[2].partition("</script>")[0]


@needs_built
def test_the_page_holds_what_it_says() -> None:
    Image.fromarray(np.asarray(PHOTO)[:, :32]).save("a<b>.png")
    assert run("page photo.png a<b>.png --bytes 300 --effort 1 -o page.html").output == ""
    content = Path("page.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in content and not re.search(r"""(src|href)=["']?(https?:|//)""", content)
    assert base64.b64decode(element(content, "model")) == web_model(registry.load("default"))
    assert gzip.decompress(base64.b64decode(element(content, "runtime"))).startswith(b"\0asm")
    first, second = json.loads(element(content, "data"))
    assert (first["name"], first["width"], first["height"]) == ("photo.png", *SIZE)
    assert (second["name"], second["width"]) == ("a<b>.png", 32)
    assert base64.b64decode(first["prow"]) == prow.encode(PHOTO, bytes=300, effort=1)
    for rival in RIVALS:
        if not rival.there():
            continue
        files = first["rivals"][rival.name]
        sizes = [one["bytes"] for one in files]
        assert sizes == sorted(set(sizes)) and all(size <= 300 for size in sizes)
        assert sizes or rival.name != "WebP"
        for one in files:
            file = base64.b64decode(one["file"])
            assert len(file) == one["bytes"] and Image.open(io.BytesIO(file)).format == rival.name.upper()


def test_without_a_decoder_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(page, "FOLDER", tmp_path)
    assert_fails("page photo.png -o page.html", 1, "make web")
    assert names() == INPUTS


@needs_built
def test_what_is_refused() -> None:
    assert_fails("page -o page.html", 2, "IMG")
    assert_fails("page photo.png --bytes few -o page.html", 2, "few")
    assert_fails("page photo.png --bytes 10 -o page.html", 1, "10", "32")
    assert_fails("page none.png -o page.html", 1, "none.png")
    assert_fails("page photo.png -o photo.png", 1, "photo.png exists already")
    assert names() == INPUTS


@needs_built
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is not tried in a browser")
@pytest.mark.skipif(not features.check("webp"), reason="this Pillow has no WebP")
def test_the_slider_decodes_in_a_browser(tmp_path: Path) -> None:
    run("page photo.png --bytes 600 --effort 1 -o page.html")
    content = Path("page.html").read_text(encoding="utf-8")
    (shown,) = json.loads(element(content, "data"))
    seen = seen_in_chromium(content, PROBE, tmp_path)
    assert isinstance(seen, list), seen
    data = base64.b64decode(shown["prow"])
    assert [one["bytes"] for one in seen] == [32, round((32 * len(data)) ** 0.5), len(data)]
    for one in seen:
        size = one["bytes"]
        wanted = np.asarray(prow.decode(data[:size]).convert("RGBA"))
        pixels = np.frombuffer(base64.b64decode(one["data"]), np.uint8).reshape(wanted.shape)
        assert np.abs(pixels.astype(int) - wanted).max() <= 2
        assert one["output"] == f"{size} bytes" and f"prow: {size} bytes" in one["told"]
    assert "no file is so small" in seen[0]["webp"] and seen[0]["shown"] == 0
    largest = shown["rivals"]["WebP"][-1]
    assert f"WebP: {largest['bytes']} bytes" in seen[2]["webp"] and largest["how"] in seen[2]["webp"]
    assert seen[2]["shown"] == Image.open(io.BytesIO(base64.b64decode(largest["file"]))).width
