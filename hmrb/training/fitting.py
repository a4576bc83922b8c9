"""Finds the largest number of pictures that a device trains on at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from hmrb.body import load_body
from hmrb.data.loader import Item, collate, on_device, stream_seed
from hmrb.data.shard import open_shard
from hmrb.errors import RunError
from hmrb.parallel.world import World
from hmrb.spec import Experiment
from hmrb.store import Store
from hmrb.training.adversary import draw_dataset
from hmrb.training.failures import KNOBS, memory_problem
from hmrb.training.learner import Learner, build_learner
from hmrb.training.losses import Losses
from hmrb.training.step import train_step

MEMORY = 0.92  # of the device's: the rest is for buffers of other processes' gradients and for fragmentation
TRIED_STEPS = 2  # the optimiser allocates its moments at the end of the first


def largest_fitting(sizes: Sequence[int], fits: Callable[[int], bool]) -> int:
    """The largest of the ascending `sizes` that fits, 0 if none: tries further and further, then bisects.

    If a size fits, all smaller ones must.
    """
    good, stride = -1, 1
    while good + stride < len(sizes) and fits(sizes[good + stride]):
        good, stride = good + stride, 2 * stride
    bad = min(good + stride, len(sizes))
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(sizes[middle]) else (good, middle)
    return sizes[good] if good >= 0 else 0


def even_sizes(share: int) -> list[int]:
    """The micro-batches that a process's share of a batch splits into evenly, ascending."""
    return [size for size in range(1, share + 1) if share % size == 0]


@dataclass(slots=True)
class Trial:
    """Steps of an experiment on this device, on copies of its first draw; each is complete, with its optimiser."""

    experiment: Experiment
    learner: Learner
    losses: Losses
    draw: Item
    world: World

    @classmethod
    def build(cls, experiment: Experiment, store: Store, share: int, world: World) -> "Trial":
        """The trial of a process whose share of a batch is `share` pictures."""
        optim = experiment.optim.model_copy(update={"batch": share})
        speed = experiment.speed.model_copy(update={"device_batch": None})
        experiment = experiment.model_copy(update={"optim": optim, "speed": speed})
        shards = {name: open_shard(store.shard(name, "train"), name) for name in experiment.data.mix}
        torch.manual_seed(stream_seed(experiment.seed, "weights"))
        learner = build_learner(experiment, shards, store, world)
        losses = Losses(experiment.losses, load_body(experiment.body, store=store).to(world.device))
        dataset = draw_dataset(experiment, shards, store)
        return cls(experiment, learner, losses, dataset[0], world)

    def fits(self, size: int) -> bool:
        """Whether steps with this many pictures at a time fit into memory. Other errors are raised."""
        try:
            self._run(size)
            return True
        except (RuntimeError, MemoryError) as error:
            if not memory_problem(error):
                raise
        self.learner.zero_grad()  # here the error, which holds the step's tensors, is gone
        if self.world.device.type == "cuda":
            torch.cuda.empty_cache()
        return False

    def _run(self, size: int) -> None:
        """Steps of two micro-batches, because the second needs memory beside the first one's gradients."""
        count = 1 if size == self.experiment.optim.batch else 2
        self.learner.num_micro_batches = count
        batches, device = [collate([self.draw] * size * count)] * TRIED_STEPS, self.world.device
        for step, batch in enumerate(on_device(batches, device, self.experiment.speed.channels_last)):
            train_step(self.learner, self.losses, batch, step, self.experiment.optim, self.world)


def find_device_batch(experiment: Experiment, store: Store, processes: int, world: World) -> str:
    """Tries sizes on this device; returns the setting as a line for the user. Raises RunError if none fits."""
    share = experiment.optim.batch // processes
    if world.device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(MEMORY, world.device)
    sizes = even_sizes(share)[1:] or [1]  # BatchNorm cannot learn from one picture
    found = largest_fitting(sizes, Trial.build(experiment, store, share, world).fits)
    if not found:
        raise RunError(
            f"a step with {sizes[0]} pictures does not fit into this device's memory. Change one of: {KNOBS}"
        )
    return (
        f"speed.device_batch={found} ({share // found} micro-batches of the {share} pictures of a process"
        f"{'; all fit at once' if found == share else ''})"
    )
