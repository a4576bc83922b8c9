"""Which files a prediction writes, and whether its folder can take them; known without torch."""

from dataclasses import dataclass
from pathlib import Path

from hmrb.errors import RequestError

MESHES = ("obj", "glb")
ALL = "predictions.npz"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files a picture gets. `predictions.npz` is always written."""

    overlay: bool = True
    meshes: tuple[str, ...] = MESHES
    parameters: bool = True

    @classmethod
    def of(cls, overlay: bool | None, mesh: str | None, is_data: bool) -> "Wanted":
        """What the options ask for; without any, all files of photos and none of whole data sets. RequestError."""
        meshes = parse_meshes(mesh) if mesh is not None else () if is_data else MESHES
        return cls(not is_data if overlay is None else overlay, meshes, not is_data or bool(overlay or meshes))


def parse_meshes(text: str) -> tuple[str, ...]:
    """`obj,glb` or `none`. Raises RequestError."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if names == ("none",):
        return ()
    if unknown := [name for name in names if name not in MESHES]:
        raise RequestError(f"--mesh {text}: no format '{unknown[0]}'; known: {', '.join(MESHES)}, or none")
    return names


def check_folder(folder: Path) -> None:
    """Raises RequestError if the folder cannot be one, or already holds predictions."""
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder}: a file, not a folder; choose another with -o")
    if (folder / ALL).exists():
        raise RequestError(f"{folder} already holds predictions ({ALL}); choose another folder with -o")
