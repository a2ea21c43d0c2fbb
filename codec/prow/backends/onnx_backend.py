"""A model in ONNX Runtime, on the CPU and without torch, whose import alone takes seconds on small machines.

The networks are graphs in the package, without weights, which `python -m prow.training.onnx_export` writes from the
torch modules: `encoder` is `Tokenizer.analyse` and the choice of tokens, `inverse` is `Tokenizer.restore`, `decoder`
`Tokenizer.correct`; `coarse_filter`, `fine_filter` and `light_filter` are `Tokenizer.finish`; `vivid` is `Vivid`.
Weights come from the model file alone, so a model that was trained again needs no new graphs as long as its networks
have the same shape.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError
from ..format.config import MIDDLE, START, Config, filter_reach, step_size
from ..format.geometry import Level, Pass, blocks, passes
from ..format.tokens import PassTokens, empty_tokens
from ..options import thread_count
from ..registry import ModelFile, read_checked
from . import numpy_ops as ops
from .base import BLOCK, row_batches

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

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
VIVID = "vivid"  # a graph that all models share


def graph_names(config: Config) -> tuple[str, ...]:
    """The graphs of a model; the weights of graph X are named network.X.something."""
    linear = ("encoder", "inverse")
    return (*linear, "decoder", "coarse_filter", "fine_filter", "light_filter") if config.network else linear


def folder_name(config: Config) -> str:
    """Where a model's graphs are: a new shape of the networks means a new folder, so old graphs are never taken."""
    shape = {k: v for k, v in dataclasses.asdict(config).items() if k not in _ELSEWHERE}
    return f"{config.name}-{hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:8]}"


def graph_folder() -> Path:
    """Where the graphs of all models are."""
    return Path(__file__).parents[1] / "graphs"


def graph_file(config: Config, name: str) -> Path:
    return graph_folder() / (VIVID if name == VIVID else folder_name(config)) / f"{name}.onnx"


