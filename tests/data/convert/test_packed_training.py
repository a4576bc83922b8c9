"""Label files of BEDLAM, CameraHMR and 4D-Humans in their true form: SMPL-X bodies, intrinsics, folders of files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import hmrb, refused
from raw.packed import bedlam_scene, camera_matrices, camerahmr, picture, tar_of_4dhumans

from hmrb.data.convert.catalogue import train_set
from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter
from hmrb.data.convert.from_packed import repack
from hmrb.data.convert.pack import Packing
from hmrb.data.convert.packed_fields import NO_CAMERA, NO_SMPLX_BODY, Notes
from hmrb.data.convert.packed_files import read_bedlam
from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.missing import shard_command
from hmrb.skeleton import SKELETONS
from hmrb.store import Store

AVA = "hmrb convert-data 4dhumans --file DIR --as ava"


def write(folder: Path, **arrays: Any) -> Path:
    path = folder / "packed.npz"
    np.savez(path, **arrays)
    return path


def slot(joint: str) -> int:
    return SKELETONS["smpl54"].index(joint)


def test_a_scene_of_bedlam_has_smplx_bodies_under_agora_s_names_and_cameras(tmp_path: Path) -> None:
    first, second = read_bedlam(write(tmp_path, **bedlam_scene()), lambda name: picture())
    assert not first.has_body
    assert first.keypoints2d[slot("left_knee")].tolist() == [9, 8, 1]
    assert first.camera.tolist() == [1000, 1010, 640, 360]
    assert second.camera.tolist() == [1100, 1110, 641, 361]
    ends = {"global_orient": (0, 3), "body_pose": (3, 66), "jaw_pose": (66, 69), "leye_pose": (69, 72)}
    ends |= {"reye_pose": (72, 75), "left_hand_pose": (75, 120), "right_hand_pose": (120, 165)}
    for part, (start, end) in ends.items():
        np.testing.assert_allclose(first.extra[f"smplx/{part}"], np.arange(start, end) / 1000, rtol=1e-6)
    np.testing.assert_allclose(first.extra["smplx/transl"], [4.1, 0.2, 0.3], rtol=1e-6)  # cam_ext's and trans_cam
    assert first.extra["smplx/betas"].tolist() == [0.5] * 11
    assert set(first.extra) == {f"smplx/{part}" for part in (*ends, "betas", "transl")}


def test_intrinsics_and_smplx_bodies_that_are_none_are_unknown_and_counted(tmp_path: Path) -> None:
    notes, poses = Notes(), np.zeros((4, 165))
    poses[2, 7] = np.nan
    matrices = camera_matrices((np.nan, 1, 1, 1), (1000, -1, 1, 1), (0, 0, 0, 0), (900, 900, 1, 1))
    content = {key: np.concatenate([value, value]) for key, value in bedlam_scene().items()}
    content |= {"pose_cam": poses, "cam_int": matrices}
    people = list(read_bedlam(write(tmp_path, **content), lambda name: picture(), notes=notes))
    assert [person.camera.tolist() for person in people] == [[0] * 4] * 3 + [[900, 900, 1, 1]]
    assert not people[2].extra["smplx/betas"].any()
    assert people[3].extra["smplx/betas"].all()
    assert notes.changed == {NO_CAMERA: 2, NO_SMPLX_BODY: 1}


@pytest.mark.parametrize("pose", [np.full((2, 72), 0.1), np.full((2, 24, 3), 0.1)], ids=["flat", "by joint"])
def test_labels_of_camerahmr(pose: np.ndarray, tmp_path: Path) -> None:
    first, second = read_bedlam(write(tmp_path, **camerahmr(pose=pose)), lambda name: picture())
    assert first.has_body
    np.testing.assert_allclose(first.pose, 0.1)
    np.testing.assert_allclose(first.transl, [4.1, 0.2, 0.3], rtol=1e-6)
    np.testing.assert_allclose(first.keypoints2d[slot("right_ankle")], [6, 7, 0.9])
    assert (first.keypoints2d[:, 2] > 0).sum() == 1
    assert second.camera.tolist() == [510, 510, 10, 5]
    assert first.gender == "neutral"
    assert not first.extra


def packed_as(kind: str, file: Path, images: Path | None, name: str) -> Shard:
    """The shard of a file, or of a folder of files, as the dataset `name` of the catalogue."""
    store = Store(file.parent / "home")
    making = ConversionOptions("a test", packing=Packing("region", 64))
    repack(kind, file, images, name, "train", store, making, ProgressReporter())
    return Shard(store.shard(name, "train"))


def test_a_folder_of_bedlam_s_scenes_is_one_shard_of_the_catalogue(tmp_path: Path) -> None:
    scenes = ("20221010_3_1000_batch01hand_6fps", "20221011_1_250_batch01hand_closeup_suburb_a_6fps")
    (tmp_path / "labels").mkdir()
    for scene in scenes:
        np.savez(tmp_path / f"labels/{scene}.npz", **bedlam_scene())
        for name in bedlam_scene()["imgname"]:
            path = tmp_path / "images" / scene / "png" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(kind=".png"))
    shard = packed_as("bedlam", tmp_path / "labels", tmp_path / "images", "bedlam")
    assert [shard.name(row) for row in range(4)] == [
        f"{scene}/png/{name}" for scene in scenes for name in bedlam_scene()["imgname"]
    ]
    assert shard.read(0).photo_px == (20, 10)
    assert shard.read(2).photo_px == (10, 20)  # a scene of close-ups is stored turned, whatever its images are called
    assert shard.arrays["extra/camera"][:, 0].tolist() == [1000, 1100] * 2
    assert shard.info.source.startswith("packed: labels (2 files), bedlam, sha ")
    assert not train_set("bedlam").study_file


def test_a_folder_of_4d_humans_tars_of_ava_is_one_shard_of_the_catalogue(tmp_path: Path) -> None:
    tars = tmp_path / "ava-train-midframes-1fps-vitpose"
    tars.mkdir()
    for number in (1, 0):
        tar_of_4dhumans(tars / f"{number:06d}.tar", f"clip_{number}/frame_30")
    shard = packed_as("4dhumans", tars, None, "ava")
    assert [shard.name(row) for row in range(2)] == ["clip_0/frame_30", "clip_1/frame_30"]
    assert shard.arrays["has_body"].tolist() == [1, 1]
    assert "extra/camera" not in shard.arrays
    assert train_set("ava").skeleton == "smpl_49"


def test_a_folder_without_such_files_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    for kind, ending in (("bedlam", ".npz"), ("4dhumans", ".tar")):
        with pytest.raises(RequestError, match=rf"labels: a folder without any {ending}; {kind} reads such files"):
            packed_as(kind, tmp_path / "labels", tmp_path, "bedlam")
    assert not (tmp_path / "home/shards").exists()


def test_a_spec_and_a_user_are_told_how_to_make_the_shards() -> None:
    assert shard_command("bedlam") == "hmrb convert-data bedlam --file DIR --images DIR --as bedlam"
    assert shard_command("ava") == "hmrb convert-data 4dhumans --file DIR --as ava"
    assert shard_command("coco") == "hmrb convert-data coco --raw DIR"
    refused(hmrb("convert-data", "ava", "--raw", "."), f"ava is made from packed files, not from raw ones: {AVA}")
    for name, command in (("ava", AVA), ("bedlam", "--as bedlam")):
        done = hmrb("convert-data", name, "--explain")
        assert done.returncode == 0, done.stderr
        assert "made from packed files" in done.stdout
        assert command in done.stdout
