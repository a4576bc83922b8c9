"""Pascal VOC 2012 as downloaded: images, bounding boxes in XML, segmentations with a palette."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def palette_png(path: Path, labels: np.ndarray) -> None:
    """Write an indexed PNG with VOC's palette, the format of its segmentations."""
    palette = np.zeros((256, 3), np.uint8)
    for number in range(256):
        for bit in range(8):
            for channel in range(3):
                if bit * 3 + channel < 8:
                    palette[number, channel] |= (number >> (bit * 3 + channel) & 1) << (7 - bit)
    height, width = labels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in labels.astype(np.uint8))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = ((b"IHDR", header), (b"PLTE", palette.tobytes()), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts))


def annotation(*things: tuple[str, int, int, tuple[int, int, int, int]], segmented: int = 1) -> str:
    objects = "".join(
        f"<object><name>{name}</name><truncated>{truncated}</truncated><difficult>{difficult}</difficult><bndbox>"
        + "".join(f"<{side}>{at}</{side}>" for side, at in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        + "</bndbox></object>"
        for name, truncated, difficult, box in things
    )
    return f"<annotation><segmented>{segmented}</segmented>{objects}</annotation>"


def write_voc(folder: Path) -> Path:
    """Write an image of a chair, a person, a truncated bus, a difficult dog and a small bottle; one without masks."""
    root = folder / "VOCdevkit" / "VOC2012"
    for name in ("Annotations", "JPEGImages", "SegmentationObject"):
        (root / name).mkdir(parents=True)
    boxes = [(10, 10, 50, 60), (60, 10, 90, 60), (100, 10, 140, 60), (10, 70, 50, 110), (60, 70, 75, 85)]
    flags = [("chair", 0, 0), ("person", 0, 0), ("bus", 1, 0), ("dog", 0, 1), ("bottle", 0, 0)]
    labels, image = np.zeros((120, 150), np.uint8), np.full((120, 150, 3), 40, np.uint8)
    for number, (left, top, right, bottom) in enumerate(boxes, 1):
        labels[top:bottom, left:right] = number
        image[top:bottom, left:right] = 100 + 20 * number
    labels[10:60, 30:50] = 0  # the chair fills the left half of its box
    things = [(*flag, box) for flag, box in zip(flags, boxes, strict=True)]
    (root / "Annotations" / "2007_000001.xml").write_text(annotation(*things))
    (root / "Annotations" / "2007_000002.xml").write_text(annotation(("cat", 0, 0, (0, 0, 50, 50)), segmented=0))
    cv2.imwrite(str(root / "JPEGImages" / "2007_000001.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    palette_png(root / "SegmentationObject" / "2007_000001.png", labels)
    return folder
