"""Which files a prediction writes, and whether its folder can take them; known without torch."""

from dataclasses import dataclass
from pathlib import Path

from hmrb.errors import RequestError
from hmrb.formats.optional import parquet_reader
from hmrb.lookup import find

MESHES = ("obj", "glb")
ALL = "predictions.npz"
FORMATS = {"npz": ALL, "h5": "predictions.h5", "parquet": "predictions.parquet", "json": "people.json"}
FOR_MILLIONS = ("h5", "parquet")  # written block by block; nothing is written per picture unless it is asked for


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files a picture gets, and the format of everybody's file, which is always written."""

    overlay: bool = True
    meshes: tuple[str, ...] = MESHES
    parameters: bool = True
    format: str = "npz"
    video: bool = False
    """Whether videos get a video of their overlays."""
    of_data: "Wanted | None" = None
    """What frames of videos and pictures of data sets get, if they came together with photos; None: the same."""

    @property
    def everybody(self) -> str:
        """The name of everybody's file."""
        return FORMATS[self.format]

    def of_picture(self, is_data: bool) -> "Wanted":
        """What a picture gets: a photo, or a frame of a video or a picture of a data set."""
        return self.of_data if is_data and self.of_data is not None else self

    @classmethod
    def of(cls, overlay: bool | None, mesh: str | None, is_data: bool, format: str = "npz") -> "Wanted":
        """What the options ask for; without any, all files of photos, none of data sets and FOR_MILLIONS.

        Raises RequestError.
        """
        find("format", format, FORMATS)
        if format == "parquet":
            parquet_reader("use --format h5")
        is_data = is_data or format in FOR_MILLIONS
        meshes = parse_meshes(mesh) if mesh is not None else () if is_data else MESHES
        return cls(not is_data if overlay is None else overlay, meshes, not is_data or bool(overlay or meshes), format)


def parse_meshes(text: str) -> tuple[str, ...]:
    """`obj,glb` or `none`. Raises RequestError."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if names == ("none",):
        return ()
    if unknown := [name for name in names if name not in MESHES]:
        raise RequestError(f"--mesh {text}: no format '{unknown[0]}'; known: {', '.join(MESHES)}, or none")
    return names


def check_folder(folder: Path) -> None:
    """Raises RequestError if the folder cannot be one."""
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder}: a file, not a folder; choose another with -o")
