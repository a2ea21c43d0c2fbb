"""What benchmarks.speed measures, in a process of its own: `python -m benchmarks.speed.child JOB`.

JOB is a `jobs.Job` as JSON. It is done once, and once more for every line on stdin; each time prints a line of
JSON with the time from picture to bytes or back, both in memory. What is imported here counts as memory of every
codec, so this is the standard library and Pillow.
"""

from __future__ import annotations

import io
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

Work = Callable[[], bytes | Image.Image]


def prow_work(job: dict[str, Any]) -> Work:
    """-> prow's encode or decode."""
    import prow

    if job["operation"] == "decode":
        data = Path(job["source"]).read_bytes()
        return lambda: prow.decode(data)
    image = read_picture(job["source"])
    return lambda: prow.encode(image, **job["options"])


def classical_work(job: dict[str, Any]) -> Work:
    """-> one call of Pillow to write or read a file in a classical format."""
    if job["codec"] == "avif":
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = job["threads"]  # of its decoder
    if job["operation"] == "decode":
        data = Path(job["source"]).read_bytes()
        return lambda: Image.open(io.BytesIO(data)).convert("RGB")
    image = read_picture(job["source"])

    def encode() -> bytes:
        file = io.BytesIO()
        image.save(file, job["codec"], **job["options"])
        return file.getvalue()

    return encode


def read_picture(path: str) -> Image.Image:
    """-> a picture, all of it in memory."""
    with Image.open(path) as image:
        image.load()
        return image


def gpu_bytes() -> int | None:
    """-> the most that torch has held on a GPU so far; None if it holds nothing there."""
    torch = sys.modules.get("torch")
    return torch.cuda.max_memory_allocated() if torch and torch.cuda.is_initialized() else None


def write(path: str, result: bytes | Image.Image) -> None:
    """Put what came out into a file; a picture becomes a PNG."""
    if isinstance(result, bytes):
        Path(path).write_bytes(result)
    else:
        result.save(path, "PNG")


def main() -> None:
    """Do the job until stdin ends."""
    job = json.loads(sys.argv[1])
    work = (prow_work if job["codec"] == "prow" else classical_work)(job)
    for number, _ in enumerate(itertools.chain([""], sys.stdin)):
        start, cpu_start = time.perf_counter(), time.process_time()
        result = work()
        taken = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu_start}
        if number == 0 and job["out"]:
            write(job["out"], result)
        print(json.dumps({**taken, "gpu_bytes": gpu_bytes()}), flush=True)
        del result


if __name__ == "__main__":
    main()
