"""Makes the two pretrained backbones of the study in small: specs/small_study/init/pose2d.yaml and selfsup.yaml.

    python scripts/make_pretrained.py            # both, to $HMRB_HOME/weights; 3 CPU-minutes each
    python scripts/make_pretrained.py pose2d

Both see the same 76,800 crops of synthetic_street_2d's people, who are those of synthetic_street's train split, and
begin from the same random weights. `pose2d` learns 2D joints alone: one layer after the backbone regresses them, L1.
`selfsup` learns without a label of the person but the box that the crop is cut by: VICReg (Bardes et al., ICLR 2022)
makes the features of two views of a crop agree and keeps them from collapsing. No view is mirrored: a network that
takes left for right is no start for poses. Neither sees a body, a 3D joint, or a person of val or test.

One seed, one thread: the same machine makes the same bytes. What is kept is the backbone mini alone, in timm's names:
1,232,252 numbers, 4.9 MB, and 2.5 MB in half precision. That is too much for the package, so `model.weights` has the
file's name, which is looked for in the store.
"""

import argparse
import hashlib
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from hmrb.batch import Batch
from hmrb.data.checksums import check_once
from hmrb.data.loader import DrawDataset, StepDraws, on_device, stream_seed, train_loader
from hmrb.data.shard import Shard, open_shard
from hmrb.errors import RequestError, RunError
from hmrb.formats.writing import replacing
from hmrb.missing import shard_command
from hmrb.models.backbones import Features, build_backbone
from hmrb.spec import DataSpec, ModelSpec
from hmrb.store import Store

DATASET, SEED, CROPS, IMAGE_PX = "synthetic_street_2d", 0, 76_800, 64
RATE, WEIGHT_DECAY, WARMUP = 1e-3, 0.05, 40
BATCH = 64  # pictures, or pairs of views
WIDTH = 512  # of VICReg's expander; the paper's 8192 are for 2048 features and a million pictures
INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0  # the paper's weights
MODEL = ModelSpec(backbone="mini", weights="none", features="flatten", image_px=IMAGE_PX)
SAME_SIDE = {"rotate_scale": {"rotation_deg": 10, "scale": 0.05, "p": 0.5}}  # with flips, as in the study in small
VIEWS = [
    {"rotate_scale": {"rotation_deg": 10, "scale": 0.2, "p": 1.0}},
    {"photometric_distortion": {"p": 1.0}},
    {"soft_erase": {}},
]
Step = Callable[[], Float[Tensor, ""]]


def pose2d(backbone: Features, width: int, shard: Shard, steps: int) -> tuple[nn.Module, Iterator[Step]]:
    """What is learnt beside the backbone, and the loss of each step: the L1 distance of 2D joints, in half crops."""
    joints = shard.arrays["keypoints2d"].shape[1]
    layer = nn.Linear(width, 2 * joints)

    def loss(batch: Batch) -> Float[Tensor, ""]:
        seen = layer(backbone(batch.image)).unflatten(1, (joints, 2))
        labels, is_labelled = batch.keypoints2d[..., :2] * 2 / (IMAGE_PX - 1) - 1, batch.keypoints2d[..., 2:] > 0
        return ((seen - labels).abs() * is_labelled).sum() / (2 * is_labelled.sum().clamp(min=1))

    batches = _batches(shard, ["flip", SAME_SIDE], SEED, steps)
    return layer, ((lambda batch=batch: loss(batch)) for batch in batches)


def selfsup(backbone: Features, width: int, shard: Shard, steps: int) -> tuple[nn.Module, Iterator[Step]]:
    """VICReg's expander, and its loss of two views of each crop of each step."""
    expander = nn.Sequential(nn.Linear(width, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
    pairs = zip(*(_batches(shard, VIEWS, seed, steps) for seed in (SEED, SEED + 1)), strict=True)

    def loss(one: Batch, other: Batch) -> Float[Tensor, ""]:
        assert torch.equal(one.row, other.row)
        return vicreg(*expander(backbone(torch.cat([one.image, other.image]))).chunk(2))

    return expander, ((lambda pair=pair: loss(*pair)) for pair in pairs)


def vicreg(one: Float[Tensor, "B D"], other: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """The loss of two views' embeddings: they agree, every dimension varies, none repeats another."""
    total = INVARIANCE * (one - other).square().mean()
    for view in (one, other):
        away = view - view.mean(0)
        covariance = away.T @ away / (len(view) - 1)
        spread = (covariance.diagonal() + 1e-4).sqrt()
        total = total + VARIANCE / 2 * (1 - spread).clamp(min=0).mean()
        total = total + COVARIANCE * (covariance - covariance.diagonal().diag()).square().sum() / view.shape[1]
    return total


TASKS = {"pose2d": pose2d, "selfsup": selfsup}


def pretrained(task: str, shard: Shard, crops: int = CROPS) -> dict[str, Tensor]:
    """The backbone's tensors after a task, in timm's names. The losses of its first and last steps are printed."""
    torch.manual_seed(stream_seed(SEED, "weights"))
    backbone, width = build_backbone(MODEL)
    steps = crops // BATCH // (2 if task == "selfsup" else 1)
    beside, losses = TASKS[task](backbone, width, shard, steps)
    learnt = [*backbone.parameters(), *beside.parameters()]
    optimiser = torch.optim.AdamW(learnt, RATE, weight_decay=WEIGHT_DECAY)
    told: list[float] = []
    for number, loss_of in enumerate(losses):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (number + 1) / WARMUP) * (1 + math.cos(math.pi * number / steps)) / 2
        optimiser.zero_grad()
        loss = loss_of()
        loss.backward()
        optimiser.step()
        told.append(loss.item())
    tenth = max(steps // 10, 1)
    print(f"{task}: loss {sum(told[:tenth]) / tenth:.3f} to {sum(told[-tenth:]) / tenth:.3f} in {steps} steps")
    return {key: value.contiguous() for key, value in backbone.network.state_dict().items()}


def _batches(shard: Shard, augment: list[object], seed: int, steps: int) -> Iterator[Batch]:
    """The batches of a run; all seeds draw the same people in the same order and see them differently."""
    spec = DataSpec.model_validate({"mix": {DATASET: 1.0}, "augment": augment})
    dataset = DrawDataset({DATASET: shard}, spec, IMAGE_PX, seed)
    dataset.sampler = DrawDataset({DATASET: shard}, spec, IMAGE_PX, SEED).sampler
    return on_device(train_loader(dataset, StepDraws(BATCH, 0, steps, 0, 1), 0), torch.device("cpu"))


def file_of(task: str, folder: Path) -> Path:
    """The file that `model.weights: mini_TASK.safetensors` names."""
    return folder / f"mini_{task}.safetensors"


def main() -> None:
    """Makes the files asked for and prints their hashes; those that exist are made anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", choices=[*TASKS, []], help="pose2d, selfsup; default: both")
    asked = parser.parse_args()
    store = Store.default()
    torch.set_num_threads(1)
    try:
        shard = open_shard(store.shard(DATASET, "train"), DATASET, shard_command(DATASET))
        check_once(shard, store)
    except (RequestError, RunError) as error:
        sys.exit(str(error))
    store.weights.mkdir(parents=True, exist_ok=True)
    for task in asked.tasks or TASKS:
        path = file_of(task, store.weights)
        tensors = pretrained(task, shard)
        with replacing(path) as part:
            save_file(tensors, part)
        print(f"{path}: {path.stat().st_size:,} bytes, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}")


if __name__ == "__main__":
    main()
