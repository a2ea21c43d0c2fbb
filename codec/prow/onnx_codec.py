"""The passes with ONNX Runtime, on the CPU and without torch, whose import alone takes seconds on small machines.

The networks are graphs in the package, without weights, which `python -m prow.training.onnx_export` writes from the
torch modules: `encoder` is `Tokenizer.analyse` and the choice of tokens, `inverse` is `Tokenizer.restore`, `decoder`
`Tokenizer.correct`; `coarse_filter`, `fine_filter` and `light_filter` are `Tokenizer.finish`.
Weights come from the model file alone, so a model that was trained again needs no new graphs as long as its networks
have the same shape.
The steps between networks are numpy here, torch in `prow.codec`, `prow.tiling` and `prow.distortion`; tests compare
the two.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .base_codec import LEAST, NOISE, SCALES, STRIP, STRUCTURE, WINDOW, BaseCodec
from .config import MIDDLE, START, Config, step_size
from .errors import ModelError
from .geometry import Level, Pass, edges, passes, places, strips
from .lapping import lap_matrix, reach, windows
from .tokens import PassTokens, layout_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from .registry import Model

_ROWS = 1 << 16  # px of a level that are doubled at once, about: they should fit into a cache
# What of a config has no part in the graphs; the rest shapes them.
_ELSEWHERE = (
    "name",
    "model_id",
    "description",
    "usual_base",
    "octave_step",
    "refine_shifts",
    "contexts",
)


def parts(config: Config) -> tuple[str, ...]:
    """The graphs of a model; the weights of graph X are named network.X.something."""
    linear = ("encoder", "inverse")
    return (*linear, "decoder", "coarse_filter", "fine_filter", "light_filter") if config.network else linear


def folder_name(config: Config) -> str:
    """Where a model's graphs are: a new shape of the networks means a new folder, so old graphs are never taken."""
    shape = {k: v for k, v in dataclasses.asdict(config).items() if k not in _ELSEWHERE}
    return f"{config.name}-{hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:8]}"


def graph_folder(config: Config) -> Path:
    return Path(__file__).parent / "graphs" / folder_name(config)


