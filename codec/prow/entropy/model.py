"""A model as far as it shapes tokens, and what a reader knows of a stream before its first byte."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np

from ..format.config import Config
from ..format.geometry import Level, Pass, passes
from ..format.tokens import PassTokens, Tokens, empty_tokens
from .layout import Layout
from .tables import Tables


@lru_cache(maxsize=32)  # enough for all passes of a picture and its alpha
def _layout(level: Level, config: Config, order: bytes, grey: bool) -> Layout:
    return Layout(level, config, np.frombuffer(order, "<i4"), grey=grey)


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """Config and tables: all integers that tokens depend on."""

    config: Config
    tables: Tables

    def layout(self, pass_: Pass, *, grey: bool = False) -> Layout:
        """That of a pass of colour or of grey; kept for the next one like it."""
        return _layout(pass_.level, self.config, self.tables.order[pass_.kind].astype("<i4").tobytes(), grey)


@dataclasses.dataclass(frozen=True, eq=False)
class StreamSpec:
    """Size in px and model of a picture: with these, the bytes of a stream have a meaning."""

    width: int
    height: int
    model: Model

    @property
    def passes(self) -> tuple[Pass, ...]:
        return passes(self.width, self.height, self.model.config)

    def empty_passes(self) -> tuple[PassTokens, ...]:
        return tuple(empty_tokens(pass_.level, self.model.config) for pass_ in self.passes)

    def empty(self, base: int | None, *, grey: bool = False) -> Tokens:
        """What is known when base and kind of picture are."""
        config = self.model.config
        return Tokens(
            self.width,
            self.height,
            config.model_id,
            base,
            self.empty_passes(),
            grey=grey,
            token_dims=config.token_dims,
        )
