"""A good shard passes every check; each injected fault is reported."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from raw.people import Someone, draw, someone

from hmrb.data.checksums import whole_sha
from hmrb.data.convert.boxes import turned
from hmrb.data.convert.own import find_shard
from hmrb.data.convert.pack import Packing, pack
from hmrb.data.convert.verify import checksums, verify
from hmrb.data.convert.writer import ShardWriter
from hmrb.data.shard import LATER, Shard
from hmrb.errors import RequestError
from hmrb.formats.pictures import UnreadablePicture
from hmrb.records import Person, Photo
from hmrb.skeleton import SKELETONS
from hmrb.store import Store

CAMERA = np.float32([300, 300, 159.5, 119.5])
SIZE, MIRROR = (320, 240), SKELETONS["smpl_54"].mirror()
SMPL_MIRROR = SKELETONS["smpl24"].mirror()


def photo(seed: int) -> Photo:
    """Two people left of the image centre."""
    people = [someone(2 * seed + i, SIZE, at=(0.2 + 0.2 * i, 0.5)) for i in range(2)]
    return Photo(name=f"{seed:03d}.png", people=tuple(map(labelled, people)), pixels=draw(people, SIZE, seed))


def labelled(person: Someone) -> Person:
    seen = ((person.pixels >= 0) & (person.pixels <= np.array(SIZE) - 1)).all(1)
    return Person(
        box=person.box().astype(np.float32),
        keypoints2d=np.concatenate([person.pixels, seen[:, None]], 1).astype(np.float32),
        keypoints3d=np.concatenate([person.joints, np.ones((54, 1))], 1).astype(np.float32),
        pose=person.pose, betas=person.betas, transl=person.transl, has_body=True, camera=CAMERA,
    )  # fmt: skip


def each(change: Callable[[Person], Person]) -> Callable[[Photo], Photo]:
    return lambda whole: replace(whole, people=tuple(change(person) for person in whole.people))


def swapped(person: Person) -> Person:
    return replace(person, keypoints2d=person.keypoints2d[MIRROR], keypoints3d=person.keypoints3d[MIRROR])


def scaled(factor: float) -> Callable[[Person], Person]:
    return lambda p: replace(p, keypoints3d=p.keypoints3d * np.array([factor, factor, factor, 1], np.float32))


def in_the_world(person: Person) -> Person:
    """y up and seen from the front, as in motion capture."""
    half = np.diag([1.0, -1.0, -1.0])
    three = np.concatenate([person.keypoints3d[:, :3] @ half.T, person.keypoints3d[:, 3:]], 1).astype(np.float32)
    return replace(person, keypoints3d=three, pose=turned(person.pose, half))


def turned_root(person: Person) -> Person:
    """Only the body is in another frame."""
    quarter = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    return replace(person, pose=turned(person.pose, quarter))


def corners_as_sizes(person: Person) -> Person:
    x, y, width, height = person.box.tolist()
    return replace(person, box=np.array([x, y, x + width, y + height], np.float32))


def from_one(person: Person) -> Person:
    """Integer pixels up to the image's edges, counted from 1."""
    points = person.keypoints2d.copy()
    points[:, :2] = points[:, :2].round().clip(0, np.array(SIZE) - 1) + 1
    points[[7, 8], :2] = SIZE  # feet at the far corner
    points[:, 2] = 1
    return replace(person, keypoints2d=points)


FAULTS: dict[str, tuple[Callable[[Photo], Photo], str]] = {
    "mirrored picture": (lambda p: replace(p, pixels=np.ascontiguousarray(p.pixels[:, ::-1])), "picture_fits"),
    "sides exchanged": (each(swapped), "left_right"),
    "millimetres": (each(scaled(1000)), "bone_lengths"),
    "sevenths": (each(scaled(7)), "bone_lengths"),
    "world frame": (each(in_the_world), "upright"),
    "root in another frame": (each(turned_root), "body_joints"),
    "corners read as sizes": (each(corners_as_sizes), "box_fit"),
    "pixels from 1": (each(from_one), "pixel_grid"),
    "no number": (each(lambda p: replace(p, betas=p.betas * np.float32("nan"))), "finite"),
    "visibility codes": (each(lambda p: replace(p, keypoints2d=p.keypoints2d * np.float32([1, 1, 2]))), "confidences"),
    "people elsewhere": (each(lambda p: replace(p, box=p.box + np.float32([900, 0, 0, 0]))), "people_in_picture"),
}


def write(path: Path, change: Callable[[Photo], Photo] = lambda p: p, kind: str = "region") -> Shard:
    about = {"dataset": "made_up", "split": "train", "skeleton": "smpl_54", "body": "open", "made_by": "a test"}
    with ShardWriter(path, **about, pictures=kind) as out:
        for seed in range(12):
            for sample in pack(change(photo(seed)), Packing(kind)):
                out.add(sample)
    return Shard(path)


