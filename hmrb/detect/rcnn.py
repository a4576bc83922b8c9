"""torchvision's Faster R-CNN: stronger and slower than the embedded detector; its weights are downloaded once."""

from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn
from torchvision.models import get_model, get_model_weights

from hmrb.detect.boxes import Detections, check_picture, sort_and_clip
from hmrb.errors import RequestError
from hmrb.formats.files import check_sha256

MODEL = "fasterrcnn_resnet50_fpn_v2"  # 43.7 M parameters; box mAP 46.7 on COCO val2017, says torchvision
PERSON = 1  # in COCO's list of classes
LEAST_SCORE = 0.5  # as in torchvision's examples
LONGEST_PX = 1333  # the longest side that the model itself looks at


class RCNNDetector:
    """A detection model of torchvision, of whose classes only the person counts."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    @torch.inference_mode()
    def __call__(self, picture: UInt8[np.ndarray, "H W 3"]) -> Detections:
        """The people in a picture; the model itself leaves out double boxes."""
        check_picture(picture)
        height, width = picture.shape[:2]
        shrink = min(LONGEST_PX / max(height, width), 1.0)
        size = (max(round(width * shrink), 1), max(round(height * shrink), 1))
        pixels = torch.from_numpy(cv2.resize(picture, size, interpolation=cv2.INTER_AREA)).permute(2, 0, 1) / 255
        (found,) = self.network([pixels])
        keeps = (found["labels"] == PERSON) & (found["scores"] >= LEAST_SCORE)
        corners, scores = (found[key][keeps].numpy().astype(np.float64) for key in ("boxes", "scores"))
        corners *= np.tile([width / size[0], height / size[1]], 2)
        return sort_and_clip(np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]), scores, width, height)


def load_rcnn() -> RCNNDetector:
    """The detector with torchvision's COCO weights. Raises RequestError if they are neither cached nor to be had."""
    path = _fetch(get_model_weights(MODEL).DEFAULT.url)
    network = get_model(MODEL, weights=None, weights_backbone=None)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return RCNNDetector(network.eval().requires_grad_(False))


def _fetch(url: str) -> Path:
    """The file of weights in torch's cache, downloaded if it is not there; its name ends in its hash's first digits."""
    path = Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(urlparse(url).path).name)
    start = path.stem.rpartition("-")[2]
    remedy = f"download {url} to {path}, or use the embedded detector (mobilenet)"
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=start)
        except (OSError, RuntimeError) as error:
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise RequestError(f"torchvision's weights of {MODEL} are not to be had ({said}); {remedy}") from None
    check_sha256(path, start, remedy)
    return path
