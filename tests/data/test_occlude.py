"""Occlusions. To compare with the study's recordings, its random numbers are replayed from the legacy generators."""

import math
import random
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import golden, view
from raw.voc import annotation

from hmrb.data.augment import AUGMENTS
from hmrb.data.convert.conversion import ProgressReporter
from hmrb.data.convert.voc_occluders import prepare_pascal
from hmrb.data.occlude import mixed, paste, place_rectangle, resized
from hmrb.data.occluders import load_occluders, procedural, read_pascal
from hmrb.data.warp import mirror
from hmrb.errors import RequestError, RunError
from hmrb.preflight import require_files
from hmrb.records import View
from hmrb.spec import Experiment, Op
from hmrb.store import Store

SMALL = (0.0, 0.2)  # a larger rectangle may be longer than its box
GREY = np.full((100, 120, 3), 90, np.uint8)


def picture() -> View:
    """The study's image in RGB."""
    return view(np.ascontiguousarray(golden("5_augment")["img"][..., ::-1]))


def recorded(name: str, seed: int) -> np.ndarray:
    return golden("5_augment")[f"aug/{name}/seed{seed}/img"][..., ::-1]


def drawn(name: str, start: View, seed: int, **args: object) -> View:
    return AUGMENTS[name](start, np.random.default_rng(seed), **({"p": 1.0} | args))


def study_patch(seed: int) -> tuple[np.random.RandomState, random.Random, tuple[int, int, int, int, float] | None]:
    """The study's draws for soft erasing: top, left, height, width and weight."""
    legacy, plain = np.random.RandomState(seed), random.Random(seed)
    if legacy.rand() > 0.5:
        return legacy, plain, None
    height, width = 97, 131
    for _ in range(100):
        area, aspect = plain.uniform(0.02, 0.4) * height * width, plain.uniform(0.3, 1 / 0.3)
        tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if wide < width and tall < height:
            top, left = plain.randint(0, height - tall), plain.randint(0, width - wide)
            return legacy, plain, (top, left, tall, wide, plain.uniform(0.1, 0.9))
    raise AssertionError("no patch fits")


@pytest.mark.parametrize("seed", range(3))
def test_softly_erased_pixels_equal_the_study(seed: int) -> None:
    start, (legacy, _, patch) = picture(), study_patch(seed)
    if patch:
        top, left, tall, wide, share = patch
        noise = np.ascontiguousarray(legacy.rand(tall, wide, 3)[..., ::-1]) * 255
        start = mixed(start, top, left, noise, share)
    np.testing.assert_array_equal(start.image, recorded("soft_erase", seed))


@pytest.mark.parametrize("seed", range(3))
def test_pixels_mixed_with_others_equal_the_study(seed: int) -> None:
    start, (_, plain, patch) = picture(), study_patch(seed)
    if patch:
        top, left, tall, wide, share = patch
        y, x = plain.randint(0, 97 - tall), plain.randint(0, 131 - wide)
        start = mixed(start, top, left, start.image[y : y + tall, x : x + wide], share)
    # The study sums in float64 and truncates: 1 level of difference if float32 crosses an integer.
    wrong = np.abs(start.image.astype(int) - recorded("self_mix", seed))
    assert wrong.max() <= 1
    assert (wrong > 0).mean() < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_where_a_rectangle_is_erased_equals_the_study(seed: int) -> None:
    """Of the study's three runs, one draws no rectangle and two draw one that is partly outside the image."""
    legacy, plain = np.random.RandomState(seed), random.Random(seed)
    x, y, side, _ = golden("5_augment")[f"aug/rand_occ/seed{seed}/center_scale"]
    if legacy.rand() <= 0.5:
        box = np.array([x - side / 2, y - side / 2, side, side])
        area, aspect = plain.random() * 0.7, plain.random() * (1 / 0.3 - 0.3) + 0.3
        assert place_rectangle(picture(), box, area, aspect, plain.random(), plain.random()) is None
    else:
        assert seed == 0


def test_a_rectangle_lies_in_its_box() -> None:
    box = np.array([10.0, 20.0, 60.0, 40.0])
    assert place_rectangle(view(GREY), box, 0.25, 1.5, 0.5, 0.0) == (29, 20, 20, 30)  # 600 px², 30 high, 20 wide
    assert place_rectangle(view(GREY), box, 0.25, 1.5, 1.0, 1.0) == (49, 29, 20, 30)  # one pixel before the box's end
    assert place_rectangle(view(GREY), box - (40, 0, 0, 0), 0.25, 1.5, 0.0, 0.0) is None


