"""Exponential moving average of a model's weights and buffers."""

from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class WeightAverage(AveragedModel):
    """As torch's average with `get_ema_multi_avg_fn`, in two kernels and without reading the device.

    Torch's own reads its count of updates twice a step, and a GPU then finishes its queue first. Integer buffers
    (BatchNorm's count of batches) are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self._decay = decay
        self._is_new: bool | None = None

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """One step of the average: decay * average + (1 - decay) * model; the first step copies the model."""
        if self._is_new is None:  # once, after a checkpoint may have been loaded
            self._is_new = bool(self.n_averaged == 0)
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        real, whole = ([pair for pair in pairs if pair[0].is_floating_point() is kind] for kind in (True, False))
        if whole:
            torch._foreach_copy_([ours for ours, _ in whole], [theirs for _, theirs in whole])
        ours, theirs = [pair[0] for pair in real], [pair[1] for pair in real]
        if self._is_new:
            torch._foreach_copy_(ours, theirs)
        else:
            torch._foreach_lerp_(ours, theirs, 1 - self._decay)
        self.n_averaged += 1
        self._is_new = False


def _tensors(module: nn.Module) -> chain[Tensor]:
    return chain((weight.detach() for weight in module.parameters()), module.buffers())
