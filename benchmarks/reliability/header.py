"""Damage to headers: each byte of the header of some files, replaced by each of the 255 other values.

    python -m benchmarks.reliability.header

Takes whole and cut files of several sizes and models, and counts what a reader makes of each damaged one. A trial
*passes* if the header is taken for a right one although width, height, length, model or profile are others.
"""

from __future__ import annotations

import collections
import itertools
import random

from prow.errors import FormatError
from prow.format.container import Header, pack, parse

SIZES = ((1, 1), (33, 20), (768, 512), (4000, 3000), (16_384, 9), (20_000, 300))
PAYLOADS = (0, 88, 1500, 70_000)  # bytes
MODELS = (1, 2)


def originals(seed: int = 1) -> list[bytes]:
    """Whole files, and each of those with a payload cut in the middle."""
    rng = random.Random(seed)
    whole = [
        pack(rng.randbytes(length), width=width, height=height, model_id=model)
        for (width, height), length, model in itertools.product(SIZES, PAYLOADS, MODELS)
    ]
    return whole + [data[: len(data) - (len(data) - parse(data)[0].header_bytes) // 2] for data in whole]


def outcome(data: bytes, before: Header) -> str:
    """What a reader says of a file with a damaged header."""
    try:
        header, _, state = parse(data)
    except FormatError as error:
        return f"error: {type(error).__name__}"
    if state == "damaged":
        return "error: DamagedError"
    same = all(
        getattr(header, name) == getattr(before, name)
        for name in ("width", "height", "payload_bytes", "model_id", "profile")
    )
    if same:
        return f"harmless: read as {state}, all fields right"
    return f"passes: read as {'bare' if header.profile == 'bare' else state}"


def main() -> None:
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for data in originals():
        before, _, state = parse(data)
        for place in range(before.header_bytes):
            for value in set(range(256)) - {data[place]}:
                damaged = data[:place] + bytes([value]) + data[place + 1 :]
                counts[state, outcome(damaged, before)] += 1
    for came in ("whole", "cut"):
        total = sum(count for (state, _), count in counts.items() if state == came)
        print(f"{came} files: {total:,} trials")
        for (state, name), count in sorted(counts.items(), key=lambda item: -item[1]):
            if state == came:
                print(f"  {count:>9,}  {100 * count / total:8.4f} %  {name}")


if __name__ == "__main__":
    main()
