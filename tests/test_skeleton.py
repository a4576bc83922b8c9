import gzip
import json
from typing import Any

import numpy as np
import pytest
from conftest import GOLDENS, golden

from hmrb.lookup import UnknownName
from hmrb.skeleton import SKELETONS, Skeleton, remap

STUDY: dict[str, Any] = json.loads(gzip.decompress((GOLDENS / "6_conventions.json.gz").read_bytes()))

# The joint of smpl54 that each joint supervises, independent of the names; -1 for none.
MPII = "8 5 45 46 4 7 49 50 47 48 21 19 17 16 18 20"
LSP = "8 5 45 46 4 7 21 19 17 16 18 20 47 48"
SMPL_24 = "8 5 45 46 4 7 21 19 17 16 18 20 47 48 49 50 51 52 53 24 26 25 28 27"
H36M = "49 46 4 7 45 5 8 51 47 53 48 16 18 20 17 19 21"
MPI_INF_3DHP_TEST = "48 47 17 19 21 16 18 20 45 5 8 46 4 7 49 51 53"
SMPL54_SLOTS: dict[str, str | list[int]] = {
    "smpl": [*range(24)],
    "smpl24": [*range(24)],
    "smpl_45": [*range(45)],
    "smpl45": [*range(45)],
    "smpl_54": [*range(54)],
    "smpl_24": SMPL_24,
    "smpl_49": [*[-1] * 25, *map(int, SMPL_24.split())],
    "h36m": H36M,
    "h36m17": H36M,
    "h36m_mmpose": "49 45 5 8 46 4 7 51 47 53 48 16 18 20 17 19 21",
    "lsp": LSP,
    "lsp14": LSP,
    "coco": "24 26 25 28 27 16 17 18 19 20 21 46 45 4 5 7 8",
    "mpii": MPII,
    "crowdpose": "16 17 18 19 20 21 1 2 4 5 7 8 15 12",
    "penn_action": "15 16 17 18 19 20 21 1 2 4 5 7 8",
    "posetrack": "24 -1 48 28 27 16 17 18 19 20 21 1 2 4 5 7 8",
    "pw3d": "24 47 17 19 21 16 18 20 45 5 8 46 4 7 25 26 27 28",
    "mpi_inf_3dhp": "9 -1 6 51 49 47 53 48 -1 16 18 20 -1 -1 17 19 21 -1 46 4 7 10 -1 45 5 8 11 -1",
    "mpi_inf_3dhp_test": MPI_INF_3DHP_TEST,
    "coco_wholebody": [
        *(24, 26, 25, 28, 27, 16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8, *range(29, 35)),
        *[-1] * 68,
        *(-1, -1, -1, -1, 35, -1, -1, -1, 36, -1, -1, -1, 37, -1, -1, -1, 38, -1, -1, -1, 39),
        *(-1, -1, -1, -1, 40, -1, -1, -1, 41, -1, -1, -1, 42, -1, -1, -1, 43, -1, -1, -1, 44),
    ],
    "agora": [*range(22), *[-1] * 33, *range(24, 45), *[-1] * 51],
    "smplx": [*range(22), *[-1] * 33, *range(24, 45), *[-1] * 68],
    "openpose_25": [-1] * 25,
    "prox": "24 47 17 19 21 16 18 20 49 45 5 8 46 4 7 25 26 27 28 29 30 31 32 33 34",
    "instavariety": [*[-1] * 13, 48, *[-1] * 11],
    "instavariety_nop": "34 5 45 46 4 31 21 19 17 16 18 20 47 48 24 26 25 28 27 29 32 30 33 7 8",
    "aic_14": "17 19 21 16 18 20 45 5 8 46 4 7 48 47",
    "ochuman_19": "17 19 21 16 18 20 45 5 8 46 4 7 48 47 27 28 24 25 26",
    "lip_16": MPII,
    "muco_21": f"{MPI_INF_3DHP_TEST} -1 -1 -1 -1",
    "people3d": [
        *(49, 3, 6, 9, 12, 15, 48, 25, 26),
        *(13, 16, 18, 20, *[-1] * 20),
        *(14, 17, 19, 21, *[-1] * 20),
        *(45, 5, 8, 11, -1),
        *(46, 4, 7, 10, -1),
    ],
}


