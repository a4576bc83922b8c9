"""What is decoded of a picture changes no crop, or by less than a level where the crop is averaged."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import person, write_shard
from skimage import data as photos

from hmrb.data.augment import BEFORE_WARP, MOVES, augmenter
from hmrb.data.convert.pack import Packing, pack
from hmrb.data.loader import DrawDataset, RowDataset, look
from hmrb.data.seen import Looking
from hmrb.data.shard import Shard
from hmrb.data.warp import averaged, bilinear, reduction, square_matrix
from hmrb.errors import RunError
from hmrb.evaluation.protocols import find_benchmark
from hmrb.formats import pictures
from hmrb.formats.pictures import UnreadablePicture, decoded
from hmrb.names import Antialias
from hmrb.records import Person, Photo, Sample
from hmrb.spec import DataSpec

PHOTOS = ("astronaut", "cat", "coffee", "rocket")
FULL, SEEN = Looking(), Looking("seen")
DRAWN = DataSpec(mix={"a": 1.0}, augment=("channel_noise", "random_crop", "flip", "rotate_scale"))  # type: ignore[arg-type]


def photo_jpeg(name: str, *options: int) -> bytes:
    pixels = getattr(photos, name)()[..., ::-1]
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 92, *options])[1].tobytes()


def crop(data: bytes, looking: Looking, scale: float, size: int = 64) -> np.ndarray:
    pixels, cut = looking.at(data, "a")
    matrix = square_matrix(np.array(pixels.shape[1::-1]) / 2, size / scale, size, 0.3)
    return cut(pixels, matrix, size).astype(int)


@pytest.fixture
def tiled(tmp_path: Path) -> Shard:
    """People in photos, as regions with tiles."""
    return regions(tmp_path / "a.h5", Packing("region", 96, form="tiled"))


@pytest.fixture
def raw(tmp_path: Path) -> Shard:
    """People in photos, as regions of raw pixels."""
    return regions(tmp_path / "raw.h5", Packing("region", 96, form="raw"))


def regions(path: Path, packing: Packing) -> Shard:
    people = []
    for number, name in enumerate(PHOTOS):
        height, width = getattr(photos, name)().shape[:2]
        box = np.array([width / 4, height / 4, width / 3, height / 3], np.float32)
        one = Person(box=box, keypoints2d=person(number).keypoints2d, has_body=True)
        people += pack(Photo(name=name, people=(one,), data=photo_jpeg(name)), packing)
    return Shard(write_shard(path, people, "a", pictures=packing.name))


@pytest.mark.parametrize("antialias", ["none", "area"])
@pytest.mark.parametrize("scale", [2.0, 1.0, 0.7, 0.5001])
@pytest.mark.parametrize("name", PHOTOS)
def test_from_half_the_scale_on_crops_are_identical(name: str, scale: float, antialias: Antialias) -> None:
    for data in (photo_jpeg(name), photo_jpeg(name, cv2.IMWRITE_JPEG_RST_INTERVAL, 1)):
        full, seen = (crop(data, Looking(decode, antialias), scale) for decode in ("full", "seen"))
        np.testing.assert_array_equal(seen, full)


@pytest.mark.parametrize("scale", [0.49, 0.36, 0.25, 0.2, 0.125, 0.06])
@pytest.mark.parametrize("name", PHOTOS)
def test_below_half_the_scale_crops_differ_by_less_than_a_level_in_the_mean(name: str, scale: float) -> None:
    data, size = photo_jpeg(name), int(300 * scale)
    np.testing.assert_array_equal(crop(data, SEEN, scale, size), crop(data, FULL, scale, size))
    full, seen = (crop(data, Looking(decode, "area"), scale, size) for decode in ("full", "seen"))
    assert 0 < np.abs(seen - full).mean() < 1


def test_the_mean_over_squares_removes_what_a_crop_cannot_show() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (96, 48))[..., None].repeat(3, 2)
    matrix = square_matrix(np.array([47.5, 47.5]), 83, 20)
    assert reduction(matrix) == 4
    assert bilinear(stripes, matrix, 20).std() > 5 * averaged(stripes, matrix, 20)[2:-2, 2:-2].std()
    np.testing.assert_allclose(averaged(stripes, matrix, 20)[2:-2, 2:-2], 127.5, atol=1)


@pytest.mark.parametrize("times", [2, 4])
def test_an_averaged_crop_shows_points_where_they_are(times: int) -> None:
    x, y = np.arange(203), np.arange(157)[:, None]
    dot = 255 * np.exp(-((x - 90.3) ** 2 + (y - 60.7) ** 2) / 200)
    image = np.repeat(dot.round().astype(np.uint8)[..., None], 3, 2)
    matrix = square_matrix(np.array([95.0, 66.0]), 45 * times * 1.2, 45, 0.4)
    small = averaged(image, matrix, 45)[..., 0].astype(float)
    rows, columns = np.mgrid[:45, :45]
    found = np.array([(columns * small).sum(), (rows * small).sum()]) / small.sum()
    np.testing.assert_allclose(found, matrix @ (90.3, 60.7, 1), atol=0.1)


def test_training_draws_are_identical_and_decode_less(tiled: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    full = DrawDataset({"a": tiled}, DRAWN, 96, 0)
    seen = DrawDataset({"a": tiled}, DRAWN.model_copy(update={"decode": "seen"}), 96, 0)
    expected = [full[i] for i in range(40)]
    read: list[int] = []
    decode = pictures._decoded
    monkeypatch.setattr(pictures, "_decoded", lambda data, *more: read.append(len(data)) or decode(data, *more))  # type: ignore[func-returns-value]
    for i, item in enumerate(expected):
        other = seen[i]
        np.testing.assert_array_equal(other.image, item.image)
        np.testing.assert_array_equal(other.keypoints2d, item.keypoints2d)
    assert sum(read) < 0.7 * sum(len(tiled.jpeg(item.row)) for item in expected)


def test_a_tiled_region_has_the_pixels_of_a_region() -> None:
    one = Person(box=np.array([100, 80, 200, 260], np.float32), keypoints2d=person(0).keypoints2d)
    photo = Photo(name="a", people=(one,), data=photo_jpeg("astronaut"))
    plain, tiled = (pack(photo, Packing("region", 224, form=form))[0] for form in ("jpeg", "tiled"))
    np.testing.assert_array_equal(decoded(plain.jpeg, ""), decoded(tiled.jpeg, ""))
    assert len(plain.jpeg) < len(tiled.jpeg) < 1.1 * len(plain.jpeg)
    assert Packing("region", 224, form="tiled").attributes["region_px"] == 224


def test_raw_pixels_are_those_that_a_region_encodes(tmp_path: Path) -> None:
    one = Person(box=np.array([100, 80, 200, 260], np.float32), keypoints2d=person(0).keypoints2d)
    photo = Photo(name="a", people=(one,), data=photo_jpeg("astronaut"))
    plain, raw = (pack(photo, Packing("region", 96, form=form))[0] for form in ("jpeg", "raw"))
    assert raw.jpeg.startswith(b"P6\n")
    pixels = decoded(raw.jpeg, "")
    assert np.abs(pixels.astype(int) - decoded(plain.jpeg, "")).mean() < 4  # what JPEG loses
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(raw.jpeg, np.uint8), cv2.IMREAD_COLOR_RGB), pixels)
    pixels[:] = 0  # its own copy
    for field in ("box", "keypoints2d", "origin"):
        np.testing.assert_array_equal(getattr(raw, field), getattr(plain, field))
    whole = Person(box=np.array([0, 0, 512, 512], np.float32), keypoints2d=person(0).keypoints2d)
    (stored,) = pack(Photo(name="a", people=(whole,), data=photo_jpeg("astronaut")), Packing("region", 999, form="raw"))
    assert stored.jpeg.startswith(b"P6\n")  # even where a JPEG would keep its bytes


@pytest.mark.parametrize("antialias", ["none", "area"])
def test_raw_pixels_are_cut_from_where_they_lie(
    raw: Shard, antialias: Antialias, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No picture is read or decoded, and every draw is that of the decoded picture."""
    spec = DRAWN.model_copy(update={"antialias": antialias})
    with monkeypatch.context() as patched:
        patched.setattr(Shard, "raw_pixels", lambda self, row: None)
        through_bytes = DrawDataset({"a": raw}, spec, 96, 0)
        expected = [through_bytes[i] for i in range(40)]
    monkeypatch.setattr(Shard, "jpeg", None)
    for decode in ("full", "seen"):
        direct = DrawDataset({"a": raw}, spec.model_copy(update={"decode": decode}), 96, 0)
        for i, item in enumerate(expected):
            other = direct[i]
            np.testing.assert_array_equal(other.image, item.image)
            np.testing.assert_array_equal(other.keypoints2d, item.keypoints2d)
    view, _ = look(raw, 0)
    assert np.shares_memory(view.image, raw.arrays["jpeg/bytes"])
    assert not view.image.flags.writeable


