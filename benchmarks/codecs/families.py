"""All codecs. A family is what `--codecs` names; its codecs share their encodes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from benchmarks.codecs.classical import FACTORS, FORMATS, Classical, Encodes
from benchmarks.codecs.codec import Codec
from benchmarks.codecs.hashes import BlurHash, ThumbHash
from benchmarks.codecs.prow_codec import MASTER, Files, Prow, styles_of_default
from benchmarks.common import faces


class UnknownCodecError(ValueError):
    """There is no codec of this name."""


def _classical(name: str) -> list[Codec]:
    encodes = Encodes(FORMATS[name])
    return [Classical(name, encodes, (1,)), Classical(f"{name}-scaled", encodes, FACTORS)]


FAMILIES: dict[str, Callable[[], Sequence[Codec]]] = {
    "prow": styles_of_default,
    "prow-cuts": lambda: [Prow("prow-cuts", Files("default", master=MASTER))],
    "prow-bare": lambda: [Prow("prow-bare", Files("default", "bare"))],
    "prow-faces": lambda: [Prow("prow-faces", Files("default", focus=faces.find))],
    "anchor": lambda: [Prow("anchor", Files("anchor"))],
    **{name: functools.partial(_classical, name) for name in FORMATS},
    "thumbhash": lambda: [ThumbHash()],
    "blurhash": lambda: [BlurHash()],
}


@functools.cache
def family_codecs(family: str) -> Sequence[Codec]:
    """-> the codecs of a family, made once per process, so that they can share encodes."""
    return FAMILIES[family]()


def find_codecs(names: Sequence[str]) -> list[Codec]:
    """-> codecs by name, such as "prow" or "webp-scaled". Raises UnknownCodecError if there is none of a name."""
    codecs = []
    for name in names:
        family = name.removesuffix("-scaled").removesuffix("-vivid")
        made = family_codecs(family) if family in FAMILIES else []
        if name not in (codec.name for codec in made):
            more = {"prow": "-vivid", **dict.fromkeys(FORMATS, "-scaled")}
            wanted = [f"{f}{s}" for f in FAMILIES for s in dict.fromkeys(("", more.get(f, "")))]
            raise UnknownCodecError(f"unknown codec {name!r}: wanted some of {', '.join(wanted)}")
        codecs += [codec for codec in made if codec.name == name]
    return codecs
