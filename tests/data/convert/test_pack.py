"""Packing: labels match their pixels, people share images, original bytes are kept, damaged images are rejected."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from hmrb.data.convert.pack import Packing, pack
from hmrb.data.loader import view_of
from hmrb.data.warp import warp
from hmrb.formats.pictures import UnreadablePicture, decoded
from hmrb.records import Person, Photo, Sample
from hmrb.skeleton import TRAINING_SKELETON, remap

REGION = Packing("region")
ORIGINAL = Packing()
# 14 points of a body of size 1 by 2, each drawn as a dot.
PLACES = np.array([
    (0.5, 0.03), (0.5, 0.2), (0.2, 0.25), (0.8, 0.25), (0.06, 0.45), (0.94, 0.45), (0.1, 0.65), (0.9, 0.62),
    (0.35, 0.55), (0.65, 0.55), (0.33, 0.75), (0.67, 0.77), (0.3, 0.97), (0.7, 0.96),
])  # fmt: skip


def dotted(size: tuple[int, int], points: np.ndarray, sigma: float) -> np.ndarray:
    """Grey image with a bright dot at each point, at sub-pixel positions."""
    x, y = np.arange(size[0]), np.arange(size[1])[:, None]
    picture = np.full((size[1], size[0]), 60.0)
    for px, py in points:
        picture += 180 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
    return np.repeat(picture.clip(0, 255).round().astype(np.uint8)[..., None], 3, 2)


def dot_near(crop: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Brightness centroid within 5 px of a point of the crop."""
    y, x = np.mgrid[: crop.shape[0], : crop.shape[1]]
    near = np.hypot(x - point[0], y - point[1]) < 5
    weight = np.where(near, (crop[..., 0].astype(float) - 60).clip(0), 0)
    assert weight.sum() > 0
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def person(box: tuple[float, ...], points: np.ndarray | None = None) -> Person:
    points = np.zeros((14, 2)) if points is None else points
    keypoints = np.column_stack([points, np.ones(len(points))]).astype(np.float32)
    return Person(box=np.array(box, np.float32), keypoints2d=keypoints, keypoints3d=np.zeros((14, 4), np.float32))


def standing(box: tuple[float, ...]) -> Person:
    """A person with LSP's 14 points spread over a box."""
    return person(box, np.array(box[:2]) + PLACES * np.array(box[2:]))


def png(pixels: np.ndarray, kind: str = ".png") -> bytes:
    return cv2.imencode(kind, pixels[..., ::-1])[1].tobytes()


@pytest.mark.parametrize("packing", [ORIGINAL, REGION, Packing("region", 128)])
@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((900, 700), (250.3, 60.7, 300, 600)),  # downscaled
        ((640, 480), (400.5, 120.2, 100, 200)),  # only cropped
        ((500, 900), (-60, -30, 480, 860)),  # partly outside the image
    ],
)
@pytest.mark.parametrize("mirrored", [False, True])
def test_labels_stay_on_their_pixels(
    packing: Packing, size: tuple[int, int], box: tuple[float, ...], mirrored: bool
) -> None:
    who = standing(box)
    crop_px = packing.image_px if packing.kind == "region" else 224
    pixel = max(box[2:]) / crop_px  # size of a crop pixel in the image
    pixels = dotted(size, who.keypoints2d[:, :2], 1.5 * pixel)
    stored = np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels
    (sample,) = pack(Photo(name="a", people=(who,), pixels=stored, mirrored=mirrored), packing)
    view = warp(view_of(sample, "lsp", "a test"), crop_px)
    slots = np.flatnonzero(view.keypoints2d[:, 2])
    before = remap(who.keypoints2d, "lsp", TRAINING_SKELETON)[slots, :2]
    shown = view.keypoints2d[slots, :2]
    away = np.hypot(*(shown[:, None] - shown[None]).transpose(2, 0, 1)) + 99 * np.eye(14)
    whole = (before > 6 * pixel).all(1) & (before < np.array(size) - 6 * pixel).all(1)
    clear = whole & (away.min(1) > 11)  # away from the image's edge and other dots
    assert clear.sum() >= 6
    for point in shown[clear]:
        # 0.07 was the largest error (rounding, JPEG, other dots); a wrong pixel convention would cause 0.5.
        assert np.hypot(*(dot_near(view.image, point) - point)) < 0.12


