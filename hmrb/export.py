"""Exports a checkpoint as ONNX or as a torch.export program, compared with torch before it is written.

The input is `image`, normalised RGB crops; a file's metadata says how to make them, and where the weights are from.
"""

import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hmrb.body import SMPL, load_body
from hmrb.bodykind import kind_of
from hmrb.checkpoint import UNKNOWN_BODY, Checkpoint, load_checkpoint, load_weights_into
from hmrb.data.loader import IMAGENET_MEAN, IMAGENET_STD, normalised
from hmrb.errors import RequestError, RunError
from hmrb.formats.files import reason, sha256_of, system_error
from hmrb.formats.optional import needed
from hmrb.formats.writing import replacing
from hmrb.models.hmr import HMR, build_model
from hmrb.plugins import check_packages
from hmrb.store import Store

OPSET = 18  # the first with which torch's exporter translates every operator of the models here
BATCHES = (1, 3)  # people per comparison: the batch must stay free
TOLERANCE = 1e-4
"""Largest difference from torch, as a share of an output's largest value (at least 1): some hundred times what the
order of fp32 sums changes. Of a vertex, 0.1 mm."""
MOST_BYTES = 2**31 - 1  # protobuf's limit of a file
INSTALL = "'hmrb[export]'"
OF_BODY = ("rotmats", "betas", "camera")
OF_MESH = ("vertices", "joints")


class Exported(nn.Module):
    """A model with tensors as outputs: rotmats, betas, camera; with a body also vertices and kinematic joints."""

    def __init__(self, model: HMR, body: SMPL | None) -> None:
        super().__init__()
        self.model, self.body = model, body

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, ...]:
        """Predict people in normalised RGB crops."""
        found = self.model(image)
        if self.body is None:
            return found.rotmats, found.betas, found.camera
        mesh = self.body(found.rotmats, found.betas)
        return found.rotmats, found.betas, found.camera, mesh.vertices, mesh.chain


@dataclass(frozen=True, slots=True)
class Report:
    """What was written: the largest difference from torch by output, the shapes (B: any number of people), opset."""

    path: Path
    shapes: dict[str, tuple[int | str, ...]]
    differences: dict[str, float]
    opset: int | None
    metadata: dict[str, str]

    def record(self) -> dict[str, Any]:
        """The report for programs."""
        return asdict(self) | {"path": str(self.path), "bytes": self.path.stat().st_size}

    def lines(self) -> list[str]:
        """The report in words."""
        opset = f"ONNX opset {self.opset}" if self.opset else f"torch.export, torch {torch.__version__}"
        said = [f"{self.path}: {self.path.stat().st_size / 1e6:.1f} MB, {opset}, fp32"]
        for name, shape in self.shapes.items():
            gap = f"  largest difference from torch {self.differences[name]:.1e}" if name in self.differences else ""
            said.append(f"  {name:9s} {'x'.join(map(str, shape)):12s}{gap}")
        count = ", ".join(map(str, BATCHES))
        return [*said, f"  compared on {count} random pictures; allowed: {TOLERANCE:g} of an output's largest value"]


def export_checkpoint(path: Path, out: Path, store: Store, with_body: bool = False) -> Report:
    """Write a checkpoint's model to `out`, a .onnx or .pt2; `with_body` adds the neutral body that it was trained with.

    Raises RequestError if something is missing or wrong, RunError if the export differs from torch or cannot be
    written; `out` then stays as it was.
    """
    kinds = {".onnx": _as_onnx, ".pt2": _as_program}
    if out.suffix not in kinds:
        raise RequestError(f"{out}: the name must end in {' or '.join(kinds)}, which says the format")
    if not out.parent.is_dir():
        raise RequestError(f"{out}: no such folder: {out.parent}")
    if out.suffix == ".onnx":
        for module in ("onnx", "onnxscript", "onnxruntime"):
            needed(module, INSTALL, "to export to ONNX and compare with torch")
    checkpoint = load_checkpoint(path)
    model, px = _exportable(checkpoint, path, store, with_body), checkpoint.experiment().model.image_px
    names = OF_BODY + (OF_MESH if with_body else ())
    metadata = _metadata(checkpoint, path, model, names)
    try:
        with replacing(out) as part:
            # The exporters want the suffix.
            draft = part.with_suffix(out.suffix)
            try:
                run = kinds[out.suffix](model, px, names, metadata, draft)
                shapes, differences = _compared(model, run, px, names)
                draft.replace(part)
            finally:
                draft.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
        found = system_error(error)
        said = reason(found) if found else f"torch cannot export this model: {str(error).strip().splitlines()[0]}"
        raise RunError(f"{out}: not written: {said}") from None
    return Report(out, shapes, differences, OPSET if out.suffix == ".onnx" else None, metadata)


