"""The camera that a scored person was predicted with, in a tile of the report."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from hmrb.data.places import conditioning, place_of
from hmrb.data.warp import warp
from hmrb.evaluation.evaluate import Scores
from hmrb.geometry import FOCAL_PX, camera_translation, crop_center, picture_translation
from hmrb.models.cameras import focal_px, middle_px
from hmrb.records import View


@dataclass(frozen=True, slots=True)
class TileCamera:
    """Where a body stands before a camera, metres, and the camera: focal length and principal point, px of a tile."""

    transl: Float[np.ndarray, "3"]
    focal: float
    center: tuple[float, float]


def crop_camera(weak: Float[np.ndarray, "3"], image_px: int, tile_px: int) -> TileCamera:
    """The camera that looks straight at a crop, which fills the tile; `weak` is (scale, x, y)."""
    transl = camera_translation(torch.from_numpy(weak)[None].float(), image_px)[0].numpy()
    return TileCamera(transl, FOCAL_PX * tile_px / image_px, (tile_px / 2, tile_px / 2))


def own_camera(
    scores: Scores, row: int, view: View, matrix: Float[np.ndarray, "2 3"], image_px: int, tile_px: int
) -> TileCamera:
    """The camera of a scored person's prediction. `matrix` maps the shard's picture to the tile.

    Methods may look through the whole photo (`scores.projection`), or at a crop of their own (`scores.crop`).
    """
    weak = scores.camera[row]
    if scores.projection == "crop_weak" and scores.crop is None:
        return crop_camera(weak, image_px, tile_px)
    box_scale, in_shard = scores.benchmark.box_scale, int(scores.people.rows[row])
    square = (*view.center.tolist(), box_scale * view.side)
    if scores.crop:
        x, y, width, height = view.box.tolist()
        square = scores.crop.square((x, y, width, height), box_scale)
    camera = torch.from_numpy(weak)[None].float()
    if scores.projection == "crop_weak":
        transl = camera_translation(camera, image_px)
        focal, middle = FOCAL_PX * square[2] / image_px, crop_center(torch.tensor([square]), image_px)[0].numpy()
    else:
        seen = warp(replace(view, center=np.array(square[:2]), side=square[2]), image_px)
        place = conditioning([place_of(scores.shard, in_shard, seen)])
        assert place is not None
        focal_of, middle_of = focal_px(place, scores.projection), middle_px(place, scores.projection)
        transl = picture_translation(camera, place.square[:, 2], place.square[:, :2] - 0.5, focal_of, middle_of)
        left, top, scale = scores.shard.arrays["origin"][int(scores.shard.arrays["image"][in_shard])].astype(float)
        focal, middle = float(focal_of[0]) * scale, (middle_of[0].numpy() - (left, top) + 0.5) * scale - 0.5
    x, y = (matrix[:, :2] @ middle + matrix[:, 2]).tolist()
    return TileCamera(transl[0].numpy(), float(focal * matrix[0, 0]), (x, y))