def occluders() -> list[np.ndarray]:
    g = golden("5_augment")
    return [np.ascontiguousarray(g[f"aug/occluder{i}"][..., [2, 1, 0, 3]]) for i in range(2)]


@pytest.mark.parametrize("seed", range(3))
def test_pasted_objects_equal_the_study(seed: int) -> None:
    legacy, plain, image = np.random.RandomState(seed), random.Random(seed), picture().image.copy()
    for _ in range(legacy.randint(1, 8)):
        occluder = plain.choice(occluders())
        center = legacy.uniform([0, 0], [131, 97])
        paste(image, resized(occluder, legacy.uniform(0.2, 1.0) * 97 / 256), np.round(center).astype(np.int64))
    np.testing.assert_array_equal(image, recorded("syn_occ", seed))


@pytest.mark.parametrize("seed", range(3))
def test_objects_pasted_at_joints_equal_the_study(seed: int) -> None:
    g = golden("5_augment")
    legacy, plain, image = np.random.RandomState(seed), random.Random(seed), picture().image.copy()
    points, side = g["kp2d"][seed], g[f"aug/syn_occkp/seed{seed}/center_scale"][2]
    for _ in range(legacy.randint(1, 8)):
        occluder = plain.choice(occluders())
        seen = points[points[:, 2] == 1]
        joint = seen[legacy.choice(range(len(seen)), 1)[0], :2]
        off = np.array([legacy.randn(), legacy.randn()]) * 0.1 * side
        center = np.clip(joint + off, 0, (131, 97)).astype(np.int64)
        paste(image, resized(occluder, legacy.uniform(0.2, 1.0) * 97 / 256), center)
    np.testing.assert_array_equal(image, recorded("syn_occkp", seed))


def test_what_is_erased_is_erased_where_the_labels_say() -> None:
    """Also in a mirrored view: the rectangle is in the square, which the warp mirrors later."""
    right = view(GREY, center=np.array([95.0, 50.0]), side=40.0, box=np.array([75.0, 30.0, 40.0, 40.0]))
    for name in ("hard_erase", "random_occlusion"):
        for start, columns in ((right, slice(75, 115)), (mirror(right), slice(75, 116))):
            changed = np.zeros(GREY.shape[:2], bool)
            for seed in range(80):
                changed |= (drawn(name, start, seed, area=SMALL).image != GREY).any(-1)
            assert changed[30:70, columns].mean() > 0.8
            changed[30:70, columns] = False
            assert not changed.any()


def test_random_occlusion_keeps_to_the_box_and_hard_erase_to_the_square() -> None:
    start = view(GREY, center=np.array([60.0, 50.0]), side=20.0, box=np.array([20.0, 10.0, 80.0, 80.0]))
    spread = {}
    for name in ("hard_erase", "random_occlusion"):
        changed = np.any([(drawn(name, start, seed, area=SMALL).image != GREY).any(-1) for seed in range(40)], 0)
        spread[name] = np.flatnonzero(changed.any(0))[[0, -1]].tolist()
    assert spread["hard_erase"][0] >= 50
    assert spread["hard_erase"][1] < 70
    assert spread["random_occlusion"][0] < 30
    assert spread["random_occlusion"][1] > 90


def holes(image: np.ndarray) -> np.ndarray:
    return (image == 0).all(-1)


def test_coarse_dropout_draws_as_the_study() -> None:
    start = view(np.full((224, 224, 3), 9, np.uint8))
    single = [holes(drawn("coarse_dropout", start, seed, holes=(1, 1)).image) for seed in range(300)]
    sides = np.array([[mask.any(axis).sum() for axis in (1, 0)] for mask in single])
    assert (sides.min(), sides.max()) == (10, 40)
    assert all(mask.sum() == tall * wide for mask, (tall, wide) in zip(single, sides, strict=True))
    assert np.any(single, 0)[15:-15, 15:-15].mean() > 0.98  # anywhere
    assert (sides[:, 0] != sides[:, 1]).mean() > 0.9
    counts = [
        cv2.connectedComponents(holes(drawn("coarse_dropout", start, i).image).astype(np.uint8))[0] - 1
        for i in range(99)
    ]
    assert (min(counts), max(counts)) == (1, 8)


