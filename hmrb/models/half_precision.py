"""Whether half precision pays on this CPU: one without bf16 units emulates it, many times slower than fp32."""

import time
from functools import cache

import torch
from torch import nn

from hmrb.models.machine_speed import MachineSpeed
from hmrb.spec import Precision

TOLERATED = 1.05  # time over that of fp32 up to which half precision is used: it also saves memory
SHAPE = (8, 32, 32, 32)  # pictures, channels, height, width: some milliseconds in fp32
REPEATS = 7
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def precision_in_use(asked: Precision, device: torch.device, known: MachineSpeed | None) -> tuple[Precision, str]:
    """The precision asked for, or fp32 and why, where a CPU would be slower in it. A GPU computes as asked.

    What is `known` of this machine is not measured again, so that the next run on it chooses the same.
    """
    if asked == "fp32" or device.type != "cpu":
        return asked, ""
    if known and (ratio := known.sure(asked)):
        times, how = ratio.median, f"hmrb doctor --speed, {known.date}"
    else:
        times, how = half_over_fp32(asked), "measured, a 3x3 convolution and its gradients"
    if times <= TOLERATED:
        return asked, ""
    return "fp32", (
        f"optim.precision: {asked} takes {times:.1f} times as long as fp32 on this CPU ({how}): computing in fp32"
    )


@cache
def half_over_fp32(precision: Precision) -> float:
    """The time of a convolution and its gradients in half precision over that in fp32: the least of a few repeats."""
    with torch.random.fork_rng(devices=[]):  # a run's own random numbers stay as they are
        layer = nn.Conv2d(SHAPE[1], SHAPE[1], 3, padding=1).to(memory_format=torch.channels_last)
        image = torch.randn(SHAPE).contiguous(memory_format=torch.channels_last)

    def seconds(enabled: bool) -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", HALF[precision], enabled=enabled):
            layer(image).sum().backward()
        return time.perf_counter() - start

    seconds(False), seconds(True)  # the first of each prepares its kernels
    pairs = [(seconds(True), seconds(False)) for _ in range(REPEATS)]  # in turn, so that other load meets both
    half, full = (min(times) for times in zip(*pairs, strict=True))
    return half / full
