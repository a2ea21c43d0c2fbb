"""Nothing lost, nothing doubled, on a Ray cluster whose processes are killed: `python -m benchmarks.datasets.loss`.

A cluster on this machine: a head and two nodes of one core. `prow dataset encode --runner ray` encodes small pictures,
some of them broken. In the middle a worker is killed (SIGKILL), later the driver. The same command starts again. At the
end each picture must be there once, and each broken one as an error. Takes the extras `dataset` and `ray`, and Linux.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common.options import check_counts, parser_of
from benchmarks.common.output import check_place, write
from benchmarks.datasets.pictures import write_folder

MARK = "PROW_LOSS"  # of the environment: which processes are ours
PATIENCE = 900  # seconds without what is waited for


def workers(mark: str) -> list[int]:
    """-> ids of the processes of our cluster that encode."""
    ours = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (place / "cmdline").read_bytes(), (place / "environ").read_bytes()
        except OSError:
            continue
        if command.startswith(b"ray::UDFActor") and f"{MARK}={mark}".encode() in environment.split(b"\0"):
            ours.append(int(place.name))
    return ours


def shards(folder: Path) -> int:
    return len(list(folder.glob("part-*.parquet")))


def wait_until(true: Callable[[], bool], driver: subprocess.Popen[bytes], what: str) -> None:
    """Raises SystemExit if it does not become true, or the driver ends before."""
    start = time.monotonic()
    while not true():
        if driver.poll() is not None or time.monotonic() - start > PATIENCE:
            raise SystemExit(f"the driver is at {driver.poll()}, wanted {what}")
        time.sleep(0.02)


def check(folder: Path) -> dict[str, int]:
    """-> rows, errors, different inputs, and files that are left over."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = sorted(folder.glob("part-*.parquet"))
    table = pa.concat_tables([pq.read_table(path, columns=["input", "prow", "error"]) for path in paths])
    assert table["prow"].null_count == len(table) - table["error"].null_count
    return {
        "rows": len(table),
        "errors": len(table) - table["error"].null_count,
        "inputs": len(set(table["input"].to_pylist())),
        "left_over": len(list(folder.glob(".*"))),
    }


def run(args_count: int, broken: int, shard: int, out: Path) -> dict[str, object]:
    """-> what happened. Raises SystemExit if it was not what should."""
    mark = os.environ[MARK] = secrets.token_hex(8)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports] - an extra

    shutil.rmtree(out, ignore_errors=True)
    src, dst = out / "src", out / "dst"
    write_folder(src, args_count, 32, 32, broken=broken)
    total = -(-args_count // shard)
    node = {"object_store_memory": 150 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **node})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, **node)
        options = ["--bytes", "100", "--effort", "1", "--shard", str(shard), "--runner", "ray", "--device", "cpu"]
        command = [sys.executable, "-m", "prow_cli.main", "dataset", "encode", str(src), str(dst), *options]
        environment = {**os.environ, "RAY_ADDRESS": cluster.address}
        start, log = time.monotonic(), (out / "driver.log").open("wb")

        driver = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        wait_until(lambda: shards(dst) >= total // 4, driver, "a quarter of the shards")
        came, (worker, *others) = shards(dst), workers(mark)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: len({*workers(mark)} - {worker}) > len(others), driver, "another worker")
        wait_until(lambda: shards(dst) >= total * 5 // 8, driver, "five eighths of the shards")
        at_driver = shards(dst)
        driver.kill()
        driver.wait()
        time.sleep(5)  # what still runs for it finishes, or ends
        at_restart = shards(dst)
        second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        if second.returncode:
            raise SystemExit(f"the second run ended with {second.returncode}: {second.stderr[-2000:]}")
    finally:
        cluster.shutdown()
    result = {
        "pictures": args_count,
        "broken": broken,
        "shards": total,
        "workers": 1 + len(others),
        "shards_when_the_worker_was_killed": came,
        "shards_when_the_driver_was_killed": at_driver,
        "shards_at_the_second_start": at_restart,
        "said": second.stdout.strip(),
        "seconds": round(time.monotonic() - start, 1),
        **check(dst),
    }
    wanted = {"rows": args_count, "errors": broken, "inputs": args_count, "left_over": 0}
    if wrong := {key: result[key] for key, value in wanted.items() if result[key] != value}:
        raise SystemExit(f"{wrong} came, wanted {wanted}")
    return result


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark; see the module's docstring."""
    parser = parser_of("datasets.loss", __doc__)
    parser.add_argument("--pictures", type=int, default=2000, metavar="N", help="default: %(default)s")
    parser.add_argument("--broken", type=int, default=37, metavar="N", help="of them; default: %(default)s")
    parser.add_argument("--shard", type=int, default=25, metavar="N", help="pictures a shard; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/datasets"), metavar="DIR", help="default: %(default)s")
    args = parser.parse_args(argv)
    check_counts(parser, args, "pictures", "broken", "shard")
    check_place(args.out / "loss.json", parser.prog)
    out = args.out.resolve() / "loss"
    result = run(args.pictures, args.broken, args.shard, out)
    text = json.dumps(result, indent=2) + "\n"
    write(args.out / "loss.json", text)
    print(text, end="")


if __name__ == "__main__":
    main()
