"""Reads and writes specs as YAML."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from hmrb.formats.files import LOOKED_BYTES, reason, what_bytes_are
from hmrb.formats.yaml_text import MAX_BYTES, YamlProblem, load_yaml
from hmrb.lookup import did_you_mean, type_parts
from hmrb.spec.experiment import Experiment
from hmrb.spec.fields import SpecError
from hmrb.spec.model import HEAD_TABLES

SHOWN = 200  # letters of a wrong value in a message


def load_experiment(path: Path, overrides: tuple[str, ...] = ()) -> Experiment:
    """Reads a YAML spec and applies `a.b=value` overrides. Raises SpecError with every problem."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(f"{path}: not a readable spec: {reason(error)}") from None
    try:
        tree = load_yaml(data)
    except YamlProblem as problem:
        found = what_bytes_are(data[:LOOKED_BYTES]) if data else ""
        raise SpecError(f"{path}: not a readable spec: {f'it is {found}' if found else problem}") from None
    if not isinstance(tree, dict):
        raise SpecError(f"{path}: a spec must be a table of fields, got {_kind(tree)}")
    for override in overrides:
        _lay(tree, override)
    return parse_experiment(tree, str(path))


def parse_experiment(tree: dict[str, Any], source: str) -> Experiment:
    """Builds an Experiment from plain values; `source` starts each line of a SpecError."""
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        lines = [f"{source}: {_problem(detail)}" for detail in error.errors()]
        raise SpecError("\n".join(lines)) from None


def dump_experiment(experiment: Experiment) -> str:
    """The resolved spec as YAML, with all defaults written out."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)


def _lay(tree: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    if not equals or not path:
        raise SpecError(f"--set {override}: write it as field.field=value")
    *parents, leaf = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise SpecError(f"--set {override}: '{parent}' is not a table")
    try:
        tree[leaf] = load_yaml(value)
    except YamlProblem as problem:
        raise SpecError(f"--set {override[:SHOWN]}: '{value[:SHOWN]}' is not a valid YAML value: {problem}") from None


def _problem(detail: Any) -> str:
    """Formats a pydantic error: `losses.keypoints3d.weigth: no such field; did you mean 'weight'?`"""
    place = [str(key) for key in detail["loc"]]
    keys = place[:2] + place[3:] if place[:2] == ["model", "head"] and place[2:] else place  # without the table's tag
    if detail["type"] == "extra_forbidden":
        fields = _fields_at(place[:-1])
        near = did_you_mean(keys[-1], fields).replace(" Did", "; did")
        return f"{'.'.join(keys)}: no such field{near or '; known: ' + ', '.join(fields)}"
    if detail["type"] == "missing":
        return f"{'.'.join(keys)}: required"
    got = detail["input"]
    message = _expected(detail, got) or detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    shown = "" if isinstance(got, dict | list) else f", got {repr(got)[:SHOWN]}"
    return f"{'.'.join(keys)}: {message}{shown}"


def _expected(detail: Any, got: object) -> str:
    """What a field must be, where pydantic names a type of Python or writes 31 digits; "" elsewhere."""
    problem = detail["type"]
    if problem == "less_than_equal":
        return f"must be at most {detail['ctx']['le']:g}"
    if problem in ("tuple_type", "list_type"):
        example = "a, b" if isinstance(got, dict | bool) or got is None else str(got)[:SHOWN]
        return f"must be a list: [{example}]"
    if problem in ("dict_type", "model_type", "model_attributes_type"):
        return "must be a table of fields"
    return "must be true or false" if problem in ("bool_type", "bool_parsing") else ""


def _fields_at(keys: list[str]) -> list[str]:
    """The fields of the table at a path of keys."""
    kind: Any = Experiment
    for key in keys:
        if _is_model(kind) and key in kind.model_fields:
            kind = kind.model_fields[key].annotation
        if key in HEAD_TABLES:
            kind = HEAD_TABLES[key]
        kind = next(filter(_is_model, type_parts(kind)), kind)
    return list(kind.model_fields) if _is_model(kind) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _kind(value: object) -> str:
    return "an empty file" if value is None else f"a {type(value).__name__}"
