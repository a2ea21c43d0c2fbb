"""An ordered tokenizer as a model: what its streams say, without pixels."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np

from ..arguments import flag, told
from ..entropy.check import check_sides
from ..entropy.tables import TOTAL
from ..entropy.trim import shortest
from ..errors import InputError, ModelError
from ..format import sequence
from ..format.container import EXTERNAL, EXTERNAL_ID_BYTES
from ..format.limits import Meter
from ..format.tiling import has_choice, tile_count
from ..format.tokens import External, PassTokens, Tokens
from ..ordered import OrderedTokenizer
from .stream import Reading, uniform, write


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the tokenizer of a model comes from: itself, or the kind and file of its weights in the user's folder."""

    tokenizer: OrderedTokenizer | None = None
    kind: str = ""
    weights: Path = Path()


@dataclasses.dataclass(frozen=True, eq=False)
class ExternalModel:
    """An ordered tokenizer of a name, with all that its streams depend on.

    Attributes:
        sha256: hexadecimal, of its weights. weights_bytes: how many these are.
        tile, tokens, alphabet: as in `prow.ordered`.
        tables: int32 [tokens, alphabet], frequencies by position; None: all values are as likely.
    """

    name: str
    description: str
    sha256: str
    weights_bytes: int
    tile: int
    tokens: int
    alphabet: int
    source: Source
    tables: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.tables is not None:
            check_tables(self.tables, self.tokens, self.alphabet)

    model_id = EXTERNAL

    @property
    def external_id(self) -> bytes:
        """The bytes that a file names the model by, and its tables: files depend on both."""
        return self._external_id

    @cached_property
    def _external_id(self) -> bytes:
        return external_id(self.sha256, self.tables)

    @cached_property
    def frequencies(self) -> np.ndarray:
        """[tokens or 1, alphabet], by position."""
        return uniform(self.alphabet)[None] if self.tables is None else self.tables

    # -- streams

    def read(self, stream: bytes, width: int, height: int, meter: Meter | None = None) -> Tokens:
        """The tokens that the bytes of a stream determine.

        Raises:
            LimitError: there is a `meter`, and the bytes ask for more work. Without, it never fails.
        """
        reading = Reading(stream, has_layout=has_choice(width, height, self.tile), meter=meter)
        tiles = tile_count(width, height, self.tile, letterbox=reading.letterbox)
        reading.read(tiles, self.tokens, self.frequencies)
        return self.tokens_of(reading.counts, reading.values, width, height, letterbox=reading.letterbox)

    def write(self, tokens: Tokens) -> bytes:
        """A stream of all tokens, with bytes to spare."""
        layout, part = self._layout(tokens), tokens.passes[0]
        return write(part.counts, part.values, self.frequencies, layout)

    def trimmed(self, tokens: Tokens) -> bytes:
        """The shortest stream of all tokens."""
        return shortest(self.write(tokens), lambda part: self.read(part, tokens.width, tokens.height) == tokens)

    def _layout(self, tokens: Tokens) -> bool | None:
        assert tokens.external is not None
        return tokens.external.letterbox if has_choice(tokens.width, tokens.height, self.tile) else None

    def read_start(self, stream: bytes, width: int, height: int) -> tuple[int | None, bool, bool]:
        """The base, whether a picture is grey and whether it has alpha: none of it, with these."""
        return None, False, False

    def most_octaves(self, width: int, height: int) -> int:
        """0: there is one level."""
        return 0

    def passes_of(self, tokens: Tokens) -> list[tuple[str, int, int, int, float | None]]:
        """Kind, width and height in px, tiles and quantiser step (none) of the one pass."""
        assert tokens.external is not None
        kind = "letterbox" if tokens.external.letterbox else "tiles"
        return [(kind, tokens.width, tokens.height, len(tokens.passes[0].counts), None)]

    # -- tokens

    def tokens_of(
        self, counts: np.ndarray, values: np.ndarray, width: int, height: int, *, letterbox: bool = False
    ) -> Tokens:
        """Counts [tiles] and values [tiles, tokens] as those of a picture."""
        external = External(self.external_id, self.alphabet, letterbox)
        parts, dims = (PassTokens(counts, values),), (1,) * self.tokens
        return Tokens(width, height, EXTERNAL, None, parts, token_dims=dims, external=external)

    def tokens_from_array(self, array: np.ndarray, width: int, height: int, *, letterbox: bool = False) -> Tokens:
        """Symbols as `Tokens.to_array` makes them. Raises InputError."""
        letterbox = letterbox and has_choice(width, height, self.tile)
        tiles = tile_count(width, height, self.tile, letterbox=letterbox)
        parts = sequence.values_from_symbols(array, tiles, self.tokens, self.alphabet)
        return self.tokens_of(*parts, width, height, letterbox=letterbox)

    def check(self, tokens: Tokens) -> Tokens:
        """The same tokens, with Python's numbers. Raises InputError for those that no stream of this model can say;
        names the tile."""
        check_sides(tokens.width, tokens.height)
        external = tokens.external
        if external is None or (external.id, external.alphabet) != (self.external_id, self.alphabet):
            raise InputError(f"tokens of another model came, wanted those of {self.name}")
        if not isinstance(tokens.passes, tuple | list) or not all(isinstance(one, PassTokens) for one in tokens.passes):
            raise InputError(f"passes {told(tokens.passes)} came, wanted a tuple of PassTokens")
        if tokens.base is not None or tokens.grey or tokens.alpha is not None or len(tokens.passes) != 1:
            raise InputError(f"tokens with a base, grey, alpha or several passes came, model {self.name} has none")
        width, height, (part,) = int(tokens.width), int(tokens.height), tokens.passes
        tiles = tile_count(width, height, self.tile, letterbox=flag("letterbox", external.letterbox))
        for name, array, shape in (("counts", part.counts, (tiles,)), ("values", part.values, (tiles, self.tokens))):
            if not isinstance(array, np.ndarray) or array.shape != shape or not np.issubdtype(array.dtype, np.integer):
                came = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
                raise InputError(f"{name} {came} came, wanted integers {list(shape)}")
        _check_values(part.counts, part.values, self.tokens, self.alphabet)
        return dataclasses.replace(tokens, width=width, height=height, model_id=EXTERNAL)