def test_grid_dropout_blacks_out_half_of_each_unit() -> None:
    start = view(np.full((224, 224, 3), 9, np.uint8))
    units = set()
    for seed in range(200):
        black = holes(drawn("grid_dropout", start, seed).image)
        columns = np.flatnonzero(black.any(0))
        starts = columns[1:][np.diff(columns) > 1]
        unit = int(starts[1] - starts[0])
        units.add(unit)
        assert (np.diff(starts) == unit).all()
        inner = black[:, starts[0] : starts[1]].any(0)
        assert inner.sum() == unit // 2
        assert (black == black.any(1)[:, None] & black.any(0)).all()
    assert units == set(range(10, 41))


def test_patches_stay_between_their_limits() -> None:
    start = view(np.full((200, 200, 3), 255, np.uint8))
    shares = []
    for seed in range(200):
        changed = (drawn("soft_erase", start, seed).image != 255).any(-1)
        rows, columns = changed.any(1).sum(), changed.any(0).sum()
        assert changed.sum() / (rows * columns) > 0.98  # blended noise leaves few pixels white
        shares.append(rows * columns / 200**2)
        assert 0.27 < rows / columns < 3.7  # 0.3 to 1/0.3, rounded to pixels
    assert min(shares) > 0.018
    assert max(shares) < 0.41


def test_mixing_with_itself_makes_no_new_colour() -> None:
    start = view(np.where(np.indices((80, 80)).sum(0)[..., None] % 2, 50, 200).repeat(3, 2).astype(np.uint8))
    mixes = np.concatenate([drawn("self_mix", start, seed).image for seed in range(30)])
    assert mixes.min() >= 49  # sums are truncated to integer levels, as in the study
    assert mixes.max() <= 200
    assert ((mixes > 60) & (mixes < 190)).any()


@pytest.mark.parametrize("name", ["occlude", "occlude_keypoints"])
def test_objects_cover_some_of_the_picture(name: str) -> None:
    start = view(GREY)
    covers = [(drawn(name, start, seed).image != GREY).any(-1).mean() for seed in range(60)]
    assert min(covers) > 0
    assert 0.02 < np.mean(covers) < 0.5


def test_objects_at_joints_lie_on_them() -> None:
    points = np.zeros((54, 3), np.float32)
    points[7] = 60, 40, 0.3  # any positive confidence counts
    start = view(GREY, keypoints2d=points)
    hidden = [
        (drawn("occlude_keypoints", start, seed, spread=0.0, count=(9, 9)).image != GREY).any(-1) for seed in range(9)
    ]
    assert np.all([mask[36:45, 56:65].any() for mask in hidden])
    assert not np.any([mask[:, :15].any() for mask in hidden])
    nobody = view(GREY, keypoints2d=np.zeros((54, 3), np.float32))
    assert drawn("occlude_keypoints", nobody, 0) is nobody


def test_the_drawn_objects_are_the_same_each_time() -> None:
    first, second = procedural(), procedural()
    assert len(first) == 96
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
        assert 60 <= max(one.shape[:2]) <= 181
        cover = (one[..., 3] > 0).mean()
        assert 0.05 < cover < 1
        assert one[one[..., 3] == 255][:, :3].std() > 1  # textured
        assert one[..., 3][0].max() > 0 or one[..., 3][-1].max() > 0  # cropped to its object


# --- Pascal VOC


def test_whole_segmented_objects_are_cut_out_of_voc(voc: Path, tmp_path: Path) -> None:
    out = tmp_path / "home" / "occluders" / "pascal.npz"
    seen = []

    class Count(ProgressReporter):
        def part(self, path: Path, items: int) -> None:
            seen.append((path.name, items))

        def done(self, item: object) -> None:
            seen.append(item)

    assert prepare_pascal(voc, out, Count()) == 1
    assert len(seen) == 3
    assert seen[0] == ("pascal.npz", 2)
    (chair,) = read_pascal(out)
    assert chair.shape == (25, 20, 4)  # half the size of its bounding box
    assert (chair[5:20, 3:6, 3] == 255).all()
    assert (chair[:, 11:, 3] == 0).all()
    rim = chair[12, :, 3].astype(int)
    assert 180 <= rim[9] <= 200  # less opaque along its border
    np.testing.assert_allclose(chair[5:20, 3:6, :3], 120, atol=2)  # JPEG
    assert [path.name for path in out.parent.iterdir()] == ["pascal.npz"]


