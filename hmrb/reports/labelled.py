"""The labelled body of a scored person, and its place in the person's crop."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from hmrb.body import Mesh
from hmrb.data.warp import crop_matrix
from hmrb.evaluation.evaluate import Scores
from hmrb.evaluation.posing import by_gender
from hmrb.evaluation.scoring import Bodies, genders_of
from hmrb.geometry import FEWEST_POINTS, camera_translation, fit_weak_camera, rotvec_to_rotmat
from hmrb.records import View


def labelled_mesh(bodies: Bodies, scores: Scores, row: int) -> Mesh | None:
    """The body that a person is scored against, in the camera's axes; None if the truth is key points only."""
    benchmark, shard, in_shard = scores.benchmark, scores.shard, scores.people.rows[row : row + 1]
    if not benchmark.has_bodies or not shard.arrays["has_body"][in_shard].all():
        return None
    rotmats = rotvec_to_rotmat(torch.from_numpy(shard.arrays["pose"][in_shard]))
    betas = torch.from_numpy(shard.arrays["betas"][in_shard])
    with torch.inference_mode():
        return by_gender(bodies.by_gender, genders_of(benchmark, shard, in_shard), rotmats, betas)


def place_in_crop(
    bodies: Bodies, mesh: Mesh, view: View, square: float, image_px: int, instead: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3"]:
    """Translation in metres that puts a labelled body on its person: the weak-perspective camera that fits best.

    Shards hold no camera, so it is fitted by least squares to the labelled 2D key points. `square` is the side of the
    crop in pixels of the picture; the crop is `image_px` wide. `instead` is returned if too few points are labelled.
    """
    seen = view.keypoints2d[:, 2] > 0
    if seen.sum() < FEWEST_POINTS:
        return instead
    matrix = crop_matrix(replace(view, side=square), image_px)
    places = view.keypoints2d[seen, :2] @ matrix[:, :2].T + matrix[:, 2] - image_px / 2
    joints = bodies.neutral.joints(mesh, bodies.neutral.kind.keypoints)[:, torch.from_numpy(seen)].double()
    pixels = torch.from_numpy(places)[None].double()
    camera = fit_weak_camera(joints, pixels, torch.ones_like(pixels[..., 0]), image_px)
    if camera[0, 0] <= 0:
        return instead
    return np.asarray(camera_translation(camera.float(), image_px)[0])
