"""The training loop: resumable, logs a JSON line a minute, writes weights and tables."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_tensors
from torch import Tensor

from ..format.config import CONFIGS, Config
from ..format.geometry import passes
from ..networks.quantise import Costs
from ..networks.tokenizer import Tokenizer
from . import loop
from .data import Batches
from .descent import Descent
from .resident import ResidentBatches
from .statistics import Statistics

CUT = 0.5  # share of batches whose streams end early, somewhere
REFINED = 0.25  # share of batches that go on at full resolution


@dataclasses.dataclass(frozen=True)
class Options:
    """How to train. `minutes` counts all runs of the same output folder together."""

    data: Path
    out: Path
    config: str
    minutes: float
    pixels: int = 4 * 128 * 128  # px a batch
    sides: tuple[int, ...] = (64, 128, 128, 128, 256)
    coarse_sides: tuple[int, int] = (48, 400)
    rate: float = 2e-3
    kappa: float = 0.04
    average: float = 0.999  # EMA of the weights
    device: str = "cpu"
    bf16: bool = False
    compile: str | None = None  # backend of torch.compile for the networks
    resident: bool = False  # photos decoded once, on the device
    seed: int = 0


class Trainer:
    """State of a run: model, its moving average, optimiser, statistics, and how long it has trained."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.config: Config = CONFIGS[options.config]
        self.device = torch.device(options.device)
        torch.manual_seed(options.seed)
        self.model = Tokenizer(self.config).to(self.device)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.model.bf16 = options.bf16
        self.statistics = Statistics(self.config, self.device)
        self.minutes = 0.0
        self.descent: Descent | None = None  # a linear model has nothing to learn
        if weights := list(self.model.parameters()):
            optimiser = torch.optim.AdamW(weights, lr=options.rate, betas=(0.9, 0.99), weight_decay=0.001)
            average = self.average, self.model
            self.descent = Descent(optimiser, warm_up=100, fall=0.4, clip=1.0, average=average, decay=options.average)
        given = options.data, options.pixels, options.sides, options.coarse_sides, options.seed
        self.batches = ResidentBatches(*given, self.device) if options.resident else Batches(*given)
        self.pixels = 0  # of all batches so far
        if options.compile and self.config.network:
            model = self.model
            for network in (model.decoder, model.coarse_filter, model.fine_filter, model.light_filter):
                network.compile(backend=options.compile, dynamic=True)

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def state_file(self) -> Path:
        return self.options.out / "state.pt"

    @property
    def updates(self) -> int:
        return self.descent.updates if self.descent else 0

    def save(self) -> None:
        state = {
            "config": self.config.to_json(),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.descent.optimiser.state_dict() if self.descent else None,
            "updates": self.updates,
            "statistics": self.statistics.state(),
            "minutes": self.minutes,
        }
        self.options.out.mkdir(parents=True, exist_ok=True)
        temporary = self.state_file.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.state_file)

    def load(self) -> None:
        state = torch.load(self.state_file, map_location=self.device, weights_only=True)
        trained = dataclasses.replace(Config.from_json(state["config"]), description=self.config.description)
        if trained != self.config:
            raise ValueError(f"{self.state_file} was trained with {trained}, this is {self.config}")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        if self.descent:
            self.descent.optimiser.load_state_dict(state["optimiser"])
            self.descent.updates = state["updates"]
        self.statistics.load(state["statistics"])
        self.minutes = state["minutes"]

    # -- training ------------------------------------------------------------------------------------------------

    def images(self) -> tuple[Tensor, bool]:
        """The next batch, [B, 3, H, W], and whether it is a coarse one."""
        if isinstance(self.batches, ResidentBatches):
            return self.batches.next()
        batch = self.batches.next()
        pixels = torch.from_numpy(batch.pixels.copy()).to(self.device)
        return pixels.permute(0, 3, 1, 2).float(), batch.coarse

    def bases(self, count: int) -> Tensor:
        """Bases [count]: around the usual one, some of them far from it."""
        usual = self.config.usual_base
        common = torch.randint(usual - 4, usual + 4, (count,), device=self.device)
        rare = torch.randint(8, 48, (count,), device=self.device)
        return torch.where(torch.rand(count, device=self.device) < 0.88, common, rare)

    def start_from(self, path: Path) -> None:
        """Take scan order and weights from a model file, to train it further.

        A model can grow: weights that the file lacks or has in other shapes start anew, but for convolutions that now
        have more inputs, whose weights for these start at zero.
        """
        tensors = load_tensors(path.read_bytes())
        old = {k.removeprefix("network."): v.float() for k, v in tensors.items() if k.startswith("network.")}
        own = self.model.state_dict()
        for name in old.keys() & own.keys():
            more = own[name].shape[1] - old[name].shape[1] if own[name].dim() == old[name].dim() == 4 else 0
            if more > 0:
                old[name] = F.pad(old[name], (0, 0, 0, 0, 0, more))
        fitting = {k: v for k, v in old.items() if k in own and v.shape == own[k].shape}
        if self.config.network and not fitting:
            raise ValueError(f"no weight of {path} fits config {self.config.name}, wanted a model of the same sizes")
        for network in (self.model, self.average):
            network.load_state_dict(own | fitting)
        self.statistics.order.copy_(tensors["tables.order"])

    def bootstrap(self, batches: int, *, order: bool = True) -> None:
        """First statistics, and unless told not to the scan order, from the linear anchor alone."""
        linear = Tokenizer(dataclasses.replace(self.config, network=False)).to(self.device)
        energy = torch.zeros(self.statistics.order.shape, device=self.device)
        with torch.no_grad():
            for _ in range(batches if order else 0):
                self._add_energy(linear, energy)
            if order:
                self.statistics.order.copy_(energy.argsort(1, descending=True))
            for _ in range(batches):
                self._measure(linear, 0.08)

    def _add_energy(self, linear: Tokenizer, energy: Tensor) -> None:
        """Adds to [kinds, K] each coefficient's mean energy in squared steps, none counting for more than 4."""

        class Recorder(GenericPrices):
            def add(
                self, kind: int, indices: Tensor, values: Tensor, sent: Tensor, counts: Tensor, last: Tensor
            ) -> None:
                energy[kind] += values.square().clamp(max=4).mean(0)

        images, coarse = self.images()
        base, recorder = self.bases(len(images)), Recorder(self.config)
        for _result in loop.run_passes(linear, images, base, recorder, 0.05, refine=2, coarse=coarse):  # type: ignore[arg-type]
            pass

    @torch.no_grad()
    def _measure(self, model: Tokenizer, kappa: float) -> None:
        """One batch through a model for the statistics alone."""
        images, coarse = self.images()
        base, refine = self.bases(len(images)), self._refine(coarse)
        for _result in loop.run_passes(model, images, base, self.statistics, kappa, refine=refine, coarse=coarse):
            pass
        self.statistics.refresh()

    def train_on_batch(self) -> float:
        """One batch through all passes; returns the mean loss of a pass."""
        assert self.descent is not None
        images, coarse = self.images()
        beyond = int(torch.randint(0, 3, ())) if coarse else 0  # finer levels that coarse batches do not show
        if beyond:  # four times as many px of each picture are coded
            images = images[: max(1, len(images) // 4)]
        self.pixels += images[:, 0].numel()
        refine = self._refine(coarse)
        plan = passes(images.shape[-1] << beyond, images.shape[-2] << beyond, self.config)
        last = sum(pass_.octaves >= max(beyond, 1) for pass_ in plan) if coarse else plan[0].octaves + 1 + refine
        cut = None
        if torch.rand(()) < CUT:
            cut = loop.Cut(int(torch.randint(0, last, ())), torch.rand(len(images), device=self.device))
        losses = []
        self.statistics.decay(0.998)
        for result in loop.run_passes(
            self.model,
            images,
            self.bases(len(images)),
            self.statistics,
            self.options.kappa,
            cut=cut,
            refine=refine,
            coarse=coarse,
            beyond=beyond,
        ):
            result.loss.backward()
            losses.append(float(result.loss.detach()))
        if self.updates % 20 == 0:
            self.statistics.refresh()
        self.descent.update(self.minutes / self.options.minutes)
        return sum(losses) / len(losses)

    def _refine(self, coarse: bool) -> int:
        """How many refining passes a batch has: mostly none."""
        if coarse or torch.rand(()) > REFINED:
            return 0
        return int(torch.randint(1, len(self.config.refine_shifts) + 1, ()))

    def collect(self, minutes: float) -> None:
        """Fresh statistics of the averaged weights, without drop: what the tables are made of."""
        self.statistics.decay(0.05)
        until = time.monotonic() + 60 * minutes
        while time.monotonic() < until:
            self._measure(self.average, self.options.kappa)


class GenericPrices:
    """Stands in for Statistics before there are any: the same price everywhere, coefficients in natural order."""

    def __init__(self, config: Config) -> None:
        self.order = torch.arange(config.coefficients).repeat(4, 1)
        self.tokens = config.tokens

    def prices(self, kind: int, indices: Tensor) -> tuple[Costs, Tensor, Tensor]:
        flat = torch.ones(len(indices), 1)
        flag = torch.full((len(indices), self.tokens), 0.01)
        return Costs(0.01 * flat, 4.0 * flat, 1.5 * flat), flag, flag

    def add(self, kind: int, indices: Tensor, values: Tensor, sent: Tensor, counts: Tensor, last: Tensor) -> None:
        raise NotImplementedError


def log_line(path: Path, record: dict) -> None:
    with open(path, "a") as file:
        file.write(json.dumps(record) + "\n")
