"""How a method projects a predicted body: about the middle of the crop, or about the middle of the picture.

Sources: crop_weak: HMR and SPIN; full_frame: CLIFF (huawei-noah/noah-research@aa0f80c: CLIFF/demo.py,
common/utils.py); intrinsics: BEDLAM-CLIFF (pixelite1201/BEDLAM@9ad6adf: train/models/head/smplx_cam_head.py) and
CameraHMR (pixelite1201/CameraHMR@65d11a0: core/camerahmr_model.py).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hmrb.batch import CameraKind, Conditioning
from hmrb.geometry import crop_center, picture_translation, project
from hmrb.spec import BoxInput

BOX_NUMBERS = 3
CLIFF_OFFSET, CLIFF_SIZE, CLIFF_SPREAD = 2.8, 0.24, 0.06  # CLIFF's mean and deviation over H36M's boxes


def focal_px(place: Conditioning, camera: CameraKind) -> Float[Tensor, " B"]:
    """Focal lengths in px of the picture: the picture's own for `intrinsics` where it is known, else its diagonal."""
    diagonal = place.picture_px.norm(dim=1)
    if camera != "intrinsics":
        return diagonal
    return torch.where(place.has_intrinsics, place.intrinsics[:, 0, 0], diagonal)


def middle_px(place: Conditioning, camera: CameraKind) -> Float[Tensor, "B 2"]:
    """The picture's principal point, px: its own for `intrinsics` where it is known, else the middle of its pixels."""
    middle = (place.picture_px - 1) / 2
    if camera != "intrinsics":
        return middle
    return torch.where(place.has_intrinsics[:, None], place.intrinsics[:, :2, 2], middle)


def box_numbers(kind: BoxInput, place: Conditioning, camera: CameraKind) -> Float[Tensor, "B 3"]:
    """What a head is told of the crop: its offset from the picture's middle and its size, over the focal length.

    The picture's middle is half its size, as in the methods' code.
    """
    focal = focal_px(place, camera)[:, None]
    offset = (place.square[:, :2] - place.picture_px / 2) / focal
    size = place.square[:, 2:] / focal
    if kind == "cliff":
        return torch.cat([CLIFF_OFFSET * offset, (size - CLIFF_SIZE) / CLIFF_SPREAD], 1)
    return torch.cat([offset, size], 1)


def project_to_crop(
    points: Float[Tensor, "B J 3"],
    weak: Float[Tensor, "B 3"],
    image_px: int,
    camera: CameraKind = "crop_weak",
    place: Conditioning | None = None,
) -> Float[Tensor, "B J 2"]:
    """Points (metres) to pixels of the crop, from the middle of its pixels; `weak` is (scale, tx, ty).

    Other cameras than `crop_weak` project into the picture and move the result to the crop.
    """
    if camera == "crop_weak" or place is None:
        return project(points, weak, image_px)
    focal, middle = focal_px(place, camera), middle_px(place, camera)
    center, side = place.square[:, :2], place.square[:, 2]
    # The methods count from the first pixel's edge: half a pixel before the square's centre.
    moved = points + picture_translation(weak, side, center - 0.5, focal, middle)[:, None]
    pixels = focal[:, None, None] * moved[..., :2] / moved[..., 2:] + middle[:, None]
    return (pixels - crop_center(place.square, image_px)[:, None]) * (image_px / side)[:, None, None]