def _check_values(counts: np.ndarray, values: np.ndarray, tokens: int, alphabet: int) -> None:
    wrong = np.flatnonzero((counts < 0) | (counts > tokens))
    if len(wrong):
        raise InputError(f"tile {wrong[0]}: {counts[wrong[0]]} tokens came, wanted 0 to {tokens}")
    known = np.arange(tokens) < counts[:, None]
    wrong = np.argwhere(np.where(known, (values < 0) | (values >= alphabet), values != 0))
    if len(wrong):
        tile, token = wrong[0]
        wanted = f"0 to {alphabet - 1}" if known[tile, token] else f"0 behind its {counts[tile]} tokens"
        raise InputError(f"tile {tile}, token {token}: {values[tile, token]} came, wanted {wanted}")


def external_id(sha256: str, tables: np.ndarray | None) -> bytes:
    """The first 4 bytes of the SHA-256 of the weights; with tables, of that of it and them."""
    digest = bytes.fromhex(sha256)
    if tables is not None:
        digest = hashlib.sha256(digest + tables.astype("<i4").tobytes()).digest()
    return digest[:EXTERNAL_ID_BYTES]


def check_tables(tables: np.ndarray, tokens: int, alphabet: int) -> None:
    """Raises ModelError for what are no frequencies by position."""
    if tables.shape != (tokens, alphabet) or tables.dtype != np.dtype("<i4"):
        raise ModelError(f"tables {tables.dtype} {list(tables.shape)} came, wanted int32 [{tokens}, {alphabet}]")
    if tables.min() < 1 or not np.all(tables.sum(1, dtype=np.int64) == TOTAL):
        raise ModelError("tables with a row that does not sum to 2**24, or a frequency below 1, came")
