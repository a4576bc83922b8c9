"""Parts of JPEGs with restart markers have the pixels of the whole; any other JPEG is left to the decoder."""

from typing import Any

import cv2
import numpy as np
import pytest

from hmrb.data.warp import bilinear, square_matrix
from hmrb.formats.jpeg_tiles import part_of_jpeg
from hmrb.formats.pictures import UnreadablePicture, decoded, decoded_where

SIZE = 48
SAMPLINGS = {"4:1:1": (0x411111, 32), "4:2:0": (0x221111, 16), "4:2:2": (0x211111, 16), "4:4:4": (0x111111, 8)}


def picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth colours under noise."""
    coarse = rng.integers(0, 256, (height // 9 + 2, width // 9 + 2, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, (width, height)).astype(float)
    return (smooth + rng.normal(0, 20, smooth.shape)).clip(0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, interval: int, *options: int) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_RST_INTERVAL, interval, *options])[1].tobytes()


def random_square(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    center = rng.uniform((-20, -20), (width + 20, height + 20))
    matrix = square_matrix(center, float(rng.uniform(5, 300)), SIZE, float(rng.normal(0, 0.6) * (rng.random() < 0.7)))
    return matrix @ np.diag([-1.0, 1, 1]) if rng.random() < 0.2 else matrix


@pytest.fixture(params=[0, 255])
def poisoned(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that nobody wrote is black or white."""
    empty = np.empty

    def filled(shape: Any, dtype: Any = float, **more: Any) -> np.ndarray:
        out = empty(shape, dtype, **more)
        if dtype is np.uint8:
            out[...] = request.param
        return out

    monkeypatch.setattr(np, "empty", filled)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("optimised", [0, 1])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_crop_of_a_part_is_the_crop_of_the_whole(sampling: str, optimised: int) -> None:
    rng, parts = np.random.default_rng(0), []
    code, block = SAMPLINGS[sampling]
    for number in range(20):
        height, width = rng.integers(30, 400, 2).tolist()
        across = -(-width // block)
        interval = int(rng.choice([count for count in range(1, across + 1) if across % count == 0]))
        pixels = picture(rng, height, width)
        options = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, code, cv2.IMWRITE_JPEG_OPTIMIZE, optimised)
        grey = block == 8 and number % 4 == 0
        data = jpeg(pixels[..., 0] if grey else pixels, interval, *options)
        whole = decoded(data, "")
        for _ in range(8):
            matrix = random_square(rng, height, width)
            part = part_of_jpeg(data, matrix, SIZE)
            parts.append(1.0 if part is None else len(part.data) / len(data))
            seen = decoded_where(data, "", matrix, SIZE)
            np.testing.assert_array_equal(bilinear(seen, matrix, SIZE), bilinear(whole, matrix, SIZE))
    assert np.mean(parts) < 0.7


@pytest.mark.parametrize(
    ("interval", "options"),
    [(0, ()), (3, ()), (2, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1))],
    ids=["no markers", "markers across rows", "progressive"],
)
def test_what_has_no_tiles_is_decoded_whole(interval: int, options: tuple[int, ...]) -> None:
    data = jpeg(picture(np.random.default_rng(1), 100, 160), interval, *options)
    matrix = square_matrix(np.array([40.0, 40.0]), 30, SIZE)
    assert part_of_jpeg(data, matrix, SIZE) is None
    np.testing.assert_array_equal(decoded_where(data, "", matrix, SIZE), decoded(data, ""))


def test_a_tiled_picture_that_is_damaged_is_read_as_the_decoder_does() -> None:
    data = jpeg(picture(np.random.default_rng(2), 96, 160), 2)
    matrix = square_matrix(np.array([40.0, 40.0]), 30, SIZE)
    assert part_of_jpeg(data, matrix, SIZE) is not None
    with pytest.raises(UnreadablePicture, match="a: image is truncated"):
        decoded_where(data[:-2], "a", matrix, SIZE)
    swapped = bytearray(data)
    swapped[data.index(b"\xff\xd2") + 1] = 0xD5
    assert part_of_jpeg(bytes(swapped), matrix, SIZE) is None


def test_bytes_after_the_picture_are_ignored() -> None:
    data = jpeg(picture(np.random.default_rng(3), 96, 160), 2)
    matrix = square_matrix(np.array([40.0, 40.0]), 30, SIZE)
    assert part_of_jpeg(data + data, matrix, SIZE) == part_of_jpeg(data, matrix, SIZE)


def test_any_cut_or_changed_byte_ends_in_pixels_or_in_one_message() -> None:
    rng = np.random.default_rng(4)
    data = jpeg(picture(rng, 64, 96), 2)
    matrix = square_matrix(np.array([30.0, 30.0]), 20, SIZE)
    for _ in range(300):
        changed = bytearray(data[: int(rng.integers(4, len(data) + 1))])
        for at in rng.integers(2, min(len(changed), 700), 3):
            changed[at % len(changed)] = rng.integers(256)
        try:
            outcome = str(decoded_where(bytes(changed), "a", matrix, SIZE).shape)
        except UnreadablePicture as error:
            outcome = str(error)
        assert outcome.startswith(("a: image", "("))
