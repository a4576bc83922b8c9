"""hmrb convert-data: converts raw files, packed files, bodies and occluders to the formats that hmrb reads."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hmrb.cli.convert_raw import convert_found, convert_raw, make, refuse_needless_regions
from hmrb.cli.convert_text import Record, explain_dataset, explain_offered, records_to
from hmrb.cli.slurm import Follow, Partition, Sbatch, Slurm, Time, without
from hmrb.urls import without_login

if TYPE_CHECKING:
    from hmrb.data.convert.conversion import ConversionOptions
    from hmrb.store import Store

OF_FILES, OF_SYNTHETIC = "Files of other projects, your own photos, bodies", "Synthetic people"
Names = Annotated[
    list[str],
    typer.Argument(
        help="Datasets, `body`, `occluders`, `pseudo`, or a kind: coco-json, humandata, spin, bedlam, 4dhumans.",
        show_default=False,
    ),
]


def convert_data(
    names: Names = [],  # noqa: B006
    raw: Annotated[
        Path | None, typer.Option(help="Folder with the raw files, or with one folder per dataset.", show_default=False)
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Convert every dataset found in a folder under --raw.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print where to get a dataset, its files and its pitfalls.")
    ] = False,
    split: Annotated[str | None, typer.Option(help="Convert only this split.", show_default=False)] = None,
    every: Annotated[int, typer.Option(min=1, help="Keep every n-th photo.")] = 1,
    fraction: Annotated[float, typer.Option(min=0.0001, max=1.0, help="Keep this share of the photos.")] = 1.0,
    match: Annotated[
        str, typer.Option(help="Keep photos whose names match a pattern: '*outdoors*'.", show_default=False)
    ] = "",
    image_px: Annotated[int, typer.Option(min=32, help="Largest crop size that training will use.")] = 224,
    pictures: Annotated[
        str | None,
        typer.Option(
            help="How training's pictures are stored. region: the part of a photo that training can show, as JPEG;"
            " tiled: such a part that data.decode: seen decodes in pieces; raw: such a part as pixels, about 10 times"
            " as large as a photo's JPEG and more than twice as fast to read; original: the dataset's own. Splits for"
            " results keep the original ones.  [default: region]",
            show_default=False,
        ),
    ] = None,
    compat: Annotated[
        str | None, typer.Option(help="study: reproduce the study's known mistakes.", show_default=False)
    ] = None,
    allow_missing: Annotated[
        int, typer.Option(min=0, help="Number of pictures that may be missing or unreadable.")
    ] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes.  [default: number of cores]", show_default=False)
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", help="Store to write to, a folder or URL.  [default: $HMRB_HOME]", show_default=False
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="body: an official SMPL file. Kinds of file: the file to convert, or a folder of packed ones.",
            show_default=False,
            rich_help_panel=OF_FILES,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="The folder with the pictures that the file names.", show_default=False, rich_help_panel=OF_FILES
        ),
    ] = None,
    as_: Annotated[
        str | None,
        typer.Option(
            "--as",
            help="The dataset that the file is of, or a name of your own for it.",
            show_default=False,
            rich_help_panel=OF_FILES,
        ),
    ] = None,
    rename: Annotated[
        list[str],
        typer.Option(
            metavar="OURS=THEIRS",
            help="coco-json: which joint a key point of the file is.",
            rich_help_panel=OF_FILES,
        ),
    ] = [],  # noqa: B006
    predictions: Annotated[
        Path | None,
        typer.Option(help="pseudo: the folder of an hmrb predict.", show_default=False, rich_help_panel=OF_FILES),
    ] = None,
    gender: Annotated[
        str | None,
        typer.Option(
            help="body: its gender, if the file name does not state it.", show_default=False, rich_help_panel=OF_FILES
        ),
    ] = None,
    preset: Annotated[str, typer.Option(help="easy or full.", rich_help_panel=OF_SYNTHETIC)] = "easy",
    people: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of training people.  [default: 10000; of a domain 2000]",
            show_default=False,
            rich_help_panel=OF_SYNTHETIC,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the dataset.", rich_help_panel=OF_SYNTHETIC)] = 0,
    json_: Annotated[bool, typer.Option("--json", help="Print only what was written, as JSON.")] = False,
    slurm: Slurm = False,
    partition: Partition = None,
    time: Time = "1-00:00:00",
    sbatch: Sbatch = [],  # noqa: B006
    follow: Follow = False,
) -> None:
    """Convert datasets to shards, from raw or packed files. Your own photos: coco-json. `synthetic` needs no files."""
    from hmrb.errors import RequestError
    from hmrb.store import Store

    store = Store.at(out) if out else Store.default()
    if not names and not all_:
        raise RequestError("which dataset? hmrb convert-data 3dpw --raw DIR; hmrb list-datasets lists them all")
    if slurm:
        _submit(names, workers, store, (partition, time, sbatch), follow)
        return
    if json_ and explain:
        raise RequestError("--explain --json: it explains in words; hmrb list-datasets --json has the facts")
    if names in (["body"], ["occluders"]):
        if pictures is not None:
            raise RequestError(f"{names[0]}: has no pictures to store, so --pictures does nothing; leave it out")
        with records_to(json_) as records:
            records += _import_body(file, gender, store) if names == ["body"] else _prepare_occluders(raw, store)
        return

    from hmrb.data.convert.conversion import ConversionOptions, PhotoFilter
    from hmrb.data.convert.pack import Form, Packing
    from hmrb.parallel.cores import usable_cores

    if compat not in (None, "study"):
        raise RequestError(f"--compat {compat}: the only choice is --compat study")
    forms: dict[str, Form] = {"region": "jpeg", "tiled": "tiled", "raw": "raw"}
    stored = pictures or "region"
    if stored not in (*forms, "original"):
        raise RequestError(f"--pictures {pictures}: the choices are region, tiled, raw and original")
    making = ConversionOptions(
        made_by=shlex.join(["hmrb", *_without_places(sys.argv[1:])]),
        workers=workers or usable_cores(),
        selection=PhotoFilter(every, fraction, match),
        packing=Packing("region", image_px, form=forms[stored]) if stored in forms else Packing(image_px=image_px),
        compat=compat == "study",
        missing_limit=allow_missing,
    )
    given = (file, images, as_, rename)
    with records_to(json_) as records:
        if names == ["pseudo"]:
            records.append(_label(predictions, images, as_, split or "train", making, store))
        elif all_:
            for record in convert_found(raw, making, split, store):
                records.append(record)  # one by one: a damaged dataset is refused after the others
        else:
            for name in names:
                records += _convert_one(name, raw, explain, split, making, store, (preset, people, seed), given)


def _submit(
    names: list[str],
    workers: int | None,
    store: "Store",
    asked: tuple[str | None, str, list[str]],
    follow: bool,
) -> None:
    """Submits the same command without --slurm as a job. Raises RequestError for an unknown dataset."""
    from hmrb.cli.launch import Processes
    from hmrb.cli.many import Command
    from hmrb.cli.slurm import request, submit
    from hmrb.data.convert.from_packed import PACKED
    from hmrb.data.convert.offered import offered_converter
    from hmrb.data.sources.coco_json import KIND
    from hmrb.errors import RequestError

    if workers is None:
        raise RequestError("--slurm: set --workers N, the number of cores to request")
    for name in names:
        if name not in ("body", "occluders", "pseudo") and name.replace("-", "_") not in {*PACKED, KIND}:
            offered_converter(name) or _slug(name)
    words = without(sys.argv[1:], ("--partition", "--time", "--sbatch"), ("--slurm", "--follow"))
    papers = (store.root / "slurm").absolute()
    title = "-".join(["convert", *(names or ["all"])])
    submit(
        [Command(title, tuple(words), papers / f"{title}.log")],
        request(Processes(workers, False), 0, *asked, at_once=1),
        papers,
        follow,
    )


def _slug(name: str) -> str:
    """The slug of a dataset of the catalogue. Raises UnknownName with the nearest names, those of packages too."""
    from hmrb.data.convert.catalogue import DATASETS, dataset
    from hmrb.lookup import UnknownName, did_you_mean
    from hmrb.plugins import offered

    try:
        return dataset(name).slug
    except UnknownName:
        known = sorted((*DATASETS, *offered("dataset")))
        raise UnknownName(
            f"no dataset named '{name}'.{did_you_mean(name.replace('-', '_'), known)} Known: {', '.join(known)}. Photos"
            " of your own: hmrb convert-data coco-json (docs/own-data.md); a reader of your own: docs/own-parts.md"
        ) from None


def _convert_one(
    name: str,
    raw: Path | None,
    explain: bool,
    split: str | None,
    making: "ConversionOptions",
    store: "Store",
    synthetic: tuple[str, int | None, int],
    given: tuple[Path | None, Path | None, str | None, list[str]],
) -> list[Record]:
    """Converts a dataset or file, or explains it; returns the records of its shards."""
    from dataclasses import replace

    from hmrb.cli.convert_packed import own_people, repack_file
    from hmrb.data.convert.catalogue import DATASETS
    from hmrb.data.convert.from_packed import PACKED
    from hmrb.data.convert.offered import offered_converter
    from hmrb.data.convert.pack import Packing
    from hmrb.data.sources import CONVERTERS
    from hmrb.data.sources.coco_json import KIND
    from hmrb.data.sources.rendered import recipe, train_people
    from hmrb.data.sources.synthetic import by_preset
    from hmrb.errors import RequestError
    from hmrb.lookup import find

    key = name.replace("-", "_")
    if key in PACKED and not (explain and key in DATASETS):
        return [repack_file(name, given, split or "train", making, store)]
    if key == KIND:
        own = own_people(given, split or "train", making.compat)
        parts = own.plan()
        refuse_needless_regions(own, parts, None, making)
        return make(own, parts, making, None, store)
    if source := offered_converter(name):
        if explain:
            explain_offered(source)
            return []
        return convert_raw(source, raw, split, making, store)
    slug = _slug(name)
    if explain:
        explain_dataset(slug)
        return []
    if command := DATASETS[slug].packed_command:
        raise RequestError(f"{slug} is made from packed files, not from raw ones: {command}")
    source = find("dataset with a converter", slug, CONVERTERS)
    if source.makes_itself:
        if making.packing.form != "jpeg":
            raise RequestError(
                f"{slug}: --pictures {making.packing.form}: rendered pictures are stored as they are; leave it out"
            )
        preset, people, seed = synthetic
        source = by_preset(preset) if slug == "synthetic" else source
        count = people or train_people(source)
        making = replace(making, made_by=recipe(source, count, seed), packing=Packing())
        return make(source, source.plan(people=count, seed=seed), making, split, store)
    return convert_raw(source, raw, split, making, store)


def make_dataset(name: str, store: "Store", split: str | None = None) -> None:
    """Creates a dataset that needs no raw files, or one split of it, with the defaults of `hmrb convert-data`."""
    from hmrb.data.convert.conversion import ConversionOptions
    from hmrb.data.convert.pack import Packing
    from hmrb.data.sources import CONVERTERS
    from hmrb.data.sources.rendered import recipe, train_people
    from hmrb.parallel.cores import usable_cores

    source = CONVERTERS[name]
    people = train_people(source)
    making = ConversionOptions(recipe(source, people), usable_cores(), packing=Packing())
    make(source, source.plan(people=people, seed=0), making, split, store)


def _label(
    folder: Path | None, images: Path | None, name: str | None, split: str, making: "ConversionOptions", store: "Store"
) -> Record:
    from hmrb.cli.convert_text import print_shard
    from hmrb.cli.progress import progress_bar
    from hmrb.errors import RequestError
    from hmrb.predict.pseudo import pseudo_shard

    if folder is None or name is None:
        raise RequestError(
            "pseudo: set --predictions DIR, the folder of an hmrb predict, and --as NAME, e.g. --as mydata"
        )
    accounts: dict[str, Record] = {}
    with progress_bar("pictures", accounts) as (console, ticker):
        info = pseudo_shard(folder, images, name, split, store, making, ticker)
        return print_shard(console, store.shard(info.dataset, info.split), info, accounts)


def _import_body(file: Path | None, gender: str | None, store: "Store") -> list[Record]:
    from hmrb.errors import RequestError

    if file is None:
        raise RequestError("which body? hmrb convert-data body --file basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl")
    if not file.exists():
        raise RequestError(f"{file}: no such file")
    from hmrb.body.official import import_body

    lines = import_body(file, gender, store)
    for line in lines:
        typer.echo(line)
    parts = [line.split(": ", 1) for line in lines]
    return [{"missing": about} if place == "missing" else {"file": place, "about": about} for place, about in parts]


def _prepare_occluders(raw: Path | None, store: "Store") -> list[Record]:
    """Cuts out the objects of Pascal VOC 2012, for the augmentations that paste them over people."""
    from hmrb.cli.progress import progress_bar
    from hmrb.data.convert.voc_occluders import prepare_pascal
    from hmrb.errors import RequestError

    if raw is None:
        raise RequestError("occluders: set --raw DIR, the folder with the unpacked Pascal VOC 2012")
    with progress_bar("pictures") as (console, ticker):
        count = prepare_pascal(raw, store.pascal, ticker)
        size = store.pascal.stat().st_size
        console.print(f"{store.pascal}: {count} objects, {size / 1e6:.1f} MB", soft_wrap=True, highlight=False)
    return [{"file": str(store.pascal), "objects": count, "bytes": size}]


def _without_places(words: list[str]) -> list[str]:
    """The command without logins and the options that do not affect the shard: paths and number of processes."""
    return without(
        [*map(without_login, words)],
        ("--raw", "--out", "-o", "--workers", "--file", "--images", "--predictions"),
        ("--json",),
    )
