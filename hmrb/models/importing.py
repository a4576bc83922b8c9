"""A whole model of the study, of mmhuman3d or of SPIN as a model of ours."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from hmrb.lookup import find
from hmrb.models.backbones import backbone_name
from hmrb.models.foreign import THEIRS, components_of, recognise, renamed
from hmrb.models.hmr import build_model
from hmrb.models.weight_files import BOXES, WeightsError, read_weights, tensors_of
from hmrb.models.weights import fit
from hmrb.spec import HeadSpec, ModelSpec


@dataclass(frozen=True, slots=True)
class Imported:
    """A model's section of a spec, its arrays under our names, whose file it was, and what became of every array."""

    spec: ModelSpec
    arrays: dict[str, Tensor]
    made_by: str
    report: str


def import_model(path: Path, kind: str | None = None, backbone: str | None = None) -> Imported:
    """Reads a file of theirs; `kind` and `backbone` are what it is said to be, None leaves it to the file.

    Raises WeightsError (exit 2) with why it can't be imported, and the way that is open instead.
    """
    wanted = find("kind of checkpoint", kind, KINDS) if kind else ""
    content = read_weights(path)
    if {"format", "spec", "model"} <= content.keys():
        raise WeightsError(f"{path}: a checkpoint of hmrb already; hmrb eval takes it as it is")
    parts = components_of(tensors_of(content, path))
    if parts.kind not in MADE_BY:
        raise WeightsError(f"{path}: {_no_model(parts.backbone, parts.rest)}")
    if wanted not in ("", parts.kind):
        raise WeightsError(f"{path}: looks like a checkpoint of {MADE_BY[parts.kind]}, not of {kind}; leave --as out")
    if unknown := {group: count for group, count in parts.rest.items() if group not in DROPPED}:
        told = ", ".join(f"{group} ({count} arrays)" for group, count in unknown.items())
        raise WeightsError(f"{path}: has parts that an HMR model has not: {told}; another method's checkpoint")
    name = recognise(parts.backbone)
    if name is None:
        raise WeightsError(f"{path}: its backbone is none of {', '.join(THEIRS)} (by the shapes of its arrays)")
    if backbone and backbone_name(backbone) != name:
        raise WeightsError(f"{path}: its backbone is '{name}' by the shapes of its arrays, not '{backbone}'")
    hidden = max(1, *parts.head["decpose.weight"].shape[-1:])
    features = "study" if name in ODD else "mean"
    spec = ModelSpec.model_validate(
        {"backbone": name, "weights": "none", "features": features, "head": HeadSpec(hidden=hidden)}
    )
    arrays, dropped = renamed(name, parts.backbone)
    if extra := [key for key in arrays if key.startswith(("network.fc.", "network.head.", "network.classifier."))]:
        dropped["classifier"] += len(extra)
        arrays = {key: value for key, value in arrays.items() if key not in extra}
    model = build_model(spec)
    used = {
        "backbone": fit(model.backbone, arrays, (), str(path)),
        "head": fit(model.head, parts.head, (), str(path)),
    }
    lines = [f"{path}: HMR of {MADE_BY[parts.kind]}, backbone {name}, features {features}"]
    lines += [f"  used     {fitted.used:5d}  {part}" for part, fitted in used.items()]
    lines += [f"  dropped  {n:5d}  {group}: {DROPPED[group]}" for group, n in sorted((parts.rest + dropped).items())]
    if boxes := [key for key in content if key in BOXES]:
        beside = [str(key) for key in content if key not in boxes]
        lines += [f"  not read        {', '.join(beside)}"] if beside else []
    return Imported(spec, model.state_dict(), MADE_BY[parts.kind], "\n".join(lines))


def _no_model(backbone: dict[str, Tensor], rest: Counter[str]) -> str:
    known = recognise(backbone)
    if known or "keypoint_head" in rest:
        section = f"model.backbone: {known} and " if known else ""
        return (
            "no body regressor in it: a pose network or a backbone alone, no model. To train from it, say"
            f" {section}model.weights: its path in a spec"
        )
    has = ", ".join([*rest, *sorted({key.split(".")[0] for key in backbone})][:6])
    return f"no checkpoint of the study, mmhuman3d or SPIN (no backbone and HMR regressor in it); it has {has}"


ODD = ("hrnet_w32", "vit_b16", "swin_t", "twins_svt_b", "twins_pcpvt_b")  # where features mean is something else
MADE_BY = {"hmr": "the study or mmhuman3d (their files look alike)", "spin": "SPIN"}
KINDS = {"study": "hmr", "mmhuman3d": "hmr", "spin": "spin", "mmpose": "network"}
DROPPED = {
    "disc": "the discriminator; hmrb trains its own",
    "body_model_train": "SMPL's buffers; hmrb reads the body's own files",
    "body_model_test": "SMPL's buffers; hmrb reads the body's own files",
    "ema_*": "the other copy of averaged weights; a file of an epoch's end has the average under the plain names",
    "final_layer": "a layer that the study's model has and does not run",
    "relative_position_index": "positions that the network makes itself",
    "classifier": "a classifier that the model does not run",
}
