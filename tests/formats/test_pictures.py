"""One decoder for all pictures: no orientation, no giants, whole JPEGs with anything after their end."""

import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from hmrb.data.convert.packed_files import pictures_in
from hmrb.formats.pictures import UnreadablePicture, decoded, header_size, read_pixels


def tall() -> np.ndarray:
    """Left half black, right half white, 20 wide and 40 tall."""
    picture = np.zeros((40, 20, 3), np.uint8)
    picture[:, 10:] = 255
    return picture


def turned_tiff() -> bytes:
    """An uncompressed TIFF of `tall` whose tag says that it must be turned by 90 degrees."""
    tags = [
        (256, 3, 20), (257, 3, 40), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 200), (274, 3, 6), (277, 3, 1),
        (278, 3, 40), (279, 4, 800),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head.ljust(200, b"\0") + tall()[..., 0].tobytes()


def turned_jpeg() -> bytes:
    jpeg = cv2.imencode(".jpg", tall())[1].tobytes()
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 274, 3, 1, 6) + bytes(4)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def giant_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("write", [turned_tiff, turned_jpeg])
def test_orientation_is_ignored_everywhere(tmp_path: Path, write: object) -> None:
    assert callable(write)
    (tmp_path / "a.jpg").write_bytes(write())
    for picture in (
        decoded(write(), ""), read_pixels(tmp_path / "a.jpg"), decoded(pictures_in(tmp_path)("a.jpg"), "")
    ):  # fmt: skip
        assert picture.shape == (40, 20, 3)
        assert picture[:, :8].max() < 60
        assert picture[:, 12:].min() > 190


@pytest.mark.parametrize("size", [(100_000, 100_000), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_giants_are_refused_by_their_header(size: tuple[int, int]) -> None:
    begin = time.perf_counter()
    with pytest.raises(UnreadablePicture, match=f"a: image of {size[0]} x {size[1]} pixels; the limit is 100,000,000"):
        decoded(giant_png(*size), "a")
    assert time.perf_counter() - begin < 1


@pytest.mark.parametrize("kind", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
def test_headers_state_the_size(kind: str) -> None:
    assert header_size(cv2.imencode(kind, tall())[1].tobytes()) == (20, 40)
    assert header_size(cv2.imencode(kind, tall())[1].tobytes()[:9]) == (0, 0)


def test_a_jpeg_is_whole_whatever_follows_its_end() -> None:
    jpeg = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))[1].tobytes()
    for after in (bytes(100_000), b"ftypmp42" * 10_000):
        np.testing.assert_array_equal(decoded(jpeg + after, ""), decoded(jpeg, ""))
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(jpeg) + 2) + jpeg
    cut = jpeg[:2] + thumbnail + jpeg[2:-200]
    with pytest.raises(UnreadablePicture, match="a: image (is truncated|cannot be decoded)"):
        decoded(cut, "a")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "it is a Git LFS pointer"),
        (b"<html>", "it is an HTML page"),
        (b"PK\3\4", "it is a zip archive"),
        (b"", "it is an empty file"),
    ],
)
def test_another_file_is_named(content: bytes, words: str) -> None:
    with pytest.raises(UnreadablePicture, match=f"a: image cannot be decoded: {words}"):
        decoded(content, "a")


@pytest.mark.parametrize("kind", [".ppm", ".pfm", ".hdr", ".sr"])
def test_sizes_of_rare_formats(kind: str) -> None:
    assert header_size(cv2.imencode(kind, tall())[1].tobytes()) == (20, 40)


GIANT = 100_000
SIZ = b"\xff\x4f\xff\x51\0\x29\0\0" + struct.pack(">II", GIANT, GIANT)
GIANTS = {
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40) + SIZ,
    "its code stream": SIZ,
    "OpenEXR": b"\x76\x2f\x31\x01\2\0\0\0dataWindow\0box2i\0\x10\0\0\0" + struct.pack("<iiii", 0, 0, GIANT, GIANT),
    "AVIF": b"\0\0\0\x20ftypavif" + bytes(8) + b"\0\0\0\x14ispe\0\0\0\0" + struct.pack(">II", GIANT, GIANT),
    "PPM": b"P6\n# a comment\n100000 100000\n255\n",
    "PPM with long comments": b"P6\n#" + bytes(70_000) + b"\n100000 # wide\n# and\n 100000 255\n",
    "raw pixels": b"P6\n100000 100000\n255\n" + bytes(60),
    "Radiance": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 100000 +X 100000\n",
    "Sun raster": b"Y\xa6j\x95" + struct.pack(">II", GIANT, GIANT),
}


@pytest.mark.parametrize("kind", list(GIANTS))
def test_giants_of_rare_formats_are_refused_by_their_header(kind: str) -> None:
    with pytest.raises(UnreadablePicture, match=r"a: image of 10000\d x 10000\d pixels; the limit is 100,000,000"):
        decoded(GIANTS[kind], "a")
