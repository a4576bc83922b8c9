"""What decides in a converter who is kept and what counts: each number as written here, and both sides of its edge."""

import importlib
import json
import pickle
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from raw import agora as raw_agora
from raw import aic as raw_aic
from raw import cmu_mosh as raw_cmu_mosh
from raw import coco as raw_coco
from raw import emdb as raw_emdb
from raw import instavariety as raw_instavariety
from raw import leeds as raw_leeds
from raw import lip as raw_lip
from raw import mpi_inf_3dhp as raw_mpi_inf_3dhp
from raw import mpii as raw_mpii
from raw import mupots3d as raw_mupots3d
from raw import ochuman as raw_ochuman
from raw import oh50k3d as raw_oh50k3d
from raw import openpose as raw_openpose
from raw import penn_action as raw_penn_action
from raw import people3d as raw_people3d
from raw import pw3d as raw_pw3d
from raw import surreal as raw_surreal
from raw import up3d as raw_up3d
from raw.people import someone
from raw.placed import store_with_body
from raw.scenes import SIZE
from raw.sources import people_of, photos_of
from raw.tfrecord import write_records
from scipy.io import loadmat, savemat

import hmrb.data.sources
from hmrb.data.convert.boxes import box_around, box_centered, box_corners, box_mask
from hmrb.data.convert.conversion import Raw
from hmrb.data.sources import (
    agora,
    aic,
    cmu_mosh,
    coco,
    emdb,
    instavariety,
    leeds,
    lip,
    mpi_inf_3dhp,
    mpii,
    mupots3d,
    ochuman,
    oh50k3d,
    openpose,
    penn_action,
    people3d,
    pw3d,
    surreal,
    up3d,
)

# Every number at the head of a converter. Those of the first table decide who is kept or what counts; a test below has
# both sides of each.
THRESHOLDS = {
    "lip.FEWEST": 5,  # the study's converter
    "coco_json.MARGIN": 1.2,  # as in box_around
    "aic.VISIBLE": 1, "aic.HIDDEN": 2, "aic.UNLABELLED": 3, "aic.HIDDEN_COCO": 1,  # AI Challenger's page; COCO's
    "ochuman.HIDDEN": 2, "ochuman.VAL_PICTURES": 2500,  # its file; its paper: 2,500 to validate, 2,231 to test
    "openpose.SURE": 0.15,  # the study's converter
    "oh50k3d.ON_PIXELS": 0.1,
    "people3d.WORST_PX": 0.8, "people3d.LAST_TRAINED": 33,
    "mpi_inf_3dhp.EVERY": 10, "mpi_inf_3dhp.SIDE_PX": 2048,  # SPIN's converter
    "mpi_inf_3dhp.CAMERAS": (0, 1, 2, 4, 5, 6, 7, 8),  # "chest-height" of its readme
    "penn_action.EVERY": 10, "penn_action.FIRST_PIXEL": 1.0,
    "cmu_mosh.FPS": 10,  # mmhuman3d
    "surreal.WIDTH": 320, "surreal.HEIGHT": 240,  # SURREAL's readme
    "h36m.EVERY": 5, "h36m.MASK_FACTOR": 0.9, "up3d.MASK_FACTOR": 0.9,  # SPIN's converters
    "leeds.FIRST_PIXEL": 1.0,
    "muco.PELVIS": 14,
    "pw3d.HALVED": 0.5, "pw3d.ABOUT": 0.05,
}  # fmt: skip
OTHERS = {
    "agora.LONGEST": 20_000, "agora.SIZE": (3840, 2160), "agora.SMALLER": 3.0, "agora.JOINTS": 45, "agora.BETAS": 11,
    "agora.FOCAL_MM": 28, "agora.SENSOR_MM": 36,  # of the official projection
    "aic.POINTS": 14, "cmu_mosh.ROWS": 1000, "cmu_mosh.SMPLH_SHARED": 66, "coco.BODY": 17, "eft.READ_CHARS": 1 << 20,
    "emdb.FLAG_BYTES": 256, "h36m.NUM_SUBJECTS": 11, "h36m.EXTRINSICS": 6, "h36m.INTRINSICS": 9,
    "instavariety.BODY": 14, "instavariety.FACE": 5, "instavariety.TOES": 6, "leeds.POINTS": 14, "lip.POINTS": 16,
    "mpi_inf_3dhp.MISSING": (0.0, 0.0, 0.0, 0.0), "mpii.POINTS": 16, "muco.PICTURES": 200,
    "oh50k3d.UNITS": 7.0, "oh50k3d.PEOPLE": 200, "people3d.POINTS": 67, "people3d.METRES": 0.1,
    "people3d.FOCAL_PX": 700.0, "people3d.MIDDLE_PX": (320.0, 240.0),
    "people3d.SIZE": (640, 480), "rich.POSE": 66, "rich.BETAS": 10,
    "eft.NUM_VALUES": 2 + 1 + 3 + 10 + 216 + 147,
    "synthetic.TRAIN_PEOPLE": 10_000, "synthetic.TEST_PEOPLE": 500,
    "domains.TRAIN_PEOPLE": 2_000, "domains.VAL_PEOPLE": 250, "domains.TEST_PEOPLE": 500, "domains.FITTED_PHOTOS": 200,
}  # fmt: skip