def test_a_region_is_what_every_augmentation_can_show() -> None:
    """Side 120 scaled by 1.25 and rotated by 45 degrees: 120 * 1.25 * sqrt(2) / 2 + 1 = 107.07 around (130, 140)."""
    photo = Photo(name="a", people=(person((100, 80, 60, 120), np.full((14, 2), (150, 100))),), pixels=_grey(640, 480))
    (sample,) = pack(photo, REGION)
    assert sample.origin.tolist() == [22, 32, 1]
    assert decoded(sample.jpeg, "").shape == (249 - 32, 239 - 22, 3)
    assert sample.photo_px == (640, 480)
    assert sample.box.tolist() == [78, 48, 60, 120]
    assert sample.keypoints2d[0].tolist() == [128, 68, 1]


def test_a_region_is_no_finer_than_a_crop_of_a_shrunk_square_needs() -> None:
    """A crop of 32 px from the square scaled by 0.75: scale 32 / (0.75 * 120)."""
    photo = Photo(name="a", people=(person((100, 80, 60, 120), np.full((14, 2), (150, 100))),), pixels=_grey(640, 480))
    (sample,) = pack(photo, Packing("region", 32))
    scale = 32 / 90
    assert sample.origin.tolist() == pytest.approx([22, 32, scale])
    assert decoded(sample.jpeg, "").shape == (78, 78, 3)  # 217 * scale = 77.2, rounded up
    assert sample.keypoints2d[0, :2].tolist() == pytest.approx([128.5 * scale - 0.5, 68.5 * scale - 0.5])
    assert sample.box.tolist() == pytest.approx([78.5 * scale - 0.5, 48.5 * scale - 0.5, 60 * scale, 120 * scale])


def test_the_way_back_to_the_photo_is_the_one_that_is_documented() -> None:
    who = standing((250.3, 60.7, 300, 600))
    (sample,) = pack(Photo(name="a", people=(who,), pixels=_grey(900, 700)), REGION)
    back = (sample.keypoints2d[:, :2] + 0.5) / sample.origin[2] - 0.5 + sample.origin[:2]
    np.testing.assert_allclose(back, who.keypoints2d[:, :2], atol=1e-3)


def test_people_close_by_share_a_picture_and_others_do_not() -> None:
    near = (person((100, 100, 80, 160)), person((150, 110, 80, 150)))
    first, second = pack(Photo(name="a", people=near, pixels=_grey(640, 480)), REGION)
    assert first.jpeg == second.jpeg
    assert first.origin.tolist() == second.origin.tolist()
    assert (first.box - second.box).tolist() == [-50, -10, 0, 10]
    far = (person((20, 20, 40, 80)), person((1500, 900, 40, 80)))
    first, second = pack(Photo(name="a", people=far, pixels=_grey(1920, 1080)), REGION)
    assert first.origin.tolist() != second.origin.tolist()
    assert decoded(first.jpeg, "").shape[0] < 200


def test_people_keep_their_order_and_their_own_labels() -> None:
    people = tuple(person((30 * n, 40, 50, 100 + n), np.full((14, 2), 30 * n + 10)) for n in range(5))
    for packing in (ORIGINAL, REGION):
        samples = pack(Photo(name="a", people=people, pixels=_grey(640, 480)), packing)
        assert [round(sample.box[3] / sample.origin[2]) for sample in samples] == [100, 101, 102, 103, 104]


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_original_bytes_are_kept(kind: str, tmp_path: Path) -> None:
    data = png(_noise(320, 240), kind)
    (tmp_path / "a").write_bytes(data)
    who = person((100, 50, 60, 120), np.full((14, 2), (0, 7.25)))
    for photo in (Photo(name="a", people=(who,), data=data), Photo(name="a", people=(who,), file=tmp_path / "a")):
        (sample,) = pack(photo, ORIGINAL)
        assert (sample.jpeg, sample.photo_px, sample.origin.tolist()) == (data, (320, 240), [0, 0, 1])
        np.testing.assert_array_equal(sample.keypoints2d, who.keypoints2d)
        np.testing.assert_array_equal(sample.box, who.box)


