"""Files of weights from anywhere, read without running anything in them."""

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hmrb.errors import RequestError

# Beside tensors, training logs are full of numpy's numbers: what rebuilds those, under old and new names, and no more.
NUMBERS: list[Any] = [
    np.dtype,
    np.ndarray,
    *(type(np.dtype(name)) for name in ("bool", "int32", "int64", "uint8", "float16", "float32", "float64")),
    *(
        (value.__reduce__()[0], f"numpy.{core}.multiarray.{name}")
        for name, value in (("scalar", np.float64(0)), ("_reconstruct", np.zeros(1)))
        for core in ("core", "_core")
    ),
]
BOXES = ("state_dict", "model")  # under which tensors lie beside a training's other state
# What torch's readers raise on files that are cut short or something else.
UNREADABLE = (
    OSError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, EOFError,
    OverflowError, MemoryError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError,
)  # fmt: skip


class WeightsError(RequestError):
    """A file of weights that can't be read, or that belongs to something else."""


def read_weights(path: Path) -> dict[str, Any]:
    """What a .pth, .pt, .bin or .safetensors file holds. Raises WeightsError; nothing in the file is run."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except UNREADABLE as error:
            raise WeightsError(f"{path}: no safetensors file, or cut short ({error})") from None
    if _is_squeezed(path):
        raise WeightsError(f"{path}: a compressed archive, which torch never writes; unpack it and give the file in it")
    try:
        with torch.serialization.safe_globals(NUMBERS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle's protocol: the file is read, or refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise WeightsError(f"{path}: {_refusal(path, error)}") from None
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, no table of tensors")
    return dict(content)


def tensors_of(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The named tensors, out of the boxes they usually come in. Raises WeightsError where there are none."""
    for box in BOXES:
        if isinstance(content.get(box), Mapping):
            content = content[box]
    tensors = {
        key.removeprefix("module."): value  # as DataParallel names them
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor) and value.layout is torch.strided
    }
    for key, value in tensors.items():
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise WeightsError(f"{path}: {key} claims {tuple(value.shape)} numbers, more than the file holds; refused")
    if not tensors:
        keys = ", ".join(str(key) for key in list(content)[:5]) or "nothing"
        raise WeightsError(
            f"{path}: no tensors where they are looked for ('state_dict', 'model' or the top); it has {keys}"
        )
    return tensors


def _is_squeezed(path: Path) -> bool:
    """Whether a small file would swell into gigabytes: torch stores tensors as they are."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _refusal(path: Path, error: BaseException) -> str:
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    if not asked:
        return "no file of weights that torch wrote, or cut short"
    return (
        f"refused: it asks to run or build '{asked[1]}', which tensors do not need. If you trust who made it, write its"
        " tensors alone, in the environment it comes from:\n"
        f"  import torch; c = torch.load({str(path)!r}, map_location='cpu', weights_only=False)\n"
        "  torch.save({'state_dict': c.get('state_dict', c.get('model', c))}, 'tensors.pth')"
    )
