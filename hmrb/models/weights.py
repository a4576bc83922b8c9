"""Initial weights of a backbone: none, ImageNet, a pose network or a file; reports tensors that do not fit."""

import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from hmrb.errors import RequestError
from hmrb.models.backbones import BACKBONES, Backbone, Features, backbone_name, find_backbone, network_args, seen_px
from hmrb.models.foreign import State, components_of, recognise, renamed
from hmrb.models.hub import NoAnswer, asking
from hmrb.models.weight_files import WeightsError, read_weights, tensors_of
from hmrb.needs import POSE, pose_file, weights_need, weights_path
from hmrb.spec import ModelSpec
from hmrb.store import Store

STUDY_POSE = {"resnet50": "resnet50", "hrnet_w32": "hrnet", "twins_svt_b": "twins_svt"}  # names in the study's files


@dataclass(frozen=True, slots=True)
class Fit:
    """Numbers of tensors: used from a file, dropped from it, and missing in it, the latter two by module."""

    used: int
    dropped: Counter[str]
    fresh: Counter[str]

    def __str__(self) -> str:
        text = f"{self.used} tensors used"
        for verb, counts in (("unused", self.dropped), ("left as initialised", self.fresh)):
            if counts:
                text += f"; {verb}: {', '.join(f'{name} ({count})' for name, count in sorted(counts.items()))}"
        return text


def initialise(backbone: Features, spec: ModelSpec, store: Store) -> str:
    """Load the weights that a spec requests into a new backbone; returns a one-line report.

    Raises RequestError if they are not available or do not fit.
    """
    if spec.weights == "none":
        return ""
    name, row = backbone_name(spec.backbone), find_backbone(spec.backbone)
    path = _file(name, row, spec, store)
    if path is None:
        fitted = fit(backbone, _from_timm(row, spec, store), row.optional, row.timm_name)
        return f"weights: timm's {row.timm_name}: {fitted}"
    tensors, dropped = _features_state(path, name, row, backbone)
    classifiers = getattr(backbone.network, "pretrained_cfg", {"classifier": None})["classifier"]
    heads = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers or ())
    fitted = fit(backbone, tensors, (*row.optional, *(f"network.{head}." for head in heads)), str(path))
    return f"weights: {path}: {Fit(fitted.used, fitted.dropped + dropped, fitted.fresh)}"


def initialise_all(backbone: Features, head: nn.Module, spec: ModelSpec, store: Store) -> str:
    """Load a checkpoint into a whole new model; returns and raises as `initialise`."""
    path = _file(backbone_name(spec.backbone), find_backbone(spec.backbone), spec, store)
    assert path is not None  # the spec refuses imagenet
    parts = components_of(tensors_of(read_weights(path), path))
    if parts.kind != "hmrb" or not parts.head:
        raise WeightsError(
            f"{path}: model.start: all needs a checkpoint of hmrb; hmrb import-checkpoint makes one of other programs'"
        )
    fitted = fit(backbone, parts.backbone, (), f"{path}: the backbone")
    of_head = fit(head, parts.head, (), f"{path}: the head")
    return f"weights: {path}: all of the model: {fitted.used} tensors of the backbone, {of_head.used} of the head"


def fit(module: nn.Module, arrays: Mapping[str, Tensor], optional: tuple[str, ...], label: str) -> Fit:
    """Load tensors into a module. Raises WeightsError if names or shapes differ outside the `optional` parts."""
    want = module.state_dict()
    unused = [key for key in arrays if key not in want]
    # Old versions of torch do not save num_batches_tracked.
    absent = [key for key in want if key not in arrays and not key.endswith("num_batches_tracked")]
    problems = [
        _few([key for key in unused if not key.startswith(optional)], "not in the model"),
        _few([key for key in absent if not key.startswith(optional)], "missing in the file"),
        _few(
            [
                f"{key} {tuple(arrays[key].shape)}, expected {tuple(value.shape)}"
                for key, value in want.items()
                if key in arrays and arrays[key].shape != value.shape
            ],
            "with a wrong shape",
        ),
    ]
    if any(problems):
        raise WeightsError(f"{label}: does not fit: {'; '.join(filter(None, problems))}")
    module.load_state_dict({**want, **{key: arrays[key] for key in want if key in arrays}})
    return Fit(sum(key in want for key in arrays), _count(unused), _count(absent))


