"""The loss of BEDLAM-CLIFF, term by term, against recordings of its code on made-up vertices and joints."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from conftest import golden
from jaxtyping import Float
from torch import Tensor

from hmrb.batch import Batch, Conditioning, Prediction
from hmrb.body import Mesh
from hmrb.geometry import crop_center, rotvec_to_rotmat
from hmrb.spec import LossTerm
from hmrb.training.loss_terms import DISTANCES, LOSSES, LabelCounts, LossPair, Measure

IMAGE_PX, NUM_POINTS = 224, 24
SQUARE = torch.tensor([[255.0, 232.5, 270.0], [400.25, 180.75, 180.0]])
PICTURE = torch.tensor([[640.0, 480.0]] * 2)
TERMS = {  # of its code, under its names: the term here, with the published weight before 60
    "keypoints": ("keypoints2d", {"distance": "mse", "weight": 5, "space": "picture"}),
    "keypoints_3d": ("keypoints3d", {"distance": "mse", "weight": 5, "origin": "none"}),
    "regr_pose": ("body_pose", {"distance": "mse", "weight": 1}),
    "regr_betas": ("betas", {"distance": "mse", "weight": 0.001}),
    "shape": ("vertices", {"distance": "l1", "weight": 1}),
    "cam": ("camera_prior", {"distance": "mse", "weight": 1}),
}


@dataclass(frozen=True)
class MadeUpPair(LossPair):
    """A pair whose projected joints are given, in pixels of the picture."""

    projected_px: Float[Tensor, "B J 2"] | None = None

    @property
    def pixels(self) -> Float[Tensor, "B J 2"]:
        assert self.projected_px is not None
        return to_crop(self.projected_px) - (IMAGE_PX - 1) / 2


def to_crop(points: Float[Tensor, "B J 2"]) -> Float[Tensor, "B J 2"]:
    """Points of the picture in pixels of the crop, whose middle is at (IMAGE_PX - 1) / 2."""
    middle = crop_center(SQUARE, IMAGE_PX)[:, None]
    return (points - middle) * (IMAGE_PX / SQUARE[:, 2])[:, None, None] + (IMAGE_PX - 1) / 2


def recorded_pair() -> MadeUpPair:
    held = {
        key: torch.from_numpy(np.asarray(array)) for key, array in golden("methods/method_bedlam_cliff_seed0").items()
    }
    given = {key.partition("/")[2]: array for key, array in held.items() if key.startswith("loss_in/")}
    marks = given["gt_keypoints_orig"]
    confidence = marks[..., 2:].clamp(min=0)
    there = torch.ones(2, NUM_POINTS, 1)
    batch = Batch(
        image=torch.zeros(2, 3, IMAGE_PX, IMAGE_PX),
        keypoints2d=torch.cat([to_crop(marks[..., :2]), confidence], 2),
        keypoints3d=torch.cat([given["gt_joints3d"][:, :NUM_POINTS], there], 2),
        rotmats=rotvec_to_rotmat(given["gt_pose"].unflatten(1, (-1, 3))),
        betas=given["gt_betas"],
        has_body=torch.ones(2, dtype=torch.bool),
        row=torch.arange(2),
    )
    where = Conditioning(
        SQUARE, PICTURE, torch.zeros(2, 2, 3), torch.eye(3).expand(2, 3, 3), torch.ones(2, dtype=torch.bool)
    )
    prediction = Prediction(held["rotmat_fl"], held["betas_fl"], held["cam_fl"], "intrinsics", where)
    everything = torch.tensor(2.0 * NUM_POINTS)
    return MadeUpPair(
        prediction=prediction,
        joints=given["pred_joints3d"][:, :NUM_POINTS],
        mesh=Mesh(given["pred_vertices"], torch.zeros(2, 22, 3), "smplx"),
        batch=batch,
        label_vertices=given["gt_vertices"],
        labelled=LabelCounts(everything, everything, torch.tensor(2.0)),
        skeleton="smplx52",
        origins=torch.zeros(1, 2, dtype=torch.long),
        has_body=torch.ones(2),
        projected_px=given["pred_joints2d"][:, :NUM_POINTS],
    )


def term_of(name: str, pair: LossPair) -> float:
    function, fields = TERMS[name]
    term = LossTerm.model_validate(fields)
    measure = Measure(partial(DISTANCES[term.distance], reduction="none"), term)
    return float(term.weight * LOSSES[function](pair, measure))


@pytest.mark.parametrize("name", TERMS)
def test_a_term_is_bedlam_s(name: str) -> None:
    recorded = float(golden("methods/method_bedlam_cliff_seed0")[f"loss/{name}"])
    assert term_of(name, recorded_pair()) == pytest.approx(recorded, rel=1e-4)


def test_the_loss_is_the_sum_of_the_terms_times_60() -> None:
    pair = recorded_pair()
    recorded = float(golden("methods/method_bedlam_cliff_seed0")["loss/total_x60"])
    assert 60 * sum(term_of(name, pair) for name in TERMS) == pytest.approx(recorded, rel=1e-4)
