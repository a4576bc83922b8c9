"""A profile tells the device's time once, by phase, backward included; made-up events stand for a GPU's."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._C._autograd import DeviceType

from hmrb.parallel.world import World
from hmrb.spec import Experiment
from hmrb.training.profile import shares
from hmrb.training.timeline import ALL_REDUCE, REST, Timeline
from hmrb.training.utilisation import PEAKS, Utilisation, number_format_of, peak_flops, train_flops


@dataclass
class Event:
    """What the profile reads of a FunctionEvent; `start` and `stop` in milliseconds."""

    name: str
    start: float
    stop: float
    device_type: DeviceType = DeviceType.CPU
    id: int = 0
    is_user_annotation: bool = False
    cpu_time_total: float = 0.0

    @property
    def time_range(self) -> Any:
        return SimpleNamespace(start=1e3 * self.start, end=1e3 * self.stop)


def phase(name: str, start: float, stop: float) -> Event:
    return Event(f"hmrb: {name}", start, stop, is_user_annotation=True, cpu_time_total=1e3 * (stop - start))


def kernel(id: int, launched: float, start: float, stop: float, name: str = "sgemm") -> list[Event]:
    """A kernel, the driver's call that launched it, and an operator of the same number, which launched nothing."""
    return [
        Event(name, start, stop, DeviceType.CUDA, id),
        Event("cudaLaunchKernel", launched, launched + 0.01, id=id),
        Event("aten::mm", 0.0, 0.1, id=id),
    ]


STEP = [
    phase("data wait", 0, 4),
    phase("forward", 4, 9),
    Event("hmrb: forward", 6, 14, DeviceType.CUDA, is_user_annotation=True),  # the range's shadow on the device
    *kernel(1, 4.5, 6, 14),
    phase("losses", 9, 12),
    phase("SMPL", 10, 11),
    *kernel(2, 10.5, 14, 15),
    *kernel(3, 11.5, 15, 16),
    phase("backward", 12, 20),
    *kernel(4, 13, 16, 26),  # launched by a thread of autograd's while the main thread waits in "backward"
    *kernel(5, 14, 17, 21, "ncclDevKernel_AllReduce_Sum_f32_RING_LL"),
    phase("optimiser", 28, 29),
    *kernel(6, 28.5, 29, 30),
]


def test_the_time_of_the_device_counts_once_and_backward_has_its_own() -> None:
    timeline = Timeline.of(STEP)
    of_device = {"forward": 8.0, "SMPL": 1.0, "losses": 1.0, "backward": 10.0, ALL_REDUCE: 4.0, "optimiser": 1.0}
    assert timeline.device_ms(1) == pytest.approx(of_device)
    assert timeline.busy_ms(1) == pytest.approx(21)
    assert timeline.busy_ms(2) == pytest.approx(10.5)


def test_the_time_of_the_host_is_that_of_the_innermost_phase() -> None:
    host = {"data wait": 4.0, "forward": 5.0, "losses": 2.0, "SMPL": 1.0, "backward": 8.0, "optimiser": 1.0}
    assert Timeline.of(STEP).host_ms(1) == pytest.approx(host)


def test_work_that_nobody_launched_in_a_phase_is_everything_else() -> None:
    before, between = kernel(1, 1, 2, 3), kernel(2, 6, 7, 8)
    lost = [Event("memcpy", 9, 10, DeviceType.CUDA, 77)]
    timeline = Timeline.of([*before, phase("forward", 4, 5), *between, *lost])
    assert timeline.device_ms(1) == pytest.approx({REST: 3.0})


def test_the_largest_gaps_are_named() -> None:
    again = [Event(e.name, e.start + 40, e.stop + 40, e.device_type, e.id + 10, e.is_user_annotation) for e in STEP]
    assert Timeline.of(STEP + again).gaps(2) == [
        "8.00 ms a step (longest 16.00 ms) between optimiser and forward, host in: everything else",
        "3.00 ms a step (longest 3.00 ms) between backward and optimiser, host in: everything else",
    ]
    waits = [*kernel(1, 0, 0, 1), phase("data wait", 1, 3), phase("forward", 3, 4), *kernel(2, 3.5, 4, 5)]
    assert Timeline.of(waits).gaps(1) == [
        "3.00 ms a step (longest 3.00 ms) between everything else and forward, host in: data wait"
    ]