def rows_of(source: str, target: str) -> list[int]:
    """For each row of `target`, the row of `source` that fills it; -1 for none."""
    numbers = np.arange(1, len(SKELETONS[source].joints) + 1, dtype=np.float32)[:, None]
    return [int(number) - 1 for number in remap(numbers, source, target)[:, 0]]


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_mirroring_twice_changes_nothing(skeleton: Skeleton) -> None:
    mirror = skeleton.mirror()
    assert (mirror[mirror] == np.arange(len(skeleton.joints))).all()


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_no_skeleton_names_a_joint_twice(skeleton: Skeleton) -> None:
    assert len(set(skeleton.joints)) == len(skeleton.joints)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_only_what_has_no_side_stays_where_it_is_in_a_mirror(skeleton: Skeleton) -> None:
    stays = skeleton.mirror() == np.arange(len(skeleton.joints))
    sided = [("left" in joint) or ("right" in joint) for joint in skeleton.joints]
    assert (stays != np.array(sided)).all()


@pytest.mark.parametrize("name", STUDY["names"])
def test_joints_are_those_of_the_study(name: str) -> None:
    assert list(SKELETONS[name].joints) == STUDY["names"][name]


@pytest.mark.parametrize("name", STUDY["flip_pairs"])
def test_mirrored_pairs_are_those_of_the_study(name: str) -> None:
    pairs = {frozenset((row, int(there))) for row, there in enumerate(SKELETONS[name].mirror()) if row != there}
    assert pairs == {frozenset(pair) for pair in STUDY["flip_pairs"][name]}


@pytest.mark.parametrize("source", STUDY["names"])
def test_every_convention_of_the_study_goes_to_every_other_as_there(source: str) -> None:
    for target in STUDY["names"]:
        assert rows_of(source, target) == STUDY["src_index_for_dst_exact"][f"{source}>{target}"], target


def test_remapped_points_and_masks_equal_the_study() -> None:
    arrays = golden("6_convert_kps")
    pairs = [key.removeprefix("out/") for key in arrays if key.startswith("out/")]
    assert len(pairs) == len(STUDY["names"]) * 7
    for pair in pairs:
        source, target = pair.split(">")
        mask = arrays[f"mask/{source}"].astype(np.float32)[:, None]
        np.testing.assert_array_equal(remap(arrays[f"in/{source}"], source, target), arrays[f"out/{pair}"], pair)
        np.testing.assert_array_equal(remap(mask, source, target)[:, 0], arrays[f"outmask/{pair}"], pair)


@pytest.mark.parametrize("name", SMPL54_SLOTS)
def test_joints_supervise_the_listed_joints_of_smpl54(name: str) -> None:
    slots = SMPL54_SLOTS[name]
    assert rows_of("smpl54", name) == (list(map(int, slots.split())) if isinstance(slots, str) else slots)


def test_ochuman_goes_to_the_joints_that_eft_puts_it_at() -> None:
    eft = [8, 7, 6, 9, 10, 11, 2, 1, 0, 3, 4, 5, 13, 12, 23, 22, 19, 21, 20]
    assert rows_of("smpl_24", "ochuman_19") == eft


def test_smpl54_holds_the_order_that_regressors_were_trained_for() -> None:
    joints = SKELETONS["smpl54"].joints
    assert (joints[25], joints[26], joints[45], joints[46]) == (
        "right_eye",
        "left_eye",
        "right_hip_extra",
        "left_hip_extra",
    )
    assert (joints[48], joints[53], len(joints)) == ("headtop", "head_extra", 54)


def test_h36m_rows_give_the_evaluation_joints_of_spin() -> None:
    h36m, lsp = SKELETONS["h36m17"], SKELETONS["lsp14"]
    assert [h36m.index(joint) for joint in lsp.joints] == [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10]


def test_remap_goes_by_name_and_leaves_the_rest_unlabelled() -> None:
    points = np.arange(14 * 3, dtype=np.float32).reshape(14, 3) + 1
    out = remap(points, "lsp14", "smpl54")
    smpl, lsp = SKELETONS["smpl54"], SKELETONS["lsp14"]
    assert (out[smpl.index("left_knee")] == points[lsp.index("left_knee")]).all()
    assert (out[smpl.index("nose")] == 0).all()
    assert (out[:, 2] > 0).sum() == 14


def test_of_a_skeleton_without_joints_nothing_is_labelled() -> None:
    assert remap(np.zeros((5, 0, 3)), "none", "lsp14").tolist() == np.zeros((5, 14, 3)).tolist()


def test_remap_leaves_its_input_alone() -> None:
    points = np.ones((2, 54, 3), np.float32)
    remap(points, "smpl54", "smpl54")[:] = 0
    remap(points, "smpl54", "gta")
    assert (points == 1).all()


@pytest.mark.parametrize(("wrong", "near"), [("h36m_18", "h36m"), ("aic", "aic_14"), ("smpl-x", "smplx")])
def test_an_unknown_skeleton_is_told_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(UnknownName, match=f"no skeleton named '{wrong}'. Did you mean .*'{near}'"):
        remap(np.zeros((17, 3), np.float32), wrong, "smpl54")