def is_number(value: Any) -> bool:
    parts = value if isinstance(value, tuple) else (value,)
    return bool(parts) and all(isinstance(part, int | float) and not isinstance(part, bool) for part in parts)


def test_every_number_at_the_head_of_a_converter_is_the_one_written_here() -> None:
    found = {}
    for info in pkgutil.iter_modules(hmrb.data.sources.__path__):
        module = importlib.import_module(f"hmrb.data.sources.{info.name}")
        found |= {f"{info.name}.{key}": v for key, v in vars(module).items() if key.isupper() and is_number(v)}
    assert found == THRESHOLDS | OTHERS


def test_h36m_takes_the_subjects_and_cameras_of_its_protocols() -> None:
    from hmrb.data.sources import h36m

    assert h36m.SUBJECTS == {"train": (1, 5, 6, 7, 8), "test_p1": (9, 11), "test_p2": (9, 11)}
    assert h36m.FRONT == "60457274"
    # SPIN's rows of the 32: pelvis to neck are 11 6 7 8 1 2 3 12 24 14 15 17 18 19 25 26 27.
    assert h36m.JOINTS == [11, 6, 7, 8, 1, 2, 3, 12, 24, 14, 15, 17, 18, 19, 25, 26, 27]


def test_boxes_have_the_rules_margins() -> None:
    points = np.array([[10.0, 20, 1], [30, 60, 1], [90, 90, 0]])
    assert box_around(points[:2]).tolist() == [8, 16, 24, 48]  # 20 x 40, times 1.2
    assert box_around(points, seen=points[:, 2] > 0).tolist() == [8, 16, 24, 48]
    assert box_corners(10, 20, 30, 60).tolist() == [10, 20, 20, 40]
    assert box_centered(np.array([50.0, 60]), 0.5).tolist() == [0, 10, 100, 100]  # 200 px a unit of scale
    mask = np.zeros((50, 60), bool)
    mask[10:30, 20:60] = True
    assert box_mask(mask).tolist() == [22, 11, 36, 18]  # 40 x 20, times 0.9


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Changes what a JSON file holds, in place."""
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


@pytest.mark.parametrize(("visible", "is_kept"), [(4, False), (5, True)])
def test_lip_keeps_people_of_five_visible_points(visible: int, is_kept: bool, tmp_path: Path) -> None:
    raw_lip.write(tmp_path)
    path = tmp_path / "lip_train_set.csv"
    name, *cells = path.read_text().splitlines()[0].split(",")
    cells[2::3] = ["0"] * visible + ["1"] * (16 - visible)
    path.write_text(",".join([name, *cells]) + "\n")
    people = people_of(lip.plan(Raw(tmp_path)), "train")
    assert len(people) == is_kept
    for person in people:
        assert person.keypoints2d[:, 2].sum() == visible


@pytest.mark.parametrize("code", [1, 2, 3])
def test_aic_keeps_people_of_one_point_seen_or_hidden(code: int, tmp_path: Path) -> None:
    raw_aic.write(tmp_path)

    def mark(table: list[dict[str, Any]]) -> None:
        del table[1:], table[0]["keypoint_annotations"]["human2"]
        table[0]["keypoint_annotations"]["human1"] = [50, 60, code] + [0, 0, 3] * 13

    edit(tmp_path / raw_aic.LISTS["train"], mark)
    people = people_of(aic.plan(Raw(tmp_path)), "train")
    assert len(people) == (code != 3)
    for person in people:
        assert person.keypoints2d[:, 2].tolist() == [1] + [0] * 13
        assert person.columns["occlusion"] == (code == 2)


def test_coco_s_codes_in_aic_are_0_missing_1_hidden_2_visible(tmp_path: Path) -> None:
    raw_aic.write_coco(tmp_path)

    def mark(table: dict[str, Any]) -> None:
        del table["annotations"][1:]
        table["annotations"][0]["keypoints"] = [50, 60, 1] + [50, 60, 2] + [0, 0, 0] * 12

    edit(tmp_path / "annotations/aic_train.json", mark)
    (person,) = people_of(aic.plan(Raw(tmp_path)), "train")
    assert person.keypoints2d[:, 2].tolist() == [1, 1] + [0] * 12
    assert person.columns["occlusion"] == 0.5


@pytest.fixture(scope="module")
def coco_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("coco")
    raw_coco.write_coco(root, pictures=1)
    return root


def coco_people(root: Path, change: Callable[[dict[str, Any]], None], tmp_path: Path) -> int:
    """How many are kept of one person who is changed."""
    table = json.loads((root / "annotations/person_keypoints_train2014.json").read_text())
    del table["annotations"][1:]
    change(table["annotations"][0])
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train2014").symlink_to(root / "train2014")
    (tmp_path / "annotations/person_keypoints_train2014.json").write_text(json.dumps(table))
    return len(people_of(coco.plan_coco(Raw(tmp_path)), "train"))


@pytest.mark.parametrize("joint", [None, *range(17)])
def test_coco_keeps_people_whose_limbs_are_labelled(joint: int | None, coco_tree: Path, tmp_path: Path) -> None:
    """Nose, eyes and ears are points 0 to 4, shoulders to ankles 5 to 16."""

    def without(person: dict[str, Any]) -> None:
        if joint is not None:
            person["keypoints"][3 * joint : 3 * joint + 3] = [0, 0, 0]

    assert coco_people(coco_tree, without, tmp_path) == (joint is None or joint < 5)


@pytest.mark.parametrize(("crowd", "kept"), [(0, 1), (1, 0)])
def test_coco_leaves_crowds_out(crowd: int, kept: int, coco_tree: Path, tmp_path: Path) -> None:
    assert coco_people(coco_tree, lambda person: person.update(iscrowd=crowd), tmp_path) == kept


def test_a_hidden_point_of_coco_is_labelled(coco_tree: Path, tmp_path: Path) -> None:
    def hide(person: dict[str, Any]) -> None:
        person["keypoints"][2::3] = [1] * 17

    assert coco_people(coco_tree, hide, tmp_path) == 1


@pytest.mark.parametrize(
    ("at", "kept"),
    [((0, 0), True), ((-0.5, 0), False), ((0, -0.5), False), ((SIZE[0] - 0.5, SIZE[1] - 0.5), True),
     ((SIZE[0], 9), False), ((9, SIZE[1]), False)],
)  # fmt: skip
def test_crowdpose_keeps_people_inside_the_picture(at: tuple[float, float], kept: bool, tmp_path: Path) -> None:
    raw_coco.write_crowdpose(tmp_path)

    def move(table: dict[str, Any]) -> None:
        del table["annotations"][1:]
        table["annotations"][0]["keypoints"][:2] = at

    edit(tmp_path / "crowdpose_train.json", move)
    assert len(people_of(coco.plan_crowdpose(Raw(tmp_path)), "train")) == kept


@pytest.mark.parametrize(("score", "there"), [(0.0, 0), (0.4, 0.4), (1.0, 1), (2.0, 1)])
def test_scores_of_coco_wholebody_end_at_1(score: float, there: float, tmp_path: Path) -> None:
    raw_coco.write_wholebody(tmp_path)

    def mark(table: dict[str, Any]) -> None:
        del table["annotations"][1:]
        table["annotations"][0]["foot_kpts"][2] = score

    edit(tmp_path / "annotations/coco_wholebody_train_v1.0.json", mark)
    (person,) = people_of(coco.plan_wholebody(Raw(tmp_path)), "train")
    assert person.keypoints2d[17, 2] == np.float32(there)
    assert person.keypoints2d[17].any() == bool(there)


@pytest.mark.parametrize(("wide", "high", "kept"), [(0.0, 9.0, False), (9.0, 0.0, False), (0.5, 0.5, True)])
def test_emdb_keeps_frames_whose_box_has_a_size(wide: float, high: float, kept: bool, tmp_path: Path) -> None:
    sequence = "P0_00_outdoor_climb"
    table = raw_emdb.table_of(sequence)
    table["bboxes"]["bboxes"][0] = 30, 40, 30 + wide, 40 + high
    path = raw_emdb.file_of(tmp_path, sequence)
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(table))
    raw = Raw(tmp_path, store=store_with_body(tmp_path / "home"))
    frames = [person.columns["frame"] for person in people_of(emdb.plan(raw), "emdb1")]
    assert (0 in frames) == kept
    assert raw_emdb.BAD not in frames


@pytest.mark.parametrize(("visible", "kept"), [(1, 0), (2, 1)])
def test_instavariety_keeps_frames_of_two_visible_points(visible: int, kept: int, tmp_path: Path) -> None:
    """One point has no box."""
    people = [someone(frame, (raw_instavariety.SIDE,) * 2, at=(0.4, 0.5), focal=220.0) for frame in range(4)]
    track = raw_instavariety._track(people, 0, phis=False, toes=False)
    for key in ("image/visibilities", "image/face_pts"):
        track[key] = 0 * track[key]
    track["image/visibilities"][0, :visible] = 1
    write_records(tmp_path / "train/one.tfrecord", [track])
    assert len(people_of(instavariety.plan(("train",), Raw(tmp_path)), "train")) == kept


@pytest.mark.parametrize(
    ("at", "kept"),
    [((0, 0), True), ((-0.5, 9), False), ((9, -0.5), False), (SIZE, True), ((SIZE[0] + 0.5, 9), False),
     ((9, SIZE[1] + 0.5), False)],
)  # fmt: skip
def test_lsp_keeps_people_inside_the_picture(at: tuple[float, float], kept: bool, tmp_path: Path) -> None:
    """Pixels are counted from 1, and from 0 to the full size are inside."""
    raw_leeds.write_lsp(tmp_path, people=8)
    joints = loadmat(tmp_path / "joints.mat")["joints"]
    joints[:2, raw_leeds.HEADTOP, 0] = at
    savemat(tmp_path / "joints.mat", {"joints": joints})
    names = [photo.name for photo in photos_of(leeds.plan_lsp(Raw(tmp_path)), "train")]
    assert ("images/im0001.jpg" in names) == kept


@pytest.mark.parametrize(
    ("at", "kept"),
    [((0, 0), True), ((-0.01, 9), False), ((9, -0.01), False), ((2047.9, 2047.9), True), ((2048, 9), False),
     ((9, 2048), False)],
)  # fmt: skip
def test_3dhp_counts_people_inside_2048_pixels(at: tuple[float, float], kept: bool, tmp_path: Path) -> None:
    """Of test frames the study asks it, of training frames every converter."""
    raw_mpi_inf_3dhp.write_test(tmp_path, "TS1", 0)
    with h5py.File(tmp_path / "mpi_inf_3dhp_test_set/TS1/annot_data.mat", "r+") as file:
        file["annot2"][0, 0, 4] = at
    names = [p.name for p in photos_of(mpi_inf_3dhp.plan(Raw(tmp_path, compat=True)), "test")]
    assert any(name.endswith("img_000001.jpg") for name in names) == kept
    assert mpi_inf_3dhp._are_inside(np.array([at], float)) == kept


@pytest.mark.parametrize(("pixel", "kept"), [(0, 0), (1, 1)])
def test_mpii_keeps_people_of_whom_all_is_labelled(pixel: int, kept: int, tmp_path: Path) -> None:
    """The first pixel is 1; 0 says that a point has no label."""
    raw_mpii.write(tmp_path)
    with h5py.File(tmp_path / "train.h5", "r+") as file:
        file["part"][0, 3, 0] = pixel
    (first, *_) = photos_of(mpii.plan(Raw(tmp_path)), "train")
    assert sum(np.allclose(person.keypoints2d[3, 0], pixel - 1) for person in first.people) == kept


@pytest.mark.parametrize("valid", [0.0, 1.0])
def test_mupots_keeps_valid_people(valid: float, tmp_path: Path) -> None:
    raw_mupots3d.write(tmp_path, occlusion=False)
    path = tmp_path / "MultiPersonTestSet/TS1/annot.mat"
    cells = loadmat(path)["annotations"]
    cells[0, 0]["isValidFrame"][0, 0] = np.array([[valid]])
    savemat(path, {"annotations": cells})
    (first, *_) = photos_of(mupots3d.plan(Raw(tmp_path)), "train")
    assert [person.columns["person"] for person in first.people] == ([0, 1] if valid else [1])


@pytest.mark.parametrize(("code", "labelled", "hidden"), [(0, 0, 0), (1, 1, 0), (2, 1, 1), (3, 1, 1)])
def test_ochuman_s_codes_from_2_are_hidden(code: int, labelled: int, hidden: int, tmp_path: Path) -> None:
    raw_ochuman.write(tmp_path)

    def mark(table: dict[str, Any]) -> None:
        table["images"][0]["annotations"][0]["keypoints"][3 * 16 + 2] = code

    edit(tmp_path / "ochuman.json", mark)
    person = people_of(ochuman.plan(Raw(tmp_path)), "train")[0]
    assert person.keypoints2d[16, 2] == labelled
    assert person.columns["occlusion"] == pytest.approx(hidden / (18 + labelled))


def test_ochuman_s_first_judged_pictures_are_to_validate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw_ochuman.write(tmp_path)
    monkeypatch.setattr(ochuman, "VAL_PICTURES", 3)
    parts = ochuman.plan(Raw(tmp_path))
    numbers = [[photo.name for photo in photos_of(parts, split)] for split in ("val", "test")]
    assert len(numbers[0]) == 3
    assert not set(numbers[0]) & set(numbers[1])


@pytest.mark.parametrize(("share", "rows"), [(0.099, 24), (0.101, 0)])
def test_3doh50k_believes_joints_within_a_tenth_of_the_box(share: float, rows: int, tmp_path: Path) -> None:
    raw_oh50k3d.write(tmp_path)

    def shift(table: dict[str, Any]) -> None:
        person = table["00000"]
        (x, y), (right, bottom) = person["bbox"]
        away = share * np.hypot(right - x, bottom - y)
        person["smpl_joints_2d"] = [[point[0] + away, point[1]] for point in person["smpl_joints_2d"]]

    edit(tmp_path / "trainset/annots.json", shift)
    raw = Raw(tmp_path, store=store_with_body(tmp_path / "home"))
    assert len(people_of(oh50k3d.plan(raw), "train")[0].keypoints3d) == rows


@pytest.mark.parametrize(("score", "there"), [(0.0, 0.0), (0.01, 0.01), (0.15, 0.15), (0.151, 1.0), (0.9, 1.0)])
def test_openpose_s_points_of_more_than_0_15_count_like_labels(score: float, there: float, tmp_path: Path) -> None:
    raw_openpose.write_prox(tmp_path, 1)
    (path, *_) = sorted((tmp_path / "keypoints").glob("*/*.json"))
    edit(path, lambda table: table["people"][0]["pose_keypoints_2d"].__setitem__(3 * 7 + 2, score))
    person = people_of(openpose.plan_prox(Raw(tmp_path)), "train")[0]
    assert person.keypoints2d[7, 2] == np.float32(there)
    assert person.keypoints2d[7].any() == bool(there)


@pytest.mark.parametrize(("visible", "frames"), [(0, [1]), (1, [1]), (2, [1, 11])])
def test_penn_action_keeps_frames_of_two_visible_points(visible: int, frames: list[int], tmp_path: Path) -> None:
    """Of the frames 1, 11, 21, ... alone; one point has no box."""
    raw_penn_action.write(tmp_path)
    for path in sorted((tmp_path / "labels").glob("*.mat"))[1:]:
        path.unlink()
    path = tmp_path / "labels/0001.mat"
    table = {key: value for key, value in loadmat(path).items() if not key.startswith("_")}
    table["visibility"][10:] = 0
    table["visibility"][10, 3 : 3 + visible] = 1
    savemat(path, table)
    photos = photos_of(penn_action.plan(Raw(tmp_path)), "train")
    assert [photo.name for photo in photos] == [f"frames/0001/{frame:06d}.jpg" for frame in frames]


@pytest.mark.parametrize(("error", "placed"), [(0.8, True), (0.81, False)])
def test_3dpeople_believes_a_camera_up_to_its_worst(
    error: float, placed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw_people3d.write(tmp_path)
    parts = people3d.plan(Raw(tmp_path))
    monkeypatch.setattr(people3d, "_in_camera", lambda pixels, world: (world + 5, error))
    person = people_of(parts, "train")[0]
    assert (person.keypoints3d[:, 3] == placed).all()


def test_3dpeople_trains_on_characters_up_to_33(tmp_path: Path) -> None:
    raw_people3d.write(tmp_path)
    parts = people3d.plan(Raw(tmp_path))
    found = {split: {str(p.columns["character"]) for p in people_of(parts, split)} for split in ("train", "test")}
    assert found == {"train": {"man33", "woman33"}, "test": {"woman34"}}


@pytest.mark.parametrize(("score", "there"), [(-0.1, 0), (0, 0), (0.01, 0.01), (1, 1), (1.5, 1)])
def test_3dpw_s_scores_are_from_0_to_1(score: float, there: float, tmp_path: Path) -> None:
    raw_pw3d.write(tmp_path)
    path = tmp_path / "sequenceFiles/train/train_walk_00.pkl"
    with open(path, "rb") as file:
        table = pickle.load(file, encoding="latin1")
    table["poses2d"][0][0, 2, 5] = score
    path.write_bytes(pickle.dumps(table))
    (first, *_) = photos_of(pw3d.plan(Raw(tmp_path, store=store_with_body(tmp_path / "home"))), "train")
    assert first.people[0].keypoints2d[5, 2] == np.float32(there)
    assert first.people[0].keypoints2d[5].any() == bool(there)


@pytest.mark.parametrize(
    ("at", "kept"),
    [((0, 0), True), ((319, 239), True), ((-1, 9), False), ((320, 9), False), ((9, -1), False), ((9, 240), False)],
)
def test_surreal_keeps_frames_with_a_joint_in_the_picture(at: tuple[int, int], kept: bool, tmp_path: Path) -> None:
    raw_surreal.write(tmp_path, frames=2, extracted=0)
    path = tmp_path / "train/run0/01_01/01_01_c0001_info.mat"
    table = {key: value for key, value in loadmat(path).items() if not key.startswith("_")}
    table["joints2D"][..., 0] = -50
    table["joints2D"][:, 7, 0] = at
    savemat(path, table)
    raw = Raw(tmp_path, store=store_with_body(tmp_path / "home"))
    names = [photo.name for photo in photos_of(surreal.plan(raw), "train")]
    assert any(name.endswith("frame_000000.jpg") for name in names) == kept


@pytest.mark.parametrize(("confidence", "there"), [(-1.0, False), (0.0, False), (0.01, True)])
def test_up3d_s_points_above_0_are_labelled(confidence: float, there: bool, tmp_path: Path) -> None:
    raw_up3d.write(tmp_path, "train", 1)
    path = tmp_path / "00000_joints.npy"
    joints = np.load(path)
    joints[2, 3] = confidence
    np.save(path, joints)
    (person,) = people_of(up3d.plan(Raw(tmp_path)), "train")
    assert person.keypoints2d[3].any() == there


@pytest.mark.parametrize(("rate", "frames"), [(40.0, 2), (25.0, 4), (10.0, 8), (5.0, 8)])
def test_amass_is_thinned_to_ten_frames_a_second(rate: float, frames: int, tmp_path: Path) -> None:
    raw_cmu_mosh.write_amass(tmp_path, rate)
    assert len(people_of(cmu_mosh.plan(Raw(tmp_path)), "train")) == frames


@pytest.mark.parametrize(
    ("at", "kept"), [((0, 0), True), ((-0.1, 9), False), ((9, -0.1), False), ((99, 49), True), ((99.1, 9), False)]
)
def test_agora_keeps_people_with_a_joint_in_the_picture(at: tuple[float, float], kept: bool) -> None:
    joints = np.array([(-500, -500), at, (900, 20)], float)
    assert agora._in_view(joints, np.array([100.0, 50.0])) == kept


def test_agora_leaves_out_who_is_not_valid(tmp_path: Path) -> None:
    everybody = raw_agora.write(tmp_path)
    found = photos_of(agora.plan(Raw(tmp_path)), "train")
    assert [len(photo.people) for photo in found] == [sum(one.is_valid for one in row) for row in everybody]


@pytest.mark.parametrize(
    ("size", "focal"), [((320, 240), 300), ((160, 120), 150), ((144, 120), 150), ((143, 120), 300), ((160, 107), 300)]
)
def test_3dpw_s_pictures_are_halved_within_a_twentieth_of_their_size(
    size: tuple[int, int], focal: float, tmp_path: Path
) -> None:
    """The principal point says 319 x 239 pixels."""
    raw_pw3d.write(tmp_path)
    for path in tmp_path.glob("imageFiles/*/*.jpg"):
        cv2.imwrite(str(path), np.zeros((size[1], size[0], 3), np.uint8))
    assert people_of(pw3d.plan(Raw(tmp_path)), "train")[0].camera[0] == focal
