"""Import complete models of the study, mmhuman3d and SPIN."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from hmrb.lookup import find
from hmrb.models.backbones import backbone_name
from hmrb.models.foreign import THEIRS, components_of, recognise, renamed
from hmrb.models.hmr import build_model
from hmrb.models.methods import METHODS
from hmrb.models.methods.released import read_released, recognise_released
from hmrb.models.weight_files import BOXES, WeightsError, read_weights, tensors_of
from hmrb.models.weights import fit
from hmrb.spec import HeadSpec, ModelSpec


@dataclass(frozen=True, slots=True)
class Imported:
    """An imported model: the spec's model section, renamed tensors, the file's origin, a report on every tensor."""

    spec: ModelSpec
    arrays: dict[str, Tensor]
    made_by: str
    report: str
    body: str = "smpl"
    family: str = ""
    """The model zoo's family whose licence the file is under, if the layout tells it."""


def import_model(path: Path, kind: str | None = None, backbone: str | None = None) -> Imported:
    """Read a foreign checkpoint. `kind` and `backbone` are what the user expects; with None the file determines them.

    Raises WeightsError (exit 2) with the reason if the file cannot be imported, and an alternative if there is one.
    """
    wanted = find("kind of checkpoint", kind, KINDS) if kind else ""
    content = read_weights(path)
    if {"format", "spec", "model"} <= content.keys():
        raise WeightsError(f"{path}: already an hmrb checkpoint; pass it to hmrb eval directly")
    tensors = tensors_of(content, path)
    if released := recognise_released(tensors):
        if wanted not in ("", released.fields["method"]):
            raise WeightsError(f"{path}: looks like a file of {released.title}, not of {kind}; omit --as")
        if backbone and backbone_name(backbone) != released.fields["backbone"]:
            raise WeightsError(f"{path}: its backbone is '{released.fields['backbone']}', not '{backbone}'")
        spec, arrays, report = read_released(released, tensors, path)
        return Imported(spec, arrays, released.title, report, released.body, released.family)
    parts = components_of(tensors)
    if parts.kind not in MADE_BY:
        raise WeightsError(f"{path}: {_no_model(parts.backbone, parts.rest)}")
    if wanted not in ("", parts.kind):
        raise WeightsError(f"{path}: looks like a checkpoint of {MADE_BY[parts.kind]}, not of {kind}; omit --as")
    if unknown := {group: count for group, count in parts.rest.items() if group not in DROPPED}:
        listed = ", ".join(f"{group} ({count} tensors)" for group, count in unknown.items())
        raise WeightsError(f"{path}: another method's checkpoint; an HMR model does not have these parts: {listed}")
    name = recognise(parts.backbone)
    if name is None:
        raise WeightsError(f"{path}: unknown backbone (judging by tensor shapes); known: {', '.join(THEIRS)}")
    if backbone and backbone_name(backbone) != name:
        raise WeightsError(f"{path}: its backbone is '{name}' (judging by tensor shapes), not '{backbone}'")
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
            "contains no body regressor, only a pose network or a backbone. To train from it, set"
            f" {section}model.weights: PATH in a spec"
        )
    has = ", ".join([*rest, *sorted({key.split(".")[0] for key in backbone})][:6])
    return f"not a checkpoint of the study, mmhuman3d or SPIN (no backbone with HMR regressor); it contains {has}"


ODD = ("hrnet_w32", "vit_b16", "swin_t", "twins_svt_b", "twins_pcpvt_b")  # their study features differ from mean
MADE_BY = {"hmr": "the study or mmhuman3d (their files look alike)", "spin": "SPIN"}
KINDS = {
    "study": "hmr", "mmhuman3d": "hmr", "spin": "spin", "mmpose": "network",
    **{name: name for name in METHODS if name != "hmr"},
}  # fmt: skip
DROPPED = {
    "disc": "the discriminator; hmrb trains its own",
    "body_model_train": "SMPL's buffers; hmrb reads the body's own files",
    "body_model_test": "SMPL's buffers; hmrb reads the body's own files",
    "ema_*": "second copy of averaged weights; end-of-epoch files store the average under the plain names",
    "final_layer": "a layer of the study's model that it does not run",
    "relative_position_index": "positions that the network computes itself",
    "classifier": "a classifier that the model does not run",
}
