"""hmrb new: writes a spec of one's own, made from another, with every field and its meaning."""

import ast
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from hmrb.spec import Experiment

OF_OTHERS = ("name", "published", "expected", "packages")
"""Fields of the spec that a new one is made from which are not its own: its numbers, and versions that a run notes."""


def new(
    name: Annotated[Path, typer.Argument(help="The experiment's name; the spec is NAME.yaml.", show_default=False)],
    from_: Annotated[
        Path, typer.Option("--from", help="The spec to begin with: a path, or a name of hmrb list-specs.")
    ] = Path("quickstart"),
) -> None:
    """Write a commented spec to change: hmrb new my_experiment --from mix9_l1."""
    from hmrb.cli.shipped import find_spec
    from hmrb.errors import RequestError, RunError
    from hmrb.formats.files import reason
    from hmrb.formats.writing import replacing
    from hmrb.spec import load_experiment, parse_experiment

    path = name if name.suffix == ".yaml" else name.with_name(f"{name.name}.yaml")
    source = find_spec(from_)
    base = load_experiment(source)
    experiment = parse_experiment(base.model_dump(exclude={*OF_OTHERS}) | {"name": path.stem}, str(path))
    if path.exists():
        raise RequestError(f"{path}: exists; choose another name, or move it away")
    text = commented_spec(experiment, base, path.as_posix())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: could not be written ({reason(error)})") from None
    typer.echo(f"{path}: from {source}; look at it with hmrb train {path} --dry-run")


def commented_spec(experiment: "Experiment", base: "Experiment", path: str) -> str:
    """A spec as YAML: what `base` sets, and every other field with its default as a comment."""
    lines = [
        f"# {experiment.name}: what is new in it, in one line.",
        "#",
        f"# Source: the spec {base.name}, recipe {base.sha()}, without its published numbers.",
        f"# hmrb train {path}",
        "#",
        "# Fields behind a # have their defaults; to change one, remove the # and the blank after it (also before the",
        "# name of its table, if that has one).",
        f"name: {experiment.name}",
    ]
    for key in type(base).model_fields:
        if key not in OF_OTHERS:
            lines += _lines(key, getattr(base, key), key in base.model_fields_set, field_meaning(type(base), key))
    return "\n".join(lines) + "\n"


def _lines(key: str, value: Any, is_set: bool, meaning: str) -> list[str]:
    """The lines of a field: a table's fields one by one, one level below it."""
    from hmrb.spec import SpecModel

    if not isinstance(value, SpecModel):
        return _dumped({key: _plain(value)}, is_set, meaning)
    head = "" if is_set else "# "
    lines = ["", *(f"# {line}" for line in _first(type(value).__doc__ or "")), f"{head}{key}:"]
    for inner in type(value).model_fields:
        told = field_meaning(type(value), inner)
        lines += _dumped({inner: _plain(getattr(value, inner))}, is_set and inner in value.model_fields_set, told, "  ")
    return lines


def _dumped(tree: dict[str, Any], is_set: bool, meaning: str, indent: str = "") -> list[str]:
    import yaml

    head = indent if is_set else f"# {indent}"
    is_scalar = all(not isinstance(value, dict | list) for value in tree.values())
    text = yaml.safe_dump(tree, sort_keys=False, default_flow_style=False if is_scalar else None, width=100)
    return [*(f"{head}# {line}" for line in _first(meaning)), *(f"{head}{line}" for line in text.splitlines())]


def _plain(value: Any) -> Any:
    """A field as YAML writes it; an augmentation as `name: {argument: value}`."""
    from hmrb.spec import Op, SpecModel

    if isinstance(value, Op):
        only = {"only": list(value.only)} if value.only else {}
        return {value.name: {**value.args, **only}}
    if isinstance(value, SpecModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _first(text: str) -> list[str]:
    """The first paragraph of a docstring, in lines."""
    return [line.strip() for line in inspect.cleandoc(text).split("\n\n")[0].splitlines() if line.strip()]


def field_meaning(model: "type[BaseModel]", key: str) -> str:
    """The text under a field in its class."""
    for owner in model.__mro__:
        if key in inspect.get_annotations(owner):
            body = ast.parse(inspect.getsource(owner)).body[0]
            assert isinstance(body, ast.ClassDef)
            for before, after in zip(body.body, body.body[1:], strict=False):
                is_field = isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)
                if is_field and before.target.id == key and isinstance(after, ast.Expr):  # type: ignore[attr-defined]
                    return str(ast.literal_eval(after.value))
    return ""
