"""Every dataset: an artificial raw tree becomes a shard that passes verification, and injected faults are reported."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raw

from hmrb.body import OPEN_BODY
from hmrb.data.augment import AUGMENTS
from hmrb.data.convert.boxes import turned
from hmrb.data.convert.catalogue import DATASETS
from hmrb.data.convert.conversion import ConversionOptions, Converter, ProgressReporter, Raw, SplitPlan, convert
from hmrb.data.convert.pack import Packing
from hmrb.data.convert.verify import verify
from hmrb.data.loader import DrawDataset, collate
from hmrb.data.shard import Shard
from hmrb.data.sources import CONVERTERS
from hmrb.errors import RequestError
from hmrb.formats.pictures import decoded
from hmrb.records import Person, Photo
from hmrb.skeleton import SKELETONS
from hmrb.spec import DataSpec, Op
from hmrb.store import Store

TREES: dict[str, Callable[[Path], Any]] = {}
for module in pkgutil.iter_modules(raw.__path__):
    TREES |= getattr(importlib.import_module(f"raw.{module.name}"), "TREES", {})
MAKING = ConversionOptions("a test", packing=Packing("region"))
every_tree = pytest.mark.parametrize("slug", sorted(TREES))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store whose licensed body is the body of the artificial people."""
    store = Store(tmp_path / "home")
    folder = store.bodies / "smpl"
    folder.mkdir(parents=True)
    with np.load(OPEN_BODY, allow_pickle=False) as arrays:
        members = {key: arrays[key] for key in arrays.files}
    members |= {"v_template": members["v_template_neutral"], "shapedirs": members["shapedirs_neutral"]}
    for key in ("J_regressor_h36m", "J_regressor_extra"):
        np.save(folder / f"{key}.npy", members.pop(key))
    monkeypatch.setattr("hmrb.body.SMPL_LANDMARKS", tuple(members.pop("vertex_ids").tolist()))
    needed = {key: members[key] for key in ("v_template", "shapedirs", "J_regressor", "weights", "kintree_table", "f")}
    for gender in ("NEUTRAL", "MALE", "FEMALE"):
        np.savez(folder / f"SMPL_{gender}.npz", **needed)
    return store


def planned(slug: str, root: Path, store: Store, compat: bool = False) -> tuple[Converter, list[SplitPlan]]:
    TREES[slug](root)
    source = CONVERTERS[slug]
    return source, source.plan(Raw(root, compat, store, name=slug))


def checked(source: Converter, part: SplitPlan, store: Store, whole: bool = False) -> dict[str, str]:
    convert(source, [part], store, replace(MAKING, packing=Packing()) if whole else MAKING, ProgressReporter())
    found = verify(Shard(store.shard(source.name, part.split)), store, None)
    return {check.name: f"{check.verdict}: {check.detail}" for check in found}


