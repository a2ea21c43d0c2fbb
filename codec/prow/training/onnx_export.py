"""Write the graphs that `prow.backends.onnx_backend` runs: `python -m prow.training.onnx_export` (extra `dev`).

To be run whenever the code or the shape of the networks has changed, not for new weights: these are no part of the
graphs. Graphs of models and shapes that are no more are removed.
"""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from .. import registry
from ..backends.onnx_backend import VIVID, folder_name, graph_names
from ..backends.torch_backend import load_weights
from ..format.config import Config
from ..networks.condition import condition, pixel_scale
from ..networks.loop_filter import LoopFilter
from ..networks.quantise import Costs, choose_tokens, prefix_mask
from ..networks.tokenizer import Tokenizer
from ..networks.vivid import Vivid
from . import sums

# Inputs of the graphs.
PER_TILE = ("residual", "anchored", "prediction", "sizes", "step", "values", "counts", "exists", "last", "kappa")
GRAPHS = Path(__file__).parents[1] / "graphs"


class _Encoder(nn.Module):
    """`Tokenizer.analyse` and `choose_tokens`: counts [B] and values [B, K], int16."""

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
        values, counts = choose_tokens(ratios, exists, Costs(*prices[:, None]), (go, stop), ends, last, kappa)
        sent = prefix_mask(counts, ends, values.shape[1])
        return counts.to(torch.int16), (values * sent).to(torch.int16)


class _Inverse(nn.Module):
    """`Tokenizer.restore`: tiles [B, C, T, T] of what the integers add."""

    def __init__(self, network: Tokenizer) -> None:
        super().__init__()
        self.network = network

    def forward(self, values: Tensor, sizes: Tensor, step: Tensor, order: Tensor) -> Tensor:
        return self.network.restore(values, sizes, step, order)


class _Decoder(nn.Module):
    """`Tokenizer.correct`: tiles [B, C, T, T] of what the network adds."""

    def __init__(self, network: Tokenizer) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        values: Tensor,
        counts: Tensor,
        anchored: Tensor,
        prediction: Tensor,
        step: Tensor,
        kind: Tensor,
        order: Tensor,
    ) -> Tensor:
        return self.network.correct(values, counts, anchored, prediction, step, kind, order)


class _Filter(nn.Module):
    """`Tokenizer.finish`: a level [1, C, H, W], and what to add when it is doubled if the filter says that."""

    def __init__(self, network: Tokenizer, part: str) -> None:
        super().__init__()
        self.network, self.part = network, part

    def forward(
        self, picture: Tensor, prediction: Tensor, coverage: Tensor, step: Tensor, kind: Tensor
    ) -> tuple[Tensor, ...]:
        loop_filter: LoopFilter = getattr(self.network, self.part)
        scale, cond = pixel_scale(step), condition(step, kind)
        finished, ahead = loop_filter(picture, prediction, coverage, scale, cond)
        return (finished.clamp(0, 255),) if ahead is None else (finished.clamp(0, 255), ahead)


class _Vivid(nn.Module):
    """`Vivid`: a picture [1, 3, H, W]."""

    def __init__(self, network: Vivid) -> None:
        super().__init__()
        self.vivid = network

    def forward(self, picture: Tensor, noise: Tensor, cond: Tensor) -> Tensor:
        return self.vivid(picture, noise, cond)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, counts: Tensor) -> Tensor:
    """`prow_kernels.prefix_attention` in operations that do not look at the counts."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # [B, H, P or N, D]
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    visible = (torch.arange(k.shape[2]) < counts[:, None])[:, None, None]
    weights = scores.masked_fill(~visible, -1e9).softmax(-1)
    return (weights @ v * (counts > 0)[:, None, None, None]).transpose(1, 2)


def graph(network: Tokenizer, name: str) -> onnx.ModelProto:
    """One of `graph_names` of a network with `masked_attention` as an ONNX graph whose weights are only named."""
    of_tiles = {"encoder": _Encoder, "inverse": _Inverse, "decoder": _Decoder}
    if name in of_tiles:
        module = of_tiles[name](network)
        inputs, names = _tiles(network.config), list(inspect.signature(module.forward).parameters)
        tiles = {0: torch.export.Dim("tiles")}
        shapes = {n: tiles if n in PER_TILE else None for n in names}
        return _exported(module, tuple(inputs[n] for n in names), shapes, f"network.{name}.")
    size = {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    shapes = {"picture": size, "prediction": size, "coverage": size, "step": None, "kind": None}
    return _exported(_Filter(network, name), _level(network.config), shapes, f"network.{name}.")


def vivid_graph() -> onnx.ModelProto:
    """`Vivid` as an ONNX graph whose weights are only named."""
    size = {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    given = torch.full((1, 3, 37, 23), 128.0), torch.zeros(1, 1, 37, 23), torch.zeros(1, 2)
    return _exported(_Vivid(Vivid()), given, {"picture": size, "noise": size, "cond": None}, f"{VIVID}.")


def _exported(module: nn.Module, given: tuple[Tensor, ...], shapes: dict, prefix: str) -> onnx.ModelProto:
    program = torch.onnx.export(module.eval(), given, dynamo=True, dynamic_shapes=shapes, optimize=False, verbose=False)
    assert program is not None
    return _bare(program.model_proto, prefix)


def _tiles(config: Config) -> dict[str, Tensor]:
    """Inputs of the graphs of tiles, for three of them."""
    k, c, t, n = config.coefficients, config.channels, config.tile, config.tokens
    return {
        "residual": torch.full((3, c, t, t), 20.0),
        "anchored": torch.full((3, c, t, t), 120.0),
        "prediction": torch.full((3, c, t, t), 128.0),
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
        "kappa": torch.full((3, 1), 0.04),
    }


def _level(config: Config) -> tuple[Tensor, ...]:
    """Inputs of `_Filter` for a level of 23 x 37 px."""
    picture, prediction = (torch.full((1, config.channels, 37, 23), 128.0) for _ in range(2))
    return picture, prediction, torch.full((1, 3, 37, 23), 128.0), torch.ones(1), torch.tensor(1)


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


def export(model: registry.ModelFile, folder: Path) -> None:
    """Write the graphs of a model into its folder below `folder`."""
    network = Tokenizer(model.config, masked_attention)
    load_weights(network, model.content, model.config.name)
    for name in graph_names(model.config):
        _write(graph(network, name), folder / folder_name(model.config) / f"{name}.onnx")


def _write(model: onnx.ModelProto, path: Path) -> None:
    content = model.SerializeToString(deterministic=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    print(f"{path}  {len(content):,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m prow.training.onnx_export", description=__doc__)
    parser.add_argument("--out", type=Path, default=GRAPHS, help="folder of the graphs (default: in the package)")
    out = parser.parse_args().out
    for old in out.glob("*/*.onnx"):
        old.unlink()
    for model in registry.models():
        export(registry.load(model.name), out)
    _write(vivid_graph(), out / VIVID / f"{VIVID}.onnx")
    for folder in out.iterdir():
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    if out == GRAPHS:
        sums.write()


if __name__ == "__main__":
    main()
