import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import person, write_shard

from hmrb.batch import Batch
from hmrb.data.labelled_bodies import RealBodies, bodiless, mean_body
from hmrb.data.loader import (
    DrawDataset,
    StepDraws,
    bench_loader,
    epoch_len,
    mixture,
    read_view,
    train_loader,
)
from hmrb.data.shard import Shard
from hmrb.errors import RequestError, RunError
from hmrb.formats.pictures import UnreadablePicture
from hmrb.spec import DataSpec


@pytest.fixture
def shards(tmp_path: Path) -> dict[str, Shard]:
    return {
        name: Shard(write_shard(tmp_path / f"{name}.h5", [person(i, seed=seed) for i in range(11)], dataset=name))
        for seed, name in enumerate("ab")
    }


SPEC = DataSpec(mix={"a": 0.7, "b": 0.3}, workers=0)


def batches(shards: dict[str, Shard], draws: StepDraws, workers: int = 0) -> list[Batch]:
    return list(train_loader(DrawDataset(shards, SPEC, 24, seed=3), draws, workers))


def same(one: Batch, two: Batch) -> None:
    for field in ("image", "keypoints2d", "keypoints3d", "rotmats", "betas", "has_body", "row", "key"):
        assert torch.equal(getattr(one, field), getattr(two, field)), field


@pytest.mark.parametrize("workers", [1, 2])
def test_the_stream_does_not_depend_on_the_workers(shards: dict[str, Shard], workers: int) -> None:
    draws = StepDraws(batch=4, start=0, stop=5, rank=0, size=1)
    for alone, together in zip(batches(shards, draws), batches(shards, draws, workers), strict=True):
        same(alone, together)


def test_ranks_share_the_draws_of_one(shards: dict[str, Shard]) -> None:
    (whole,) = batches(shards, StepDraws(batch=6, start=2, stop=3, rank=0, size=1))
    parts = [batches(shards, StepDraws(6, 2, 3, rank, 3))[0] for rank in range(3)]
    for rank, part in enumerate(parts):
        assert torch.equal(part.image, whole.image[rank::3])
        assert torch.equal(part.key, whole.key[rank::3])


def test_a_resumed_stream_goes_on_where_it_stopped(shards: dict[str, Shard]) -> None:
    whole = batches(shards, StepDraws(4, 0, 6, 0, 1))
    for late, again in zip(whole[4:], batches(shards, StepDraws(4, 4, 6, 0, 1)), strict=True):
        same(late, again)


def test_a_test_set_is_read_row_by_row_once(shards: dict[str, Shard]) -> None:
    blocks = [np.array([9, 0, 1]), np.array([4]), np.array([2, 3])]
    read = [batch.row.tolist() for batch in bench_loader(shards["a"], blocks, 24, 0)]
    assert read == [[9, 0, 1], [4], [2, 3]]


def test_a_test_picture_may_be_a_wider_square(shards: dict[str, Shard]) -> None:
    block = [np.array([0])]
    (plain,), (wide,) = (list(bench_loader(shards["a"], block, 24, 0, scale)) for scale in (1.0, 2.0))
    seen = plain.keypoints2d[0, :, 2] > 0
    np.testing.assert_allclose(wide.keypoints2d[0, seen, :2] - 12, (plain.keypoints2d[0, seen, :2] - 12) / 2, atol=1e-4)


def broken(tmp_path: Path, rows: set[int]) -> dict[str, Shard]:
    people = [person(i) for i in range(11)]
    people = [replace(p, jpeg=b"\xff\xd8 no picture %d" % i) if i in rows else p for i, p in enumerate(people)]
    return {"a": Shard(write_shard(tmp_path / "broken.h5", people, dataset="a"))}


def test_an_unreadable_picture_is_named_and_replaced(tmp_path: Path) -> None:
    shards = broken(tmp_path, {2})
    dataset = DrawDataset(shards, DataSpec(mix={"a": 1.0}), 24, seed=0)
    items = [dataset[draw] for draw in range(11)]
    skipped = [name for item in items for name in item.skipped]
    assert skipped == [f"{tmp_path}/broken.h5: person/002: image cannot be decoded"]
    assert 2 not in {item.row for item in items}