@every_tree
def test_what_macos_leaves_beside_files_is_not_data(slug: str, tmp_path: Path, store: Store) -> None:
    before = {part.split: len(part.items) for part in planned(slug, tmp_path / "raw", store)[1]}
    for path in [path for path in (tmp_path / "raw").rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7 icon")
        path.with_name(".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    parts = CONVERTERS[slug].plan(Raw(tmp_path / "raw", False, store, name=slug))
    assert {part.split: len(part.items) for part in parts} == before
    photo = next(iter(parts[0].read(parts[0].items[0])))
    assert photo.name


def wrongs(found: dict[str, str]) -> set[str]:
    return {name for name, said in found.items() if said.startswith("wrong")}


def test_every_dataset_of_the_study_has_a_converter_and_a_tree() -> None:
    wanted = {slug for slug, row in DATASETS.items() if row.role in ("train", "auxiliary")}
    assert wanted <= CONVERTERS.keys()
    assert {slug for slug in CONVERTERS if not CONVERTERS[slug].makes_itself} == TREES.keys()


@every_tree
def test_a_raw_tree_becomes_shards_that_verify(slug: str, tmp_path: Path, store: Store) -> None:
    source, parts = planned(slug, tmp_path / "raw", store)
    assert {part.split for part in parts} <= set(source.splits)
    for part in parts:
        found = checked(source, part, store)
        assert not wrongs(found), f"{part.split}: {found}"
        if source.skeleton != "none" and part.split == "train":
            drawn(Shard(store.shard(source.name, part.split)))


def drawn(shard: Shard) -> None:
    """Training items with every augmentation: values are finite, missing labels are zero."""
    ops = tuple(Op(name=name, args={"occluders": "procedural"} if "occlude" in name else {}) for name in AUGMENTS)
    spec = DataSpec(mix={"it": 1.0}, augment=ops)
    dataset = DrawDataset({"it": shard}, spec, 64, 0)
    batch = collate([dataset[draw] for draw in range(4)])
    for part in (batch.image, batch.keypoints2d, batch.keypoints3d, batch.rotmats, batch.betas):
        assert part.isfinite().all()
    assert not batch.keypoints3d[batch.keypoints3d[..., 3] <= 0].any()
    assert (batch.keypoints2d[..., 2] > 0).any()


def each(change: Callable[[Person, Photo, str], Person]) -> Callable[[Photo, str], Photo]:
    def changed(photo: Photo, skeleton: str) -> Photo:
        return replace(photo, people=tuple(change(person, photo, skeleton) for person in photo.people))

    return changed


def mirrored(photo: Photo, skeleton: str) -> Photo:
    return replace(photo, mirrored=not photo.mirrored)


def millimetres(person: Person, photo: Photo, skeleton: str) -> Person:
    return replace(person, keypoints3d=person.keypoints3d * np.float32([1000, 1000, 1000, 1]))


def sides_exchanged(person: Person, photo: Photo, skeleton: str) -> Person:
    rows = SKELETONS[skeleton].mirror()
    two, three = person.keypoints2d, person.keypoints3d
    return replace(person, keypoints2d=two[rows] if len(two) else two, keypoints3d=three[rows] if len(three) else three)


def in_the_world(person: Person, photo: Photo, skeleton: str) -> Person:
    half = np.diag([1.0, -1.0, -1.0])
    three = np.concatenate([person.keypoints3d[:, :3] @ half.T, person.keypoints3d[:, 3:]], 1).astype(np.float32)
    pose = turned(person.pose, half) if person.has_body else person.pose
    return replace(person, keypoints3d=three, pose=pose)


def from_one(person: Person, photo: Photo, skeleton: str) -> Person:
    """Integers counted from 1, up to the far corner."""
    pixels = photo.pixels if photo.pixels is not None else decoded(photo.data or photo.file.read_bytes(), "")
    size = np.array(pixels.shape[1::-1])
    two = person.keypoints2d.copy()
    two[:, :2] = two[:, :2].round().clip(0, size - 1) + 1
    two[:2, :2], two[:2, 2] = size, 1
    return replace(person, keypoints2d=two)


def camera_of_half_the_picture(person: Person, photo: Photo, skeleton: str) -> Person:
    return person if person.camera is None else replace(person, camera=person.camera / 2)


FAULTS: dict[str, tuple[Callable[[Photo, str], Photo], set[str]]] = {
    "mirrored picture": (mirrored, {"picture_fits"}),
    "millimetres": (each(millimetres), {"bone_lengths"}),
    "sides exchanged": (each(sides_exchanged), {"left_right", "projection", "body_joints"}),
    "world frame": (each(in_the_world), {"upright"}),
    "pixels from 1": (each(from_one), {"pixel_grid"}),
    "camera of half the picture": (each(camera_of_half_the_picture), {"camera"}),
}
PROJECTED = {"3doh50k", "3dpw", "agora", "emdb", "h36m", "mpi_inf_3dhp", "muco", "muco_augmented", "surreal"}


def faulty(read: Callable[[Any], Iterable[Photo]], fault: str, skeleton: str, item: Any) -> Iterable[Photo]:
    for photo in read(item):
        yield FAULTS[fault][0](photo, skeleton)


def tells(found: dict[str, str], fault: str) -> bool:
    """Whether the dataset has the labels that this fault affects."""
    said = {name for name in FAULTS[fault][1] if found[name].startswith("ok")}
    if fault == "pixels from 1":
        return found["picture_fits"].startswith("ok")
    if fault == "sides exchanged" and said == {"body_joints"}:
        return False
    return bool(said)


@every_tree
def test_a_fault_is_named(slug: str, tmp_path: Path, store: Store) -> None:
    source, parts = planned(slug, tmp_path / "raw", store)
    part = parts[0]
    good = checked(source, part, store)
    told = []
    for fault, (_, names) in FAULTS.items():
        if not tells(good, fault):
            continue
        bad = replace(part, read=partial(faulty, part.read, fault, source.skeleton))
        found = checked(source, bad, store)
        if fault == "mirrored picture" and not wrongs(found) & names:
            found = checked(source, bad, store, whole=True)  # in a region, other people may be at the mirrored position
        assert wrongs(found) & names, f"{fault}: {found}"
        told.append(fault)
    assert told or source.skeleton == "none", good
    assert ("camera of half the picture" in told) == (slug in PROJECTED)


@every_tree
def test_an_empty_folder_is_refused_with_what_should_be_in_it(slug: str, tmp_path: Path, store: Store) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(RequestError, match=f"contains no .*; see hmrb convert-data {slug} --explain"):
        CONVERTERS[slug].plan(Raw(tmp_path / "raw", False, store, name=slug))


@every_tree
def test_a_card_says_what_to_get_and_what_to_mind(slug: str) -> None:
    source = CONVERTERS[slug]
    assert source.tree.strip()
    assert source.traps
    assert source.skeleton in SKELETONS
    assert set(source.benchmarks) <= set(source.splits)
