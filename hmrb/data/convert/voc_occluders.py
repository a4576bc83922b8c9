"""Occluders from the objects that Pascal VOC 2012 segments."""

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from hmrb.data.convert.conversion import ProgressReporter
from hmrb.data.occluders import Occluder
from hmrb.errors import RequestError, RunError

PASCAL_MIN_PX = 500  # this and the next three: the rule of Sarandi et al., "How robust is 3D human pose estimation to
PASCAL_RIM = (8, 8)  # occlusion?", IROS workshops 2018, as their public code has it
PASCAL_RIM_ALPHA = 192
PASCAL_SHRINK = 0.5


def prepare_pascal(voc_root: Path, out: Path, ticker: ProgressReporter) -> int:
    """Writes the segmented objects of VOC 2012 that are no person, whole and not difficult; gives their number.

    Raises RequestError for a folder that is not VOC's, RunError for a file in it that can't be read.
    """
    root = _voc_folder(voc_root)
    annotations = sorted((root / "Annotations").glob("*.xml"))
    ticker.part(out, len(annotations))
    found: list[Occluder] = []
    for path in annotations:
        found += _cut_out(root, path)
        ticker.done(path)
    if not found:
        raise RequestError(f"{root}: no object to take among {len(annotations)} annotations")
    pixels = np.concatenate([occluder.reshape(-1, 4) for occluder in found])
    sizes = np.array([occluder.shape[:2] for occluder in found], np.int32)
    part = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            np.savez_compressed(file, pixels=pixels, sizes=sizes)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RunError(f"{out}: can't be written: {error.strerror}") from None
    return len(found)


def _voc_folder(root: Path) -> Path:
    needed = ("Annotations", "JPEGImages", "SegmentationObject")
    for folder in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if all((folder / name).is_dir() for name in needed):
            return folder
    raise RequestError(f"{root}: no VOC 2012 here; a folder with {', '.join(needed)} is needed")


def _cut_out(root: Path, annotation: Path) -> Iterator[Occluder]:
    """The occluders of one picture."""
    tree = _parse(annotation)
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
                raise RunError(f"{annotation}: its picture and its segmentation differ in size")
        try:
            corners = [int(float(thing.findtext(f"bndbox/{side}", ""))) for side in ("xmin", "ymin", "xmax", "ymax")]
        except ValueError:
            raise RunError(f"{annotation}: object {number} has no box") from None
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


class _NoDoctype(ET.TreeBuilder):
    """Entities are declared in a DOCTYPE: none, no bombs."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise RunError("has a DOCTYPE, which no VOC annotation has")


def _parse(path: Path) -> ET.Element:
    try:
        return ET.parse(path, ET.XMLParser(target=_NoDoctype())).getroot()
    except (ET.ParseError, OSError, RunError) as error:
        raise RunError(f"{path}: {error}") from None


def _read(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) if path.exists() else None
    if image is None:
        raise RunError(f"{path}: no such picture, or it can't be decoded")
    return np.asarray(image)


def _voc_colour(number: int) -> UInt8[np.ndarray, "3"]:
    """VOC's palette: the bits of the number, dealt to red, green and blue in turn, the lowest become the highest."""
    dealt = [sum((number >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
    return np.array(dealt, np.uint8)