@pytest.mark.parametrize("name", [op.__name__ for op in BEFORE_WARP])
def test_what_paints_before_the_warp_has_a_copy_of_raw_pixels(name: str, raw: Shard) -> None:
    (op,) = DataSpec(mix={"a": 1.0}, augment=(name,)).augment  # type: ignore[arg-type]
    before = raw.arrays["jpeg/bytes"].copy()
    draws = DrawDataset({"a": raw}, DataSpec(mix={"a": 1.0}, augment=(op,)), 96, 0)
    assert all(draws[i].image.any() for i in range(8))
    np.testing.assert_array_equal(raw.arrays["jpeg/bytes"], before)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"P6\n40 30\n255\n" + bytes(3 * 40 * 30 - 1), "a: image is truncated"),
        (b"P6\n40 30\n255\n", "a: image is truncated"),
        (b"P6\n99999 99999\n255\n" + bytes(100), "the limit is 100,000,000 pixels"),
        (b"P6\n0 30\n255\n", "a: image cannot be decoded"),
        (b"P6\n-4 30\n255\n" + bytes(360), "a: image cannot be decoded"),
    ],
)
def test_a_raw_picture_is_held_against_its_header(data: bytes, said: str) -> None:
    with pytest.raises(UnreadablePicture, match=said):
        decoded(data, "a")
    assert decoded(b"P6\n4 3\n255\n" + bytes(36) + b"P6\n1 1\n255\nabc", "a").shape == (3, 4, 3)


