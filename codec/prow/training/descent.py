"""The update of weights that all trainings share: gradients that were summed, to weights and their moving average."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

EMA_START = 10  # updates; the average of a young run forgets as fast as it is long


class Descent:
    """An optimiser with a schedule: warm-up, constant, then a linear fall.

    Args:
        optimiser: with the peak learning rate in each of its groups.
        warm_up: updates. fall: share of the training in which the rate falls, to `least` of its peak.
        clip: largest norm of all gradients together; None: any.
        average: pairs of a moving average and what it follows; decay: of the average, at most.
    """

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        *,
        warm_up: int = 1,
        fall: float = 1.0,
        least: float = 0.03,
        clip: float | None = None,
        average: tuple[nn.Module, nn.Module] | None = None,
        decay: float = 0.999,
    ) -> None:
        self.optimiser, self.average, self.decay = optimiser, average, decay
        self.warm_up, self.fall, self.least, self.clip = warm_up, fall, least, clip
        self.peaks = [group["lr"] for group in optimiser.param_groups]
        self.updates = 0

    def update(self, progress: float) -> None:
        """After `backward`: change the weights, and forget the gradients.

        Args:
            progress: share of the training that is over, 0 to 1.
        """
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self._parameters(), self.clip)
        warm, falling = (self.updates + 1) / self.warm_up, max(1 - progress, 0.0) / self.fall + self.least
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * min(1.0, warm) * min(1.0, falling)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.updates += 1
        if self.average is not None:
            weight = min(self.decay, self.updates / (self.updates + EMA_START - 1))
            with torch.no_grad():
                for mean, now in zip(*(module.parameters() for module in self.average), strict=True):
                    mean.lerp_(now, 1 - weight)

    def _parameters(self) -> Iterable[torch.Tensor]:
        return (parameter for group in self.optimiser.param_groups for parameter in group["params"])
