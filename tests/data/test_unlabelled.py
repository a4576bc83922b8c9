"""What stands under confidence 0 or has_body 0 changes no batch, no loss, no score, no box and no picture."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import person, write_shard

from hmrb.batch import Batch, Prediction
from hmrb.body import SMPL
from hmrb.data.augment import AUGMENTS
from hmrb.data.convert.boxes import box_around
from hmrb.data.convert.contact_sheet import contact_sheet
from hmrb.data.convert.packed_fields import mapped_points
from hmrb.data.convert.verify import unlabelled
from hmrb.data.loader import DrawDataset, StepDraws, train_loader
from hmrb.data.shard import Shard
from hmrb.evaluation.evaluate import Feed, evaluate, network_predictor
from hmrb.evaluation.protocols import BENCHMARKS
from hmrb.evaluation.scoring import Bodies
from hmrb.geometry import rotvec_to_rotmat
from hmrb.names import PART_LOSSES
from hmrb.parallel.world import World
from hmrb.spec import DataSpec, LossTerm, Op
from hmrb.training.loss_terms import LOSSES, LabelCounts, count_labels
from hmrb.training.losses import Losses

PEOPLE = 7
FIELDS = ("image", "keypoints2d", "keypoints3d", "rotmats", "betas", "has_body", "row", "key")


def littered(path: Path) -> Shard:
    """The shard at `path` with numbers under every confidence 0 and has_body 0, as another program may write it."""
    rng = np.random.default_rng(1)
    with h5py.File(path, "r+") as file:
        bodiless = file["has_body"][:] == 0
        for key in ("pose", "betas", "transl"):
            values = file[key][:]
            values[bodiless] = rng.normal(0, 5, values[bodiless].shape)
            file[key][...] = values
        for key in ("keypoints2d", "keypoints3d"):
            values = file[key][:]
            missing = values[..., -1] == 0
            values[missing, :-1] = rng.normal(0, 50, (missing.sum(), values.shape[-1] - 1))
            file[key][...] = values
    return Shard(path)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Shard, Shard]:
    """The same people with zeros, and with numbers, as labels that they do not have."""
    people = []
    for number in range(PEOPLE):
        one = person(number)
        for key in ("keypoints2d", "keypoints3d"):
            points = getattr(one, key).copy()
            points[[45, 46, 49][: number % 4], -1] = 0  # hips and pelvis of the origin
            one = replace(one, **{key: points})
        people.append(one)
    clean, other = (write_shard(tmp_path / name / "synthetic_train.h5", people) for name in ("clean", "littered"))
    return Shard(clean), littered(other)


def test_the_writer_and_the_readers_put_zeros_there(pair: tuple[Shard, Shard]) -> None:
    clean, other = pair
    assert unlabelled(clean, None).verdict == "ok"
    found = unlabelled(other, None)
    assert found.verdict == "wrong"
    lost = int((clean.arrays["keypoints3d"][..., 3] == 0).sum())
    assert f"keypoints3d has {3 * lost} numbers" in found.detail
    assert "pose has 72 numbers" in found.detail
    points = np.ones((24, 4))
    points[2] = (0.3, 0.2, 4, 0)
    rows = mapped_points(points, "smpl_24", "smpl54")
    assert not rows[rows[:, 3] == 0].any()


def batches(shard: Shard, *augments: str) -> list[Batch]:
    ops = tuple(Op(name=name, args={} if name == "channel_noise" else {"p": 1.0}) for name in augments)
    spec = DataSpec(mix={"synthetic": 1.0}, workers=0, augment=ops)
    draws = StepDraws(batch=4, start=0, stop=3, rank=0, size=1)
    return list(train_loader(DrawDataset({"synthetic": shard}, spec, 24, seed=3), draws, 0))


@pytest.mark.parametrize("augments", [(), ("flip",), ("flip", "rotate_scale"), *((name,) for name in AUGMENTS)])
def test_batches_are_equal(augments: tuple[str, ...], pair: tuple[Shard, Shard]) -> None:
    for one, two in zip(*(batches(shard, *augments) for shard in pair), strict=True):
        for field in FIELDS:
            assert torch.equal(getattr(one, field), getattr(two, field)), field


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in PART_LOSSES])
def test_loss_terms_are_equal(name: str, pair: tuple[Shard, Shard], tiny_smpl: SMPL) -> None:
    """Also of labels that `data.without` leaves out after the loader has put zeros where no label is."""
    (batch, *_) = batches(pair[0])
    rng = torch.Generator().manual_seed(0)
    other = replace(
        batch,
        keypoints2d=_with_noise(batch.keypoints2d, rng),
        keypoints3d=_with_noise(batch.keypoints3d, rng),
        rotmats=torch.where(
            batch.has_body[:, None, None, None], batch.rotmats, torch.randn(batch.rotmats.shape, generator=rng)
        ),
        betas=torch.where(batch.has_body[:, None], batch.betas, torch.randn(batch.betas.shape, generator=rng)),
    )
    rotmats = rotvec_to_rotmat(0.3 * torch.randn(4, 24, 3, generator=rng))
    prediction = Prediction(rotmats, torch.randn(4, 10, generator=rng), torch.tensor([[0.9, 0, 0]]).repeat(4, 1))
    losses = Losses({name: LossTerm(distance="smooth_l1", weight=1)}, tiny_smpl)
    one, two = (losses(prediction, b, LabelCounts.mean_of(count_labels(b), 1))[name] for b in (batch, other))
    assert one > 0
    assert torch.equal(one, two)


def _with_noise(points: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Keypoints with numbers under confidence 0."""
    noise = torch.cat([torch.randn(points[..., :-1].shape, generator=rng), torch.zeros(points[..., :1].shape)], -1)
    return torch.where(points[..., -1:] > 0, points, noise)


@pytest.mark.parametrize("benchmark", ["synthetic", "h36m", "coco_val"])
def test_scores_are_equal(benchmark: str, pair: tuple[Shard, Shard], tiny_smpl: SMPL) -> None:
    """With labelled bodies, 3D keypoints and 2D keypoints as the truth."""
    row = replace(BENCHMARKS[benchmark], dataset="synthetic", split="train", min_labelled=0.1)
    resting = Prediction(torch.eye(3).repeat(1, 24, 1, 1), torch.zeros(1, 10), torch.ones(1, 3))
    found = []
    for shard in pair:
        guess = network_predictor(
            lambda batch: Prediction(*(part.expand(len(batch.row), *part.shape[1:]) for part in resting.tensors)),
            Feed(row, shard, 32, torch.device("cpu")),
        )  # fmt: skip
        world = World(0, 1, torch.device("cpu"))
        found.append(evaluate(guess, resting, row, shard, Bodies({"neutral": tiny_smpl}), world, image_px=32))
    assert found[0].people.rows.tolist() == found[1].people.rows.tolist()
    for name, errors in found[0].errors.items():
        np.testing.assert_array_equal(errors, found[1].errors[name])
        np.testing.assert_array_equal(found[0].baseline[name], found[1].baseline[name])


def test_boxes_and_pictures_are_equal(pair: tuple[Shard, Shard]) -> None:
    for row in range(PEOPLE):
        points = [shard.read(row).keypoints2d for shard in pair]
        one, two = (box_around(each, seen=each[:, 2] > 0) for each in points)
        np.testing.assert_array_equal(one, two)
    sheets = [contact_sheet(shard.path).read_bytes() for shard in pair]
    assert sheets[0] == sheets[1]