def _file(name: str, row: Backbone, spec: ModelSpec, store: Store) -> Path | None:
    """The weights file; None if timm has to fetch the weights."""
    if spec.weights == "imagenet" and not row.pretrained:
        raise RequestError(f"backbone '{spec.backbone}' has no ImageNet weights; set model.weights to none")
    found = weights_path(name, spec.weights, store)
    if found or spec.weights == "imagenet":
        return found
    if spec.weights in POSE:
        theirs = f"{STUDY_POSE.get(name)}_{spec.weights}_pose.pth"
        study = f", or {theirs} of the study's configs/pretrained-backbones/README.md" if name in STUDY_POSE else ""
        message = (
            f"model.weights: {spec.weights} needs {pose_file(name, spec.weights, store)}, which does not exist. Get a"
            f" network with backbone '{name}' trained on {POSE[spec.weights]} (from mmpose's model zoo{study}) and put"
            " it there; or set model.weights to the path of a file"
        )
    else:
        message = (
            f"model.weights: no file {Path(spec.weights).expanduser()}, neither in the current directory nor in"
            f" {store.weights}; use none, imagenet, mpii, coco, or the path of a checkpoint or state dict"
        )
    raise RequestError(message, [weights_need(name, spec.weights, store)])


def _from_timm(row: Backbone, spec: ModelSpec, store: Store) -> State:
    """ImageNet weights from timm's cache, or downloaded by timm."""
    import timm

    need = replace(weights_need(row.timm_name, "imagenet", store), is_automatic=False)
    advice = (
        "Download them once with network access (timm caches them in $HF_HOME), or put the file at"
        f" {store.weights / row.timm_name}.safetensors, or set model.weights to none"
    )
    config = timm.models.get_pretrained_cfg(row.timm_name)
    try:
        with asking(row.timm_name, on_hub=bool(config and config.hf_hub_id)):
            donor = timm.create_model(row.timm_name, pretrained=True, **network_args(row, *seen_px(spec)))
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        kind = "" if isinstance(error, NoAnswer) else f"{type(error).__name__}: "
        raise RequestError(
            f"timm could not load the ImageNet weights of '{row.timm_name}' ({kind}{reason}). {advice}", [need]
        ) from None
    return {f"network.{key}": value for key, value in donor.state_dict().items()}


def _features_state(path: Path, name: str, row: Backbone, backbone: Features) -> tuple[State, Counter[str]]:
    """A file's backbone tensors under the names in `Features`, and the number of its other tensors by group."""
    parts = components_of(tensors_of(read_weights(path), path))
    rest = parts.rest + Counter({"head": len(parts.head)} if parts.head else {})
    theirs = recognise({key.removeprefix("network."): value for key, value in parts.backbone.items()})
    if theirs and _architecture(BACKBONES[theirs]) != _architecture(row):
        raise WeightsError(
            f"{path}: weights of backbone '{theirs}', but the model has '{name}'; set model.backbone to {theirs}"
        )
    if parts.kind == "hmrb":
        return parts.backbone, rest
    if theirs is None:
        return _in_timm_names(parts.backbone, backbone.network), rest
    arrays, dropped = renamed(theirs, parts.backbone)
    return arrays, rest + dropped


def _in_timm_names(arrays: State, network: nn.Module) -> State:
    """Tensors under timm's names: unchanged if they fit, else converted by timm's filter for the authors' files."""
    want = network.state_dict()
    fits = all(key in arrays and arrays[key].shape == value.shape for key, value in want.items())
    fits &= "mask_token" not in arrays  # of DINOv2's own files, which may differ in this alone
    turn = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if turn and not fits:
        # The filter fails on another network's file; `fit` then reports the names that do not match.
        with suppress(KeyError, IndexError, AttributeError, RuntimeError, ValueError):
            arrays = turn(arrays, network)
    return {f"network.{key}": value for key, value in arrays.items()}


def _architecture(row: Backbone) -> str:
    return row.timm_name.partition(".")[0]


def _count(keys: list[str]) -> Counter[str]:
    return Counter(key.removeprefix("network.").split(".")[0] for key in keys)


def _few(keys: list[str], what: str) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{len(keys)} {what} ({', '.join(keys[:3])}{more})" if keys else ""
