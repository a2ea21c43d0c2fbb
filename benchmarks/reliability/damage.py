"""Damage to files: is it seen, and what is kept?

    python -m benchmarks.reliability.damage

Headers: each byte of the header of whole and cut files of several sizes and models is replaced by each of the 255
other values. A trial *passes* if the header is taken for a right one although width, height, length, model or profile
are others. Payloads: 1 to 64 bytes of a file of 4,000 bytes are replaced by random ones, with and without a CRC-32 of
each block.
"""

from __future__ import annotations

import collections
import itertools
import random

from prow.errors import FormatError
from prow.format.container import Header, add_extras, pack, parse, sure_bytes
from prow.format.extras import BLOCK, block_crcs

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


def payloads(trials: int, seed: int = 2) -> collections.Counter[str]:
    """What is seen of random damage to a payload."""
    rng, counts = random.Random(seed), collections.Counter[str]()
    data = pack(rng.randbytes(3988), width=768, height=512, model_id=2)
    guard = add_extras(data, block_crcs(data))[len(data) :]
    for _ in range(trials):
        place, length = rng.randrange(12, len(data)), rng.choice((1, 2, 3, 8, 64))
        damaged = (data[:place] + rng.randbytes(length) + data[place + length :])[: len(data)]
        first = next((i for i in range(len(data)) if damaged[i] != data[i]), None)
        if first is None:
            continue
        counts["trials"] += 1
        counts["not seen by the CRC-16"] += parse(damaged)[2] == "whole"
        counts["not seen with a CRC-32 of each block"] += parse(damaged + guard)[2] == "whole"
        counts["all blocks before the damage known to be right"] += (
            sure_bytes(damaged + guard) == first // BLOCK * BLOCK
        )
    return counts


def main() -> None:
    headers()
    for name, count in payloads(200_000).items():
        print(f"{count:>9,}  payloads: {name}")


def headers() -> None:
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
