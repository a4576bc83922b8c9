"""Draw what the demo sees in five photos, in one with several people and in a video: the pictures of docs/demo.md.

    pip download --no-deps --dest wheels scikit-image==0.26.0 matplotlib==3.11.2 sports2d==0.8.34 pose2sim==0.10.49
    python scripts/draw_demo.py wheels --out docs/demo

The photos lie in these packages; docs/demo/LICENSE.md has their terms. Each picture shows the crop of the person whom
the embedded detector is surest of, the predicted body over it, and the body from the picture's right. Those of several
people and of the video show whole pictures, as `hmrb predict` draws them.
"""

import argparse
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

import hmrb
from hmrb.body import load_body
from hmrb.checkpoint import load_checkpoint, load_weights_into
from hmrb.data.loader import normalised
from hmrb.detect import load_detector
from hmrb.formats.pictures import decoded
from hmrb.models.demo import demo_path
from hmrb.models.hmr import build_model
from hmrb.reports.gallery import from_the_side, overlay
from hmrb.synthetic.people import BOX_MARGIN

TILE_PX = 320
JPEG_QUALITY = 88
Picture = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo in a package: the wheel's name, the file in it, and the frame if that is a video."""

    name: str
    package: str
    member: str
    frame: int | None = None


PHOTOS = (
    Photo("astronaut", "scikit_image-0.26.0", "skimage/data/astronaut.png"),
    Photo("cameraman", "scikit_image-0.26.0", "skimage/data/camera.png"),
    Photo("walker", "sports2d-0.8.34", "Sports2D/Demo/demo.mp4", 115),
    Photo("balance", "pose2sim-0.10.49", "Pose2Sim/Demo_SinglePerson/videos/cam01.mp4", 20),
    Photo("admiral", "matplotlib-3.11.2", "matplotlib/mpl-data/sample_data/grace_hopper.jpg"),
)
SEVERAL = Photo("several", "pose2sim-0.10.49", "Pose2Sim/Demo_MultiPerson/videos/cam04.mp4", 60)
STRIP = [Photo("strip", "sports2d-0.8.34", "Sports2D/Demo/demo.mp4", frame) for frame in range(95, 145, 10)]
STRIP_PX = 320  # height


def read_photo(photo: Photo, wheels: Path) -> Picture:
    """The photo's RGB pixels."""
    with zipfile.ZipFile(next(wheels.glob(f"{photo.package}-*.whl"))) as wheel:
        data = wheel.read(photo.member)
    if photo.frame is None:
        return decoded(data, photo.member)
    with tempfile.NamedTemporaryFile(suffix=Path(photo.member).suffix) as file:  # OpenCV reads videos only from files
        file.write(data)
        file.flush()
        video = cv2.VideoCapture(file.name)
        for _ in range(photo.frame + 1):
            is_there, pixels = video.read()
        if not is_there:
            raise SystemExit(f"{photo.member} has no frame {photo.frame}")
        return np.ascontiguousarray(pixels[..., ::-1])


def crop_of(pixels: Picture, size: int) -> Picture:
    """The square around the person whom the detector is surest of, `size` px wide, averaged over source pixels."""
    x, y, width, height = load_detector()(pixels).boxes[0]
    side = BOX_MARGIN * max(width, height)
    zoom = size / side
    reduced = cv2.resize(pixels, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA) if zoom < 1 else pixels
    scale = reduced.shape[1] / pixels.shape[1]
    to_crop = size / (side * scale)
    shift = size / 2 - to_crop * scale * (np.array([x, y]) + np.array([width, height]) / 2)
    matrix = np.array([[to_crop, 0, shift[0]], [0, to_crop, shift[1]]])
    return np.asarray(cv2.warpAffine(reduced, matrix, (size, size), flags=cv2.INTER_LINEAR))


def draw(pixels: Picture, checkpoint: Path) -> Picture:
    """The crop, the predicted body over it and from the picture's right."""
    saved = load_checkpoint(checkpoint)
    experiment = saved.experiment()
    body, image_px = load_body(experiment.body), experiment.model.image_px
    model = build_model(experiment.model, kind=body.kind)
    load_weights_into(model, saved, str(checkpoint))
    seen = torch.from_numpy(crop_of(pixels, image_px)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        found = model.eval()(normalised(seen))
        vertices = body(found.rotmats, found.betas).vertices[0].numpy()
    crop = crop_of(pixels, TILE_PX)
    rotmats, betas, camera = (part[0].numpy() for part in (found.rotmats, found.betas, found.camera))
    over = overlay(body, crop, rotmats, betas, camera, image_px)
    return np.concatenate([crop, over, from_the_side(body, vertices, TILE_PX)], 1)


def draw_whole(photos: Sequence[Photo], wheels: Path, checkpoint: Path) -> Picture:
    """Pictures with everybody who is found in them, side by side."""
    people = hmrb.load(checkpoint, device="cpu")([read_photo(photo, wheels) for photo in photos])
    drawn = [people.draw(number) for number in range(len(photos))]
    if len(drawn) > 1:
        drawn = [cv2.resize(one, (one.shape[1] * STRIP_PX // one.shape[0], STRIP_PX)) for one in drawn]
    return np.concatenate(drawn, 1)


def save(drawn: Picture, file: Path) -> None:
    """Write a picture as JPEG and print its size."""
    cv2.imwrite(str(file), drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    print(f"{file}: {file.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path, help="folder with the packages")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, help="another checkpoint than the package's")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    model = given.checkpoint or demo_path()
    for photo in PHOTOS:
        save(draw(read_photo(photo, given.wheels), model), given.out / f"{photo.name}.jpg")
    for photos in ([SEVERAL], STRIP):
        save(draw_whole(photos, given.wheels, model), given.out / f"{photos[0].name}.jpg")
