"""Cost of a model: parameters and multiply-adds of backbone, regressor and body, counted operator by operator."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from hmrb.batch import Conditioning
from hmrb.body import SMPL, BodyFile, load_body
from hmrb.body.official import NUM_H36M
from hmrb.bodykind import kind_of
from hmrb.models.cameras import BOX_NUMBERS
from hmrb.models.hmr import HMR, build_model
from hmrb.spec import ModelSpec

VERTICES = {"smpl": 6890, "smplx": 10_475}
COUNTER = f"torch.utils.flop_counter of torch {torch.__version__}"
WARM_UP_SHARE, TIMED_S = 1 / 3, 3.0
# Operators that copy or create data without arithmetic.
MOVES = {
    "cat", "clone", "copy", "copy_", "_to_copy", "constant_pad_nd", "roll", "index", "stack", "empty", "zeros", "ones",
    "full", "arange", "eye", "lift_fresh_copy", "new_zeros", "_unsafe_view", "scalar_tensor", "fill", "fill_",
    "detach", "_local_scalar_dense",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Component:
    """One part of a model: trained parameters, and multiply-adds for one image (one multiply-add is two FLOPs)."""

    params: int
    multiply_adds: int

    @property
    def flops(self) -> int:
        """Floating-point operations."""
        return 2 * self.multiply_adds


@dataclass(frozen=True, slots=True)
class Study:
    """Output of the study's get_flops.py (mmcv's counter) for its model at 224 px, backbone and head.

    Its `GFLOPs` are multiply-adds and include normalisation and activations. Its parameters include the
    discriminator's 1.81 M. `why` names further errors of its counter.
    """

    gflops: float
    params_m: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one image per part, and the operators that the counter does not count."""

    backbone: str
    features: str
    image_px: int
    parts: dict[str, Component]
    not_counted: dict[str, int]
    study: Study | None
    counter: str = COUNTER

    def record(self) -> dict[str, Any]:
        """Values for JSON, with totals."""
        parts = {name: asdict(part) | {"flops": part.flops} for name, part in self.parts.items()}
        parts["total"] = {
            key: sum(part[key] for part in parts.values()) for key in ("params", "multiply_adds", "flops")
        }
        return asdict(self) | {"parts": parts}


def count(spec: ModelSpec, body: str = "smpl") -> Cost:
    """Count the cost of a spec's model on the meta device, without computation and without weights."""
    with torch.device("meta"):
        model = build_model(spec.model_copy(update={"weights": "none"}), kind=kind_of(body)).eval()
        posed = _body(body)
        image = torch.zeros(1, 3, spec.image_px, spec.image_px)
    parts: dict[str, Component] = {}
    missed: Counter[str] = Counter()
    with _counting(missed) as flops:
        features = model.backbone(image[..., model.columns])
    parts["backbone"] = Component(_params(model.backbone), flops.get_total_flops() // 2)
    with _counting(missed) as flops:
        prediction = model.head(features, None, *([image.new_zeros(1, BOX_NUMBERS)] * (model.box != "none")))
    parts["head"] = Component(_params(model.head), flops.get_total_flops() // 2)
    with _counting(missed) as flops:
        posed(prediction.rotmats, prediction.betas)
    parts["body"] = Component(0, flops.get_total_flops() // 2)
    study = STUDY.get(spec.backbone.replace("-", "_")) if spec.image_px == 224 else None
    return Cost(spec.backbone, spec.features, spec.image_px, parts, dict(missed.most_common()), study)


@torch.no_grad()
def images_per_s(spec: ModelSpec, body: str, batch: int, device: torch.device, timed_s: float = TIMED_S) -> float:
    """Measure the throughput of backbone and regressor on `device` in fp32, in images per second, in `timed_s`."""
    spec = spec.model_copy(update={"weights": "none"})
    model: HMR = build_model(spec, kind=kind_of(body)).eval().to(device)
    image = torch.randn(batch, 3, spec.image_px, spec.image_px, device=device)
    place = _whole(batch, spec.image_px).each(lambda part: part.to(device))
    _repeat(model, image, place, timed_s * WARM_UP_SHARE)
    return _repeat(model, image, place, timed_s)


def _whole(batch: int, image_px: int) -> Conditioning:
    """Crops that are the whole picture, of no known camera."""
    square = torch.tensor([[image_px / 2, image_px / 2, image_px]])
    size, unknown = square[:, 2:].expand(batch, 2), torch.zeros(batch, dtype=torch.bool)
    return Conditioning(square.expand(batch, 3), size, torch.zeros(batch, 2, 3), torch.zeros(batch, 3, 3), unknown)


def _repeat(model: nn.Module, image: Tensor, place: Conditioning, seconds: float) -> float:
    start, steps = time.perf_counter(), 0
    while not steps or time.perf_counter() - start < seconds:
        model(image, None, place)
        steps += 1
        if image.is_cuda:
            torch.cuda.synchronize(image.device)
    return steps * len(image) / (time.perf_counter() - start)


class _Missed(TorchDispatchMode):
    """Records operators that do arithmetic and for which the counter has no formula."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if func.overloadpacket not in flop_registry and not func.is_view and name not in MOVES:
            self._found[name] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def _counting(missed: Counter[str]) -> Iterator[FlopCounterMode]:
    """Counts the operators that run inside; attention counts as matrix products."""
    flops = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), flops, _Missed(missed):
        yield flops


def _params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _body(name: str) -> SMPL:
    """The open body, or a body of zeros with the sizes of SMPL or SMPL-X: the cost depends only on the sizes."""
    if name == "open":
        return load_body("open").to("meta")
    v, kind = VERTICES[name], kind_of(name)

    def sized(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.float32)

    return SMPL(
        BodyFile(
            name=name, gender="neutral", kind=kind,
            template=sized(v, 3), shapedirs=sized(v, 3, kind.num_betas), posedirs=sized(v, 3, kind.bend_numbers),
            joint_regressor=sized(kind.num_joints, v), weights=sized(v, kind.num_joints),
            parents=np.array(kind.parents),
            faces=np.zeros((1, 3), np.int64), landmarks=np.zeros(kind.num_landmarks, np.int64),
            h36m_regressor=sized(NUM_H36M, v), extra_regressor=sized(kind.num_extra, v),
        )
    ).to("meta")  # fmt: skip


_NO_ATTENTION = "its counter does not see the products inside attention"
STUDY: dict[str, Study] = {
    "resnet50": Study(4.13, 28.79),
    "resnet101": Study(7.86, 47.78),
    "resnet152": Study(11.59, 63.42),
    "resnext101": Study(16.52, 91.39, "it leaves out the parameters that the study's file freezes"),
    "hrnet_w32": Study(11.09, 36.69, "its own upsampling tail: compare with features study"),
    "efficientnet_b5": Study(0.07, 33.62, "its counter does not see EfficientNet's convolutions"),
    "vit_b16": Study(11.29, 91.07, "its counter does not see attention, neither its layers nor its products"),
    "swin_t": Study(32.48, 51.72, f"its own upsampling tail: compare with features study; {_NO_ATTENTION}"),
    "twins_svt_b": Study(8.35, 59.27, _NO_ATTENTION),
    "twins_pcpvt_b": Study(6.45, 47.02, _NO_ATTENTION),
}
