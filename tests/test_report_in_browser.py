"""The sliders of the report page, moved in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.common.browser import CHROMIUM, seen_in_chromium

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from benchmarks.quality.records import SHIPPED  # noqa: E402
from benchmarks.report.__main__ import main  # noqa: E402

# Run in the page after its own script: moves the sliders, changes a choice, writes down what is seen.
PROBE = """
(async () => {
  const at = (id) => document.getElementById(id), seen = {};
  const move = (id, value, kind) => { at(id).value = value; at(id).dispatchEvent(new Event(kind)); };
  const picture = async (id) => {
    const image = at(id).querySelector("img");
    if (!image.complete) await new Promise((done, failed) => { image.onload = done; image.onerror = failed; });
    return [image.naturalWidth, image.src.length];
  };
  const box = () => at("stage").getBoundingClientRect();
  const edge = () => Math.round(at("stage").querySelector(".divider").getBoundingClientRect().left + 1 - box().left);
  const split = (percent) => {
    move("split", percent, "input");
    return [edge(), getComputedStyle(at("left")).clipPath];
  };
  seen.width = box().width;
  seen.split = [split("25"), split("75")];
  move("budget", "300", "change");
  seen.left = [at("left-caption").innerText, await picture("left")];
  move("left-codec", "webp", "change");
  move("budget", "40", "change");
  seen.none = [at("left-caption").innerText, at("left").className, at("left").innerText];
  seen.walk = [];
  for (const value of ["0", "2"]) {
    move("cut", value, "input");
    seen.walk.push([at("walk-caption").innerText, await picture("walked")]);
  }
  const handle = new PointerEvent("pointerdown", { clientX: box().left + box().width / 10, pointerId: 1 });
  at("stage").setPointerCapture = () => {}; // there is no such pointer
  at("stage").dispatchEvent(handle);
  seen.dragged = at("split").value;
  return JSON.stringify(seen);
})().catch((error) => JSON.stringify(String(error))).then((body) => fetch("/", { method: "POST", body }));
"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is not tried in a browser")
def test_sliders_work_in_a_browser(draw, tmp_path: Path) -> None:
    Image.fromarray(draw(72, 56)).save(tmp_path / "drawing.png")
    out = tmp_path / "page.html"
    options = f"--out {out} --codecs anchor,webp,webp-scaled --budgets 40,300 --cuts 32,80,200 --model anchor".split()
    main([str(SHIPPED / "kodak.json"), "--data", str(tmp_path), *options])
    page = out.read_text(encoding="utf-8")
    seen = seen_in_chromium(page, PROBE, tmp_path)
    assert isinstance(seen, dict), seen
    data = json.loads(page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])
    assert seen["width"] == 72
    assert seen["split"] == [[18, "inset(0px 75% 0px 0px)"], [54, "inset(0px 25% 0px 0px)"]]
    shot = data["images"][0]["shots"]["anchor"]["300"]
    assert seen["left"] == [
        f"anchor: {shot['bytes']} bytes\n{shot['notes']}",
        [72, len(data["pictures"][shot["picture"]])],
    ]
    assert seen["none"][0] == "webp: -\nnot possible in 40 bytes"
    assert seen["none"][1:] == ["layer none", "webp cannot code this image in 40 bytes"]
    steps = data["walk"]["steps"]
    assert seen["walk"] == [
        [
            f"the first {s['bytes']} of {data['walk']['bytes']} bytes\n{s['notes']}",
            [72, len(data["pictures"][s["picture"]])],
        ]
        for s in (steps[0], steps[2])
    ]
    assert seen["dragged"] == "10"
