"""SHA-256 of files that an encoder makes of some photos, to show that a change of the code changed none of them.

    python -m benchmarks.fingerprint --data PHOTOS --out before.json
    python -m benchmarks.fingerprint --data PHOTOS --same-as before.json

Run both on one machine: encoders choose tokens in floating point, whose last digits differ between machines.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import prow
from benchmarks.codecs.prow_codec import EFFORT
from benchmarks.common.corpus import find_pictures
from benchmarks.common.options import check_counts, parser_of
from benchmarks.common.output import check_place, write

SIZES = (100, 700, 4000)  # bytes
EFFORTS = (1, EFFORT, 6)


def fingerprints(folder: Path, count: int) -> dict[str, str]:
    """-> SHA-256 by "photo bytes effort" of the files of the first `count` photos, and by "photo bytes decoded" of what
    those of the default effort decode to."""
    prints = {}
    for photo in find_pictures(folder, count):
        for size in SIZES:
            for effort in EFFORTS:
                name = f"{photo.path.stem} {size}"
                data = prow.encode(photo.path, bytes=size, effort=effort)
                prints[f"{name} effort {effort}"] = hashlib.sha256(data).hexdigest()
                if effort == EFFORT:
                    prints[f"{name} decoded"] = hashlib.sha256(prow.decode(data).tobytes()).hexdigest()
    return prints


def main(argv: list[str] | None = None) -> int:
    """Make fingerprints; 1 if they differ from those of --same-as."""
    parser = parser_of("fingerprint", __doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of photos")
    parser.add_argument("--photos", type=int, default=10, metavar="N", help="the first N; default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write them as JSON")
    parser.add_argument("--same-as", type=Path, metavar="FILE", help="JSON to compare with")
    args = parser.parse_args(argv)
    check_counts(parser, args, "photos")
    if args.out:
        check_place(args.out, "fingerprint")
    before = json.loads(args.same_as.read_text()) if args.same_as else {}
    prints = fingerprints(args.data, args.photos)
    if args.out:
        write(args.out, json.dumps(prints, indent=1) + "\n")
    print(f"{len(prints)} fingerprints, of all: {hashlib.sha256(json.dumps(prints).encode()).hexdigest()}")
    if not args.same_as:
        return 0
    differing = sorted(name for name in before.keys() | prints.keys() if before.get(name) != prints.get(name))
    print(f"{len(differing)} differ from {args.same_as}", *differing, sep="\n  ")
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())