def test_a_raw_shard_whose_picture_lost_pixels_skips_it(raw: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its header states more than its place holds: the draw is replaced, as with any unreadable picture."""
    stored, bad = raw._stored, int(raw.arrays["image"][2])
    monkeypatch.setattr(raw, "_stored", lambda image: stored(image)[:-9] if image == bad else stored(image))
    draws = DrawDataset({"a": raw}, DRAWN, 96, 0)
    items = [draws[i] for i in range(40)]
    assert {item.row for item in items} == {0, 1, 3}
    assert all("image is truncated" in line and "rocket" not in line for item in items for line in item.skipped)
    assert any(item.skipped for item in items)


@pytest.mark.parametrize("name", [op.__name__ for op in BEFORE_WARP])
def test_what_looks_at_pixels_before_the_warp_sees_them_all(name: str, tiled: Shard) -> None:
    is_move = name in [op.__name__ for op in MOVES]
    (op,) = DataSpec(mix={"a": 1.0}, augment=(name,)).augment  # type: ignore[arg-type]
    augment = augmenter((op,), "a")
    assert augment.paints is not is_move
    spec = DataSpec(mix={"a": 1.0}, augment=(op,))
    full = DrawDataset({"a": tiled}, spec, 96, 0)
    seen = DrawDataset({"a": tiled}, spec.model_copy(update={"decode": "seen"}), 96, 0)
    for i in range(8):
        np.testing.assert_array_equal(full[i].image, seen[i].image)


def test_no_move_looks_at_a_pixel(tiled: Shard) -> None:
    view, _ = look(tiled, 0, SEEN)
    assert not view.image.any()
    assert view.image.strides == (0, 0, 0)
    assert view.image.shape == look(tiled, 0)[0].image.shape


@pytest.mark.parametrize("looking", [FULL, SEEN, Looking("seen", "area")])
def test_unreadable_pictures_are_named_whatever_is_decoded(tmp_path: Path, looking: Looking) -> None:
    broken = replace(person(0), jpeg=photo_jpeg("cat")[:3000])
    shard = Shard(write_shard(tmp_path / "a.h5", [broken], "a"))
    with pytest.raises(UnreadablePicture, match="person/000: image"):
        RowDataset(shard, 32, looking=looking)[0]
    spec = DataSpec(mix={"a": 1.0}, decode=looking.decode, antialias=looking.antialias)
    with pytest.raises(RunError, match="person/000"):
        DrawDataset({"a": shard}, spec, 32, 0)[0]


def test_other_formats_are_decoded_whole(tmp_path: Path) -> None:
    png = cv2.imencode(".png", photos.cat())[1].tobytes()
    one = Sample(name="a", jpeg=png, box=np.array([20, 20, 250, 250], np.float32), has_body=True,
                 keypoints2d=person(0).keypoints2d, keypoints3d=person(0).keypoints3d)  # fmt: skip
    shard = Shard(write_shard(tmp_path / "a.h5", [one], "a"))
    for antialias in ("none", "area"):
        full, seen = (RowDataset(shard, 64, looking=Looking(decode, antialias))[0] for decode in ("full", "seen"))  # type: ignore[arg-type]
        np.testing.assert_array_equal(full.image, seen.image)


@pytest.mark.parametrize(("suffix", "looking"), [("", FULL), ("_seen", SEEN), ("_area", Looking("full", "area"))])
def test_a_protocol_says_how_it_looks(suffix: str, looking: Looking) -> None:
    plain, row = find_benchmark("3dpw"), find_benchmark(f"3dpw{suffix}")
    assert Looking(row.decode, row.antialias) == looking
    assert (row.protocol == plain.protocol) is (not suffix)
    assert row.protocol.partition("@")[0].endswith(suffix.replace("_", "-"))
    for name in (row.name, row.full_name):
        assert find_benchmark(name) == row
