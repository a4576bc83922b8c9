"""Cut occluders out of the segmented objects of Pascal VOC 2012."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from hmrb.data.convert.conversion import ProgressReporter
from hmrb.data.occluders import Occluder
from hmrb.errors import RequestError, RunError
from hmrb.formats.files import files_in, visible
from hmrb.formats.pictures import read_pixels
from hmrb.formats.writing import replacing
from hmrb.formats.xml import read_xml

# The next four values are from the public code of Sarandi et al., "How robust is 3D human pose estimation to
# occlusion?", IROS workshops 2018.
PASCAL_MIN_PX = 500
PASCAL_RIM = (8, 8)
PASCAL_RIM_ALPHA = 192
PASCAL_SHRINK = 0.5


def prepare_pascal(voc_root: Path, out: Path, ticker: ProgressReporter) -> int:
    """Write the segmented VOC 2012 objects that are not people, truncated or difficult; returns their number.

    Raises RequestError for a folder that is not VOC's, RunError for an annotation that is not valid XML or an
    unreadable image or a missing bounding box.
    """
    root = _voc_folder(voc_root)
    annotations = visible(files_in(root / "Annotations", "*.xml"))
    ticker.part(out, len(annotations))
    found: list[Occluder] = []
    for path in annotations:
        found += _cut_out(root, path)
        ticker.done(path)
    if not found:
        raise RequestError(f"{root}: no usable object in {len(annotations)} annotations")
    pixels = np.concatenate([occluder.reshape(-1, 4) for occluder in found])
    sizes = np.array([occluder.shape[:2] for occluder in found], np.int32)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as part, open(part, "wb") as file:
            np.savez_compressed(file, pixels=pixels, sizes=sizes)
    except OSError as error:
        raise RunError(f"{out}: cannot be written: {error.strerror}") from None
    return len(found)


def _voc_folder(root: Path) -> Path:
    needed = ("Annotations", "JPEGImages", "SegmentationObject")
    for folder in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if all((folder / name).is_dir() for name in needed):
            return folder
    raise RequestError(f"{root}: not a VOC 2012 folder; it must contain {', '.join(needed)}")


def _cut_out(root: Path, annotation: Path) -> Iterator[Occluder]:
    """The occluders of one image."""
    tree = read_xml(annotation)
    if tree.findtext("segmented") in (None, "0"):
        return
    labels = picture = None
    for number, thing in enumerate(tree.iter("object"), 1):
        flags = (thing.findtext("difficult", "0"), thing.findtext("truncated", "0"))
        if thing.findtext("name") == "person" or flags != ("0", "0"):
            continue
        if labels is None or picture is None:
            labels = _read(root / "SegmentationObject" / f"{annotation.stem}.png")
            picture = _read(root / "JPEGImages" / f"{annotation.stem}.jpg")
            if labels.shape != picture.shape:
                raise RunError(f"{annotation}: the image and its segmentation differ in size")
        try:
            corners = [int(float(thing.findtext(f"bndbox/{side}", ""))) for side in ("xmin", "ymin", "xmax", "ymax")]
        except ValueError:
            raise RunError(f"{annotation}: object {number} has no bounding box") from None
        left, top, right, bottom = (max(corner, 0) for corner in corners)
        inside: Bool[np.ndarray, "h w"] = (labels[top:bottom, left:right] == _voc_colour(number)).all(-1)
        if inside.sum() >= PASCAL_MIN_PX:
            yield _soften(picture[top:bottom, left:right], inside)


def _soften(picture: UInt8[np.ndarray, "h w 3"], inside: Bool[np.ndarray, "h w"]) -> Occluder:
    """RGBA at half the size, less opaque along the border."""
    alpha = inside.astype(np.uint8) * 255
    core = cv2.erode(alpha, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, PASCAL_RIM))
    alpha[core < alpha] = PASCAL_RIM_ALPHA
    whole = np.concatenate([picture, alpha[..., None]], 2)
    height, width = (max(round(side * PASCAL_SHRINK), 1) for side in inside.shape)
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA))


def _read(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    return read_pixels(path)


def _voc_colour(number: int) -> UInt8[np.ndarray, "3"]:
    """VOC's palette: bit 3k + c of the number becomes bit 7 - k of colour channel c."""
    dealt = [sum((number >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
    return np.array(dealt, np.uint8)
