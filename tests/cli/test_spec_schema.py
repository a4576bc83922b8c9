"""specs/spec.schema.json: what editors check and complete YAML by."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import hmrb

from hmrb.cli.spec_schema import NAME, spec_schema, tables_of
from hmrb.spec import Experiment

SPECS = Path(__file__).parents[2] / "specs"
SCHEMA = spec_schema()
TYPES = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
    "null": type(None),
}  # fmt: skip
BOUNDS = {
    "minimum": lambda value, bound: value >= bound, "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound, "exclusiveMaximum": lambda value, bound: value < bound,
}  # fmt: skip


def problems(value: Any, rule: dict[str, Any], at: str = "") -> Iterator[str]:
    """Where a value breaks a rule; the words of JSON schema that are in ours."""
    if "$ref" in rule:
        yield from problems(value, SCHEMA["$defs"][rule["$ref"].rpartition("/")[2]], at)
    if "anyOf" in rule and all(list(problems(value, one)) for one in rule["anyOf"]):
        yield f"{at}: none of the alternatives"
    if "enum" in rule and value not in rule["enum"]:
        yield f"{at}: not one of {rule['enum']}"
    kinds = [rule["type"]] if isinstance(rule.get("type"), str) else rule.get("type", [])
    if kinds and not any(isinstance(value, TYPES[kind]) for kind in kinds):
        yield f"{at}: not {kinds}"
    if isinstance(value, int | float):
        yield from (f"{at}: {word}" for word in BOUNDS.keys() & rule.keys() if not BOUNDS[word](value, rule[word]))
    if isinstance(value, list):
        for index, one in enumerate(value):
            yield from problems(one, rule.get("items", {}), f"{at}[{index}]")
    if isinstance(value, dict):
        yield from (f"{at}.{key}: required" for key in rule.get("required", []) if key not in value)
        for key, one in value.items():
            others = rule.get("additionalProperties", {})
            inner = rule.get("properties", {}).get(key, others)
            yield from [f"{at}.{key}: no such field"] if inner is False else problems(one, inner or {}, f"{at}.{key}")


def test_the_file_is_what_the_command_prints() -> None:
    """Stale otherwise: hmrb list-specs --schema > specs/spec.schema.json."""
    done = hmrb("list-specs", "--schema")
    assert done.stdout == (SPECS / NAME).read_text(encoding="utf-8")


def test_it_accepts_every_spec_and_each_names_it() -> None:
    paths = sorted(SPECS.rglob("*.yaml"))
    assert len(paths) > 100
    for path in paths:
        text = path.read_text(encoding="utf-8")
        (named,) = re.findall(r"^# yaml-language-server: \$schema=(\S+)$", text, re.M)
        assert (path.parent / named).resolve() == SPECS / NAME
        assert list(problems(yaml.safe_load(text), SCHEMA)) == [], path


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"modle": {}}, ".modle: no such field"),
        ({"model": {"image_px": 0}}, ".model.image_px: exclusiveMinimum"),
        ({"adversary": {"weigth": 1}}, ".adversary.weigth: no such field"),
        ({"model": {"head": {"step": 1}}}, ".model.head: none of the alternatives"),
        ({"optim": {"optimiser": "sgd"}}, ".optim.optimiser: not one of"),
        ({"losses": {"pose": {"distance": "l1"}}}, ".losses.pose.weight: required"),
        ({"data": {"mix": {"3dpw": 2}}}, ".data.mix.3dpw: maximum"),
        ({"data": {"mix": {"mine": 1.0}, "augment": ["flop"]}}, ".data.augment[0]: none of the alternatives"),
        ({"data": {"mix": {"mine": 1.0}, "augment": [{"flip": {"q": 1}}]}}, ".data.augment[0]: none"),
    ],
)
def test_it_refuses(wrong: dict[str, Any], said: str) -> None:
    found = list(problems({"name": "a", "data": {"mix": {"3dpw": 1.0}}} | wrong, SCHEMA))
    assert any(line.startswith(said) for line in found), found


def test_it_explains_every_table_and_names_what_hmrb_has() -> None:
    tables = tables_of(Experiment)
    assert len(tables) >= 13
    assert all(SCHEMA["$defs"][table.__name__]["description"] for table in tables[1:])
    assert "resnet50" in json.dumps(SCHEMA["$defs"]["ModelSpec"]["properties"]["backbone"])
    assert SCHEMA["$defs"]["ModelSpec"]["properties"]["drop_path"]["description"].startswith("Stochastic depth")


def test_copied_specs_have_it_beside_them(tmp_path: Path) -> None:
    assert hmrb("list-specs", "--study", "init", "--copy", str(tmp_path)).stdout == f"{tmp_path}: 9 specs\n"
    assert (tmp_path / NAME).is_file()
