"""A model as far as it shapes tokens, and what a reader knows of a stream before its first byte."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np

from ..format.config import Config
from ..format.geometry import Level, Pass, passes
from ..format.tokens import Tokens, empty_tokens
from .layout import Layout
from .tables import Tables


@lru_cache(maxsize=16)  # enough for all passes of a picture
def _layout(level: Level, config: Config, order: bytes) -> Layout:
    return Layout(level, config, np.frombuffer(order, np.int32))


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """Config and tables: all integers that tokens depend on."""

    config: Config
    tables: Tables

    def layout(self, pass_: Pass) -> Layout:
        """That of a pass; kept for the next one like it."""
        return _layout(pass_.level, self.config, self.tables.order[pass_.kind].tobytes())


@dataclasses.dataclass(frozen=True, eq=False)
class StreamSpec:
    """Size in px and model of a picture: with these, the bytes of a stream have a meaning."""

    width: int
    height: int
    model: Model

    @property
    def passes(self) -> tuple[Pass, ...]:
        return passes(self.width, self.height, self.model.config)

    def empty(self, base: int | None) -> Tokens:
        """What is known when the base is."""
        config = self.model.config
        parts = tuple(empty_tokens(pass_.level, config) for pass_ in self.passes)
        return Tokens(self.width, self.height, config.model_id, base, parts, token_dims=config.token_dims)
