from collections.abc import Callable

import numpy as np
import pytest
import smplx
import torch
from conftest import body_arrays, body_from, golden
from smplx.utils import Struct

import hmrb.body
from hmrb.body import SMPL, load_body
from hmrb.body.official import BodyError
from hmrb.body.tree import Tree
from hmrb.geometry import rotvec_to_rotmat
from hmrb.store import Store


def random_pose(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return rotvec_to_rotmat(0.4 * torch.randn(count, 24, 3, generator=rng)), torch.randn(count, 10, generator=rng)


def test_joints_equal_the_study() -> None:
    body = body_from(golden("reference_body_part"))
    g = {key: torch.from_numpy(value) for key, value in golden("3_smpl_forward").items()}
    rotvecs = torch.cat([g["global_orient"], g["body_pose"]], 1).unflatten(1, (24, 3))
    close = {"rtol": 0, "atol": 2e-5}  # metres; the stored blend shapes have half precision
    labels = body.joints(body(rotvec_to_rotmat(rotvecs), g["betas"]), "smpl54")
    torch.testing.assert_close(labels, g["gt_joints54"], **close)
    predicted = body.joints(body(g["pred_pose"], g["pred_shape"]), "smpl54")
    torch.testing.assert_close(predicted, g["pred_joints54"], **close)


def test_vertices_equal_smplx(tiny_smpl: SMPL) -> None:
    members = body_arrays()
    names = ["nose", "reye", "leye", "rear", "lear", "LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel"]
    names += [f"{side}{finger}" for side in "lr" for finger in ("thumb", "index", "middle", "ring", "pinky")]
    ids = dict(zip(names, members["vertex_ids"].tolist(), strict=True))
    peer = smplx.SMPL("", data_struct=Struct(**members), vertex_ids=ids, gender="neutral", batch_size=3)
    rotmats, betas = random_pose(3)
    theirs = peer(betas=betas, body_pose=rotmats[:, 1:], global_orient=rotmats[:, :1], pose2rot=False)
    ours = tiny_smpl(rotmats, betas)
    torch.testing.assert_close(ours.vertices, theirs.vertices, rtol=0, atol=1e-6)
    torch.testing.assert_close(tiny_smpl.joints(ours, "smpl54")[:, :45], theirs.joints, rtol=0, atol=1e-6)


@pytest.mark.parametrize("skeleton", ["smpl54", "h36m17"])
def test_a_part_of_the_mesh_gives_the_same_joints(skeleton: str) -> None:
    body = load_body("open")
    rotmats, betas = random_pose(2)
    whole, part = body(rotmats, betas), body(rotmats, betas, skeleton)
    assert part.vertices.shape[1] < 700
    torch.testing.assert_close(body.joints(part, skeleton), body.joints(whole, skeleton), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["open", "tiny", "disordered"])
def test_the_way_of_a_gpu_gives_the_same_body_and_gradients(
    name: str, tiny_smpl: SMPL, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = load_body("open") if name == "open" else tiny_smpl
    if name == "disordered":  # joints whose numbers do not go by level
        body._tree = Tree(np.array([-1, *range(12), *range(11)]))
    rotmats, betas = (value.requires_grad_() for value in random_pose(3))
    found = []
    for is_on_gpu in (False, True):
        monkeypatch.setattr(hmrb.body, "_is_on_gpu", lambda _, answer=is_on_gpu: answer)
        joints = body.joints(body(rotmats, betas), "smpl54")
        found.append([joints, *torch.autograd.grad((joints * joints.detach().cos()).sum(), (rotmats, betas))])
    for level_by_level, at_once in zip(*found, strict=True):
        torch.testing.assert_close(at_once, level_by_level, rtol=1e-5, atol=1e-5)


def test_pose_and_shape_have_gradients(tiny_smpl: SMPL) -> None:
    body = tiny_smpl.double()
    rotvecs = (0.3 * torch.randn(1, 24, 3, dtype=torch.double)).requires_grad_()
    betas = torch.randn(1, 10, dtype=torch.double, requires_grad=True)

    def joints(rotvecs: torch.Tensor, betas: torch.Tensor) -> torch.Tensor:
        return body.joints(body(rotvec_to_rotmat(rotvecs), betas), "smpl54")

    assert torch.autograd.gradcheck(joints, (rotvecs, betas))


@pytest.mark.parametrize("gender", ["neutral", "male", "female"])
def test_the_open_body_is_a_body(gender: str) -> None:
    body = load_body("open", gender)
    betas = torch.zeros(3, 10)
    betas[1, 0], betas[2, 0] = 2, -2
    rest = body(torch.eye(3).expand(3, 24, 3, 3), betas)
    height = rest.vertices[..., 1].amax(1) - rest.vertices[..., 1].amin(1)
    assert 1.5 < height[0] < 1.9
    assert height[1] > height[0] > height[2]
    names = dict(zip(("left_shoulder", "right_shoulder", "left_knee", "head"), (16, 17, 4, 15), strict=True))
    at = {name: rest.chain[0, row] for name, row in names.items()}
    assert at["left_shoulder"][0] > 0 > at["right_shoulder"][0]
    assert at["head"][1] > 0 > at["left_knee"][1]
    assert body.num_vertices != 6890  # so that no array of SMPL fits by accident


def test_regressors_stay_inside_a_posed_open_body() -> None:
    """Rows fitted only to rest shapes have errors of up to 18 cm on a posed body."""
    body = load_body("open")
    rotmats, betas = random_pose(20, seed=5)
    mesh = body(rotmats, betas)
    h36m, chain = body.joints(mesh, "h36m17"), mesh.chain
    pairs = [(2, 4), (3, 7), (5, 5), (6, 8), (11, 16), (12, 18), (13, 20), (14, 17), (15, 19), (16, 21)]
    off = torch.stack([(h36m[:, a] - chain[:, b]).norm(dim=-1) for a, b in pairs])
    assert off.max() < 0.04


def test_regressors_refuse_another_body(tiny_smpl: SMPL) -> None:
    rotmats, betas = random_pose(1)
    with pytest.raises(BodyError, match="mesh of body 'open' does not fit the regressors of body 'smpl'"):
        tiny_smpl.joints(load_body("open")(rotmats, betas), "smpl54")


def test_the_hash_is_of_the_content(tiny_smpl: SMPL) -> None:
    assert body_from(body_arrays()).sha == tiny_smpl.sha
    moved = body_arrays()
    moved["v_template"][0, 0] += 1e-3
    assert body_from(moved).sha != tiny_smpl.sha


def test_a_licensed_body_is_read_from_the_store(write_smpl: Callable[..., Store], tiny_smpl: SMPL) -> None:
    members = body_arrays(7000)
    store = write_smpl(**members)
    assert load_body("smpl", store=store).num_vertices == 7000


def test_a_missing_body_names_the_page_that_has_it(tmp_path) -> None:
    with pytest.raises(BodyError, match=r"SMPL_NEUTRAL\.npz: no such file; get it from https://smpl\.is\.tue"):
        load_body("smpl", store=Store(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"J_regressor": np.ones((23, 100)) / 100}, r"J_regressor has shape \(23, 100\), expected \(24, 100\)"),
        ({"weights": np.ones((100, 25)) / 25}, r"weights has shape \(100, 25\)"),
        ({"J_regressor_h36m": np.ones((17, 99)) / 99}, r"J_regressor_h36m has shape \(17, 99\)"),
        ({"J_regressor_extra": np.ones((9, 100))}, r"J_regressor_extra: row 0 sums to 100.000"),
        ({"shapedirs": np.ones((100, 3, 4))}, "shapedirs has shape"),
        ({"kintree_table": None}, "kintree_table missing"),
    ],
)
def test_a_wrong_body_says_what_is_wrong(write_smpl: Callable[..., Store], change: dict, message: str) -> None:
    with pytest.raises(BodyError, match=message):
        load_body("smpl", store=write_smpl(**change))


def test_a_body_that_holds_objects_is_refused(write_smpl: Callable[..., Store]) -> None:
    store = write_smpl()
    np.savez(store.bodies / "smpl" / "SMPL_NEUTRAL.npz", v_template=np.array([{"code": "here"}], dtype=object))
    with pytest.raises(BodyError, match=r"SMPL_NEUTRAL\.npz: v_template contains values that are not finite numbers"):
        load_body("smpl", store=store)
