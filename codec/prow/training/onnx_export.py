"""Write the graphs that `prow.onnx_codec` runs: `python -m prow.training.onnx_export` (needs the extra `dev`).

To be run whenever the code or the shape of the decoder's networks has changed, not for new weights: these are no part
of the graphs. Graphs of models and shapes that are no more are removed.
"""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from unittest.mock import patch

import onnx
import torch
from torch import Tensor, nn

from .. import registry
from ..config import Config
from ..onnx_codec import folder_name, parts
from ..quantise import Costs, choose_prefix, keep_prefix, quantise
from ..tokenizer import LoopFilter, Tokenizer, condition, pixel_scale

# Inputs of the graphs.
PER_TILE = ("residual", "anchored", "context", "sizes", "step", "values", "counts", "exists", "last")
GRAPHS = Path(__file__).parents[1] / "graphs"


class _Encoder(nn.Module):
    """`Tokenizer.analyse` and the choice of tokens as in `prow.codec`: counts [B] and values [B, K], int16."""

    def __init__(self, network: Tokenizer) -> None:
        super().__init__()
        self.network = network  # so that weights are called as in the model file

    def forward(
        self,
        residual: Tensor,
        sizes: Tensor,
        step: Tensor,
        order: Tensor,
        exists: Tensor,
        prices: Tensor,
        go: Tensor,
        stop: Tensor,
        ends: Tensor,
        last: Tensor,
        kappa: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ratios = self.network.analyse(residual, sizes, step, order)
        values, gains = quantise(ratios, Costs(*prices[:, None]), kappa)
        counts = choose_prefix(gains * exists, ends, go, stop, kappa, last)
        return counts.to(torch.int16), keep_prefix(values * exists, counts, ends).to(torch.int16)


class _Inverse(nn.Module):
    """`Tokenizer.restore`: tiles [B, 3, T, T] of what the integers add."""

    def __init__(self, network: Tokenizer) -> None:
        super().__init__()
        self.network = network

    def forward(self, values: Tensor, sizes: Tensor, step: Tensor, order: Tensor) -> Tensor:
        return self.network.restore(values, sizes, step, order)


class _Decoder(nn.Module):
    """`Tokenizer.correct`: tiles [B, 3, T, T] of what the network adds."""

    def __init__(self, network: Tokenizer) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        values: Tensor,
        counts: Tensor,
        anchored: Tensor,
        context: Tensor,
        step: Tensor,
        kind: Tensor,
        order: Tensor,
    ) -> Tensor:
        return self.network.correct(values, counts, anchored, context, step, kind, order)


class _Filter(nn.Module):
    """`Tokenizer.finish`: a level [1, 3, H, W], and what to add when it is doubled if the filter says that."""

    def __init__(self, network: Tokenizer, part: str) -> None:
        super().__init__()
        self.network, self.part = network, part

    def forward(
        self, picture: Tensor, context: Tensor, received: Tensor, step: Tensor, kind: Tensor
    ) -> tuple[Tensor, ...]:
        loop_filter: LoopFilter = getattr(self.network, self.part)
        scale, cond = pixel_scale(step), condition(step, kind)
        finished, ahead = loop_filter(picture, context, received, scale, cond)
        return (finished.clamp(0, 255),) if ahead is None else (finished.clamp(0, 255), ahead)


def _prefix_attention(q: Tensor, k: Tensor, v: Tensor, counts: Tensor) -> Tensor:
    """`prow_kernels.prefix_attention` in operations that do not look at the counts."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # [B, H, P or N, D]
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    visible = (torch.arange(k.shape[2]) < counts[:, None])[:, None, None]
    weights = scores.masked_fill(~visible, -1e9).softmax(-1)
    return (weights @ v * (counts > 0)[:, None, None, None]).transpose(1, 2)


def graph(network: Tokenizer, part: str) -> onnx.ModelProto:
    """One of `prow.onnx_codec.parts` as an ONNX graph whose weights are only named."""
    of_tiles = {"encoder": _Encoder, "inverse": _Inverse, "decoder": _Decoder}
    if part in of_tiles:
        module = of_tiles[part](network)
        inputs = _tiles(network.config)
        given = tuple(inputs[name] for name in inspect.signature(module.forward).parameters)
        tiles = {0: torch.export.Dim("tiles")}
        shapes = {name: tiles if name in PER_TILE else None for name in inspect.signature(module.forward).parameters}
    else:
        module, given = _Filter(network, part), _level()
        size = {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
        shapes = {"picture": size, "context": size, "received": size, "step": None, "kind": None}
    with patch("prow.tokenizer.prefix_attention", _prefix_attention):
        program = torch.onnx.export(
            module.eval(), given, dynamo=True, dynamic_shapes=shapes, optimize=False, verbose=False
        )
    assert program is not None
    return _bare(program.model_proto, f"network.{part}.")


def _tiles(config: Config) -> dict[str, Tensor]:
    """Inputs of the graphs of tiles, for three of them."""
    k, t, n = config.coefficients, config.tile, config.tokens
    return {
        "residual": torch.full((3, 3, t, t), 20.0),
        "anchored": torch.full((3, 3, t, t), 120.0),
        "context": torch.full((3, 3, t, t), 128.0),
        "sizes": torch.full((3, 2), t),
        "step": torch.ones(3),
        "kind": torch.tensor(1),
        "order": torch.arange(k),
        "values": torch.zeros(3, k),
        "counts": torch.arange(3),
        "exists": torch.ones(3, k, dtype=torch.bool),
        "prices": torch.ones(3, k),
        "go": torch.ones(1, n),
        "stop": torch.ones(1, n),
        "ends": torch.tensor(config.token_dims).cumsum(0),
        "last": torch.full((3,), n),
        "kappa": torch.tensor(0.04),
    }


def _level() -> tuple[Tensor, ...]:
    """Inputs of `_Filter` for a level of 23 x 37 px."""
    pictures = [torch.full((1, 3, 37, 23), 128.0) for _ in range(3)]
    return *pictures, torch.ones(1), torch.tensor(1)


def _bare(model: onnx.ModelProto, prefix: str) -> onnx.ModelProto:
    """A graph without weights (those whose name starts with `prefix`) and without notes on where it comes from."""
    graph = model.graph
    for noted in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")
    graph.ClearField("value_info")
    for tensor in graph.initializer:
        if tensor.name.startswith(prefix):
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="model file")
    return model


def export(name: str, folder: Path) -> None:
    """Write the graphs of an installed model into its folder below `folder`."""
    network = registry.load(name).network("cpu")
    path = folder / folder_name(network.config)
    path.mkdir(parents=True, exist_ok=True)
    for part in parts(network.config):
        content = graph(network, part).SerializeToString(deterministic=True)
        (path / f"{part}.onnx").write_bytes(content)
        print(f"{path / part}.onnx  {len(content):,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m prow.training.onnx_export", description=__doc__)
    parser.add_argument("--out", type=Path, default=GRAPHS, help="folder of the graphs (default: in the package)")
    out = parser.parse_args().out
    for old in out.glob("*/*.onnx"):
        old.unlink()
    for model in registry.models():
        export(model.name, out)
    for folder in out.iterdir():
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


if __name__ == "__main__":
    main()
