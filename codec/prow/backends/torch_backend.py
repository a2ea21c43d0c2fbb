"""A model in torch, on any device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from ..entropy.model import Model
from ..errors import ModelError
from ..format.geometry import Level, Pass, passes, strips
from ..format.tokens import PassTokens
from ..networks.condition import step_tensor
from ..networks.quantise import Costs, choose_tokens, prefix_mask
from ..networks.tokenizer import Tokenizer
from ..networks.vivid import Vivid
from ..registry import ModelFile
from . import torch_ops as ops
from .base import BLOCK, row_batches


@dataclasses.dataclass(frozen=True, eq=False)
class TorchBackend:
    """A network, on whatever device it is, with its tables.

    Attributes:
        vivid: the network of the vivid style, on the same device, if it was loaded.
        gradients: keep what gradients by the integers of `PassTokens` need; these may be tensors then.
    """

    model: Model
    network: Tokenizer
    vivid: Vivid | None = None
    gradients: bool = False

    @property
    def device(self) -> torch.device:
        return self.network.anchor.bank.device

    def targets(self, pixels: np.ndarray, count: int | None = None) -> list[Tensor]:
        plan = passes(pixels.shape[1], pixels.shape[0], self.model.config)[:count]
        finest, image = plan[-1].octaves, torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]
        # strip by strip: levels that are too fine are never there as a whole in 32 bits
        rows = max(1, BLOCK**2 // image.shape[-1] >> finest) << finest
        strips = [ops.halve(strip.to(self.device).float(), finest) for strip in image.split(rows, dim=-2)]
        levels = ops.pyramid(torch.cat(strips, dim=-2), plan[0].octaves + 1 - finest)
        return [levels[finest - 1 - pass_.octaves] for pass_ in plan]

    def blank(self, level: Level, count: int) -> Tensor:
        return torch.full((count, self.model.config.channels, level.height, level.width), 128.0, device=self.device)

    def concatenate(self, pictures: list[Tensor]) -> Tensor:
        return torch.cat(pictures)

    def double(self, picture: Tensor, ahead: Tensor | None, level: Level) -> Tensor:
        return ops.double(picture, ahead, level)

    def log_distortion(self, picture: Tensor, target: Tensor, *, full: bool) -> float:
        return ops.log_distortion(picture, target, full=full)

    def to_image(self, picture: Tensor) -> np.ndarray:
        return ops.to_image(picture)

    @torch.inference_mode()
    def repaint(self, picture: Tensor, noise: np.ndarray, condition: tuple[float, float]) -> Tensor:
        assert self.vivid is not None
        grain = torch.from_numpy(noise).to(self.device)[None, None]
        return self.vivid(picture, grain, torch.tensor([condition], device=self.device))

    @torch.inference_mode()
    def choose(
        self,
        pass_: Pass,
        bases: Sequence[int],
        targets: Tensor,
        prediction: Tensor,
        kappa: np.ndarray,
        *,
        grey: bool = False,
    ) -> list[PassTokens]:
        layout, level, count = self.model.layout(pass_, grey=grey), pass_.level, len(bases)
        ends, exists, last = (torch.from_numpy(a).to(self.device) for a in (layout.ends, layout.exists, layout.last))
        prices = [self.prices(pass_, base) for base in bases]
        sizes, residual = self._sizes(level), ops.lap(targets - prediction, level)
        price = torch.from_numpy(kappa).to(self.device)
        values, counts = [], []
        for rows, tiles in row_batches(level, count):
            number = tiles.stop - tiles.start
            zero, one, more, go, stop = (
                torch.cat(column).repeat_interleave(number, dim=0) for column in zip(*prices, strict=True)
            )
            ratios = self.network.analyse(
                ops.cut(residual, level, *rows),
                sizes[tiles].repeat(count, 1),
                self._steps(pass_, bases, number),
                self._order(pass_),
            )
            v, c = choose_tokens(
                ratios,
                exists[tiles].repeat(count, 1),
                Costs(zero, one, more),
                (go, stop),
                ends,
                last[tiles].repeat(count),
                price[:, tiles].reshape(-1, 1),
            )
            kept = (v * prefix_mask(c, ends, v.shape[1])).to(torch.int16)
            values.append(kept.unflatten(0, (count, -1)))
            counts.append(c.to(torch.int16).unflatten(0, (count, -1)))
        both = torch.cat(counts, dim=1).cpu().numpy(), torch.cat(values, dim=1).cpu().numpy()
        return [PassTokens(*part) for part in zip(*both, strict=True)]

    def paint(self, pass_: Pass, bases: Sequence[int], parts: Sequence[PassTokens], prediction: Tensor) -> Tensor:
        network, level, order = self.network, pass_.level, self._order(pass_)

        def in_rows(make_tiles: Callable[[tuple[int, int], slice, Tensor, Tensor], Tensor]) -> Tensor:
            batches = []
            for rows, tiles in row_batches(level, len(bases)):
                delta = self._steps(pass_, bases, tiles.stop - tiles.start)
                some = values[:, tiles].float().flatten(0, 1)
                batches.append(ops.join(make_tiles(rows, tiles, some, delta), level, *rows))
            return torch.cat(batches, dim=-2)

        def restored(_: tuple[int, int], tiles: slice, some: Tensor, delta: Tensor) -> Tensor:
            return network.restore(some, self._sizes(level)[tiles].repeat(len(bases), 1), delta, order)

        def corrected(rows: tuple[int, int], tiles: slice, some: Tensor, delta: Tensor) -> Tensor:
            with_tokens, without = (ops.cut(picture, level, *rows) for picture in (anchored, prediction))
            told = counts[:, tiles].flatten()
            return network.correct(some, told, with_tokens, without, delta, pass_.kind, order)

        with self._mode():
            values = torch.stack([torch.as_tensor(part.values, device=self.device) for part in parts])
            counts = torch.from_numpy(np.stack([part.counts for part in parts])).to(self.device).long()
            anchored = prediction + ops.lap(in_rows(restored), level, back=True)
            return anchored + in_rows(corrected) if self.model.config.network else anchored

    def loop_filter(
        self,
        pass_: Pass,
        bases: Sequence[int],
        parts: Sequence[PassTokens],
        picture: Tensor,
        prediction: Tensor,
        *,
        light: bool,
        rows: slice | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """In strips that overlap by the reach of the filter, so that memory stays bounded."""
        finished, ahead = [], []
        (height, width), reach = picture.shape[-2:], self.model.config.reach
        with self._mode():
            delta, coverage = self._steps(pass_, bases), self._coverage(parts)
            for given, kept in strips(height, max(1, BLOCK**2 // width), reach, rows):
                new, old, covered = picture[..., given, :], prediction[..., given, :], coverage(pass_.level, given)
                out, more = self.network.finish(new, old, covered, delta, pass_.kind, light=light)
                finished.append(out[..., kept, :])
                if more is not None:
                    ahead.append(more[..., 2 * kept.start : 2 * kept.stop, :])
            return torch.cat(finished, dim=-2), torch.cat(ahead, dim=-2) if ahead else None

    def _mode(self) -> torch.enable_grad | torch.inference_mode:
        return torch.enable_grad() if self.gradients else torch.inference_mode()

    def _coverage(self, parts: Sequence[PassTokens]) -> Callable[[Level, slice], Tensor]:
        """What the loop filter is told of tiles and tokens in some rows of a level (`torch_ops.spread`): nothing if
        there are no tokens."""
        counts = np.concatenate([part.counts for part in parts]).astype(np.float32)
        share = torch.from_numpy(counts).to(self.device) / self.model.config.tokens
        some = torch.tensor([[[[part.some]]] for part in parts], device=self.device)
        return lambda level, given: ops.spread(share, level, given) * some

    def _steps(self, pass_: Pass, bases: Sequence[int], tiles: int = 1) -> Tensor:
        """Quantiser steps of a pass by base of each picture, each as often as it has tiles: [B * tiles]."""
        indices = torch.tensor([pass_.step_index(base) for base in bases], device=self.device)
        return step_tensor(indices).repeat_interleave(tiles)

    def _sizes(self, level: Level) -> Tensor:
        """Height and width of each tile: [tiles, 2]."""
        return torch.from_numpy(level.boxes[:, :1:-1].astype(np.int64)).to(self.device)

    def _order(self, pass_: Pass) -> Tensor:
        return torch.from_numpy(self.model.tables.order[pass_.kind].astype(np.int64)).to(self.device)

    def prices(self, pass_: Pass, base: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Bits of integers, [1, K] each as in `Costs`, and of continue and of stop before each token, [1, N]."""
        tables, index = self.model.tables, pass_.step_index(base)
        bits = tables.bits[tables.classes[pass_.kind, index]].T  # [3, K]
        rows = (*bits, *tables.flag_bits(pass_.kind, index))
        return tuple(torch.from_numpy(np.ascontiguousarray(row)).to(self.device)[None] for row in rows)  # type: ignore[return-value]


def load_weights(network: nn.Module, content: bytes, name: str, prefix: str = "network.") -> None:
    """Fill a network from the bytes of a model file, whose weights have names with a prefix.

    Raises:
        ModelError: the file's weights do not fit the network.
    """
    try:
        tensors = load_tensors(content)
        weights = {k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)}
        network.load_state_dict(weights)
    except (RuntimeError, SafetensorError) as error:
        raise ModelError(f"the weights of {name} do not fit its config: {error}") from None


def load_backend(model: ModelFile, device: str, *, vivid: bool = False) -> TorchBackend:
    """A model's networks on a device, in fp32, ready for inference. Raises as `load_weights`."""
    network = Tokenizer(model.config)
    load_weights(network, model.content, model.config.name)
    painter = Vivid() if vivid else None
    if painter:
        load_weights(painter, model.vivid_content(), f"{model.config.name} (vivid)", prefix="")
    ready = [net and net.to(device).eval().requires_grad_(False) for net in (network, painter)]
    return TorchBackend(model, *ready)  # type: ignore[arg-type]
