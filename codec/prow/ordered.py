"""What prow wants of an ordered tokenizer: a square of pixels becomes integers of which any prefix decodes.

`prow.register_tokenizer` makes a model of one, so that all of prow works with it; `prow.ordered_tokenizer` gives that
of an installed model. Anything with these attributes and methods will do, in numpy, torch or JAX:

    class Mean:                                     # a toy: the mean colour of a tile, a channel a token
        tile, tokens, alphabet = 8, 3, 256

        def encode(self, tiles):                    # uint8 [B, 8, 8, 3]
            return tiles.mean((1, 2)).astype(int)   # [B, 3]

        def decode(self, tokens):                   # [B, n], n from 1 to 3
            known = np.pad(tokens, ((0, 0), (0, 3 - tokens.shape[1])), constant_values=128)
            return np.broadcast_to(known[:, None, None], (len(tokens), 8, 8, 3)).astype(np.uint8)
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from .arguments import whole
from .errors import InputError

MAX_TILE, MAX_TOKENS, MAX_ALPHABET = 4096, 4096, 1 << 16


@runtime_checkable
class OrderedTokenizer(Protocol):
    """A tokenizer whose tokens are in order of importance.

    Attributes:
        tile: side in px of the square that it sees, 1 to 4,096.
        tokens: how many a tile has, 1 to 4,096, and no more than it has samples (3 tile^2).
        alphabet: how many values a token has, 2 to 65,536; they are 0 to alphabet - 1.
    """

    @property
    def tile(self) -> int: ...

    @property
    def tokens(self) -> int: ...

    @property
    def alphabet(self) -> int: ...

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        """RGB uint8 [B, tile, tile, 3] -> integers [B, tokens], most important first."""
        ...

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """The first n integers of each tile, [B, n], n from 1 to `tokens` -> RGB uint8 [B, tile, tile, 3]."""
        ...


def check_tokenizer(tokenizer: Any) -> None:
    """Raises InputError that names what an OrderedTokenizer lacks."""
    if not isinstance(tokenizer, OrderedTokenizer):
        names = ("tile", "tokens", "alphabet", "encode", "decode")
        missing = ", ".join(name for name in names if not hasattr(tokenizer, name))
        raise InputError(f"a {type(tokenizer).__name__} without {missing} came, wanted a prow.ordered.OrderedTokenizer")
    for name, least, most in (("tile", 1, MAX_TILE), ("tokens", 1, MAX_TOKENS), ("alphabet", 2, MAX_ALPHABET)):
        value = getattr(tokenizer, name)
        most = min(most, 3 * tokenizer.tile**2) if name == "tokens" else most  # so that memory follows from the picture
        whole(f"a tokenizer with {name}", value, least, most)


def encode_tiles(tokenizer: OrderedTokenizer, tiles: np.ndarray) -> np.ndarray:
    """`tokenizer.encode`, int32 [B, tokens]. Raises InputError if its result is not what it should be."""
    came = np.asarray(tokenizer.encode(tiles))
    wanted = (len(tiles), tokenizer.tokens)
    if came.shape != wanted or not np.issubdtype(came.dtype, np.integer):
        raise InputError(f"a tokenizer gave {came.dtype} {list(came.shape)}, wanted integers {list(wanted)}")
    if came.size and not 0 <= int(came.min()) <= int(came.max()) < tokenizer.alphabet:
        raise InputError(f"a tokenizer gave {came.min()} to {came.max()}, wanted 0 to {tokenizer.alphabet - 1}")
    return came.astype(np.int32)


def decode_tiles(tokenizer: OrderedTokenizer, tokens: np.ndarray) -> np.ndarray:
    """`tokenizer.decode`, uint8 [B, tile, tile, 3]. Raises InputError if its result is not what it should be."""
    came = np.asarray(tokenizer.decode(tokens))
    wanted = (len(tokens), tokenizer.tile, tokenizer.tile, 3)
    if came.shape != wanted or came.dtype != np.uint8:
        raise InputError(f"a tokenizer gave {came.dtype} {list(came.shape)}, wanted uint8 {list(wanted)}")
    return came
