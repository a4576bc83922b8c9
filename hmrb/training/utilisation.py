"""How much of a card's arithmetic a training run uses (MFU), and the published peaks that this is a share of."""

import re
from dataclasses import dataclass

import torch

from hmrb.models.flops import count
from hmrb.parallel.world import World
from hmrb.spec import Experiment, Precision

PASSES = 3  # backward is two products for each of forward: one for the inputs' gradient, one for the weights'


@dataclass(frozen=True, slots=True)
class Peaks:
    """Published peaks of a card in TFLOP/s, dense (without structured sparsity), sums in fp32; 0: it has none."""

    bf16: float
    fp16: float
    tf32: float
    fp32: float
    source: str


@dataclass(frozen=True, slots=True)
class Utilisation:
    """What the images per second of a run mean on its card. `card` is empty on a CPU, `peak` 0 for an unknown one.

    `flops` are those of a training image: forward and backward of backbone, regressor and body, without what
    checkpointing computes again. `peak` is in FLOP/s, for all cards of the run together.
    """

    card: str
    number_format: str
    batch: int
    flops: int
    peak: float
    device: torch.device

    @classmethod
    def of(cls, experiment: Experiment, world: World) -> "Utilisation":
        """Counts the model's operations where a known card will run it."""
        optim, on_gpu = experiment.optim, world.device.type == "cuda"
        number_format = number_format_of(optim.precision, getattr(experiment.speed, "tf32", True))
        card = torch.cuda.get_device_name(world.device) if on_gpu else ""
        peak = world.size * peak_flops(card, number_format)
        flops = train_flops(experiment) if peak and world.is_main else 0
        return cls(card, number_format, optim.batch, flops, peak, world.device)

    @property
    def problem(self) -> str:
        """Why there is no MFU, to be said once; empty on a CPU and for a known card."""
        if self.peak or not self.card:
            return ""
        return (
            f"no MFU: hmrb knows no published {self.number_format} peak of '{self.card}' (hmrb/training/utilisation.py)"
        )

    def facts(self, images_per_s: float) -> dict[str, float]:
        """For the log: `mfu`, a share of the peak, and `peak_gb`, the most memory that tensors took; {} on a CPU."""
        if not self.card:
            return {}
        out = {"peak_gb": torch.cuda.max_memory_allocated(self.device) / 1e9}
        return out | ({"mfu": images_per_s * self.flops / self.peak} if self.peak else {})

    def lines(self, seconds: float) -> list[str]:
        """The same in words, for steps of `seconds`."""
        rate = self.batch / seconds
        facts, out = self.facts(rate), [f"{rate:.0f} images/s"]
        if "mfu" in facts:
            out += [
                f"MFU {facts['mfu']:.1%} of {self.peak / 1e12:.0f} TFLOP/s ({self.number_format}, {self.card}),"
                f" {self.flops / 1e9:.1f} GFLOP an image"
            ]
        out += [self.problem] * bool(self.problem)
        return out + ([f"peak memory {facts['peak_gb']:.2f} GB"] if facts else [])


def train_flops(experiment: Experiment) -> int:
    """Floating-point operations of one training image."""
    return PASSES * sum(part.flops for part in count(experiment.model, experiment.body).parts.values())


def number_format_of(precision: Precision, tf32: bool) -> str:
    """What a network in this precision is multiplied in. cuDNN's convolutions in fp32 use TF32 unless told not to."""
    return "tf32" if precision == "fp32" and tf32 else precision


def peak_flops(card: str, number_format: str) -> float:
    """Published dense peak of a card, as torch names it, in FLOP/s; 0 if the table has none.

    A card without TF32 multiplies in fp32 where TF32 is allowed.
    """
    for model, peaks in PEAKS.items():
        if re.search(rf"\b{model}(?!\w| Ti| D\b| NVL| Laptop|.* MIG)", card):
            value: float = getattr(peaks, number_format)
            return 1e12 * (value or (peaks.fp32 if number_format == "tf32" else 0.0))
    return 0.0


_HALVED = "dense: half of what it states with sparsity"
PEAKS: dict[str, Peaks] = {
    "B200": Peaks(2250, 2250, 1125, 75, f"NVIDIA HGX B200 datasheet, {_HALVED}"),
    "H200": Peaks(989.4, 989.4, 494.7, 66.9, f"NVIDIA H200 datasheet, SXM, {_HALVED}"),
    "H100 PCIe": Peaks(756, 756, 378, 51, f"NVIDIA H100 datasheet, PCIe, {_HALVED}"),
    "H100": Peaks(989.4, 989.4, 494.7, 66.9, f"NVIDIA H100 datasheet, SXM, {_HALVED}"),
    r"A100[-\w]*": Peaks(312, 312, 156, 19.5, "NVIDIA A100 datasheet"),
    "A40": Peaks(149.7, 149.7, 74.8, 37.4, "NVIDIA A40 datasheet"),
    "A10": Peaks(125, 125, 62.5, 31.2, "NVIDIA A10 datasheet"),
    "RTX A6000": Peaks(154.8, 154.8, 77.4, 38.7, "NVIDIA Ampere GA102 whitepaper"),
    "RTX 3090": Peaks(71, 71, 35.6, 35.6, "NVIDIA Ampere GA102 whitepaper"),
    "RTX 4090": Peaks(165.2, 165.2, 82.6, 82.6, "NVIDIA Ada architecture whitepaper"),
    "L40S": Peaks(362, 362, 183, 91.6, f"NVIDIA L40S datasheet, {_HALVED}"),
    "L4": Peaks(121, 121, 60, 30.3, f"NVIDIA L4 datasheet, {_HALVED}"),
    r"V100-SXM2[-\w]*": Peaks(0, 125, 0, 15.7, "NVIDIA V100 datasheet, SXM2"),
    "T4": Peaks(0, 65, 0, 8.1, "NVIDIA T4 datasheet"),
}
"""By the model in the name that torch gives a card; first row first. A part of a card (MIG) is no row."""
