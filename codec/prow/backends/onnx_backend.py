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
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ModelError
from ..format.config import MIDDLE, START, Config, step_size
from ..format.geometry import Level, Pass, passes, strips
from ..format.tokens import PassTokens
from ..options import thread_count
from ..registry import ModelFile, read_checked
from . import numpy_ops as ops
from .base import STRIP, row_batches

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
        levels = ops.pyramid(pixels.transpose(2, 0, 1)[None], plan[0].octaves + 1)
        return [levels[-1 - pass_.octaves].astype(np.float32) for pass_ in plan]

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
        layout, tables, level = self.model.layout(pass_, grey=grey), self.model.tables, pass_.level
        residual, chosen = ops.lap(targets - prediction, level), []
        for base, one, price in zip(bases, residual, kappa, strict=True):
            index = pass_.step_index(base)
            go, stop = tables.flag_bits(pass_.kind, index)
            counts, values = [], []
            for rows, tiles in row_batches(level):
                some_counts, some_values = self._run(
                    "encoder",
                    {
                        "residual": ops.cut(one[None], level, *rows),
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
                counts.append(some_counts)
                values.append(some_values)
            chosen.append(PassTokens(np.concatenate(counts), np.concatenate(values)))
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
        """Of one picture [1, C, H, W]."""
        level, order, restored, corrected = pass_.level, self._order(pass_), [], []
        for _, tiles in row_batches(level):
            given = {
                "values": part.values[tiles].astype(np.float32),
                "sizes": self._sizes(level, tiles),
                "step": self._steps(pass_, base, tiles),
                "order": order,
            }
            restored += self._run("inverse", given)
        anchored = prediction + ops.lap(ops.join(_joined(restored), level), level, back=True)
        if not self.model.config.network:
            return anchored
        for rows, tiles in row_batches(level):
            given = {
                "values": part.values[tiles].astype(np.float32),
                "counts": part.counts[tiles].astype(np.int64),
                "anchored": ops.cut(anchored, level, *rows),
                "prediction": ops.cut(prediction, level, *rows),
                "step": self._steps(pass_, base, tiles),
                "kind": np.array(pass_.kind, np.int64),
                "order": order,
            }
            corrected += self._run("decoder", given)
        return anchored + ops.join(_joined(corrected), level)

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
    ) -> tuple[np.ndarray, np.ndarray | None]:
        if not self.model.config.network:
            return picture.clip(0, 255), None
        coarse = "light_filter" if light else "coarse_filter"
        name = coarse if pass_.kind in (START, MIDDLE) else "fine_filter"
        filtered = [
            self._filtered(name, pass_, base, part, picture[i : i + 1], prediction[i : i + 1])
            for i, (base, part) in enumerate(zip(bases, parts, strict=True))
        ]
        finished, ahead = zip(*filtered, strict=True)
        return _joined(finished), None if ahead[0] is None else _joined(ahead)

    def _filtered(
        self, name: str, pass_: Pass, base: int, part: PassTokens, picture: np.ndarray, prediction: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Of one picture [1, C, H, W], in strips that overlap by the reach of the filter: memory stays bounded."""
        channels, height, width = picture.shape[1:]
        if part.some:
            coverage = ops.spread(part.counts / np.float32(self.model.config.tokens), pass_.level)
        else:
            coverage = np.zeros((1, 3, height, width), np.float32)
        step, kind = np.array([step_size(pass_.step_index(base))], np.float32), np.array(pass_.kind, np.int64)
        finished, ahead, done = np.empty_like(picture), None, 0
        for given, kept in strips(height, width, STRIP, self.model.config.reach):
            strip = {"picture": picture, "prediction": prediction, "coverage": coverage}
            inputs = {key: whole[:, :, given] for key, whole in strip.items()}
            out, *more = self._run(name, {**inputs, "step": step, "kind": kind})
            rows = out[:, :, kept].shape[2]
            finished[:, :, done : done + rows] = out[:, :, kept]
            for m in more:
                if ahead is None:
                    ahead = np.empty((1, channels, 2 * (height + height % 2), m.shape[3]), np.float32)
                detail = m[:, :, 2 * kept.start : 2 * kept.stop]
                ahead[:, :, 2 * done : 2 * done + detail.shape[2]] = detail
            done += rows
        return finished, ahead

    # -- sessions ------------------------------------------------------------------------------------------------

    def _run(self, name: str, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        if name not in self._sessions:
            self._sessions[name] = self._start(name)
        return self._sessions[name].run(None, given)  # pyright: ignore[reportReturnType] - no sparse tensors here

    def _start(self, name: str) -> InferenceSession:
        """A graph of the package with the weights of the model file.

        Raises:
            ModelError: the weights do not fit.
        """
        import onnxruntime as ort

        weights = self.model.vivid_weights() if name == VIVID else self.model.weights(f"network.{name}.")
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors alone
        options.enable_cpu_mem_arena = False
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


def _joined(batches: Sequence[np.ndarray]) -> np.ndarray:
    """Batches in a row, without a copy of a single one."""
    return batches[0] if len(batches) == 1 else np.concatenate(batches)