def test_pictures_that_are_all_unreadable_end_the_run(tmp_path: Path) -> None:
    dataset = DrawDataset(broken(tmp_path, set(range(11))), DataSpec(mix={"a": 1.0}), 24, seed=0)
    with pytest.raises(RunError, match=r"100 images in a row cannot be decoded, the last: .*broken\.h5"):
        dataset[0]


def test_a_test_picture_is_never_replaced(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePicture, match=r"person/002: image cannot be decoded"):
        list(bench_loader(broken(tmp_path, {2})["a"], [np.arange(4)], 24, 0))


def test_labels_left_out_of_a_dataset_are_missing_there_alone(shards: dict[str, Shard]) -> None:
    """Images and augmentation stay the same."""
    spec = SPEC.model_copy(update={"without": {"a": ("keypoints3d", "body")}})
    draws = range(40)
    full, less = DrawDataset(shards, SPEC, 24, seed=3), DrawDataset(shards, spec, 24, seed=3)
    hit = 0
    for draw in draws:
        before, after = full[draw], less[draw]
        np.testing.assert_array_equal(before.image, after.image)
        np.testing.assert_array_equal(before.keypoints2d, after.keypoints2d)
        np.testing.assert_array_equal(before.keypoints3d[:, :3], after.keypoints3d[:, :3])
        assert after.keypoints3d.dtype == np.float32
        if full.sampler.draw(draw, 0)[0] == "a":
            hit += 1
            assert (after.keypoints3d[:, 3] == 0).all()
            assert not after.has_body
        else:
            np.testing.assert_array_equal(before.keypoints3d, after.keypoints3d)
            assert after.has_body == before.has_body
    assert 20 <= hit < 40
    flat = DrawDataset(shards, SPEC.model_copy(update={"without": {"b": ("keypoints2d",)}}), 24, seed=3)
    missing = [(flat[draw].keypoints2d[:, 2] == 0).all() for draw in draws]
    assert missing == [full.sampler.draw(draw, 0)[0] == "b" for draw in draws]


def test_an_augmentation_for_one_dataset_leaves_the_others_alone(shards: dict[str, Shard]) -> None:
    def drawn(**only: object) -> list[np.ndarray]:
        spec = DataSpec(mix=SPEC.mix, augment=["flip", {"coarse_dropout": {"p": 1.0, "side_px": [2, 6]} | only}])
        dataset = DrawDataset(shards, spec, 24, seed=3)
        return [dataset[draw].image for draw in range(30)]

    plain = DrawDataset(shards, DataSpec(mix=SPEC.mix, augment=["flip"]), 24, seed=3)
    for draw, (some, every) in enumerate(zip(drawn(only=["a"]), drawn(), strict=True)):
        is_a = plain.sampler.draw(draw, 0)[0] == "a"
        np.testing.assert_array_equal(some, every if is_a else plain[draw].image)
        assert (every != plain[draw].image).any()


def test_a_person_is_augmented_anew_in_each_draw_and_alike_in_the_same(shards: dict[str, Shard]) -> None:
    only = {"a": Shard(write_shard(shards["a"].path.with_name("one.h5"), [person(0)], dataset="a"))}
    spec = DataSpec(mix={"a": 1.0}, augment=["rotate_scale", {"coarse_dropout": {"p": 1.0, "side_px": [2, 6]}}])
    first, again = (DrawDataset(only, spec, 24, seed=3) for _ in range(2))
    pictures = [first[draw].image for draw in range(6)]
    assert len({picture.tobytes() for picture in pictures}) == 6
    assert all((again[draw].image == picture).all() for draw, picture in enumerate(pictures))


def test_bodies_left_out_are_no_real_ones(shards: dict[str, Shard]) -> None:
    spec = SPEC.model_copy(update={"without": {"a": ("body",)}})
    unused = bodiless(spec)
    bodies = RealBodies(shards, mixture(shards, spec, 0), unused)
    labelled = shards["b"].arrays["pose"][:]
    assert all((labelled == bodies(draw)[0]).all((1, 2)).any() for draw in range(32))
    alone = mean_body({"b": shards["b"]}, DataSpec(mix={"b": 1.0}))
    torch.testing.assert_close(mean_body(shards, spec), alone, rtol=0, atol=1e-6)  # 0.3 times, over 0.3


