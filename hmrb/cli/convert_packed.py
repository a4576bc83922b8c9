"""hmrb convert-data of a file: packed annotations of other projects, or people of one's own in COCO's format."""

from pathlib import Path
from typing import TYPE_CHECKING

from hmrb.cli.convert_text import Record, print_shard

if TYPE_CHECKING:
    from hmrb.data.convert.conversion import ConversionOptions, Converter
    from hmrb.store import Store

Given = tuple[Path | None, Path | None, str | None, list[str]]
"""--file, --images, --as and --rename."""


def repack_file(kind: str, given: Given, split: str, making: "ConversionOptions", store: "Store") -> Record:
    """Writes the shard of a packed file; returns its record. Raises RequestError for missing options."""
    from hmrb.cli.progress import progress_bar
    from hmrb.data.convert.from_packed import repack
    from hmrb.errors import RequestError

    file, images, name, rename = given
    if file is None or name is None:
        raise RequestError(f"{kind}: set --file FILE and --as DATASET, e.g. --file pw3d_train.npz --as 3dpw")
    if rename:
        raise RequestError(f"{kind}: --rename is for coco-json; this kind of file has a fixed order of key points")
    accounts: dict[str, Record] = {}
    with progress_bar("people", accounts) as (console, ticker):
        info = repack(kind, file, images, name, split, store, making, ticker)
        return print_shard(console, store.shard(info.dataset, info.split), info, accounts)


def own_people(given: Given, split: str, compat: bool) -> "Converter":
    """How to convert a file in COCO's format; prints what is not taken as it is. Raises RequestError."""
    from hmrb.data.convert.joint_names import renamed
    from hmrb.data.sources.coco_json import plan_coco_json
    from hmrb.errors import RequestError

    file, images, name, rename = given
    if file is None or images is None or name is None:
        raise RequestError("coco-json: set --file A.json, --images DIR and --as NAME, a name of your own")
    if not images.is_dir():
        raise RequestError(f"--images {images}: no such folder; it holds the pictures that {file.name} names")
    if compat:
        raise RequestError("coco-json: --compat applies to raw files only and has no effect here")
    people = plan_coco_json(file, images, name, split, renamed(rename))
    for line in people.notes:
        print(line)
    return people.source