def _exportable(checkpoint: Checkpoint, path: Path, store: Store, with_body: bool) -> Exported:
    experiment = checkpoint.experiment()
    check_packages(experiment.packages, str(path))
    if experiment.model.needs_place:
        raise RequestError(
            f"{path}: method {experiment.model.method} looks at the crop's place in the picture; hmrb exports only"
            " models that look at the crop alone"
        )
    body = load_body(experiment.body, store=store) if with_body else None
    trained = checkpoint.body["sha"]
    if body is not None and trained not in (body.sha, UNKNOWN_BODY):
        raise RequestError(
            f"--body: {path} was trained with body '{experiment.body}' {trained}, the one here is {body.sha} and would"
            " pose its people wrongly; export without --body"
        )
    model = build_model(experiment.model.model_copy(update={"weights": "none"}), store, kind_of(experiment.body))
    load_weights_into(model, checkpoint, str(path))
    for module in model.modules():
        if hasattr(module, "fused_attn"):  # timm's; the exporter has no translation of the fused operator
            module.fused_attn = False  # type: ignore[assignment]
    return Exported(model, body).eval().requires_grad_(False)


def _metadata(checkpoint: Checkpoint, path: Path, model: Exported, names: tuple[str, ...]) -> dict[str, str]:
    """Everything that a user of the file needs to make its input and to read its outputs."""
    experiment = checkpoint.experiment()
    px = experiment.model.image_px
    said = {
        "input": f"image: float32 [B, 3, {px}, {px}], RGB from 0 to 1, minus mean, divided by std",
        "mean": json.dumps([round(value / 255, 6) for value in IMAGENET_MEAN]),
        "std": json.dumps([round(value / 255, 6) for value in IMAGENET_STD]),
        "crop": f"a square around the person's box, 1.2 times its longer side wide, scaled to {px} px",
        "outputs": ", ".join(names),
        "rotmats": "float32 [B, J, 3, 3], relative to the parent joint; the first is the root in the camera's axes",
        "betas": "float32 [B, 10], shape of the body",
        "camera": "float32 [B, 3], weak perspective in the crop: scale, x, y; z is 2 * 5000 / (image_px * scale) m",
        "body": experiment.body,
        "spec": experiment.name,
        "spec_hash": experiment.sha(),
        "checkpoint_sha256": sha256_of(path)[:16],
        "made_by": f"hmrb {checkpoint.code_version}, torch {torch.__version__}",
        "licence": "as the weights': those of imported checkpoints and of training data may forbid commercial use",
    }
    if model.body is not None:
        said |= {
            "vertices": f"float32 [B, {model.body.num_vertices}, 3], metres, camera axes, before translation",
            "joints": f"float32 [B, {len(model.body.parents)}, 3], the kinematic joints, as the vertices",
            "body_sha": model.body.sha,
            "body_licence": "CC0, part of hmrb"
            if experiment.body == "open"
            else "the file holds the licensed body: do not pass it on without its owner's permission",
        }
    return said


Predict = Callable[[Tensor], tuple[Tensor, ...]]


def _program(model: Exported, px: int) -> Any:
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(model, (torch.zeros(2, 3, px, px),), dynamic_shapes=({0: batch},))


def _as_program(model: Exported, px: int, names: tuple[str, ...], metadata: dict[str, str], draft: Path) -> Predict:
    whole = io.BytesIO()  # torch's writer of files ends the process where a disk fails
    torch.export.save(_program(model, px), whole, extra_files={"hmrb.json": json.dumps(metadata)})
    draft.write_bytes(whole.getbuffer())
    content = io.BytesIO(draft.read_bytes())  # of a file that it cannot read, torch logs a traceback, not the reason
    loaded: Predict = torch.export.load(content).module()
    return loaded


def _as_onnx(model: Exported, px: int, names: tuple[str, ...], metadata: dict[str, str], draft: Path) -> Predict:
    import onnxruntime

    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if size > MOST_BYTES:
        raise RequestError(f"the model has {size / 1e9:.1f} GB, an ONNX file at most 2.1; export it as .pt2")
    made = torch.onnx.export(
        _program(model, px), dynamo=True, input_names=["image"], output_names=list(names), opset_version=OPSET,
        verbose=False,
    )  # fmt: skip
    assert made is not None
    made.model.metadata_props.update(metadata)
    made.save(draft, external_data=False)
    session = onnxruntime.InferenceSession(draft, providers=["CPUExecutionProvider"])
    return lambda image: tuple(map(torch.from_numpy, session.run(list(names), {"image": image.numpy()})))


def _compared(
    model: Exported, run: Predict, px: int, names: tuple[str, ...]
) -> tuple[dict[str, tuple[int | str, ...]], dict[str, float]]:
    """Shapes and largest differences on random pictures. Raises RunError if one is too large."""
    rng = np.random.default_rng(0)
    differences = dict.fromkeys(names, 0.0)
    shapes: dict[str, tuple[int | str, ...]] = {"image": ("B", 3, px, px)}
    for count in BATCHES:
        image = normalised(torch.from_numpy(rng.integers(0, 256, (count, 3, px, px), np.uint8)))
        with torch.inference_mode():
            wanted, got = model(image), run(image)
        for name, want, have in zip(names, wanted, got, strict=True):
            gap = float((want - have).abs().max())
            allowed = TOLERANCE * max(1.0, float(want.abs().max()))
            if not gap <= allowed:
                raise RunError(f"not written: {name} differs from torch by {gap:.1e}, allowed are {allowed:.1e}")
            differences[name], shapes[name] = max(differences[name], gap), ("B", *want.shape[1:])
    return shapes, differences
