"""Loss terms of HMR2.0, TokenHMR, CameraHMR and BEDLAM's CLIFF against recordings of their code."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from recipe_methods import method_golden, method_labels, method_place
from torch import Tensor

from hmrb.batch import Batch, Prediction
from hmrb.body import Mesh
from hmrb.geometry import rotvec_to_rotmat
from hmrb.spec import LossTerm
from hmrb.training.loss_terms import DISTANCES, LOSSES, LabelCounts, LossPair, Measure
from hmrb.training.tals import thresholds_2d

SIZE = 256
TO_CROP = (SIZE - 1) / (2 * SIZE)  # hmrb measures in half crops from pixel centre to centre, the methods in crops


def pair_of(name: str, has_body: tuple[bool, bool], trusted: tuple[bool, bool] | None = None) -> LossPair:
    """A recorded prediction with the recipe's labels; 2D labels in pixels of the crop. Root: the pelvis, row 39."""
    g = {key: torch.from_numpy(np.asarray(value)) for key, value in method_golden(f"method_{name}_seed0").items()}
    label = {key: torch.from_numpy(value) for key, value in method_labels(44).items()}
    rotmats = torch.cat([g["global_orient"], g["body_pose"]], 1)
    pose = torch.cat([label["global_orient"], label["body_pose"]], 1).unflatten(1, (24, 3))
    flat = torch.cat([label["kp2d"][..., :2] * SIZE + (SIZE - 1) / 2, label["kp2d"][..., 2:]], -1)
    batch = Batch(
        image=torch.zeros(2, 3, SIZE, SIZE), keypoints2d=flat, keypoints3d=label["kp3d"],
        rotmats=rotvec_to_rotmat(pose), betas=label["betas"], has_body=torch.tensor(has_body), row=torch.arange(2),
        is_trusted=None if trusted is None else torch.tensor(trusted),
    )  # fmt: skip
    counts = LabelCounts(*(torch.ones(()) for _ in range(3)))  # sums have no use for them
    return LossPair(
        Prediction(rotmats, g["betas"], g.get("pred_cam", g.get("cam"))), g.get("pred_keypoints_3d", g.get("joints3d")),
        Mesh(torch.zeros(2, 1, 3), torch.zeros(2, 24, 3), "smpl"), batch, None, counts, "hmr2_44",
        torch.tensor([[39, 39]]), batch.has_body.float(),
    )  # fmt: skip


def taken(name: str, pair: LossPair, distance: str, gate: str = "none") -> Tensor:
    """A sum over the two people."""
    term = LossTerm(distance=distance, weight=1, reduction="sum", of_batch=2, gate=gate)
    return LOSSES[name](pair, Measure(partial(DISTANCES[distance], reduction="none"), term))


def close(ours: Tensor, recorded: np.ndarray) -> None:
    np.testing.assert_allclose(float(ours), float(recorded), rtol=1e-5)


def test_hmr2_s_sums() -> None:
    recorded, pair = method_golden("method_hmr2_seed0"), pair_of("hmr2", (True, False))
    close(taken("keypoints3d", pair, "l1"), recorded["loss/keypoints_3d"])
    close(taken("keypoints2d", pair, "l1") * TO_CROP, recorded["loss/keypoints_2d"])
    close(taken("global_orient", pair, "mse"), recorded["loss/global_orient"])
    close(taken("body_pose", pair, "mse"), recorded["loss/body_pose"])
    everybody = pair_of("hmr2", (True, True))
    close(taken("betas", everybody, "mse"), recorded["loss/betas"])
    close(taken("betas_or_zero", everybody, "mse"), recorded["loss/betas"])


def test_tokenhmr_s_gate() -> None:
    """One person of COCO, one of H36M, which is trusted: there it counts in full even without a labelled pose."""
    recorded, pair = method_golden("method_tokenhmr_seed0"), pair_of("tokenhmr", (True, True), (False, True))
    close(taken("keypoints2d", pair, "l1", "tals") * TO_CROP, recorded["loss/keypoints_2d"])
    close(taken("keypoints3d", pair, "l1", "tals"), recorded["loss/keypoints_3d"])
    close(taken("global_orient", pair, "mse", "tals"), recorded["loss/global_orient"])
    close(taken("body_pose", pair, "mse", "tals"), recorded["loss/body_pose"])
    close(taken("betas", pair, "mse", "tals"), recorded["loss/betas"])


@pytest.mark.parametrize("skeleton", ["hmr2_44", "smpl54"])
def test_thresholds_go_by_the_names_of_joints(skeleton: str) -> None:
    found = thresholds_2d(skeleton, torch.device("cpu"))
    if skeleton == "hmr2_44":
        assert found.isfinite().all()
        assert found[[0, 25, 43]].tolist() == pytest.approx([0.0085024, 0.00554029, 0.00752381])
    else:
        assert int(found.isfinite().sum()) == 34  # 25 of OpenPose, and 9 of SPIN's that OpenPose does not have
        assert found[24] == pytest.approx(0.0085024)  # nose


def test_camerahmr_s_sums_and_projection() -> None:
    """Its coordinates are 0 at the first pixel's edge: half a pixel of the picture, which its crop enlarges."""
    recorded = method_golden("method_camerahmr_seed0")
    pair = pair_of("camerahmr", (True, True))
    place = method_place(True)
    to_centre = torch.zeros(2, 3, 3)
    to_centre[:, :2, 2] = 0.5
    place = replace(place, intrinsics=place.intrinsics - to_centre)
    prediction = replace(pair.prediction, projection="intrinsics", place=place)
    pair = replace(pair, prediction=prediction)
    zoom = SIZE / place.square[:, 2]
    theirs = pair.pixels - (0.5 * (1 - zoom))[:, None, None]
    np.testing.assert_allclose(theirs.numpy() / SIZE, recorded["joints2d_crop"], atol=1e-5)
    flat = pair.batch.keypoints2d.clone()
    flat[..., :2] += (0.5 * (1 - zoom))[:, None, None]
    pair = replace(pair, batch=replace(pair.batch, keypoints2d=flat))
    close(taken("keypoints2d", pair, "l1") * TO_CROP, recorded["loss/keypoints_2d_crop"])
    close(taken("global_orient", pair, "mse"), recorded["loss/global_orient"])
    close(taken("body_pose", pair, "mse"), recorded["loss/body_pose"])
    close(taken("betas", pair, "mse"), recorded["loss/betas"])
