"""CameraHMR's network for the field of view: the focal length of a picture that names none.

From pixelite1201/CameraHMR@65d11a0: core/cam_model/fl_net.py, and core/datasets/utils.py for its picture.
"""

import math
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from hmrb.errors import RunError
from hmrb.models.backbones import Features
from hmrb.models.foreign import DROP, Rules, follow
from hmrb.models.necks import StridedNeck
from hmrb.models.weight_files import WeightsError, read_weights, tensors_of
from hmrb.store import Store

FOV_PX = 256  # side of the network's picture
WHITE = 255


class FieldOfView(nn.Module):
    """The angle of view of a whole picture. Parameter names are those of `cam_model_cleaned.ckpt`, by RELEASED_FOV.

    The code that trained it is not public. Its dropout before the last layer is left out, and so is a layer `fc2` that
    its file holds and its code does not run.
    """

    def __init__(self) -> None:
        import timm

        super().__init__()
        network = timm.create_model("hrnet_w48", num_classes=0, global_pool="")
        self.backbone = Features(network, StridedNeck(network))
        self.fc1 = nn.Linear(720, 1024)
        self.fc3 = nn.Linear(1024, 2)

    def forward(self, picture: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 2"]:
        """Two numbers for each of `letterboxed` pictures, RGB with ImageNet's normalisation.

        The second is the vertical angle of view in radians. The first is not used anywhere.
        """
        return self.fc3(self.fc1(self.backbone(picture)))

    def focal_px(self, picture: Float[Tensor, "B 3 H W"], height_px: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Focal lengths in pixels of pictures that were `height_px` high before `letterboxed`. Raises RunError."""
        return focal_of_view(self(picture)[:, 1], height_px)


FOV_FILE = "cam_model_cleaned.ckpt"


def fov_file(store: Store) -> Path:
    """Where the released network is looked for."""
    return store.models / FOV_FILE


def load_field_of_view(path: Path) -> FieldOfView:
    """The network of a released file. Raises WeightsError."""
    tensors = {key.removeprefix("model."): value for key, value in tensors_of(read_weights(path), path).items()}
    arrays, _ = follow(RELEASED_FOV, tensors)
    with torch.device("meta"):
        network = FieldOfView()
    want = network.state_dict()
    wrong = [key for key in {**want, **arrays} if key not in arrays or key not in want]
    wrong += [key for key in want if key in arrays and arrays[key].shape != want[key].shape]
    if wrong:
        raise WeightsError(f"{path}: no network of CameraHMR's for the field of view: {wrong[0]} does not fit")
    network.load_state_dict(arrays, assign=True)
    return network.eval()


def focal_of_view(fov_rad: Float[Tensor, " B"], height_px: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Focal lengths in pixels, across and down, for vertical angles of view around the pictures' middles.

    Raises RunError for an angle that no camera has.
    """
    is_angle = (fov_rad > 0) & (fov_rad < math.pi)
    if not is_angle.all():
        degrees = math.degrees(fov_rad[~is_angle][0])
        raise RunError(
            f"the network for the field of view says {degrees:.1f} degrees for a picture; an angle of view is between 0"
            " and 180. Are its weights the released ones? Or give the focal length"
        )
    return height_px / (2 * torch.tan(fov_rad / 2))


def letterboxed(picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "256 256 3"]:
    """A picture shrunk or grown to FOV_PX on its longer side, in the middle of a white square.

    The shorter side is rounded down, to no less than one pixel.
    """
    height, width = picture.shape[:2]
    if width > height:
        size = FOV_PX, max(int(FOV_PX / (width / height)), 1)
    else:
        size = max(int(FOV_PX * (width / height)), 1), FOV_PX
    square = np.full((FOV_PX, FOV_PX, 3), WHITE, np.uint8)
    left, top = (FOV_PX - size[0]) // 2, (FOV_PX - size[1]) // 2
    square[top : top + size[1], left : left + size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return square


# Names in the file to those in `FieldOfView`.
RELEASED_FOV: Rules = (
    (r"^(fc2|backbone\.final_layer)\..*", DROP),
    (r"^backbone\.downsample", "backbone.tail.downsample"),
    (r"^backbone\.(?!tail\.)", "backbone.network."),
)