def test_the_table_has_the_device_beside_the_host() -> None:
    lines = shares(Timeline.of(STEP), 0.04, 1, True)
    table = {line[:30].strip(): line[30:].split() for line in lines[1 : lines.index("")]}
    assert table["forward"] == ["5.00", "12.5%", "8.00"]
    assert table["backward"] == ["8.00", "20.0%", "10.00"]
    assert table["a step"] == ["40.00", "100.0%", "21.00"]
    assert table[ALL_REDUCE] == ["0.00", "0.0%", "4.00"]
    assert lines[-2:] == [
        "the GPU computes or copies in 21.00 of 40.00 ms (52.5%); its largest idle gaps:",
        "  3.00 ms a step (longest 3.00 ms) between backward and optimiser, host in: everything else",
    ]


@pytest.mark.parametrize(
    ("card", "number_format", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4), ("NVIDIA H100 PCIe", "bf16", 756), ("NVIDIA H200", "tf32", 494.7),
        ("NVIDIA A100-SXM4-80GB", "fp16", 312), ("NVIDIA A100 80GB PCIe", "fp32", 19.5), ("NVIDIA A10", "bf16", 125),
        ("NVIDIA GeForce RTX 4090", "tf32", 82.6), ("Tesla V100-SXM2-32GB", "fp16", 125), ("Tesla T4", "tf32", 8.1),
        ("NVIDIA L40S", "bf16", 362), ("NVIDIA L4", "bf16", 121),
        ("Tesla V100-SXM2-32GB", "bf16", 0), ("NVIDIA H100 NVL", "bf16", 0), ("NVIDIA A10G", "bf16", 0),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16", 0), ("NVIDIA GeForce RTX 3090 Ti", "bf16", 0),
        ("NVIDIA GH200 480GB", "bf16", 0), ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bf16", 0), ("", "bf16", 0),
    ],
)  # fmt: skip
def test_a_card_has_its_published_peak_or_none(card: str, number_format: str, tflops: float) -> None:
    assert peak_flops(card, number_format) == pytest.approx(1e12 * tflops)


def test_every_peak_has_a_source_and_faster_formats_are_faster() -> None:
    for row in PEAKS.values():
        assert row.source
        assert row.fp16 >= max(row.bf16, row.tf32, row.fp32) > 0


def test_mfu_is_the_share_of_the_peak(tiny_experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    flops = train_flops(tiny_experiment)
    assert flops > 0
    assert flops % 6 == 0  # three passes, two operations a multiply-add
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3_500_000_000)
    for card, expected in {"NVIDIA H100 PCIe": 0.5, "NVIDIA Unheard-of": None}.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, card=card: card)
        use = Utilisation.of(tiny_experiment, World(0, 2, cuda))
        rate = 378e12 / flops  # of fp32, which is TF32 by default: half of what two cards can
        assert use.facts(rate) == pytest.approx({"peak_gb": 3.5} | ({"mfu": expected} if expected else {}))
        assert bool(use.problem) is (expected is None)
    assert "NVIDIA Unheard-of" in use.problem
    assert use.lines(1.0)[1:] == [use.problem, "peak memory 3.50 GB"]


def test_a_cpu_has_no_mfu_and_nothing_to_say(tiny_experiment: Experiment) -> None:
    use = Utilisation.of(tiny_experiment, World(0, 1, torch.device("cpu")))
    assert (use.problem, use.facts(100.0), use.lines(2.0)) == ("", {}, ["2 images/s"])


def test_single_precision_without_tf32_is_measured_against_its_own_peak() -> None:
    assert number_format_of("fp32", tf32=False) == "fp32"
    assert number_format_of("bf16", tf32=True) == "bf16"
