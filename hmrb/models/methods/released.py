"""Read the files that the methods' authors released: recognised by shapes, strict, each tensor accounted for."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from hmrb.bodykind import ROT6D, kind_of
from hmrb.models.hmr import HMR
from hmrb.models.methods import METHODS
from hmrb.models.methods.layout import Released, State
from hmrb.models.weight_files import WeightsError
from hmrb.spec import ModelSpec, Rotation
from hmrb.store import Store

SHOWN = 3  # names in a message
PARALLEL = 1e-2  # sine of the angle between two vectors that are no two columns of a rotation
SPINS_ROOT = (1.0, 0.0, 0.0, -1.0, 0.0, 0.0)  # of smpl_mean_params.npz: half a turn about x, interleaved


def recognise_released(tensors: Mapping[str, Tensor]) -> Released | None:
    """The layout of a file's tensors, or None."""
    layouts = (layout for method in METHODS.values() for layout in method.released)
    return next((layout for layout in layouts if layout.fits(tensors)), None)


def read_released(layout: Released, tensors: State, path: Path) -> tuple[ModelSpec, State, str]:
    """The `model` table, the model's tensors under hmrb's names, and a report on every tensor.

    Raises WeightsError where the file lacks a tensor, has one that no rule knows, or one of another shape, or where its
    mean body is no pose as the method reads it and cannot be its authors'.
    """
    tensors = {**tensors, **layout.beside(path)}
    arrays, dropped, unknown = layout.renamed(tensors)
    spec = ModelSpec.model_validate(dict(layout.fields))
    with torch.device("meta"):
        model = HMR(spec, Store.default(), kind_of(layout.body))
    want = model.state_dict()
    absent = [key for key in want if key not in arrays and not key.endswith("num_batches_tracked")]
    unknown += [key for key in arrays if key not in want]
    wrong = [
        f"{key} {tuple(arrays[key].shape)}, expected {tuple(value.shape)}"
        for key, value in want.items()
        if key in arrays and arrays[key].shape != value.shape
    ]
    found = (("that the model lacks", unknown), ("missing", absent), ("of a wrong shape", wrong))
    if problems := [_few(keys, what) for what, keys in found if keys]:
        raise WeightsError(f"{path}: looks like a file of {layout.title}, but does not fit: {'; '.join(problems)}")
    zero = torch.zeros((), dtype=torch.int64)
    arrays = {key: _plain(arrays.get(key, zero)) for key in want}
    lines = [f"{path}: {layout.title}, backbone {spec.backbone}, method {spec.method}"]
    lines += [f"  used     {len(arrays):5d}"]
    lines += [f"  dropped  {count:5d}  {why}" for why, count in sorted(dropped.items())]
    root = mean_root(arrays)
    if root is not None and spec.head.name not in UNUSED_MEAN and is_no_pose(root, spec.head.rotation):
        if spec.head.rotation == "interleaved" or not is_spins(root):
            shown = ", ".join(f"{number:.3g}" for number in root.tolist())
            raise WeightsError(
                f"{path}: its mean body has the root ({shown}), no rotation as {layout.title} reads six numbers"
                f" ({spec.head.rotation}): it was written in another layout. Use the authors' file"
            )
        lines.append(
            f"  note: its mean body is SPIN's, which {layout.title} reads as no pose; its layers count on that"
        )
    return spec, arrays, "\n".join(lines)


def mean_root(arrays: State) -> Float[Tensor, "6"] | None:
    """The six numbers of the root in a file's mean body; None without one, or where it is 0 and adds nothing."""
    pose = next((value for key, value in arrays.items() if key.endswith(("init_pose", "init_body_pose"))), None)
    if pose is None or pose.is_meta or not pose.any():
        return None
    return pose.flatten()[:ROT6D]


def is_no_pose(root: Float[Tensor, "6"], layout: Rotation) -> bool:
    """Whether six numbers are two parallel vectors, as a head of this layout reads them."""
    first, second = root.view(3, 2).T if layout == "interleaved" else root.view(2, 3)
    return bool(torch.linalg.cross(first, second).norm() <= PARALLEL * first.norm() * second.norm())


def is_spins(root: Float[Tensor, "6"]) -> bool:
    """Whether a root is that of the public mean body as SPIN stores it.

    HMR2.0's code adds such a file unchanged, and reads the sum as two vectors: its release may hold it.
    """
    return bool((root - root.new_tensor(SPINS_ROOT)).abs().max() < PARALLEL)


UNUSED_MEAN = ("part_attention",)
"""Heads that neither add their mean body nor start from it."""


def _plain(value: Tensor) -> Tensor:
    """Numbers as hmrb's models have them."""
    return value.float() if value.is_floating_point() else value


def _few(keys: list[str], what: str) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"{len(keys)} {what} ({', '.join(keys[:SHOWN])}{more})"
