"""What an experiment or an evaluation wants and the store lacks, and how each is got. Looks at names; opens no file."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from hmrb.check import benches_of, known_benches
from hmrb.data.convert.catalogue import DATASETS
from hmrb.data.convert.own import is_offered, is_own, offered_command
from hmrb.errors import Need, RequestError
from hmrb.evaluation.protocols import Benchmark
from hmrb.formats.files import files_in
from hmrb.needs import (
    MEAN_PARAMS,
    REGRESSOR_FILES,
    SPIN19,
    TO_SMPL,
    body_need,
    file_need,
    hub_address,
    is_cached,
    mean_file,
    pascal_need,
    smplx_name,
    smplx_need,
    timm_name,
    to_smpl_need,
    weights_need,
    weights_path,
)
from hmrb.spec import Experiment
from hmrb.store import Store

GENDERED = ("neutral", "male", "female")
MAKE_THEMSELVES = tuple(row.slug for row in DATASETS.values() if row.role == "embedded")


def experiment_needs(experiment: Experiment, store: Store) -> list[Need]:
    """All that an experiment wants and the store lacks: bodies, shards, weights, occluders."""
    rows = known_benches(benches_of(experiment))
    found = body_needs(experiment.body, rows, store)
    if experiment.model.mean == "file" and experiment.model.start == "backbone":
        found += _files([MEAN_PARAMS], mean_file(experiment.body, store).parent)
    for name in experiment.data.mix:
        found += shard_needs(name, "train", store)
    poses = experiment.adversary.poses if experiment.adversary.weight else "labels"
    found += shard_needs(poses, "train", store) if poses != "labels" else []
    for row in rows:
        found += shard_needs(row.dataset, row.split, store)
    found += _weights(experiment, store)
    if any(op.args.get("occluders") == "pascal" for op in experiment.data.augment) and not store.pascal.exists():
        found.append(pascal_need())
    return list(dict.fromkeys(found))


def experiments_needs(experiments: Sequence[Experiment], store: Store) -> list[Need]:
    """All that experiments want and the store lacks, each once."""
    return list(dict.fromkeys(need for experiment in experiments for need in experiment_needs(experiment, store)))


def subject_of(experiments: Sequence[Experiment]) -> str:
    """What a message calls these experiments."""
    return experiments[0].name if len(experiments) == 1 else f"the {len(experiments)} specs"


def bench_needs(rows: Sequence[Benchmark], body: str, store: Store) -> list[Need]:
    """All that benchmarks want of a store to score predictions with this body."""
    shards = [need for row in rows for need in shard_needs(row.dataset, row.split, store)]
    return list(dict.fromkeys([*shards, *body_needs(body, rows, store)]))


def body_needs(body: str, rows: Sequence[Benchmark], store: Store) -> list[Need]:
    """The files of a body that are missing: its genders, which benchmarks choose, and its regressors."""
    if body not in ("smpl", "smplx"):  # others come with their code
        return []
    folder, expressive = store.bodies / "smpl", store.bodies / "smplx"
    is_gendered = any(row.truth == "gendered" for row in rows)
    genders = GENDERED if is_gendered else GENDERED[: body != "smplx"]  # benchmarks of gendered bodies have SMPL's
    found: list[Need] = []
    if body == "smplx":
        found += [] if (expressive / smplx_name("neutral")).exists() else [smplx_need("neutral", expressive)]
        found += [] if (expressive / TO_SMPL).exists() else [to_smpl_need(expressive)]
    found += [body_need(gender) for gender in genders if not has_body(gender, store)]
    j19 = [SPIN19] if any(row.regressor == "spin19" for row in rows) else []
    return found + _files([*REGRESSOR_FILES, *j19], folder)


def has_body(gender: str, store: Store) -> bool:
    """Whether the store has a file of SMPL that may be of this gender."""
    folder = store.bodies / "smpl"
    if (folder / f"SMPL_{gender.upper()}.npz").exists():
        return True
    names = [path.name.lower() for path in files_in(folder, "*.pkl", "*.npz")]
    marks = (f"_{gender}", f"_{gender[0]}_", f"_{gender[0]}.")
    return any(name.startswith(("smpl_", "basicmodel_")) and any(mark in name for mark in marks) for name in names)


def shard_needs(name: str, split: str, store: Store) -> list[Need]:
    """The shard of one split, if it is missing."""
    if store.shard(name, split).exists():
        return []
    row = DATASETS.get(name)
    page = row.homepage if row and not is_own(name) else ""
    return [Need(f"shard {name}_{split}", shard_command(name), page, is_automatic=name in MAKE_THEMSELVES)]


def shard_command(name: str) -> str:
    """The command that makes a dataset's shards."""
    row = DATASETS.get(name)
    if is_own(name) and is_offered(name):
        return offered_command(name)
    if is_own(name):
        return f"hmrb convert-data coco-json --file FILE --images DIR --as {name}"
    if row and row.packed:
        return row.packed_command
    return f"hmrb convert-data {name}" + (" --raw DIR" if row and row.homepage else "")


def is_blocking(need: Need, *, is_online: bool = True) -> bool:
    """Whether a need must be met by hand: hmrb neither makes it nor, with a network, downloads it."""
    return not need.is_automatic or (not is_online and need.page.startswith(hub_address()))


def refuse_missing(needs: Iterable[Need], subject: str, about: str = "") -> None:
    """Raises RequestError with those of these files that hmrb does not make or download by itself."""
    if wanted := [need for need in needs if is_blocking(need)]:
        lines = "\n".join(f"{need.what}: not here; {need.command} {need.page}".rstrip() for need in wanted)
        raise RequestError(lines, wanted, subject=subject, about=about)


def _files(names: Sequence[str], folder: Path) -> list[Need]:
    return [file_need(folder / name) for name in names if not (folder / name).exists()]


def _weights(experiment: Experiment, store: Store) -> list[Need]:
    backbone, weights = experiment.model.backbone, experiment.model.weights
    if weights == "none" or weights_path(backbone, weights, store):
        return []
    if weights == "imagenet" and is_cached(timm_name(backbone)):
        return []
    return [weights_need(backbone, weights, store)]
