"""Tokens to pixels with ONNX Runtime, on the CPU and without torch, whose import alone takes seconds on small machines.

The networks are graphs in the package, without weights, which `python -m prow.training.onnx_export` writes from the
torch modules: `decoder` is `Tokenizer.synthesise`, `coarse_filter` and `fine_filter` are `Tokenizer.finish`. Weights
come from the model file alone, so a model that was trained again needs no new graphs as long as its networks have the
same shape. The steps between networks are numpy here, torch in `prow.codec` and `prow.tiling`; tests compare the two.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

import numpy as np

from .config import FULL, MIDDLE, REFINE, START, UNKNOWN_BASE, Config, step_size
from .errors import ModelError
from .geometry import Level, Pass, edges, passes, places, strips

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from .registry import Model
    from .stream import PassTokens, Tokens

_TILES = 2048  # tiles that go through the network at once
_STRIP = 1 << 20  # px of a level that go through the loop filter at once, about
_ROWS = 1 << 16  # px of a level that are doubled at once, about: they should fit into a cache
# What of a config has no part in the graphs; the rest shapes them.
_ELSEWHERE = (
    "name",
    "model_id",
    "description",
    "octave_shift",
    "refine_shifts",
    "contexts",
    "encoder_depth",
)


def parts(config: Config) -> tuple[str, ...]:
    """The graphs of a model; the weights of graph X are named network.X.something."""
    return ("decoder", "coarse_filter", "fine_filter") if config.network else ("decoder",)


def folder_name(config: Config) -> str:
    """Where a model's graphs are: a new shape of the networks means a new folder, so old graphs are never taken."""
    shape = {k: v for k, v in dataclasses.asdict(config).items() if k not in _ELSEWHERE}
    return f"{config.name}-{hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:8]}"


def graph_folder(config: Config) -> Traversable:
    return resources.files("prow") / "graphs" / folder_name(config)


