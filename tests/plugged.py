"""Makes packages with entry points, as pip would install them: modules beside a folder *.dist-info."""

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "hmrb-example"


def install(folder: Path, name: str, version: str, entries: Mapping[str, Mapping[str, str]]) -> Path:
    """The metadata of a package: name and version, and its entry points by group. Returns the folder."""
    facts = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in of.items()) for group, of in entries.items()
    ]
    (facts / "entry_points.txt").write_text("\n".join(lines))
    return folder


def install_example(folder: Path, version: str = "") -> Path:
    """The package of examples/, by the metadata in its pyproject.toml."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    shutil.copytree(EXAMPLE / "hmrb_example", folder / "hmrb_example", ignore=shutil.ignore_patterns("__pycache__"))
    return install(folder, project["name"], version or project["version"], project["entry-points"])
