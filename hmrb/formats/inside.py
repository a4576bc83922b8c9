"""Paths that annotations name: they stay below the folder that the user gave."""

import re
from pathlib import Path, PurePosixPath

from hmrb.errors import RunError


def inside(root: Path, name: str) -> Path:
    """Path of a file below `root` that an annotation names. Raises RunError if the name leads out of `root`.

    Only the text is judged: no absolute path, no drive, no `..`, no control character. Symbolic links below `root` are
    followed wherever they lead, because the user made them: data sets lie on other disks, in DVC, git-annex or caches.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name) or re.search(r"[\0-\x1f]", name):
        raise RunError(
            f"{root}: an annotation names {name!r}, which is outside this folder; rejected. Names must be relative"
            " paths without '..'"
        )
    return root / path