def verdicts(shard: Shard, tmp_path: Path, known: int | None = 24) -> dict[str, str]:
    return {check.name: check.verdict for check in verify(shard, Store(tmp_path), known)}


@pytest.mark.parametrize("kind", ["region", "original"])
def test_a_good_shard_passes(tmp_path: Path, kind: str) -> None:
    found = verdicts(write(tmp_path / "a.h5", kind=kind), tmp_path)
    assert found.pop("pixel_grid") == "skipped"  # its coordinates are not integers
    assert set(found.values()) == {"ok"}, found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(tmp_path: Path, fault: str) -> None:
    change, name = FAULTS[fault]
    kind = "original" if name == "people_in_picture" else "region"  # where they have no region
    found = verdicts(write(tmp_path / "a.h5", change, kind), tmp_path)
    assert found[name] == "wrong", found


def test_a_mirrored_picture_that_is_kept_whole_is_told_from_another(tmp_path: Path) -> None:
    shard = write(tmp_path / "a.h5", FAULTS["mirrored picture"][0], kind="original")
    said = {check.name: check.detail for check in verify(shard, Store(tmp_path), None)}
    assert "images are mirrored" in said["picture_fits"]


def test_units_are_guessed(tmp_path: Path) -> None:
    for fault, unit in (("millimetres", "the unit is millimetres"), ("sevenths", "the unit is sevenths of a metre")):
        shard = write(tmp_path / f"{fault}.h5", FAULTS[fault][0])
        assert unit in {check.name: check.detail for check in verify(shard, Store(tmp_path), None)}["bone_lengths"]


def test_damage_is_found(tmp_path: Path) -> None:
    shard = write(tmp_path / "a.h5")
    with h5py.File(shard.path, "r+") as file:
        file["betas"][3, 2] += 0.25
        start = int(file["jpeg/offset"][1])
        file["jpeg/bytes"][start : start + 40] = 0
    found = verdicts(Shard(shard.path), tmp_path)
    assert (found["checksums"], found["pictures"]) == ("wrong", "wrong")


def test_people_are_counted(tmp_path: Path) -> None:
    shard = write(tmp_path / "a.h5")
    assert verdicts(shard, tmp_path, known=25)["counts"] == "wrong"
    assert verdicts(shard, tmp_path, known=None)["counts"] == "skipped"


def test_a_shard_is_found_by_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.shard("made_up", "train").parent.mkdir(parents=True)
    write(store.shard("made_up", "train"))
    assert find_shard("made-up_train", store).info.dataset == "made_up"
    with pytest.raises(RequestError, match=r"no shard made_up_test: .* which has: made_up_train"):
        find_shard("made_up_test", store)


def test_a_picture_cut_short_is_no_picture(tmp_path: Path) -> None:
    whole = cv2.imencode(".jpg", draw([someone(0)], SIZE))[1].tobytes()
    person = labelled(someone(0))
    with pytest.raises(UnreadablePicture, match="image is truncated|image cannot be decoded"):
        pack(Photo(name="a.jpg", people=(person,), data=whole[:-40]), Packing("region"))


def test_a_sha_is_of_content_and_older_ones_keep_their_rule(tmp_path: Path) -> None:
    shards = []
    for number, made_by in enumerate(("hmrb convert-data made-up", "hmrb convert-data made-up --allow-missing 1")):
        path = tmp_path / f"{number}.h5"
        with ShardWriter(
            path, dataset="made_up", split="train", skeleton="smpl_54", body="open", made_by=made_by
        ) as out:
            for sample in pack(photo(0), Packing()):
                out.add(sample)
        shards.append(Shard(path))
    assert shards[0].info.sha == shards[1].info.sha
    assert shards[0].info.sha_of == "content"
    assert checksums(shards[0], None).verdict == "ok"
    older = tmp_path / "older.h5"
    older.write_bytes(shards[0].path.read_bytes())
    with h5py.File(older, "r+") as file:
        for name in LATER:
            del file.attrs[name]
    assert checksums(Shard(older), None).verdict == "wrong"
    stated = (
        checksums(Shard(older), None).detail.split()[2].rstrip(",")
    )  # of all attributes, as older programs computed it
    assert stated != shards[0].info.sha
    with h5py.File(older, "r+") as file:
        file.attrs["sha"] = stated
    assert checksums(Shard(older), None).verdict == "ok"
    assert Shard(older).info.sha == stated
    with h5py.File(older, "r+") as file:
        file.attrs["made_by"] = "another command"
    assert checksums(Shard(older), None).verdict == "wrong"


def test_a_hash_of_the_older_rule_is_the_one_that_older_programs_wrote() -> None:
    about = dict.fromkeys(("dataset", "split", "skeleton", "body", "made_by", "pictures", "selection", "compat"), "x")
    digests = {"box": hashlib.sha256(b"box")}
    assert whole_sha({**about, "region_px": 0, "reach": 0.0}, digests, {}, "attributes") == "0c459c31dea7eab2"
