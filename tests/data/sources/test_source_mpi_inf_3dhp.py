"""MPI-INF-3DHP and SPIN's fits: the selected frames, their files and their labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from raw import mpi_inf_3dhp as made
from raw import spin_mi as made_spin
from raw.placed import joints

from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, Raw, convert
from hmrb.data.convert.pack import Packing, pack
from hmrb.data.sources import CONVERTERS, mpi_inf_3dhp, spin_mi
from hmrb.errors import RequestError, RunError
from hmrb.formats import optional
from hmrb.formats.pictures import UnreadablePicture
from hmrb.records import Person, Photo
from hmrb.skeleton import SKELETONS
from hmrb.store import Store


def photos(root: Path, split: str = "train", compat: bool = False) -> list[Photo]:
    parts = mpi_inf_3dhp.plan(Raw(root, compat))
    part = next(part for part in parts if part.split == split)
    return [photo for item in part.items for photo in part.read(item) if photo.people]


def spin_photos(root: Path) -> list[Photo]:
    (part,) = spin_mi.plan(Raw(root))
    return [photo for item in part.items for photo in part.read(item) if photo.people]


def test_one_of_ten_people_inside_the_picture_is_kept_counted_through_the_whole_set(tmp_path: Path) -> None:
    made.write_all(tmp_path)
    layouts = ("S1/Seq1/video_{}/{:06d}.jpg", "S2/Seq2/imageFrames/video_{}/frame_{:06d}.jpg")
    expected = [layouts[sequence].format(camera, frame + 1) for sequence, camera, frame in made.kept(2)]
    found = photos(tmp_path)
    assert [photo.name for photo in found] == expected
    assert len(expected) == 18
    assert all(photo.file is not None and photo.file.exists() for photo in found)


def test_training_labels_are_metres_in_the_camera_s_frame(tmp_path: Path) -> None:
    people = made.write(tmp_path)
    for photo, (_, camera, frame) in zip(photos(tmp_path), made.kept(1), strict=True):
        (person,), who = photo.people, people[frame]
        points = who.points2d("mpi_inf_3dhp")
        np.testing.assert_allclose(person.keypoints2d[:, :2], points, rtol=1e-6)
        np.testing.assert_allclose(person.keypoints3d[:, :3], who.points3d("mpi_inf_3dhp"), atol=1e-6)
        assert person.keypoints3d[:, 3].all()
        size = 1.2 * (points.max(0) - points.min(0))
        np.testing.assert_allclose(person.box, [*((points.max(0) + points.min(0) - size) / 2), *size], rtol=1e-5)
        assert person.columns == {"sequence": "S1/Seq1", "camera": camera}
        assert person.camera.tolist() == [150 + camera / 8, 150.25, made.SIZE[0] / 2 - 0.5, made.SIZE[1] / 2 - 0.25]
        assert not person.has_body


def test_frames_come_from_the_videos_where_nothing_was_extracted(tmp_path: Path) -> None:
    people = made.write(tmp_path, layout="avi")
    found = photos(tmp_path)
    assert len(found) == len(made.kept(1))
    for photo, (_, camera, frame) in zip(found, made.kept(1), strict=True):
        assert photo.name == f"S1/Seq1/imageSequence/video_{camera}.avi/{frame:06d}"
        assert photo.pixels is not None
        # the codec causes a difference of 2.5; the next frame or swapped channels cause 9
        assert np.abs(photo.pixels.astype(int) - made.draw([people[frame]], made.SIZE, frame)).mean() < 6


def test_test_frames_are_the_valid_ones_with_the_normalised_skeleton_as_truth(tmp_path: Path) -> None:
    people = made.write_test(tmp_path, "TS2", 0)
    found = photos(tmp_path, "test")
    assert [photo.name[-10:] for photo in found] == ["000001.jpg", "000003.jpg", "000004.jpg", "000005.jpg"]
    skeleton, seventeen = SKELETONS["mpi_inf_3dhp"], SKELETONS["mpi_inf_3dhp_test"]
    rows = [skeleton.index(name) for name in seventeen.joints]
    (person,) = found[2].people
    true = people[3].points3d("mpi_inf_3dhp_test")
    np.testing.assert_allclose(person.keypoints3d[rows, :3], made.UNIVERSAL * true, rtol=1e-5)
    np.testing.assert_allclose(person.extra["mpi_inf_3dhp_test/annot3"], true, rtol=1e-5)
    np.testing.assert_allclose(person.keypoints2d[rows, :2], people[3].points2d("mpi_inf_3dhp_test"), rtol=1e-5)
    assert person.keypoints2d[:, 2].sum() == person.keypoints3d[:, 3].sum() == 17
    assert person.columns == {"sequence": "TS2", "activity": 3.0}


def test_as_in_the_study_a_test_frame_with_a_joint_beyond_2048_is_left_out(tmp_path: Path) -> None:
    made.write_test(tmp_path, "TS5", 0)
    names = [photo.name[-10:] for photo in photos(tmp_path, "test", compat=True)]
    assert names == ["000001.jpg", "000004.jpg", "000005.jpg"]


def test_sequences_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("TS10", "TS2"):
        made.write_test(tmp_path, name, 0, frames=3)
    assert [photo.people[0].columns["sequence"] for photo in photos(tmp_path, "test")][::2] == ["TS2", "TS10"]


def test_converting_writes_both_splits(tmp_path: Path) -> None:
    made.write_all(tmp_path / "raw")
    source = CONVERTERS["mpi_inf_3dhp"]
    infos = convert(
        source,
        source.plan(Raw(tmp_path / "raw")),
        Store(tmp_path / "home"),
        ConversionOptions("a test", 1),
        ProgressReporter(),
    )
    assert {info.split: info.num_people for info in infos} == {"train": 18, "test": 12}


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"contains no S\*/Seq\*/annot.mat"):
        photos(tmp_path)
    made.write(tmp_path)
    path = tmp_path / "S1/Seq1/annot.mat"
    table = scipy.io.loadmat(path, variable_names=("annot2", "annot3"))
    cells = {name: table[name] for name in ("annot2", "annot3")}
    for damage, said in (
        ({"annot2": cells["annot2"]}, "missing variables: annot3"),
        (cells | {"annot3": cells["annot3"][:5]}, r"annotations have \[14, 5\] cameras"),
        (cells | {"annot3": cells["annot2"]}, r"camera 0 has .*expected \(frames, 56\) and \(frames, 84\)"),
    ):
        mpi_inf_3dhp._annotations.cache_clear()
        scipy.io.savemat(path, damage)
        with pytest.raises(RunError, match=f"annot.mat: {said}"):
            photos(tmp_path)
    mpi_inf_3dhp._annotations.cache_clear()
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RunError, match="annot.mat: not a MATLAB file up to v7"):
        photos(tmp_path)


def test_annotations_without_pictures_are_refused(tmp_path: Path) -> None:
    made.write(tmp_path / "whole")
    (tmp_path / "bare/S1/Seq1").mkdir(parents=True)
    (tmp_path / "whole/S1/Seq1/annot.mat").rename(tmp_path / "bare/S1/Seq1/annot.mat")
    with pytest.raises(RequestError, match="has annot.mat, but no images or videos of any camera"):
        photos(tmp_path / "bare")


def test_a_reader_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def nothing(name: str) -> None:
        raise ImportError(name)

    made.write(tmp_path)
    monkeypatch.setattr(optional, "import_module", nothing)
    mpi_inf_3dhp._annotations.cache_clear()
    with pytest.raises(RequestError, match=r"scipy.io is required .* not installed.*pip install 'hmrb\[convert\]'"):
        photos(tmp_path)


def test_frames_that_a_video_lacks_count_as_pictures_that_are_missing(tmp_path: Path) -> None:
    made.write(tmp_path, layout="avi")
    clip = mpi_inf_3dhp.MpiInf3dhpClip("S1/Seq1", 0, np.array([2, made.FRAMES, made.FRAMES + 3]))
    first, *beyond = mpi_inf_3dhp.pictures(Raw(tmp_path), clip)
    assert first.pixels is not None
    for photo, number in zip(beyond, (12, 15), strict=True):
        person = Person(box=np.array([0, 0, 9, 9], np.float32))
        with pytest.raises(UnreadablePicture, match=f"video_0.avi/{number:06d}: image cannot be decoded"):
            pack(replace(photo, people=(person,)), Packing())
    (tmp_path / "S1/Seq1/imageSequence/video_5.avi").write_bytes(b"no video")
    with pytest.raises(RunError, match="video_5.avi: not a video, or cannot be decoded"):
        photos(tmp_path)


@pytest.mark.parametrize("fits", ["mview", "final", "inside"])
def test_spin_s_people_have_its_points_and_its_bodies_where_the_fit_is_good(tmp_path: Path, fits: str) -> None:
    people = made_spin.write(tmp_path, fits=fits)
    order = [*range(len(people) // 2 - 1, -1, -1), *range(len(people) // 2, len(people))]  # by clip and frame
    found = spin_photos(tmp_path)
    assert [photo.name for photo in found][:2] == ["S1/Seq1/video_2/000001.jpg", "S1/Seq1/video_2/000002.jpg"]
    for photo, row in zip(found, order, strict=True):
        (person,), who = photo.people, people[row]
        marked = np.arange(24) % 4 != 3
        points = who.points3d("smpl_24")
        np.testing.assert_allclose(person.keypoints3d[25:][marked, :3], (points - points[14])[marked], atol=1e-5)
        np.testing.assert_allclose(person.keypoints2d[25:][marked, :2], who.points2d("smpl_24")[marked], rtol=1e-5)
        assert not person.keypoints2d[25:][~marked].any()
        assert not person.keypoints3d[25:][~marked].any()
        assert not person.keypoints3d[:25].any()
        np.testing.assert_allclose(person.keypoints2d[0, :2], who.points2d("openpose_25")[0], rtol=1e-5)
        box = who.box(1.0)
        side = 1.2 * box[2:].max()
        np.testing.assert_allclose(person.box, [*(box[:2] + box[2:] / 2 - side / 2), side, side], rtol=1e-4)
        assert person.has_body == (row % made_spin.UNFITTED != 0)
        if person.has_body:
            np.testing.assert_allclose(joints(person) - joints(person)[0], who.joints[:24] - who.joints[0], atol=1e-5)


def test_spin_s_pictures_are_found_as_spin_extracts_them_and_in_videos(tmp_path: Path) -> None:
    made_spin.write(tmp_path / "spin", layout="spin")
    assert spin_photos(tmp_path / "spin")[0].name == "S1/Seq1/imageFrames/video_2/frame_000001.jpg"
    people = made_spin.write(tmp_path / "avi", layout="avi")
    photo = spin_photos(tmp_path / "avi")[4]
    who = people[len(people) // 2 - 1 - 4]
    assert photo.name == "S1/Seq1/imageSequence/video_2.avi/000004"
    assert photo.pixels is not None
    assert np.abs(photo.pixels.astype(int) - made.draw([who], made.SIZE, 4)).mean() < 6  # as above


def test_spin_converts(tmp_path: Path) -> None:
    made_spin.write_all(tmp_path / "raw")
    source = CONVERTERS["spin_mi"]
    (info,) = convert(
        source,
        source.plan(Raw(tmp_path / "raw")),
        Store(tmp_path / "home"),
        ConversionOptions("a test"),
        ProgressReporter(),
    )
    assert info.num_people == 24


def test_spin_s_files_out_of_step_are_named(tmp_path: Path) -> None:
    made_spin.write(tmp_path)
    fits = tmp_path / "mpi-inf-3dhp_mview_fits.npz"
    np.savez(fits, pose=np.zeros((3, 72)), shape=np.zeros((3, 10)), has_smpl=np.ones(3))
    with pytest.raises(RunError, match=r"mview_fits.npz: pose has shape \(3, 72\), expected \(24, 72\) for 24 images"):
        spin_photos(tmp_path)
    fits.unlink()
    with pytest.raises(RequestError, match="has no poses, and there is no mpi-inf-3dhp_mview_fits.npz or"):
        spin_photos(tmp_path)
    with np.load(tmp_path / "mpi_inf_3dhp_train.npz") as arrays:
        table = dict(arrays)
    table |= {"pose": np.zeros((24, 72)), "shape": np.zeros((24, 10)), "has_smpl": np.ones(24)}
    table["imgname"][0] = "../../etc/passwd.jpg"
    np.savez(tmp_path / "mpi_inf_3dhp_train.npz", **table)
    with pytest.raises(RunError, match="image name '../../etc/passwd.jpg' is not like"):
        spin_photos(tmp_path)
