"""Datasets of other packages: an entry point of `hmrb.datasets` names a function that returns a Converter."""

import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hmrb.bodykind import BODIES, BodyKind
from hmrb.data.convert.catalogue import ALIASES, DATASETS
from hmrb.data.convert.conversion import Converter, SplitPlan
from hmrb.data.convert.own import OWN_NAME
from hmrb.data.convert.raw import Raw
from hmrb.errors import RequestError, RunError
from hmrb.lookup import find
from hmrb.plugins import Plugin, only_plugin, said
from hmrb.records import Person, Photo, Sample
from hmrb.skeleton import SKELETONS

WORDS = ("body", "occluders", "pseudo", "coco_json", "humandata", "spin", "bedlam", "4dhumans")
"""What hmrb convert-data takes in place of a dataset."""
COLUMNS = {"keypoints2d": "x, y in pixels and confidence", "keypoints3d": "x, y, z in metres and confidence"}


def offered_converter(name: str) -> Converter | None:
    """The converter that an installed package offers under a name, or None; `-` and `_` are equivalent.

    Its `source` names the package. What its functions raise or return wrongly becomes one message. Raises RequestError
    if the package is broken, or if two packages, or one and hmrb, have the name.
    """
    plugin = only_plugin("dataset", name, {*DATASETS, *ALIASES, *WORDS})
    return _checked(plugin, plugin.build({})) if plugin else None


def code_stamps(name: str) -> dict[str, tuple[int, int]]:
    """Size and time of change of the code of the package that offers a dataset; nothing for hmrb's own."""
    plugin = only_plugin("dataset", name)
    spec = find_spec(plugin.entry.module.partition(".")[0]) if plugin else None
    if spec is None or spec.origin is None:
        return {}
    file = Path(spec.origin)
    files = sorted(file.parent.rglob("*.py")) if spec.submodule_search_locations else [file]
    return {f"{path}": (facts.st_size, facts.st_mtime_ns) for path in files for facts in [os.stat(path)]}


def _checked(plugin: Plugin, made: object) -> Converter:
    problem = _problem(plugin, made)
    if problem or not isinstance(made, Converter):
        raise RequestError(f"the {plugin}: {problem}")
    source = f"package: {plugin.package} {plugin.version}"
    return replace(made, name=plugin.name, source=source, plan=_Plan(plugin, made))


def _problem(plugin: Plugin, made: object) -> str:
    """What is wrong with a converter, or an empty string."""
    if not isinstance(made, Converter):
        return f"it returns a {type(made).__name__}, not a hmrb.data.convert.conversion.Converter"
    if not OWN_NAME.fullmatch(plugin.name):
        return "the name of a dataset has the letters a-z, digits and _"
    if made.name.replace("-", "_") != plugin.name:
        return f"its Converter has the name '{made.name}'; it has to be that of the entry point"
    if made.makes_itself:
        return "makes_itself is for the synthetic people of hmrb"
    splits = made.splits
    if isinstance(splits, str) or not splits or not all(OWN_NAME.fullmatch(split) for split in splits):
        return f"splits {splits!r} has to be a tuple of names of the letters a-z, digits and _, such as ('train',)"
    try:
        find("skeleton", made.skeleton, SKELETONS)
        find("body", made.body, BODIES)
    except RequestError as error:
        return str(error)
    return ""


@dataclass(frozen=True, slots=True)
class _Plan:
    """The plan of a foreign converter: what it raises is told in one message, what it returns is checked."""

    plugin: Plugin
    converter: Converter

    def __call__(self, raw: Raw) -> list[SplitPlan]:
        label = str(self.plugin)
        try:
            parts = list(self.converter.plan(raw))
        except (RequestError, RunError):
            raise
        except Exception as error:  # of a package that hmrb does not know
            raise RunError(f"the {label}: its plan failed: {said(error)}") from None
        for part in parts:
            if not isinstance(part, SplitPlan) or not isinstance(part.items, Sequence):
                raise RequestError(f"the {label}: plan has to return SplitPlans, whose items are a list")
            if part.split not in self.converter.splits:
                splits = ", ".join(self.converter.splits)
                raise RequestError(f"the {label}: plan returns the split '{part.split}'; its Converter names {splits}")
        if not parts:
            raise RequestError(f"the {label}: found nothing in {raw.root}; it needs\n{self.converter.tree}")
        kind = BODIES[self.converter.body]
        return [replace(part, read=_reader(label, part.read, self.converter.skeleton, kind)) for part in parts]


def _reader(label: str, read: Callable[..., Any], skeleton: str, kind: BodyKind) -> "_Read":
    try:
        pickle.dumps(read)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise RequestError(
            f"the {label}: read cannot be sent to another process ({error}); make it a function of a module, or a"
            " functools.partial of one"
        ) from None
    return _Read(label, read, len(SKELETONS[skeleton].joints), kind)


@dataclass(frozen=True, slots=True)
class _Read:
    """The reader of a foreign converter: what it raises is told in one message, what it yields is checked."""

    label: str
    read: Callable[[Any], Iterable[Photo | Sample]]
    num_joints: int
    kind: BodyKind

    def __call__(self, item: Any) -> Iterator[Photo | Sample]:
        try:
            for made in self.read(item):
                self._check(made)
                yield made
        except (RequestError, RunError):
            raise
        except Exception as error:  # of a package that hmrb does not know
            raise RunError(f"the {self.label}: reading {repr(item)[:120]} failed: {said(error)}") from None

    def _check(self, made: object) -> None:
        if not isinstance(made, Photo | Sample):
            raise RunError(f"the {self.label}: read yields a {type(made).__name__}, not a hmrb.records.Photo")
        for person in (made,) if isinstance(made, Sample) else made.people:
            for field, problem in self._problems(person):
                raise RunError(f"the {self.label}: {made.name}: {field} of a person {problem}")

    def _problems(self, person: Person) -> Iterator[tuple[str, str]]:
        shapes = {"box": (4,), "pose": (self.kind.num_joints, 3), "betas": (self.kind.num_betas,), "transl": (3,)}
        shapes |= {"keypoints2d": (self.num_joints, 3), "keypoints3d": (self.num_joints, 4)}
        for field, shape in shapes.items():
            value = getattr(person, field)
            if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
                yield field, f"is a {type(value).__name__}, expected a numpy array of numbers"
            elif value.shape != shape and not (field in COLUMNS and not len(value)):
                rows = f": a row per joint of the skeleton, {COLUMNS[field]}" if field in COLUMNS else ""
                yield field, f"has the shape {value.shape}, expected {shape}{rows}"
