"""The sliders of the report page, moved in a browser."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from benchmarks.quality.records import SHIPPED  # noqa: E402
from benchmarks.report.__main__ import main  # noqa: E402

CHROMIUM = shutil.which("chromium")

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


def seen_in_chromium(page: str, folder: Path) -> Any:
    """Serve the page with the probe to a browser -> what the probe posts back; it may take its time."""
    posted: queue.Queue[str] = queue.Queue()
    probed = page.replace("default-src 'none'", "default-src 'none'; connect-src 'self'")
    probed = probed.replace("</body>", f"<script>{PROBE}</script></body>")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = probed.encode() if self.path == "/" else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            posted.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options.append(f"--user-data-dir={folder / 'profile'}")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, open(folder / "log", "w") as log:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [str(CHROMIUM), *options, f"http://127.0.0.1:{server.server_port}/"]
        browser = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            return json.loads(posted.get(timeout=240))
        except queue.Empty:
            pytest.fail(f"the page's script stopped, or the browser did: {(folder / 'log').read_text()[-1000:]}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
            server.shutdown()


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is not tried in a browser")
def test_sliders_work_in_a_browser(draw, tmp_path: Path) -> None:
    Image.fromarray(draw(72, 56)).save(tmp_path / "drawing.png")
    out = tmp_path / "page.html"
    options = f"--out {out} --codecs anchor,webp,webp-scaled --budgets 40,300 --cuts 32,80,200 --model anchor".split()
    main([str(SHIPPED / "kodak.json"), "--data", str(tmp_path), *options])
    page = out.read_text(encoding="utf-8")
    seen = seen_in_chromium(page, tmp_path)
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
