"""A network ready to predict: its checkpoint, device, precision, crop rule, and the body that poses its people."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from hmrb.batch import Conditioning, Prediction
from hmrb.body import SMPL, load_body
from hmrb.body.official import BodyError
from hmrb.bodykind import kind_of
from hmrb.checkpoint import UNKNOWN_BODY, Checkpoint, load_checkpoint, load_weights_into
from hmrb.data.loader import normalised
from hmrb.errors import RequestError
from hmrb.finding import find_model
from hmrb.lookup import find
from hmrb.models.crops import CropRule
from hmrb.models.fov import fov_file, letterboxed, load_field_of_view
from hmrb.models.hmr import HMR, build_model, computing_in
from hmrb.plugins import check_packages
from hmrb.spec import Precision
from hmrb.store import Store

FocalSeer = Callable[[UInt8[np.ndarray, "H W 3"]], float | None]
"""Estimates a picture's focal length in px from its RGB pixels; None if it cannot."""
PRECISIONS: dict[str, Precision] = {"fp32": "fp32", "bf16": "bf16", "fp16": "fp16"}


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A model in evaluation mode. `body` is None if its files are not here; `notes` then says so."""

    path: Path
    checkpoint: Checkpoint
    """Its weights are in `model` alone."""
    model: HMR
    body_name: str
    body: SMPL | None
    device: torch.device
    precision: Precision
    notes: tuple[str, ...] = ()
    see_focal: FocalSeer | None = None
    """The method's own estimate where nobody knows a picture's camera (CameraHMR's network of fields of view); None if
    the method has none, or its weights are not here."""
    lacks_focal: str = ""
    """Why a picture whose camera nobody knows cannot be predicted, for a method that has no rule for it."""

    @property
    def name(self) -> str:
        """The run's folder and the file's name."""
        return f"{self.path.absolute().parent.name}/{self.path.name}"

    @property
    def rule(self) -> CropRule:
        """How the model's crop is cut out of a picture."""
        return self.model.crop_rule

    @torch.inference_mode()
    def regress(self, crops: Sequence[UInt8[np.ndarray, "S S 3"]], conditioning: Conditioning) -> Prediction:
        """Predict the people of RGB crops, together; the result is on the CPU."""
        # The layout and arithmetic of evaluation, so that both give the same numbers.
        image = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).to(self.device)
        image = normalised(image).contiguous(memory_format=torch.channels_last)
        there = Conditioning(*(getattr(conditioning, name).to(self.device) for name in Conditioning.__slots__))
        with computing_in(self.precision, self.device):
            found = self.model.infer(image, there)
        rotmats, betas, camera = (part.float().cpu() for part in found.tensors)
        return Prediction(rotmats, betas, camera)


def load_network(
    word: str | Path, device: str = "auto", precision: str = "fp32", store: Store | None = None
) -> Network:
    """The network of a run, a checkpoint, another project's file or a name of the model zoo. Raises RequestError.

    Without the body's licensed files it predicts parameters only; a body other than the checkpoint's is refused.
    """
    store = store or Store.default()
    chosen, half = device_named(device), find("precision", precision, PRECISIONS)
    notes: list[str] = []
    path = find_model(word, store, notes.append)
    checkpoint = load_checkpoint(path)
    experiment = checkpoint.experiment()
    check_packages(experiment.packages, str(path))
    body: SMPL | None = None
    try:
        body = load_body(experiment.body, store=store)
    except BodyError as error:
        notes.append(f"{error}\nwithout this body: parameters only, no meshes, joints and overlays")
    if body is not None and checkpoint.body["sha"] not in (body.sha, UNKNOWN_BODY):
        raise RequestError(
            f"the checkpoint was trained with body '{checkpoint.body['name']}' {checkpoint.body['sha']}, but the body"
            f" here is {body.sha}; its people would be posed with another body"
        )
    spec = experiment.model.model_copy(update={"weights": "none"})
    model = build_model(spec, store, kind_of(experiment.body)).to(chosen)
    if half != "fp32":  # half precision is fast in this layout alone
        model = model.to(memory_format=torch.channels_last)
    load_weights_into(model, checkpoint, str(path))
    model.eval()
    kept = replace(checkpoint, model={}, training={"knobs": checkpoint.training.get("knobs", {})})
    see_focal, lacks_focal = _focal_seer(experiment.model.method, store, chosen)
    return Network(path, kept, model, experiment.body, body, chosen, half, tuple(notes), see_focal, lacks_focal)


def _focal_seer(method: str, store: Store, device: torch.device) -> tuple[FocalSeer | None, str]:
    """The method's estimate of a focal length, or why it has none here."""
    if method != "camerahmr":
        return None, ""
    path = fov_file(store)
    if not path.is_file():
        return None, (
            f"method camerahmr needs the picture's camera: say --focal or --fov, or put its network for the field of"
            f" view at {path}"
        )
    network = load_field_of_view(path).to(device)

    @torch.inference_mode()
    def see(picture: UInt8[np.ndarray, "H W 3"]) -> float:
        image = torch.from_numpy(letterboxed(picture)).permute(2, 0, 1)[None].to(device)
        return float(network.focal_px(normalised(image), torch.tensor([float(len(picture))], device=device)))

    return see, ""


def device_named(name: str) -> torch.device:
    """`auto`: the GPU if there is one; or cpu, cuda, cuda:1. Raises RequestError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if kind not in ("cpu", "cuda") or not re.fullmatch("[0-9]{0,4}", number) or int(number or 0) >= count:
        raise RequestError(
            f"--device {name}: not here; this machine has cpu and {torch.cuda.device_count()} GPUs; say auto, cpu, cuda"
            " or cuda:1"
        )
    return torch.device(name)
