"""The embedded detector: SSD on MobileNetV2 with weights in the package, run by torch on the CPU.

Papers: SSD (Liu et al., ECCV 2016), MobileNetV2 (Sandler et al., CVPR 2018). scripts/make_detector.py makes the weights
from a published network; LICENSE.md states their licence. Letters: A anchors per cell.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from hmrb.detect.boxes import Detections, agree, check_picture, sort_and_clip, suppress
from hmrb.formats.files import check_sha256
from hmrb.formats.npz import Npz

WEIGHTS = Path(__file__).parent / "mobilenet.npz"
WEIGHTS_SHA256 = "77538dbc8d6928ddea042552e3b039a265716990ee04a1c94df8ca4d555d7333"
NUM_LAYERS = 72
PARTS = ("weight", "scale", "bias")  # of a layer in the file: weights are int8 times a scale per output channel
SIDE_PX = 300  # of the square pictures that the network was trained on
FINE_PX = 480  # longer side of the third look, which finds smaller people
LEAST_SCORE = 0.28  # mean over looks; docs/detector.md has recall and false alarms at this value
LEAST_SEEN = 0.15  # in one look
MOST_SEEN = 200  # boxes of one look; bounds the time that merging takes

# Stride of each block of MobileNetV2 (table 2 of the paper).
STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)
TAPPED = 13  # the block whose expansion is SSD's first level
NUM_EXTRAS = 4  # levels behind MobileNetV2
# Anchors as in MediaPipe's graph of this network: smallest 0.2, largest 0.95, three on the first level.
SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)  # of SIDE_PX, per level; 1.0 is the last level's next
RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)  # width / height
CENTER_GAIN, SIZE_GAIN = 10.0, 5.0  # of the network's offsets: 1 / SSD's variances 0.1 and 0.2


class Layer(NamedTuple):
    """A convolution; the number of its groups follows from its input."""

    weight: Float[Tensor, "D C K K"]
    bias: Float[Tensor, " D"]

    def linear(self, values: Float[Tensor, "1 C H W"], stride: int = 1) -> Float[Tensor, "1 D I J"]:
        """The convolution with TensorFlow's padding, at stride 2 more below and right; I = H / stride, rounded up."""
        kernel, groups = self.weight.shape[-1], values.shape[1] // self.weight.shape[1]
        down, across = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in values.shape[2:])
        padded = F.pad(values, (across // 2, across - across // 2, down // 2, down - down // 2))
        return F.conv2d(padded, self.weight, self.bias, stride, groups=groups)

    def __call__(self, values: Float[Tensor, "1 C H W"], stride: int = 1) -> Float[Tensor, "1 D I J"]:
        """The convolution and its ReLU6."""
        return F.relu6(self.linear(values, stride))


def run_network(
    layers: list[Layer], pixels: Float[Tensor, "1 3 H W"]
) -> tuple[Float[Tensor, "N 4"], Float[Tensor, " N"]]:
    """Boxes (x, y, width, height in px) and scores of all anchors in a picture of any size, RGB in -1..1.

    `layers` are in the order in which they are used.
    """
    following = iter(layers)
    levels: list[tuple[Tensor, Tensor]] = []

    def look(features: Float[Tensor, "1 C I J"]) -> None:
        boxes, scores = next(following).linear(features), next(following).linear(features)
        levels.append((place(boxes, len(levels), pixels.shape[2], pixels.shape[3]), scores.flatten()))

    values = next(following)(pixels, stride=2)
    for index, stride in enumerate(STRIDES):
        wide = next(following)(values) if index else values  # the first block does not expand
        if index == TAPPED:
            look(wide)
        wide = next(following)(wide, stride)
        narrow = next(following).linear(wide)
        values = values + narrow if narrow.shape == values.shape else narrow
    values = next(following)(values)
    look(values)
    for _ in range(NUM_EXTRAS):
        values = next(following)(values)
        values = next(following)(values, stride=2)
        look(values)
    boxes, scores = zip(*levels, strict=True)
    return torch.cat(boxes), torch.cat(scores).sigmoid()


def place(coded: Float[Tensor, "1 D I J"], level: int, height: int, width: int) -> Float[Tensor, "N 4"]:
    """The boxes in px for which a level's outputs (y, x, height, width of each anchor) stand."""
    scale = SCALES[level]
    kinds = [(scale, ratio) for ratio in RATIOS] + [((scale * SCALES[level + 1]) ** 0.5, 1.0)]
    if level == 0:
        kinds = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
    anchors = SIDE_PX * torch.tensor([(size * ratio**0.5, size / ratio**0.5) for size, ratio in kinds])
    down, across = coded.shape[2:]
    y, x, tall, wide = coded.reshape(len(kinds), 4, down, across).unbind(1)
    anchor_wide, anchor_tall = anchors.T[:, :, None, None]
    size = torch.stack([(wide / SIZE_GAIN).exp() * anchor_wide, (tall / SIZE_GAIN).exp() * anchor_tall], -1)
    center_x = x / CENTER_GAIN * anchor_wide + (torch.arange(across) + 0.5) / across * width
    center_y = y / CENTER_GAIN * anchor_tall + ((torch.arange(down) + 0.5) / down * height)[:, None]
    return torch.cat([torch.stack([center_x, center_y], -1) - size / 2, size], -1).reshape(-1, 4)


class MobileNetDetector:
    """Looks at a picture three times, and keeps what the looks agree on: squeezed into a square; small and mirrored;
    larger. Each way to look misses people whom the others see, and sees others where nobody is.
    """

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers

    def __call__(self, picture: UInt8[np.ndarray, "H W 3"]) -> Detections:
        """The people in an RGB picture. Raises RequestError if it is none."""
        check_picture(picture)
        height, width = picture.shape[:2]
        small, fine = (
            (max(round(width * side / max(height, width)), 1), max(round(height * side / max(height, width)), 1))
            for side in (SIDE_PX, FINE_PX)
        )
        mirrored = self.look(picture[:, ::-1], *small)
        mirrored.boxes[:, 0] = width - mirrored.boxes[:, 0] - mirrored.boxes[:, 2]
        found = agree([self.look(picture, SIDE_PX, SIDE_PX), mirrored, self.look(picture, *fine)])
        return found.pick(found.scores >= LEAST_SCORE)

    @torch.inference_mode()
    def look(self, picture: UInt8[np.ndarray, "H W 3"], width: int, height: int) -> Detections:
        """The people in the picture scaled to `width` x `height` px; boxes are in the picture's own pixels."""
        shrunk = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        pixels = torch.from_numpy(shrunk).permute(2, 0, 1)[None] / 127.5 - 1
        boxes, scores = (values.numpy().astype(np.float64) for values in run_network(self.layers, pixels))
        is_seen = scores >= LEAST_SEEN
        grow = np.tile([picture.shape[1] / width, picture.shape[0] / height], 2)
        found = sort_and_clip(boxes[is_seen] * grow, scores[is_seen], picture.shape[1], picture.shape[0])
        return suppress(Detections(found.boxes[:MOST_SEEN], found.scores[:MOST_SEEN]))


def load_mobilenet(path: Path = WEIGHTS) -> MobileNetDetector:
    """The detector with its embedded weights. Raises RequestError if their file is missing or damaged."""
    check_sha256(path, WEIGHTS_SHA256, "install hmrb again")
    return MobileNetDetector(list(_read_layers(path)))


def _read_layers(path: Path) -> Iterator[Layer]:
    with Npz(path) as arrays:
        for index in range(NUM_LAYERS):
            weight, scale, bias = (torch.from_numpy(arrays.read(f"{part}_{index:02}")) for part in PARTS)
            yield Layer(weight * scale[:, None, None, None], bias)
