"""A browser without a window that runs a script in a page, for tests of pages and for measurements in them."""

from __future__ import annotations

import contextlib
import json
import mimetypes
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")


def seen_in_chromium(page: str, probe: str, folder: Path, files: Mapping[str, bytes] | None = None) -> Any:
    """Serve the page with a script, the probe, to a browser -> what that posts back; it may take its time.

    Args:
        files: what else is served, by path; ranges from some byte on are answered.
    """
    posted: queue.Queue[str] = queue.Queue()
    probed = page.replace("default-src 'none'", "default-src 'none'; connect-src 'self'")
    probed = probed.replace("</body>", f"<script>{probe}</script></body>")
    served = {**(files or {}), "/": probed.encode()}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, status = served.get(self.path, b""), 200 if self.path in served else 404
            if (wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))) and status == 200:
                body, status = body[int(wanted[1]) : int(wanted[2] or len(body)) + 1], 206
                status = 206 if body else 416
            self.send_response(status)
            kind = "text/html; charset=utf-8" if self.path == "/" else mimetypes.guess_type(self.path)[0]
            self.send_header("Content-Type", kind or "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
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
            log.flush()
            said = (folder / "log").read_text()[-1000:]
            raise RuntimeError(f"the page's script stopped, or the browser did: {said}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
            server.shutdown()