def test_of_a_fraction_only_the_first_people_are_known(shards: dict[str, Shard]) -> None:
    """To draws, to the length of an epoch, to the mean body and to real bodies."""
    spec = DataSpec(mix={"a": 1.0}, fraction={"a": 0.3})
    one = {"a": shards["a"]}
    sampler = mixture(one, spec, 0)
    assert {sampler.draw(draw)[1] for draw in range(40)} == set(range(round(0.3 * len(one["a"]))))
    assert epoch_len(one, spec) == round(0.3 * len(one["a"]))
    few = [row for row in range(epoch_len(one, spec)) if one["a"].arrays["has_body"][row]]
    betas = mean_body(one, spec)[144:154].numpy()
    np.testing.assert_allclose(betas, one["a"].arrays["betas"][few].mean(0), atol=1e-6)
    assert mixture(shards, SPEC, 0).draw(5) == mixture(
        shards, SPEC.model_copy(update={"fraction": {"a": 1.0}}), 0
    ).draw(5)
    assert DataSpec(mix={"a": 1.0}, fraction={"a": 0.001}).known_people("a", 10) == 1


@pytest.mark.parametrize("box", [(4, 2, 30, 20), (4, 2, 20, 30)])
def test_the_square_is_as_wide_as_the_longer_side_and_about_the_box_s_middle(
    box: tuple[float, ...], tmp_path: Path
) -> None:
    one = replace(person(0), box=np.array(box, np.float32))
    view = read_view(Shard(write_shard(tmp_path / "box.h5", [one])), 0)
    assert view.side == 30
    assert view.center.tolist() == [4 + box[2] / 2, 2 + box[3] / 2]


def test_a_greyscale_picture_becomes_rgb(tmp_path: Path) -> None:
    import cv2

    grey = cv2.imencode(".jpg", np.full((20, 30), 90, np.uint8))[1].tobytes()
    shard = Shard(write_shard(tmp_path / "grey.h5", [replace(person(0), jpeg=grey)]))
    assert read_view(shard, 0).image.shape == (20, 30, 3)


def test_real_bodies_are_labelled_ones(shards: dict[str, Shard]) -> None:
    bodies = RealBodies(shards, mixture(shards, SPEC, 0))
    labelled = [shard.arrays["pose"][row] for shard in shards.values() for row in range(11) if row % 5 != 3]
    for draw in range(64):
        assert any((bodies(draw)[0] == candidate).all() for candidate in labelled)


def test_the_mean_body_of_one_pose_is_that_pose(tmp_path: Path) -> None:
    from hmrb.geometry import rot6d_to_rotmat, rotvec_to_rotmat

    people = [replace(person(i), pose=person(0).pose, betas=person(i).betas, has_body=True) for i in range(4)]
    mean = mean_body({"a": Shard(write_shard(tmp_path / "a.h5", people))}, DataSpec(mix={"a": 1.0}))
    rotmats = rot6d_to_rotmat(mean[:144].view(24, 6))
    torch.testing.assert_close(rotmats, rotvec_to_rotmat(torch.from_numpy(people[0].pose)), rtol=0, atol=1e-5)
    expected = torch.from_numpy(np.mean([p.betas for p in people], 0))
    torch.testing.assert_close(mean[144:154], expected, rtol=0, atol=1e-6)


def test_more_workers_than_cores_are_nothing_to_warn_of(
    shards: dict[str, Shard], monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert len(batches(shards, StepDraws(batch=4, start=0, stop=2, rank=0, size=1), workers=3)) == 2
    assert not [str(one.message) for one in recwarn if "worker" in str(one.message)]


def test_workers_without_end_are_refused(shards: dict[str, Shard]) -> None:
    with pytest.raises(RequestError, match="100000 loading processes: at most 1024"):
        bench_loader(shards["a"], [np.arange(4)], 24, 100_000)