def broken_doctype(root: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]>' + annotation(("chair", 0, 0, (1, 1, 9, 9)))
    (root / "Annotations" / "2007_000001.xml").write_text(bomb.replace("chair", "&y;"))


def broken_xml(root: Path) -> None:
    (root / "Annotations" / "2007_000001.xml").write_text("<annotation><segmented>1")


def broken_mask(root: Path) -> None:
    (root / "SegmentationObject" / "2007_000001.png").write_bytes(b"\x89PNG no more")


def broken_box(root: Path) -> None:
    text = annotation(("chair", 0, 0, (10, 10, 50, 60))).replace("<xmax>50</xmax>", "")
    (root / "Annotations" / "2007_000001.xml").write_text(text)


@pytest.mark.parametrize(
    ("breaks", "kind", "message"),
    [
        (broken_doctype, RunError, "2007_000001.xml: cannot be read as XML: it has a DOCTYPE"),
        (broken_xml, RunError, "2007_000001.xml: cannot be read as XML: no element found"),
        (broken_mask, RunError, "2007_000001.png: image cannot be decoded"),
        (broken_box, RunError, "2007_000001.xml: object 1 has no bounding box"),
    ],
)
def test_a_broken_voc_is_named_and_nothing_written(
    voc: Path, tmp_path: Path, breaks: Callable[[Path], None], kind: type[Exception], message: str
) -> None:
    breaks(voc / "VOCdevkit" / "VOC2012")
    with pytest.raises(kind) as error:
        prepare_pascal(voc, tmp_path / "home" / "pascal.npz", ProgressReporter())
    assert message in str(error.value)
    assert not (tmp_path / "home").exists()


def test_a_folder_that_is_no_voc_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"not a VOC 2012 folder; it must contain Annotations, JPEGImages, Segment"):
        prepare_pascal(tmp_path, tmp_path / "pascal.npz", ProgressReporter())


def test_pascal_occluders_are_used_where_they_are_there(
    voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HMRB_HOME", str(tmp_path / "home"))
    load_occluders.cache_clear()
    with pytest.raises(
        RequestError, match=r"(?s)pascal\.npz: no such file.*VOC 2012.*convert-data occluders --raw DIR"
    ):
        drawn("occlude", view(GREY), 0, occluders="pascal")
    prepare_pascal(voc, Store.default().pascal, ProgressReporter())
    out = drawn("occlude", view(GREY), 0, occluders="pascal", count=(7, 7), scale=(1, 1))
    assert np.abs(out.image.astype(int) - 120).min(-1).min() < 3  # the chair's colour
    load_occluders.cache_clear()


def test_a_missing_pascal_set_is_said_before_training(tiny_experiment: Experiment, tiny_store: Store) -> None:
    op = Op(name="occlude", args={"occluders": "pascal"})
    data = tiny_experiment.data.model_copy(update={"augment": (op,)})
    with pytest.raises(RequestError) as refusal:
        require_files([tiny_experiment.model_copy(update={"data": data})], tiny_store)
    assert [need.command for need in refusal.value.needs] == ["hmrb convert-data occluders --raw DIR"]
    require_files([tiny_experiment], tiny_store)


@pytest.mark.parametrize("content", [b"no zip", b""])
def test_a_broken_pascal_set_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pascal.npz").write_bytes(content)
    with pytest.raises(RequestError, match=r"pascal\.npz: cannot be read as occluders .* recreate it"):
        read_pascal(tmp_path / "pascal.npz")
    np.savez(tmp_path / "pascal.npz", pixels=np.zeros((9, 4), np.uint8), sizes=np.array([[2, 2]]))
    with pytest.raises(RequestError, match=r"sizes and pixels do not match"):
        read_pascal(tmp_path / "pascal.npz")
    np.savez(tmp_path / "pascal.npz", pixels=np.array([{}], object), sizes=np.array([[1, 1]]))
    with pytest.raises(RequestError, match=r"cannot be read as occluders"):
        read_pascal(tmp_path / "pascal.npz")
