import numpy as np
import pytest

from hmrb.skeleton import SKELETONS, remap


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_mirroring_twice_changes_nothing(skeleton) -> None:
    mirror = skeleton.mirror()
    assert (mirror[mirror] == np.arange(len(skeleton.joints))).all()
    assert len(set(skeleton.joints)) == len(skeleton.joints)


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