class OnnxBackend:
    """ONNX Runtime sessions, each made when it is first needed."""

    def __init__(self, model: ModelFile) -> None:
        self.model = model
        self._sessions: dict[str, InferenceSession] = {}

    def targets(self, pixels: np.ndarray, count: int | None = None) -> list[np.ndarray]:
        plan = passes(pixels.shape[1], pixels.shape[0], self.model.config)[:count]
        finest = plan[-1].octaves
        levels = ops.pyramid(ops.halve(pixels.transpose(2, 0, 1)[None], finest), plan[0].octaves + 1 - finest)
        return [levels[finest - 1 - pass_.octaves] for pass_ in plan]  # uint8 at full resolution

    def blank(self, level: Level, count: int) -> np.ndarray:
        return np.full((count, self.model.config.channels, level.height, level.width), 128, np.float32)

    def concatenate(self, pictures: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(pictures)

    def double(self, picture: np.ndarray, ahead: np.ndarray | None, level: Level) -> np.ndarray:
        return ops.double(picture, ahead, level)

    def log_distortion(self, picture: np.ndarray, target: np.ndarray, *, full: bool) -> float:
        return ops.log_distortion(picture, target, full=full)

    def to_image(self, picture: np.ndarray) -> np.ndarray:
        return ops.to_image(picture)

    def repaint(self, picture: np.ndarray, noise: np.ndarray, condition: tuple[float, float]) -> np.ndarray:
        told = np.array([condition], np.float32)
        return self._run(VIVID, {"picture": picture, "noise": noise[None, None], "cond": told})[0]

    def choose(
        self,
        pass_: Pass,
        bases: Sequence[int],
        targets: np.ndarray,
        prediction: np.ndarray,
        kappa: np.ndarray,
        *,
        grey: bool = False,
    ) -> list[PassTokens]:
        layout, tables, level, chosen = self.model.layout(pass_, grey=grey), self.model.tables, pass_.level, []
        for base, target, predicted, price in zip(bases, targets, prediction, kappa, strict=True):
            index = pass_.step_index(base)
            go, stop = tables.flag_bits(pass_.kind, index)
            residual = ops.lap((target - predicted)[None], level)
            part = empty_tokens(level, self.model.config)
            for rows, tiles in row_batches(level):
                part.counts[tiles], part.values[tiles] = self._run(
                    "encoder",
                    {
                        "residual": ops.cut(residual, level, *rows),
                        "sizes": self._sizes(level, tiles),
                        "step": self._steps(pass_, base, tiles),
                        "order": self._order(pass_),
                        "exists": layout.exists[tiles],
                        "prices": tables.bits[tables.classes[pass_.kind, index]].T,
                        "go": go[None],
                        "stop": stop[None],
                        "ends": layout.ends.astype(np.int64),
                        "last": layout.last[tiles].astype(np.int64),
                        "kappa": price[tiles, None],
                    },
                )
            chosen.append(part)
        return chosen

    def paint(
        self, pass_: Pass, bases: Sequence[int], parts: Sequence[PassTokens], prediction: np.ndarray
    ) -> np.ndarray:
        pictures = [
            self._painted(pass_, base, part, prediction[i : i + 1])
            for i, (base, part) in enumerate(zip(bases, parts, strict=True))
        ]
        return _joined(pictures)

    def _painted(self, pass_: Pass, base: int, part: PassTokens, prediction: np.ndarray) -> np.ndarray:
        """Of one picture [1, C, H, W], in batches of rows of tiles: memory beyond the result stays bounded."""
        level, order, painted = pass_.level, self._order(pass_), np.empty_like(prediction)
        batches = [(rows, tiles, level.pixel_rows(*rows)) for rows, tiles in row_batches(level)]
        for rows, tiles, strip in batches:
            given = {
                "values": part.values[tiles].astype(np.float32),
                "sizes": self._sizes(level, tiles),
                "step": self._steps(pass_, base, tiles),
                "order": order,
            }
            painted[:, :, strip] = ops.join(self._run("inverse", given)[0], level, *rows)
        ops.lap(painted, level, back=True)
        painted += prediction
        if not self.model.config.network:
            return painted
        for rows, tiles, strip in batches:
            given = {
                "values": part.values[tiles].astype(np.float32),
                "counts": part.counts[tiles].astype(np.int64),
                "anchored": ops.cut(painted, level, *rows),
                "prediction": ops.cut(prediction, level, *rows),
                "step": self._steps(pass_, base, tiles),
                "kind": np.array(pass_.kind, np.int64),
                "order": order,
            }
            painted[:, :, strip] += ops.join(self._run("decoder", given)[0], level, *rows)
        return painted

    def _order(self, pass_: Pass) -> np.ndarray:
        return self.model.tables.order[pass_.kind].astype(np.int64)

    @staticmethod
    def _steps(pass_: Pass, base: int, tiles: slice) -> np.ndarray:
        return np.full(tiles.stop - tiles.start, step_size(pass_.step_index(base)), np.float32)

    @staticmethod
    def _sizes(level: Level, tiles: slice) -> np.ndarray:
        """Height and width of each tile."""
        return level.boxes[tiles, :1:-1].astype(np.int64)

    def loop_filter(
        self,
        pass_: Pass,
        bases: Sequence[int],
        parts: Sequence[PassTokens],
        picture: np.ndarray,
        prediction: np.ndarray,
        *,
        light: bool,
        rows: slice | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        if not self.model.config.network:
            return picture[:, :, rows or slice(None)].clip(0, 255), None
        coarse = "light_filter" if light else "coarse_filter"
        name = coarse if pass_.kind in (START, MIDDLE) else "fine_filter"
        filtered = [
            self._filtered(name, pass_, base, part, picture[i : i + 1], prediction[i : i + 1], rows)
            for i, (base, part) in enumerate(zip(bases, parts, strict=True))
        ]
        finished, ahead = zip(*filtered, strict=True)
        return _joined(finished), None if ahead[0] is None else _joined(ahead)

    def _filtered(
        self,
        name: str,
        pass_: Pass,
        base: int,
        part: PassTokens,
        picture: np.ndarray,
        prediction: np.ndarray,
        rows: slice | None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Of one picture [1, C, H, W], in blocks that overlap by the reach of the filter: memory stays bounded."""
        channels, height, width = picture.shape[1:]
        reach = filter_reach(getattr(self.model.config, name.replace("filter", "dilations")))
        share = part.counts / np.float32(self.model.config.tokens)
        step, kind = np.array([step_size(pass_.step_index(base))], np.float32), np.array(pass_.kind, np.int64)
        top, bottom = (rows.start, rows.stop) if rows else (0, height)
        finished, ahead = np.empty((1, channels, bottom - top, width), np.float32), None
        for (given, kept), (across, kept_across) in blocks(height, width, BLOCK, reach, rows):
            coverage = ops.spread(share, pass_.level, given)[..., across] * np.float32(part.some)
            block = {"picture": picture[:, :, given, across], "prediction": prediction[:, :, given, across]}
            out, *more = self._run(name, {**block, "coverage": coverage, "step": step, "kind": kind})
            y, x = (
                slice(whole.start + inner.start - first, whole.start + inner.stop - first)
                for whole, inner, first in ((given, kept, top), (across, kept_across, 0))
            )
            finished[:, :, y, x] = out[:, :, kept, kept_across]
            for m in more:
                if ahead is None:
                    ahead = np.empty((1, channels, *(2 * n for n in finished.shape[2:])), np.float32)
                ahead[:, :, _twice(y), _twice(x)] = m[:, :, _twice(kept), _twice(kept_across)]
        return finished, ahead

    # -- sessions ------------------------------------------------------------------------------------------------

    def _run(self, name: str, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        if name not in self._sessions:
            self._sessions[name] = self._start(name)
        return self._sessions[name].run(None, given, _lent())  # pyright: ignore[reportReturnType] - no sparse tensors here

    def _start(self, name: str) -> InferenceSession:
        """A graph of the package with the weights of the model file.

        Raises:
            ModelError: the weights do not fit.
        """
        import onnxruntime as ort

        weights = self.model.vivid_weights() if name == VIVID else self.model.weights(f"network.{name}.")
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors alone
        # Threads that wait sleep: on a busy machine spinning ones made decoding half as long again.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.intra_op_num_threads = thread_count() or 0  # 0: as it likes
        try:
            values = [ort.OrtValue.ortvalue_from_numpy(w) for w in weights.values()]
            options.add_external_initializers(list(weights), values)
            graph = read_checked(graph_file(self.model.config, name))
            return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except ModelError:
            raise
        except Exception as error:  # the errors of ONNX Runtime have no base of their own
            model = self.model.config.name
            raise ModelError(f"the weights of {model} do not fit its graph {name}: {error}") from None


@cache
def _lent() -> Any:
    """`RunOptions`: memory is kept during a run and given back behind it. Without, each tensor of a large level comes
    as fresh pages from the system, which takes longer than to fill them."""
    import onnxruntime as ort

    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _twice(part: slice) -> slice:
    return slice(2 * part.start, 2 * part.stop)


def _joined(batches: Sequence[np.ndarray]) -> np.ndarray:
    """Batches in a row, without a copy of a single one."""
    return batches[0] if len(batches) == 1 else np.concatenate(batches)