def test_a_jpeg_that_is_needed_whole_is_not_compressed_again() -> None:
    data = png(_noise(200, 150), ".jpg")
    (sample,) = pack(Photo(name="a", people=(person((20, 5, 120, 140)),), data=data), REGION)
    assert sample.jpeg == data


def test_a_mirrored_original_is_mirrored_without_loss() -> None:
    pixels = _noise(101, 60)
    data = png(pixels)
    (sample,) = pack(Photo(name="a", people=(person((10, 10, 30, 40)),), data=data, mirrored=True), ORIGINAL)
    np.testing.assert_array_equal(decoded(sample.jpeg, ""), pixels[:, ::-1])
    small = Photo(name="a", people=(person((10, 10, 90, 40)),), data=png(pixels, ".jpg"), mirrored=True)
    (sample,) = pack(small, REGION)  # it is used whole, but its bytes must not be kept
    assert np.abs(decoded(sample.jpeg, "").astype(int) - decoded(small.data, "")[:, ::-1]).mean() < 8  # JPEG, twice


def test_where_there_is_no_picture_there_are_labels_alone() -> None:
    (sample,) = pack(Photo(name="mocap/1", people=(person((0, 0, 0, 0)),)), REGION)
    assert (sample.jpeg, sample.photo_px, sample.origin.tolist()) == (b"", (0, 0), [0, 0, 1])


def test_nobody_is_no_sample_and_no_reading() -> None:
    assert pack(Photo(name="a", people=(), file=Path("nowhere.jpg")), REGION) == []


def test_what_is_not_labelled_stays_zero() -> None:
    who = person((100, 80, 60, 120), np.full((14, 2), 33.0))
    who.keypoints2d[3] = (5, 6, 0)
    for packing in (REGION, ORIGINAL):
        (sample,) = pack(Photo(name="a", people=(who,), pixels=_grey(640, 480)), packing)
        assert not sample.keypoints2d[3].any()


@pytest.mark.parametrize("kind", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("packing", [ORIGINAL, REGION])
def test_a_picture_that_is_cut_short_is_refused(kind: str, share: float, packing: Packing, tmp_path: Path) -> None:
    data = png(_noise(320, 240), kind)
    (tmp_path / "a").write_bytes(data[: int(share * len(data))])
    photo = Photo(name="pictures/a", people=(person((100, 50, 60, 120)),), file=tmp_path / "a")
    with pytest.raises(UnreadablePicture, match=r"pictures/a: image (is truncated|cannot be decoded)"):
        pack(photo, packing)


def test_what_is_missing_or_none_is_refused(tmp_path: Path) -> None:
    who = (person((100, 50, 60, 120)),)
    with pytest.raises(UnreadablePicture, match=r"b\.jpg: image cannot be read: no such file"):
        pack(Photo(name="b", people=who, file=tmp_path / "b.jpg"), REGION)
    for content in (b"", b"hello"):
        (tmp_path / "c.jpg").write_bytes(content)
        with pytest.raises(UnreadablePicture, match=r"c: image cannot be decoded"):
            pack(Photo(name="c", people=who, file=tmp_path / "c.jpg"), REGION)


def test_packing_again_gives_the_same_bytes() -> None:
    photo = Photo(name="a", people=(standing((250.3, 60.7, 300, 600)),), pixels=_noise(900, 700))
    first, second = (pack(photo, REGION) for _ in range(2))
    assert [_bytes(sample) for sample in first] == [_bytes(sample) for sample in second]


def _bytes(sample: Sample) -> bytes:
    return sample.jpeg + sample.box.tobytes() + sample.keypoints2d.tobytes()


def _grey(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def _noise(width: int, height: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    return cv2.resize(rng.integers(0, 255, (height // 4, width // 4, 3)).astype(np.uint8), (width, height))
