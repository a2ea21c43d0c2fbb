"""What is frozen with version 1.0 of the format: `python -m format_spec.freeze` from the root of the repository.

Says whether vectors/1.0/ is as its SHA256SUMS say, and whether the models in the package are those of its golden.json.
With --refreeze all of it is made anew, and the example in SPEC.md: after a model file was replaced, and only as long
as no release is published. Then the format is frozen for good, and a better model gets a new id.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

from format_spec import VECTORS, make_external, make_hostile, make_vectors
from prow import registry

SUMS = "SHA256SUMS"  # in the format of sha256sum


def sums(files: dict[str, bytes]) -> str:
    """The text of SHA256SUMS for files by place in the folder."""
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))


def files_in(folder: Path) -> dict[str, bytes]:
    """All files of a folder but its SHA256SUMS."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def faults(folder: Path) -> list[str]:
    """Files that are not as recorded (other, missing or new), and models of the package that are not those recorded."""
    recorded, found = (folder / SUMS).read_text(), sums(files_in(folder))
    differing = set(recorded.splitlines()) ^ set(found.splitlines())
    models = json.loads((folder / "golden.json").read_text())["models"]
    replaced = [name for name, facts in models.items() if make_vectors.frozen_facts(registry.load(name)) != facts]
    names = sorted({line.split("  ", 1)[1] for line in differing})
    return [*(f"{name} is not as recorded" for name in names), *(f"model {name} is another one" for name in replaced)]


def published() -> str:
    """The tags of releases, "" if there are none."""
    done = subprocess.run(["git", "tag", "--list", "v*"], cwd=VECTORS, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"git has to say whether a release is published: {done.stderr.strip()}")
    return " ".join(done.stdout.split())


def refreeze() -> None:
    """Make all anew in place of what is there."""
    made = {**make_vectors.files(), **make_external.files(), **make_hostile.files()}
    text = make_vectors.with_example(make_vectors.SPEC.read_text(), make_vectors.example(registry.load("anchor")))
    for name in files_in(VECTORS).keys() - made.keys():
        (VECTORS / name).unlink()
    for name, content in made.items():
        (VECTORS / name).parent.mkdir(parents=True, exist_ok=True)
        (VECTORS / name).write_bytes(content)
    (VECTORS / SUMS).write_text(sums(made))
    make_vectors.SPEC.write_text(text)


def main(argv: list[str] | None = None) -> int:
    """1 if anything is not as it was frozen."""
    parser = argparse.ArgumentParser(prog="python -m format_spec.freeze", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument(
        "--refreeze",
        action="store_true",
        help="write all vectors, sums and the example anew; files of before may be unreadable, so this is refused once "
        "git has a tag of a release (v*)",
    )
    if parser.parse_args(argv).refreeze:
        if tags := published():
            sys.exit(f"{tags} is published, so the format is frozen: wanted a new id for a new model")
        refreeze()
    found = faults(VECTORS)
    print(*found or [f"{len(files_in(VECTORS))} files in {VECTORS} and the models are as they were frozen"], sep="\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
