"""Read weights files from any source without executing code in them."""

import pickle
import re
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hmrb.errors import RequestError
from hmrb.formats.files import PICKLE, ZIP, instead, is_about_the_file, reason, what_it_is
from hmrb.formats.zips import zip_problem

# Checkpoints also contain NumPy values. These are the types and functions that rebuild them, under old and new names.
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


class Settings:
    """Stands in for the classes in which trainers store their settings beside the weights. Nothing reads it."""

    def __init__(self, *_: object, **__: object) -> None:
        """Takes anything."""

    def __setstate__(self, state: object) -> None:
        """Drops the content."""


SETTINGS: tuple[Any, ...] = (
    (OrderedDict, "yacs.config.CfgNode"),  # HMR2.0, TokenHMR, PARE; torch fills no other dictionaries
    (OrderedDict, "pytorch_lightning.utilities.parsing.AttributeDict"),
    (OrderedDict, "lightning_fabric.utilities.data.AttributeDict"),
) + tuple(
    (Settings, name)
    for name in (
        "omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig", "omegaconf.base.ContainerMetadata",
        "omegaconf.base.Metadata", "omegaconf.nodes.AnyNode", "typing.Any",
        "argparse.Namespace",
    )
)  # fmt: skip
"""Classes of settings in Lightning's files, by their names there."""
BOXES = ("state_dict", "model")  # keys of the tensors in files that also store other training state
# Exceptions of torch's readers for truncated and other invalid files.
UNREADABLE = (
    OSError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, EOFError,
    OverflowError, MemoryError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError,
)  # fmt: skip


class WeightsError(RequestError):
    """A weights file that is unreadable or does not fit the model."""


def read_weights(path: Path) -> dict[str, Any]:
    """Content of a .pth, .pt, .bin or .safetensors file, read without executing code in it. Raises WeightsError."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except UNREADABLE as error:
            raise WeightsError(f"{path}: not a safetensors file, or truncated ({error}){instead(path)}") from None
    try:
        if what_it_is(path) == ZIP and (problem := zip_problem(path, with_checksums=False)):
            raise WeightsError(f"{path}: not a weights file written by torch, or truncated: {problem}")
        with torch.serialization.safe_globals([*NUMBERS, *SETTINGS]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol: the file is read, or rejected below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise WeightsError(f"{path}: {_refusal(path, error)}") from None
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: contains a {type(content).__name__}, expected a dict of tensors")
    return dict(content)


def tensors_of(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The named tensors, also if nested under one of BOXES. Raises WeightsError if there are none."""
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
            raise WeightsError(f"{path}: rejected: {key} has shape {tuple(value.shape)}, more than the file's values")
    if not tensors:
        keys = ", ".join(str(key) for key in list(content)[:5]) or "nothing"
        raise WeightsError(
            f"{path}: no tensors found under 'state_dict', under 'model' or at the top level; it contains {keys}"
        )
    return tensors


def _refusal(path: Path, error: BaseException) -> str:
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    if not is_about_the_file(error):
        return reason(error)
    if not asked:
        return f"not a weights file written by torch, or truncated{instead(path, ZIP, PICKLE)}"
    return (
        f"rejected: it wants to call '{asked[1]}', which tensors do not need. If you trust the file's author, save only"
        " its tensors, in the environment where the file was made:\n"
        f"  import torch; c = torch.load({str(path)!r}, map_location='cpu', weights_only=False)\n"
        "  torch.save({'state_dict': c.get('state_dict', c.get('model', c))}, 'tensors.pth')"
    )