class OnnxCodec(BaseCodec):
    """A model as ONNX Runtime sessions, each made when it is first needed."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.config, model.tables)
        self._model = model
        self._sessions: dict[str, InferenceSession] = {}

    def targets(self, pixels: np.ndarray, count: int | None = None) -> list[np.ndarray]:
        plan = passes(pixels.shape[1], pixels.shape[0], self.config)[:count]
        found = [pixels.transpose(2, 0, 1)]
        while len(found) <= plan[0].depth:
            found.append(halve(found[-1]))
        return [found[step.depth][None].astype(np.float32) for step in plan]

    def to_image(self, picture: np.ndarray) -> np.ndarray:
        return to_image(picture)

    def _blank(self, level: Level, count: int = 1) -> np.ndarray:
        return np.full((count, 3, level.height, level.width), 128, np.float32)

    def _concatenate(self, pictures: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(pictures)

    def _double(self, picture: np.ndarray, ahead: np.ndarray | None, level: Level) -> np.ndarray:
        more = [None] * len(picture) if ahead is None else ahead
        return _stack([double(p, a, level.height, level.width) for p, a in zip(picture, more, strict=True)])

    def _log_distortion(self, picture: np.ndarray, target: np.ndarray, full: bool) -> float:
        return log_distortion(picture[0], target[0], full=full)

    def _choose_tokens(
        self,
        step: Pass,
        bases: Sequence[int],
        targets: np.ndarray,
        context: np.ndarray,
        kappa: float,
        allocation: str,
    ) -> list[PassTokens]:
        if allocation != "slope":
            raise ValueError(f"allocation {allocation!r} came, without torch there is 'slope' alone")
        tiling, layout, found = Tiling(step.level), layout_of(step, self.config, self.tables), []
        for base, target, before in zip(bases, targets, context, strict=True):
            grid = step.step_index(base)
            go, stop = self.tables.flag_bits(step.kind, grid)
            given = {
                "prices": self.tables.bits[self.tables.classes[step.kind, grid]].T,
                "go": go[None],
                "stop": stop[None],
                "kappa": np.array(kappa, np.float32),
                "ends": layout.ends.astype(np.int64),
            }
            counts, values, residual = [], [], tiling.lap(target - before)
            for rows, tiles in self._rows(step.level):
                given |= self._given(step, base, tiles) | self._sizes(step, tiles)
                given |= {"residual": tiling.cut(residual, *rows), "exists": layout.exists[tiles]}
                given["last"] = layout.last[tiles].astype(np.int64)
                some_counts, some_values = self._run("encoder", given)
                counts.append(some_counts)
                values.append(some_values)
            found.append(PassTokens(np.concatenate(counts), np.concatenate(values)))
        return found

    def _join(self, step: Pass, bases: Sequence[int], parts: Sequence[PassTokens], context: np.ndarray) -> np.ndarray:
        joined = [self._painted(step, b, part, before) for b, part, before in zip(bases, parts, context, strict=True)]
        return _stack(joined)

    def _painted(self, step: Pass, base: int, part: PassTokens, context: np.ndarray) -> np.ndarray:
        """The picture [3, H, W] of a pass before the loop filter."""
        tiling, restored, corrected = Tiling(step.level), [], []
        for _, tiles in self._rows(step.level):
            given = self._given(step, base, tiles) | self._sizes(step, tiles)
            given["values"] = part.values[tiles].astype(np.float32)
            restored += self._run("inverse", given)
        anchored = context + tiling.lap(tiling.join(_joined(restored)), back=True)
        if not self.config.network:
            return anchored
        for rows, tiles in self._rows(step.level):
            given = self._given(step, base, tiles) | {"values": part.values[tiles].astype(np.float32)}
            given |= {"anchored": tiling.cut(anchored, *rows), "context": tiling.cut(context, *rows)}
            given |= {"counts": part.counts[tiles].astype(np.int64), "kind": np.array(step.kind, np.int64)}
            corrected += self._run("decoder", given)
        return anchored + tiling.join(_joined(corrected))

    def _given(self, step: Pass, base: int, tiles: slice) -> dict[str, np.ndarray]:
        """What all graphs of tiles want to know."""
        delta = np.full(tiles.stop - tiles.start, step_size(step.step_index(base)), np.float32)
        return {"step": delta, "order": self.tables.order[step.kind].astype(np.int64)}

    @staticmethod
    def _sizes(step: Pass, tiles: slice) -> dict[str, np.ndarray]:
        """What those of the transform want to know besides: height and width of each tile."""
        return {"sizes": step.level.boxes[tiles, :1:-1].astype(np.int64)}

    def _finish(
        self,
        step: Pass,
        bases: Sequence[int],
        picture: np.ndarray,
        context: np.ndarray,
        parts: Sequence[PassTokens],
        *,
        light: bool,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        if not self.config.network:
            return picture.clip(0, 255), None
        filtered, name = [], "fine_filter"
        if step.kind in (START, MIDDLE):
            name = "light_filter" if light else "coarse_filter"
        for base, part, new, old in zip(bases, parts, picture, context, strict=True):
            received = np.zeros_like(new)
            if part.counts.any():
                received = Tiling(step.level).spread(part.counts / np.float32(self.config.tokens))
            filtered.append(self._filter(name, new, old, received, step.kind, step_size(step.step_index(base))))
        finished, ahead = zip(*filtered, strict=True)
        return _stack(finished), None if ahead[0] is None else _stack(ahead)

    def _filter(
        self, name: str, picture: np.ndarray, context: np.ndarray, received: np.ndarray, kind: int, delta: float
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Of one picture [3, H, W], in strips that overlap by the reach of the filter, so that memory stays bounded."""
        pictures = {"picture": picture, "context": context, "received": received}
        this_pass = {"step": np.array([delta], np.float32), "kind": np.array(kind, np.int64)}
        finished = np.empty_like(picture)
        height, width, ahead, done = *picture.shape[1:], None, 0
        for given, kept in strips(height, width, STRIP, self.config.reach):
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

        graph = (graph_folder(self._model.config) / f"{part}.onnx").read_bytes()
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

    def lap(self, picture: np.ndarray, *, back: bool = False) -> np.ndarray:
        """Mix the pixels of [3, H, W] across tile borders (`prow.lapping`), or undo it; in place."""
        level = self.level
        for lengths, turned in ((level.columns, picture), (level.rows, picture.transpose(0, 2, 1))):
            if wide := reach(lengths):
                places, matrix = windows(lengths), lap_matrix(wide)
                turned[..., places] = turned[..., places] @ (matrix if back else matrix.T)
        return picture

    def spread(self, per_tile: np.ndarray) -> np.ndarray:
        """One number a tile -> float32 [3, H, W]: that number, and where tiles begin and end, across and down."""
        t, level = self.level.tile, self.level
        found = np.empty((3, level.height, level.width), np.float32)
        grid = per_tile.reshape(len(self.rows), len(self.columns))
        found[0] = grid.take(self.row_of // t, axis=0).take(self.column_of // t, axis=1)
        found[1], found[2] = edges(level.columns), edges(level.rows)[:, None]
        return found


def _joined(batches: list[np.ndarray]) -> np.ndarray:
    """Batches in a row, without a copy of a single one."""
    return batches[0] if len(batches) == 1 else np.concatenate(batches)


def _stack(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """[3, H, W] each -> [B, 3, H, W], without a copy of a single one."""
    return pictures[0][None] if len(pictures) == 1 else np.stack(pictures)


def halve(picture: np.ndarray) -> np.ndarray:
    """[3, H, W] -> float32 [3, ceil(H / 2), ceil(W / 2)] by 2x2 means, the last row and column repeated if odd."""
    _, h, w = picture.shape
    even = np.pad(picture, ((0, 0), (0, h % 2), (0, w % 2)), mode="edge")
    quarters = [even[:, y::2, x::2].astype(np.float32) for y in (0, 1) for x in (0, 1)]
    return functools.reduce(np.add, quarters) / np.float32(4)


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


def log_distortion(picture: np.ndarray, target: np.ndarray, *, full: bool) -> float:
    """What `prow.distortion.log_distortion` does, in numpy: pictures float32 [3, H, W]."""
    error, lost, total = float(np.square(picture - target).mean(dtype=float)), 0.0, 0.0
    for weight in SCALES[0 if full else 1 :]:
        lost, total = lost + weight * _lost_structure(picture, target), total + weight
        if min(target.shape[1:]) < 2 * WINDOW:
            break
        picture, target = (_means(p, (2, 2), (2, 2)) for p in (picture, target))
    return math.log(error + LEAST) + STRUCTURE * math.log(lost / total + LEAST)


def _lost_structure(picture: np.ndarray, target: np.ndarray) -> float:
    window = [min(WINDOW, side) for side in target.shape[1:]]
    stride = [max(1, side // 2) for side in window]
    x, y = picture - 128, target - 128
    mean_x, mean_y, xy, squares = (_means(z, window, stride) for z in (x, y, x * y, x * x + y * y))
    both, each = xy - mean_x * mean_y, squares - mean_x * mean_x - mean_y * mean_y
    return 1 - float(((2 * both + NOISE) / (each + NOISE)).mean(dtype=float))


def _means(picture: np.ndarray, window: Sequence[int], stride: Sequence[int]) -> np.ndarray:
    """Means over windows: [3, H, W] -> [3, places down, places across]."""
    down, across = (
        [slice(i, side - size + i + 1, step) for i in range(size)]
        for side, size, step in zip(picture.shape[1:], window, stride, strict=True)
    )
    tall = functools.reduce(np.add, (picture[:, rows] for rows in down))
    return functools.reduce(np.add, (tall[..., columns] for columns in across)) / np.float32(len(down) * len(across))


def to_image(picture: np.ndarray) -> np.ndarray:
    """[3, H, W], 0 to 255 -> uint8 [H, W, 3]."""
    height, width = picture.shape[1:]
    found, rows = np.empty((height, width, 3), np.uint8), max(1, _ROWS // width)
    for top in range(0, height, rows):
        found[top : top + rows] = picture[:, top : top + rows].round().clip(0, 255).transpose(1, 2, 0)
    return found
