"""The decoder in JavaScript in a browser: tokens and pixels as in Node, and <prow-img>."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Draw

import prow
from benchmarks.common.browser import CHROMIUM, seen_in_chromium
from format_spec import make_vectors

from .conftest import Decoder
from .test_pixels import check_pixels

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: nothing is tried in a browser")
GOLDEN = [row["file"].removesuffix(".prow") for row in json.loads(make_vectors.INDEX.read_text())["vectors"]]
DECODED = ("anchor_50x33_picture_bare", "prow-small_70x50_alpha", "prow-small_17x23", "prow-small_50x33_picture_bare")
DOCS = Path(__file__).parents[2] / "docs" / "web.md"
PAGE = """<!doctype html><meta charset="utf-8">
<script type="importmap">{"imports": {"onnxruntime-web/wasm": "/ort.wasm.bundle.min.mjs"}}</script>
<body></body>"""
POST = ".catch((error) => JSON.stringify(String(error.stack))).then((body) => fetch('/', { method: 'POST', body }));"
VECTORS = """
(async () => {
  const { ProwDecoder } = await import("/prow-decode.js");
  const { told } = await import("/told.mjs");
  const encode = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  const decoders = {}, tokens = {}, pictures = {};
  for (const name of ["anchor", "prow-small"]) decoders[name] = await ProwDecoder.load(`/${name}.prowmodel`);
  for (const name of NAMES) {
    const data = new Uint8Array(await (await fetch(`/${name}.prow`)).arrayBuffer());
    tokens[name] = told(decoders[name.split("_")[0]].tokens(data));
    if (!DECODED.includes(name)) continue;
    const picture = await decoders[name.split("_")[0]].decode(data);
    const { width, height } = picture;
    pictures[name] = { width, height, data: encode(picture.data), kind: picture.constructor.name };
  }
  return JSON.stringify({ tokens, pictures });
})()"""
ELEMENT = """
(async () => {
  const seen = {}, image = document.querySelector("prow-img");
  const next = (type) => new Promise((resolve) => image.addEventListener(type, resolve, { once: true }));
  const encode = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  const shown = () => {
    const canvas = image.shadowRoot.querySelector("canvas"), { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    return { width, height, data: encode(data), bytes: image.shownBytes, complete: image.complete };
  };
  const fetched = () => performance.getEntriesByType("resource").filter((one) => one.name.endsWith("other.prow"))
    .map((one) => one.encodedBodySize);

  while (!image.complete) await new Promise((resolve) => setTimeout(resolve, 20));
  seen.page = shown();

  let progress = 0;
  image.addEventListener("progress", () => progress++);
  image.bytes = 100;
  let loaded = next("load");
  image.src = "/other.prow";
  await loaded;
  seen.first = { ...shown(), fetched: fetched(), progress: progress > 0 };

  loaded = next("load");
  image.bytes = 300;
  await loaded;
  seen.sharper = { ...shown(), fetched: fetched() };

  loaded = next("load");
  image.bytes = 200;
  await loaded;
  seen.less = { ...shown(), fetched: fetched() };

  loaded = next("load");
  image.removeAttribute("bytes");
  await loaded;
  seen.all = { ...shown(), fetched: fetched() };

  for (const [name, src] of [["none", "/none.prow"], ["png", "/picture.png"], ["damaged", "/damaged.prow"]]) {
    const failed = next("error");
    image.src = src;
    await failed;
    seen[name] = image.error.name;
  }

  loaded = next("load");
  image.src = INLINE;
  await loaded;
  seen.inline = shown();
  return JSON.stringify(seen);
})()"""


@pytest.fixture(scope="module")
def files(decoder: Decoder, built: Path) -> dict[str, bytes]:
    runtime = built / "node_modules" / "onnxruntime-web" / "dist"
    served = {f"/{name}": (runtime / name).read_bytes() for name in RUNTIME}
    served["/prow-decode.js"] = (built / "dist" / "prow-decode.js").read_bytes()
    served["/told.mjs"] = Path(__file__).with_name("told.mjs").read_bytes()
    served |= {f"/{name}.prowmodel": Path(path).read_bytes() for name, path in decoder.models.items()}
    return served


RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")


def test_golden_vectors(decoder: Decoder, files: dict[str, bytes], tmp_path: Path) -> None:
    data = {name: (make_vectors.GOLDEN / f"{name}.prow").read_bytes() for name in GOLDEN}
    probe = f"const NAMES = {json.dumps(GOLDEN)}, DECODED = {json.dumps(DECODED)};{VECTORS}{POST}"
    served = files | {f"/{name}.prow": content for name, content in data.items()}
    seen = seen_in_chromium(PAGE, probe, tmp_path, served)
    assert isinstance(seen, dict), seen
    asked = [{"ask": "tokens", "model": name.split("_")[0], "data": data[name]} for name in GOLDEN]
    for name, wanted in zip(GOLDEN, decoder.ask(asked), strict=True):
        assert seen["tokens"][name] == wanted, name
    for name in DECODED:
        assert seen["pictures"][name]["kind"] == "ImageData"
        check_pixels(seen["pictures"][name], data[name])


def test_the_element(files: dict[str, bytes], draw: Draw, tmp_path: Path) -> None:
    """On the page that docs/web.md shows."""
    page = DOCS.read_text(encoding="utf-8").partition("```html\n")[2].partition("```")[0]
    whole, tiny = prow.encode(draw(64, 48), bytes=400), prow.placeholder(draw(20, 30))
    damaged = whole[:-1] + bytes([whole[-1] ^ 1])
    served = {f"/prow{name}": content for name, content in files.items()}
    served |= {"/photo.prow": whole, "/other.prow": whole, "/damaged.prow": damaged}
    served["/picture.png"] = b"\x89PNG\r\n\x1a\n" * 9
    inline = f"data:image/x-prow;base64,{base64.b64encode(tiny).decode()}"
    seen = seen_in_chromium(f"{page}</body>", f"const INLINE = {json.dumps(inline)};{ELEMENT}{POST}", tmp_path, served)
    assert isinstance(seen, dict), seen
    check_pixels(seen["page"], whole)
    for name, size, fetched in (
        ("first", 100, [100]),
        ("sharper", 300, [100, 200]),
        ("less", 200, [100, 200]),
        ("all", len(whole), [100, 200, len(whole) - 300]),
    ):
        came: dict[str, Any] = seen[name]
        assert (came["bytes"], came["complete"], came["fetched"]) == (size, True, fetched), name
        check_pixels(came, whole[:size])
    assert seen["first"]["progress"]
    assert (seen["none"], seen["png"], seen["damaged"]) == ("ProwError", "HeaderError", "DamagedError")
    check_pixels(seen["inline"], tiny)
    assert not np.array_equal(seen["first"]["data"], seen["all"]["data"])
