"""The JSON schema of a spec, with which editors complete and check YAML: fields, their meaning, known names."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, TypeAdapter

from hmrb.cli.new import field_meaning
from hmrb.spec import Experiment

NAME = "spec.schema.json"
Schema = dict[str, Any]


def spec_schema() -> Schema:
    """The schema. Names that are not in its lists are allowed: timm, other packages and own datasets have more."""
    from hmrb import names
    from hmrb.bodykind import BODIES
    from hmrb.data.convert.catalogue import DATASETS
    from hmrb.evaluation.protocols import ROWS

    schema = Experiment.model_json_schema()
    tables: dict[str, Schema] = schema["$defs"]
    for model in tables_of(Experiment):
        place = schema if model is Experiment else tables[model.__name__]
        place["description"] = inspect.cleandoc(model.__doc__ or "")
        for field, about in place["properties"].items():
            if told := field_meaning(model, field):
                about["description"] = inspect.cleandoc(told)
            if "oneOf" in about:  # one that is only named fits two tables
                about["anyOf"] = about.pop("oneOf")
    benches = [row.name for row in ROWS]
    _suggest(schema, "body", BODIES)
    _suggest(tables["ModelSpec"], "method", names.METHODS)
    _suggest(tables["ModelSpec"], "backbone", (*names.BACKBONES, *names.BACKBONE_ALIASES))
    _suggest(tables["ModelSpec"], "weights", ("none", "imagenet", "mpii", "coco"))
    _suggest(tables["HeadSpec"], "name", names.HEADS)
    _suggest(tables["EvalSpec"], "select_on", benches)
    tables["EvalSpec"]["properties"]["benches"]["items"] = _names(benches)
    tables["ModelSpec"]["properties"]["sync_bn"]["anyOf"] = [{"type": "boolean"}, {"enum": ["auto", "on", "off"]}]
    schema["properties"]["losses"]["properties"] = {name: {"$ref": "#/$defs/LossTerm"} for name in names.LOSSES}
    data = tables["DataSpec"]["properties"]
    for table in ("mix", "without"):
        data[table]["properties"] = dict.fromkeys(DATASETS, data[table]["additionalProperties"])
    data["augment"]["items"] = _augmentations()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "An hmrb spec"}


def tables_of(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A table of a spec and all tables in it, in the order of their fields."""
    found = [model]
    for field in model.model_fields.values():
        for kind in _inside(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found += [table for table in tables_of(kind) if table not in found]
    return found


def _inside(kind: Any) -> Iterable[Any]:
    yield kind
    for part in get_args(kind):
        yield from _inside(part)


def _names(known: Iterable[str]) -> Schema:
    return {"anyOf": [{"enum": list(known)}, {"type": "string"}]}


def _suggest(table: Schema, field: str, known: Iterable[str]) -> None:
    """Lets an editor complete the names of a field, and allows others."""
    about = table["properties"][field]
    may_be_null = {"type": "null"} in about.get("anyOf", [])
    kept = {key: value for key, value in about.items() if key not in ("type", "anyOf")}
    names = _names(known)["anyOf"] + [{"type": "null"}] * may_be_null
    table["properties"][field] = {"anyOf": names, **kept}


def _augmentations() -> Schema:
    """An augmentation: its name, or its name and arguments."""
    from hmrb.data.augment import AUGMENTS

    named = {name: _arguments(function) for name, function in AUGMENTS.items()}
    as_table = {"type": "object", "properties": named, "additionalProperties": False, "maxProperties": 1}
    return {"anyOf": [{"enum": list(AUGMENTS)}, as_table, {"$ref": "#/$defs/Op"}]}


def _arguments(function: Callable[..., Any]) -> Schema:
    hints: Mapping[str, Any] = get_type_hints(function, include_extras=True)
    properties: Schema = {"only": {"type": "array", "items": {"type": "string"}}}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            about = TypeAdapter(hints[parameter.name]).json_schema()
            default = {} if parameter.default is parameter.empty else {"default": parameter.default}
            properties[parameter.name] = about | default
    described = inspect.cleandoc(function.__doc__ or "")
    return {
        "type": ["object", "null"], "description": described, "properties": properties, "additionalProperties": False
    }  # fmt: skip
