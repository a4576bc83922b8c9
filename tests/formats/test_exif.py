"""EXIF: how a camera was held, its focal length in pixels; broken EXIF is none."""

import io
import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "predict"))
from photos import exif_block, jpeg, noise, saved_by_pillow, with_exif

from hmrb.formats.exif import Exif, is_animated, read_exif
from hmrb.formats.pictures import decoded, upright

FILM, LENGTH, WIDTH, HEIGHT, PLANE, UNIT = 0xA405, 0x920A, 0xA002, 0xA003, 0xA20E, 0xA210


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_focal_length_of_35_mm_film_is_by_its_diagonal(order: str) -> None:
    exif = read_exif(with_exif(jpeg(), {0x0112: (3, 6), FILM: (3, 26)}, order))
    assert exif.orientation == 6
    focal = exif.focal_px(4032, 3024)
    assert focal is not None
    assert focal[0] == pytest.approx(26 / math.hypot(36, 24) * 5040)
    assert focal[1] == "EXIF FocalLengthIn35mmFilm"


def test_a_focal_length_needs_the_sensor() -> None:
    sensor = {LENGTH: (5, (50, 1)), PLANE: (5, (4000, 24)), UNIT: (3, 4), WIDTH: (4, 4000), HEIGHT: (4, 3000)}
    exif = read_exif(with_exif(jpeg(), sensor))
    focal = exif.focal_px(4000, 3000)
    assert focal is not None
    assert focal[0] == pytest.approx(50 * 4000 / 24)
    half = exif.focal_px(1500, 2000)  # scaled down and turned upright
    assert half is not None
    assert half[0] == pytest.approx(25 * 4000 / 24)
    assert exif.focal_px(4000, 2000) is None  # cut after it was taken
    assert read_exif(with_exif(jpeg(), {LENGTH: (5, (50, 1))})).focal_px(60, 80) is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_undoes_how_the_camera_was_held(orientation: int) -> None:
    from PIL import Image, ImageOps

    photo = noise()
    image = Image.fromarray(photo)
    image.getexif()[0x0112] = orientation
    turned = ImageOps.exif_transpose(image)
    np.testing.assert_array_equal(upright(photo, orientation), np.asarray(turned))
    stored = with_exif(jpeg(photo), {0x0112: (3, orientation)})
    assert decoded(stored, "").shape == (80, 60, 3)
    np.testing.assert_array_equal(
        decoded(stored, "", orientation=read_exif(stored).orientation), upright(decoded(stored, ""), orientation)
    )


def test_png_webp_and_tiff_have_exif_too() -> None:
    block = exif_block({0x0112: (3, 3), FILM: (3, 50)})
    for kind in ("PNG", "WEBP"):
        exif = read_exif(saved_by_pillow("RGB", kind, exif=block))
        assert (exif.orientation, exif.tags[FILM]) == (3, 50), kind
    assert read_exif(saved_by_pillow("RGB", "TIFF")).orientation == 1


def test_broken_exif_is_none() -> None:
    whole = with_exif(jpeg(), {0x0112: (3, 6), FILM: (3, 26), LENGTH: (5, (1, 0))})
    assert LENGTH not in read_exif(whole).tags
    at = whole.index(b"II*\0")
    for size in range(0, 60, 3):
        assert read_exif(whole[: at + size]).focal_px(60, 80) is None
    for place in range(at, at + 60):
        for value in (0, 255):
            broken = whole[:place] + bytes([value]) + whole[place + 1 :]
            assert read_exif(broken).orientation in range(1, 9)
    assert read_exif(with_exif(jpeg(), {0x0112: (3, 99)})).orientation == 1
    assert read_exif(b"") == read_exif(b"no picture")


def test_pictures_of_several_frames_are_known_by_their_header() -> None:
    from PIL import Image

    frame = Image.fromarray(noise(seed=1))
    for kind in ("GIF", "PNG", "WEBP"):
        assert is_animated(saved_by_pillow("RGB", kind, save_all=True, append_images=[frame])), kind
        assert not is_animated(saved_by_pillow("RGB", kind)), kind
    assert not is_animated(jpeg())


def avif(orientation: int) -> bytes:
    """A picture of 64 x 40 px, whose upper left quarter is red and whose lower right one is blue."""
    from PIL import Image, features

    if not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[:20, :32], pixels[20:, 32:] = (255, 0, 0), (0, 0, 255)
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(buffer, "AVIF", exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_boxes_of_an_avif_say_how_the_camera_was_held(orientation: int) -> None:
    from PIL import Image, ImageOps

    data = avif(orientation)
    assert read_exif(data) == Exif(orientation, {})
    shown = decoded(data, "", orientation=read_exif(data).orientation)
    right = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert shown.shape == right.shape
    assert np.abs(shown.astype(int) - right).max() < 16  # two decoders


def test_the_order_of_the_boxes_of_an_avif_counts() -> None:
    data = avif(5)
    assert data.count(b"\x84\x85\x86"[1:]) == 1  # irot, then imir
    assert read_exif(data.replace(b"\x85\x86", b"\x86\x85")).orientation == 7


def test_broken_boxes_of_an_avif_are_none() -> None:
    whole = avif(7)
    end = whole.index(b"mdat")
    for size in range(end):
        assert read_exif(whole[:size]).orientation in (1, 7)
    for place in range(end):
        for value in (0, 1, 127, 255):
            broken = whole[:place] + bytes([value]) + whole[place + 1 :]
            assert read_exif(broken).orientation in range(1, 9)