class OnnxCodec:
    """The decoder of a model as ONNX Runtime sessions, each made when it is first needed."""

    def __init__(self, model: Model) -> None:
        self.config, self._model = model.config, model
        self._sessions: dict[str, InferenceSession] = {}

    def decode(self, tokens: Tokens) -> np.ndarray:
        """Tokens -> picture, float32 [3, H, W], 0 to 255."""
        plan = passes(tokens.width, tokens.height, self.config)
        base, small = tokens.base if tokens.base is not None else UNKNOWN_BASE, tokens.unfiltered(self.config)
        picture, ahead = np.full((3, plan[0].level.height, plan[0].level.width), 128, np.float32), None
        for step, part in zip(plan, tokens.passes, strict=True):
            if picture.shape[1:] != (step.level.height, step.level.width):
                picture = double(picture, ahead, step.level.height, step.level.width)
            if part.counts.any() or (step.kind not in (FULL, REFINE) and step.depth >= small):
                picture, ahead = self._paint(step, step_size(step.step_index(base)), part, picture)
            else:
                ahead = None
        return picture

    def _paint(
        self, step: Pass, delta: float, part: PassTokens, context: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """What a pass makes of its tokens and the picture so far [3, H, W], and what to add when it is doubled.

        Without tokens the loop filter runs alone.
        """
        picture, received = context, np.zeros_like(context)
        if part.counts.any():
            tiling = Tiling(step.level)
            picture = self._synthesise(tiling, step.kind, delta, part, context)
            received = tiling.spread(part.counts / np.float32(self.config.tokens))
        if not self.config.network:
            return picture.clip(0, 255), None
        return self._finish(picture, context, received, step.kind, delta)

    def _synthesise(self, tiling: Tiling, kind: int, delta: float, part: PassTokens, context: np.ndarray) -> np.ndarray:
        """The picture of a pass before the loop filter, [3, H, W]."""
        level, painted = tiling.level, []
        order = self._model.tables.order[kind].astype(np.int64)
        for first, last in level.batches(_TILES):
            tiles = slice(first * len(level.columns), last * len(level.columns))
            given = {
                "values": part.values[tiles].astype(np.float32),
                "counts": part.counts[tiles].astype(np.int64),
                "context": tiling.cut(context, first, last),
                "sizes": level.boxes[tiles, :1:-1].astype(np.int64),  # height, width
            }
            given["step"] = np.full(len(given["counts"]), delta, np.float32)
            painted += self._run("decoder", {**given, "kind": np.array(kind, np.int64), "order": order})
        return tiling.join(painted[0] if len(painted) == 1 else np.concatenate(painted))

    def _finish(
        self, picture: np.ndarray, context: np.ndarray, received: np.ndarray, kind: int, delta: float
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The loop filter in strips that overlap by its reach, so that memory stays bounded."""
        name = "coarse_filter" if kind in (START, MIDDLE) else "fine_filter"
        pictures = {"picture": picture, "context": context, "received": received}
        this_pass = {"step": np.array([delta], np.float32), "kind": np.array(kind, np.int64)}
        finished = np.empty_like(picture)
        height, width, ahead, done = *picture.shape[1:], None, 0
        for given, kept in strips(height, width, _STRIP, self.config.reach):
            out, *more = self._run(name, {k: v[None, :, given] for k, v in pictures.items()} | this_pass)
            part = out[0, :, kept]
            finished[:, done : done + part.shape[1]] = part
            for m in more:
                if ahead is None:
                    ahead = np.empty((3, 2 * (height + height % 2), m.shape[3]), np.float32)
                rows = m[0, :, 2 * kept.start : 2 * kept.stop]
                ahead[:, 2 * done : 2 * done + rows.shape[1]] = rows
            done += part.shape[1]
        return finished, ahead

    # -- sessions ------------------------------------------------------------------------------------------------

    def _run(self, part: str, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        if part not in self._sessions:
            self._sessions[part] = self._start(part)
        return self._sessions[part].run(None, given)  # pyright: ignore[reportReturnType] - no sparse tensors here

    def _start(self, part: str) -> InferenceSession:
        """A graph of the package with the weights of the model file.

        Raises:
            ModelError: the weights do not fit.
        """
        import onnxruntime as ort

        graph = (graph_folder(self.config) / f"{part}.onnx").read_bytes()
        weights = self._model.weights(f"network.{part}.")
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors alone
        options.enable_cpu_mem_arena = False
        # Threads that wait sleep: on a busy machine spinning ones made decoding half as long again.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
        if threads.isdigit():
            options.intra_op_num_threads = int(threads)
        try:
            values = [ort.OrtValue.ortvalue_from_numpy(w) for w in weights.values()]
            options.add_external_initializers(list(weights), values)
            return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the errors of ONNX Runtime have no base of their own
            raise ModelError(f"the weights of {self.config.name} do not fit its graph {part}: {error}") from None


class Tiling:
    """What `prow.tiling.Tiling` does, in numpy and for one picture: [3, H, W] and tiles [tiles, 3, T, T]."""

    def __init__(self, level: Level) -> None:
        self.level = level
        self.rows, self.row_of = places(level.rows, level.tile)
        self.columns, self.column_of = places(level.columns, level.tile)

    def cut(self, picture: np.ndarray, first_row: int, last_row: int) -> np.ndarray:
        """[3, H, W] -> [tiles, 3, T, T], of the given rows of tiles."""
        t, rows = self.level.tile, self.rows[first_row:last_row]
        sheet = picture.take(rows.ravel(), axis=1).take(self.columns.ravel(), axis=2)
        grid = sheet.reshape(3, len(rows), t, -1, t).transpose(1, 3, 0, 2, 4)
        return grid.reshape(-1, 3, t, t)

    def join(self, tiles: np.ndarray) -> np.ndarray:
        """[tiles, 3, T, T] -> [3, H, W]."""
        t, rows, columns = self.level.tile, len(self.rows), len(self.columns)
        sheet = tiles.reshape(rows, columns, 3, t, t).transpose(2, 0, 3, 1, 4).reshape(3, rows * t, columns * t)
        return sheet.take(self.row_of, axis=1).take(self.column_of, axis=2)

    def spread(self, per_tile: np.ndarray) -> np.ndarray:
        """One number a tile -> float32 [3, H, W]: that number, and where tiles begin and end, across and down."""
        t, level = self.level.tile, self.level
        found = np.empty((3, level.height, level.width), np.float32)
        grid = per_tile.reshape(len(self.rows), len(self.columns))
        found[0] = grid.take(self.row_of // t, axis=0).take(self.column_of // t, axis=1)
        found[1], found[2] = edges(level.columns), edges(level.rows)[:, None]
        return found


# Bicubic weights (a = -0.75) of the four neighbours at a quarter of the way from the second to the third.
_CUBIC = (-0.10546875, 0.87890625, 0.26171875, -0.03515625)


def double(picture: np.ndarray, ahead: np.ndarray | None, height: int, width: int) -> np.ndarray:
    """[3, h, w] -> [3, height, width]: bicubic to twice the size, plus `ahead`, cropped, 0 to 255."""
    found = np.empty((3, height, width), np.float32)
    wide = np.pad(picture, ((0, 0), (2, 2), (0, 0)), mode="edge")
    rows = max(1, _ROWS // width)
    for top in range(0, picture.shape[1], rows):
        tall = _double_rows(wide[:, top : top + rows + 4])
        columns = np.pad(tall.transpose(0, 2, 1), ((0, 0), (2, 2), (0, 0)), mode="edge")
        part = found[:, 2 * top : 2 * (top + rows)]
        larger = _double_rows(columns).transpose(0, 2, 1)[:, : part.shape[1], :width]
        if ahead is not None:
            larger = larger + ahead[:, 2 * top : 2 * top + part.shape[1], :width]
        np.clip(larger, 0, 255, out=part)
    return found


def _double_rows(wide: np.ndarray) -> np.ndarray:
    """[C, h + 4, w], two rows more on each side -> [C, 2 h, w]."""
    channels, rows, width = wide.shape
    near = [wide[:, i : i + rows - 4] for i in range(5)]  # two rows above to two rows below
    found = np.empty((channels, rows - 4, 2, width), np.float32)
    found[:, :, 0] = sum(weight * row for weight, row in zip(_CUBIC, near[3::-1], strict=True))
    found[:, :, 1] = sum(weight * row for weight, row in zip(_CUBIC, near[1:], strict=True))
    return found.reshape(channels, 2 * (rows - 4), width)


def to_image(picture: np.ndarray) -> np.ndarray:
    """[3, H, W], 0 to 255 -> uint8 [H, W, 3]."""
    height, width = picture.shape[1:]
    found, rows = np.empty((height, width, 3), np.uint8), max(1, _ROWS // width)
    for top in range(0, height, rows):
        found[top : top + rows] = picture[:, top : top + rows].round().clip(0, 255).transpose(1, 2, 0)
    return found
