"""The specs that come with hmrb, and how a command finds a spec: by its path, or by its name among them."""

import difflib
import os
from functools import cache
from pathlib import Path

from hmrb.errors import RequestError
from hmrb.formats.files import files_below, visible


def shipped_folder() -> Path:
    """The folder of hmrb's specs: in the package, or at the root of the repository of an editable install."""
    package = Path(__file__).parent.parent
    return next((folder for folder in (package / "specs", package.parent / "specs") if folder.is_dir()), package)


@cache
def shipped_specs() -> dict[str, Path]:
    """The paths of hmrb's specs by name: `quickstart`, `backbones/hrnet_w32`."""
    folder = shipped_folder()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in visible(folder.rglob("*.yaml"))}


def find_spec(asked: Path) -> Path:
    """The file at a path, else the spec of hmrb with that name, also written `specs/NAME.yaml` or with `-` for `_`.

    Raises RequestError with the nearest files and names.
    """
    if asked.is_file():
        return asked
    name = asked.as_posix().removeprefix("specs/").removesuffix(".yaml").replace("-", "_")
    if name in shipped_specs():
        return shipped_specs()[name]
    if os.path.lexists(asked):
        return asked  # a folder, a pipe, a dangling link: its reader says what is wrong with it
    why = "no such file, and no spec of hmrb has this name"
    raise RequestError(f"{asked}: not a readable spec: {why}{_nearest(asked)}")


def spec_files(asked: Path) -> list[Path]:
    """All specs in a folder, of hmrb's too (`small_study`, `small_study/mix`); another path or name is as it is.

    A run's folder, which holds its own spec.yaml, is no folder of specs. Raises RequestError for a folder without any.
    """
    inside = asked if asked.is_dir() else shipped_folder() / asked.as_posix().removeprefix("specs/").replace("-", "_")
    if asked.is_file() or not inside.is_dir() or (inside / "spec.yaml").exists():
        return [asked]
    if found := visible(path for path in files_below(inside) if path.suffix == ".yaml"):
        return found
    raise RequestError(f"{asked}: a folder without a spec; specs are YAML files")


def _nearest(asked: Path) -> str:
    files = [path.as_posix() for path in visible(asked.parent.glob("*.yaml"))]
    near = difflib.get_close_matches(asked.with_suffix(".yaml").as_posix(), files, n=2)
    wanted = asked.with_suffix("").as_posix().removeprefix("specs/")
    names = [name for name in shipped_specs() if name.endswith(f"/{asked.stem}")]
    names = (names + [name for name in difflib.get_close_matches(wanted, shipped_specs()) if name not in names])[:3]
    said = [f"nearest files: {', '.join(near)}"] if near else []
    said += [f"nearest names: {', '.join(names)}"] if names else []
    return f"; {'; '.join(said or ['hmrb list-specs lists them'])}"
