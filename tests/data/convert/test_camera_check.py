"""hmrb verify projects 3D labels with a shard's intrinsics; each usual mistake is named."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
from raw.people import Someone, draw, someone

from hmrb.data.convert.label_checks import Check
from hmrb.data.convert.pack import Packing, pack
from hmrb.data.convert.verify import verify
from hmrb.data.convert.writer import ShardWriter
from hmrb.data.shard import Shard, ShardError
from hmrb.records import Person, Photo
from hmrb.store import Store

SIZE, STRETCH, SHIFT = (320, 240), 1.2, np.array([30.0, -10.0])
CAMERA = np.float32([300, 300 * STRETCH, 189.5, 109.5])  # of people drawn with 300, 300, 159.5, 119.5
Change = Callable[[Person], Person]


def labelled(person: Someone) -> Person:
    """A person seen by CAMERA, whose four numbers differ."""
    pixels = (person.pixels - (159.5, 119.5)) * (1, STRETCH) + (159.5, 119.5) + SHIFT
    low, high = pixels[:24].min(0), pixels[:24].max(0)
    return Person(
        box=np.concatenate([low, high - low]).astype(np.float32),
        keypoints2d=np.concatenate([pixels, np.ones((54, 1))], 1).astype(np.float32),
        keypoints3d=np.concatenate([person.joints, np.ones((54, 1))], 1).astype(np.float32),
        pose=person.pose, betas=person.betas, transl=person.transl, has_body=True, camera=CAMERA,
    )  # fmt: skip


@cache
def photos() -> tuple[Photo, ...]:
    """Twelve people in twelve pictures."""
    people = [someone(seed, SIZE, at=(0.2 + 0.02 * seed, 0.5)) for seed in range(12)]
    return tuple(
        Photo(name=f"{seed:03d}.png", people=(labelled(one),), pixels=draw([one], SIZE, seed))
        for seed, one in enumerate(people)
    )


def written(path: Path, change: Change = lambda person: person, packing: Packing = Packing()) -> Shard:  # noqa: B008
    about = {"dataset": "made_up", "split": "train", "skeleton": "smpl_54", "body": "open", "made_by": "a test"}
    with ShardWriter(path, **about, pictures=packing.name) as out:
        for photo in photos():
            for sample in pack(replace(photo, people=tuple(map(change, photo.people))), packing):
                out.add(sample)
    return Shard(path)


def verdict(shard: Shard, folder: Path) -> Check:
    return next(check for check in verify(shard, Store(folder), None) if check.name == "camera")


def seen_by(*numbers: float) -> Change:
    return lambda person: replace(person, camera=np.float32(numbers))


FX, FY, CX, CY = CAMERA.tolist()
FAULTS: dict[str, tuple[Change, str]] = {
    "long focal": (seen_by(1.25 * FX, 1.25 * FY, CX, CY), "focal lengths are 1.25 times the true ones"),
    "slightly short focal": (seen_by(0.9 * FX, 0.9 * FY, CX, CY), "focal lengths are 0.90 times the true ones"),
    "fx and fy": (seen_by(FY, FX, CX, CY), "fx and fy are exchanged"),
    "cx and cy": (seen_by(FX, FY, CY, CX), "cx and cy are exchanged"),
    "halved": (seen_by(FX / 2, FY / 2, CX / 2 - 0.25, CY / 2 - 0.25), "they are of the picture at half its size"),
    "doubled": (seen_by(FX * 2, FY * 2, CX * 2 + 0.5, CY * 2 + 0.5), "they are of the picture at twice its size"),
    "mirrored": (seen_by(FX, FY, SIZE[0] - 1 - CX, CY), "they are of the mirrored picture"),
    "elsewhere": (seen_by(FX, FY, CX + 40, CY - 60), "8 % are allowed: intrinsics of another picture, or labels of"),
    "no focal": (seen_by(0, FY, CX, CY), "12 of 12 people with intrinsics have a focal length of 0 or less"),
}


@pytest.mark.parametrize("packing", [Packing(), Packing("region"), Packing("region", 96)], ids=str)
def test_the_true_camera_passes_whatever_part_of_the_photo_is_stored(packing: Packing, tmp_path: Path) -> None:
    shard = written(tmp_path / "a.h5", packing=packing)
    scales = shard.arrays["origin"][:, 2]
    assert (scales < 1).all() == (packing.image_px == 96)
    found = verdict(shard, tmp_path)
    assert found.verdict == "ok", found
    assert "3D joints are off by 0.0 %" in found.detail
    assert "bodies are off by 0.0 %" in found.detail


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_camera_is_named(fault: str, tmp_path: Path) -> None:
    change, said = FAULTS[fault]
    found = verdict(written(tmp_path / "a.h5", change, Packing("region", 96)), tmp_path)
    assert found.verdict == "wrong", found
    assert said in found.detail


def test_a_focal_length_that_blurred_labels_hide_is_found(tmp_path: Path) -> None:
    """Labels that are off by 5 % of a person hide what no usual mistake explains, but not a focal length."""

    def blurred(person: Person) -> Person:
        two = person.keypoints2d.copy()
        noise = np.random.default_rng(int(two[0, 0])).normal(0, 0.04 * np.ptp(two[:, 1]), (54, 2))
        two[:, :2] += noise
        return replace(person, keypoints2d=two.astype(np.float32))

    assert verdict(written(tmp_path / "a.h5", blurred), tmp_path).verdict == "ok"
    wrong = verdict(written(tmp_path / "b.h5", lambda p: seen_by(FX / 1.15, FY / 1.15, CX, CY)(blurred(p))), tmp_path)
    assert wrong.verdict == "wrong", wrong


def about_the_root(person: Person) -> Person:
    three = person.keypoints3d - np.append(person.keypoints3d[0, :3], 0)
    return replace(person, keypoints3d=three.astype(np.float32), transl=np.zeros(3, np.float32))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda person: replace(person, camera=None), "the shard has no intrinsics"),
        (seen_by(0, 0, 0, 0), "nobody with intrinsics, 2D joints and 3D joints in the camera's frame or intrinsics,"),
        (about_the_root, "nobody with intrinsics, 2D joints and 3D joints in the camera's frame or intrinsics,"),
        (
            lambda person: replace(person, keypoints2d=np.zeros((54, 3), np.float32)),
            "nobody with intrinsics, 2D joints and 3D joints in the camera's frame",
        ),
    ],
    ids=["no camera", "unknown", "about the root", "no 2D joints"],
)
def test_without_labels_it_is_skipped_with_the_reason(change: Change, said: str, tmp_path: Path) -> None:
    found = verdict(written(tmp_path / "a.h5", change), tmp_path)
    assert (found.verdict, said in found.detail) == ("skipped", True), found


def test_a_person_s_camera_is_read_as_it_was_written_and_is_of_the_photo(tmp_path: Path) -> None:
    shard = written(tmp_path / "a.h5", packing=Packing("region", 96))
    sample = shard.read(3)
    np.testing.assert_array_equal(sample.camera, CAMERA)
    np.testing.assert_array_equal(shard.arrays["extra/camera"], [CAMERA] * 12)
    assert "camera" not in sample.extra
    bare = written(tmp_path / "b.h5", lambda person: replace(person, camera=None))
    assert bare.read(3).camera is None
    assert "extra/camera" not in bare.arrays


def test_a_camera_of_some_people_or_of_other_numbers_is_refused(tmp_path: Path) -> None:
    first = photos()[0].people[0]
    with pytest.raises(ShardError, match="extra/camera is not given for every person"):
        written(tmp_path / "a.h5", lambda person: replace(person, camera=CAMERA if person is first else None))
    shard = written(tmp_path / "b.h5")
    with h5py.File(shard.path, "r+") as file:
        del file["extra/camera"]
        file["extra/camera"] = np.zeros((12, 3), np.float32)
    with pytest.raises(ShardError, match=r"extra/camera has .* shape \(12, 3\); expected floats of shape \(12, 4\)"):
        len(Shard(shard.path).arrays)
