"""How a GPU computes: products in TF32 or in full fp32, reproducible or not, tried convolution algorithms or not.

TF32 keeps 10 bits of a factor's mantissa (NVIDIA A100 whitepaper, 2020): a product of metres is off by up to 0.5 mm.
Therefore only networks use it; bodies, losses and metrics compute in full fp32.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from hmrb.errors import RequestError
from hmrb.spec import EvalPrecision, SpeedSpec

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
WORKSPACES = (":4096:8", ":16:8")  # with which cuBLAS is reproducible (cuBLAS documentation, 2.1.4)
TF32_SINCE = (8, 0)  # compute capability of Ampere


def reserve_workspace() -> None:
    """Chooses the workspace of a reproducible cuBLAS, which reads it once: call it before anything uses the GPU."""
    os.environ.setdefault(WORKSPACE, WORKSPACES[0])


def apply_numerics(speed: SpeedSpec, device: torch.device) -> dict[str, Any]:
    """Sets how this process computes, and returns the settings in use, which a CPU or an older GPU may not have.

    Raises RequestError if `speed.deterministic` is impossible.
    """
    on_gpu = device.type == "cuda"
    if speed.deterministic and on_gpu and os.environ.get(WORKSPACE) not in WORKSPACES:
        raise RequestError(
            f"speed.deterministic: {WORKSPACE} is {os.environ.get(WORKSPACE) or 'not set'}, with which cuBLAS is not"
            f" reproducible; set it to {' or '.join(WORKSPACES)} before hmrb starts"
        )
    used = {
        "tf32": speed.tf32 and has_tf32(device),
        "deterministic": speed.deterministic,
        "cudnn_benchmark": speed.cudnn_benchmark and on_gpu and not speed.deterministic,
    }
    torch.use_deterministic_algorithms(speed.deterministic)
    torch.backends.cudnn.deterministic = speed.deterministic
    torch.backends.cudnn.benchmark = used["cudnn_benchmark"]
    _allow_tf32(used["tf32"], used["tf32"])
    return used


def has_tf32(device: torch.device) -> bool:
    """Whether a device multiplies in TF32."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= TF32_SINCE


def check_precision(precision: EvalPrecision, device: torch.device) -> None:
    """Raises RequestError if a device can't evaluate in this precision."""
    if precision == "tf32" and not has_tf32(device):
        raise RequestError(
            "--precision tf32: needs a GPU of compute capability 8.0 or later; this evaluation runs on"
            f" {'an older GPU' if device.type == 'cuda' else 'the CPU'}. Use fp32, bf16 or fp16"
        )


@contextmanager
def products_in(tf32: bool) -> Iterator[None]:
    """Matrix products and convolutions inside compute in TF32, or in full fp32. No effect on a CPU."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    _allow_tf32(tf32, tf32)
    try:
        yield
    finally:
        _allow_tf32(*before)


def _allow_tf32(products: bool, convolutions: bool) -> None:
    """Torch's own defaults differ: convolutions in TF32, products not."""
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.allow_tf32 = convolutions
