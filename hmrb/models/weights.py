"""Where a backbone's weights come from: nowhere, ImageNet, a pose network, a file. What does not fit is said."""

import logging
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import timm
from torch import Tensor, nn

from hmrb.errors import RequestError
from hmrb.models.backbones import BACKBONES, Backbone, Features, backbone_name, find_backbone, network_args
from hmrb.models.foreign import State, components_of, recognise, renamed
from hmrb.models.weight_files import WeightsError, read_weights, tensors_of
from hmrb.spec import ModelSpec
from hmrb.store import Store

SUFFIXES = (".safetensors", ".pth", ".bin")
POSE = {"mpii": "MPII", "coco": "COCO"}
STUDY_POSE = {"resnet50": "resnet50", "hrnet_w32": "hrnet", "twins_svt_b": "twins_svt"}  # its files' names


@dataclass(frozen=True, slots=True)
class Fit:
    """How many arrays of a file found their place, found none, and how many of the module's the file has not."""

    used: int
    dropped: Counter[str]
    fresh: Counter[str]

    def __str__(self) -> str:
        told = f"{self.used} arrays used"
        for verb, counts in (("no use for", self.dropped), ("left as initialised", self.fresh)):
            if counts:
                told += f"; {verb}: {', '.join(f'{name} ({count})' for name, count in sorted(counts.items()))}"
        return told


def initialise(backbone: Features, spec: ModelSpec, store: Store) -> str:
    """Loads the weights that a spec asks for into a new backbone; gives a line that says what was used.

    Raises RequestError where they are not to be had, or don't fit.
    """
    if spec.weights == "none":
        return ""
    name, row = backbone_name(spec.backbone), find_backbone(spec.backbone)
    path = _file(name, row, spec, store)
    if path is None:
        fitted = fit(backbone, _from_timm(row, spec), row.optional, row.timm_name)
        return f"weights: timm's {row.timm_name}: {fitted}"
    tensors, dropped = _features_state(path, name, row, backbone)
    classifiers = backbone.network.pretrained_cfg["classifier"]  # type: ignore[index]
    heads = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers or ())
    fitted = fit(backbone, tensors, (*row.optional, *(f"network.{head}." for head in heads)), str(path))
    return f"weights: {path}: {Fit(fitted.used, fitted.dropped + dropped, fitted.fresh)}"


def fit(module: nn.Module, arrays: Mapping[str, Tensor], optional: tuple[str, ...], label: str) -> Fit:
    """Loads arrays into a module. Raises WeightsError where names or shapes differ outside the `optional` parts."""
    want = module.state_dict()
    unused = [key for key in arrays if key not in want]
    absent = [key for key in want if key not in arrays and not key.endswith("num_batches_tracked")]  # an old torch's
    problems = [
        _few([key for key in unused if not key.startswith(optional)], "match nothing in the model"),
        _few([key for key in absent if not key.startswith(optional)], "of the model are not in it"),
        _few(
            [
                f"{key} {tuple(arrays[key].shape)}, the model's {tuple(value.shape)}"
                for key, value in want.items()
                if key in arrays and arrays[key].shape != value.shape
            ],
            "have another shape",
        ),
    ]
    if any(problems):
        raise WeightsError(f"{label}: does not fit: {'; '.join(filter(None, problems))}")
    module.load_state_dict({**want, **{key: arrays[key] for key in want if key in arrays}})
    return Fit(sum(key in want for key in arrays), _count(unused), _count(absent))


def _file(name: str, row: Backbone, spec: ModelSpec, store: Store) -> Path | None:
    """The file that holds the weights; None where they are timm's to fetch."""
    if spec.weights == "imagenet":
        if not row.pretrained:
            raise RequestError(f"backbone '{spec.backbone}' has no ImageNet weights; set model.weights to none")
        ours = (store.weights / f"{row.timm_name}{suffix}" for suffix in SUFFIXES)
        return next((path for path in ours if path.is_file()), None)
    if spec.weights in POSE:
        path = store.weights / f"{name}_{spec.weights}.pth"
        if not path.is_file():
            theirs = f"{STUDY_POSE.get(name)}_{spec.weights}_pose.pth"
            study = f", or {theirs} of the study's configs/pretrained-backbones/README.md" if name in STUDY_POSE else ""
            raise RequestError(
                f"model.weights: {spec.weights} needs {path}, and it is not there. Get a network with backbone"
                f" '{name}' trained on {POSE[spec.weights]} (from mmpose's model zoo{study}) and put it there; or give"
                " the path of a file in model.weights"
            )
        return path
    path = Path(spec.weights).expanduser()
    found = next((file for file in (path, store.weights / path) if file.is_file()), None)
    if found is None:
        raise RequestError(
            f"model.weights: no file {path}, here or in {store.weights}; it is none, imagenet, mpii, coco, or a"
            " checkpoint's or state dict's path"
        )
    return found


def _from_timm(row: Backbone, spec: ModelSpec) -> State:
    """ImageNet weights out of timm's cache, else from where timm fetches them."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells each retry; we tell how it ended
    try:
        donor = timm.create_model(row.timm_name, pretrained=True, **network_args(row, spec.image_px))
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise RequestError(
            f"timm could not get the ImageNet weights of '{row.timm_name}' ({type(error).__name__}: {reason})."
            f" Fetch them once where there is a network (they stay in its cache, $HF_HOME), or put its file at"
            f" $HMRB_HOME/weights/{row.timm_name}.safetensors, or set model.weights to none"
        ) from None
    return {f"network.{key}": value for key, value in donor.state_dict().items()}


def _features_state(path: Path, name: str, row: Backbone, backbone: Features) -> tuple[State, Counter[str]]:
    """A file's arrays under the names of our `Features`, and how many it has of parts that are no backbone."""
    parts = components_of(tensors_of(read_weights(path), path))
    rest = parts.rest + Counter({"head": len(parts.head)} if parts.head else {})
    theirs = recognise({key.removeprefix("network."): value for key, value in parts.backbone.items()})
    if theirs and _architecture(BACKBONES[theirs]) != _architecture(row):
        raise WeightsError(
            f"{path}: the weights of backbone '{theirs}', the model has '{name}'; set model.backbone to {theirs}"
        )
    if parts.kind == "hmrb":
        return parts.backbone, rest
    if theirs is None:
        return _in_timm_names(parts.backbone, backbone.network), rest
    arrays, dropped = renamed(theirs, parts.backbone)
    return arrays, rest + dropped


def _in_timm_names(arrays: State, network: nn.Module) -> State:
    """Arrays as timm's network has them: as they are, or as timm's own filter turns its authors' files."""
    want = network.state_dict()
    fits = all(key in arrays and arrays[key].shape == value.shape for key, value in want.items())
    turn = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if turn and not fits:
        # What another network's file trips over is told by name when it does not fit.
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
