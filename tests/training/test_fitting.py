"""--find-batch finds the largest micro-batch that fits."""

from pathlib import Path

import pytest
import torch
from conftest import tiny_tree

from hmrb.errors import RunError
from hmrb.parallel.world import World
from hmrb.spec import parse_experiment
from hmrb.store import Store
from hmrb.training import fitting
from hmrb.training.fitting import even_sizes, find_device_batch, largest_fitting

ALONE = World(0, 1, torch.device("cpu"))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 13])
def test_the_largest_that_fits_is_found(count: int) -> None:
    sizes = [3 * number + 1 for number in range(count)]
    for limit in range(3 * count + 2):
        tried: list[int] = []

        def fits(size: int, limit: int = limit, tried: list[int] = tried) -> bool:
            tried.append(size)
            return size <= limit

        assert largest_fitting(sizes, fits) == max((size for size in sizes if size <= limit), default=0)
        assert len(tried) == len(set(tried))


def test_sizes_split_a_share_evenly() -> None:
    assert even_sizes(12) == [1, 2, 3, 4, 6, 12]


def of_limit(limit: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets memory run out above this many pictures at a time; returns those of each step."""
    steps: list[int] = []
    real_step = fitting.train_step

    def step(learner, losses, batch, *others):  # type: ignore[no-untyped-def]
        steps.append(len(batch.row) // learner.num_micro_batches)
        if steps[-1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real_step(learner, losses, batch, *others)

    monkeypatch.setattr(fitting, "train_step", step)
    return steps


def test_whole_steps_are_tried(tiny_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tiny_tree()
    experiment = parse_experiment(tree | {"optim": tree["optim"] | {"batch": 24}}, "tiny")
    steps = of_limit(5, monkeypatch)
    line = find_device_batch(experiment, tiny_store, 2, ALONE)
    assert line == "speed.device_batch=4 (3 micro-batches of the 12 pictures of a process)"
    assert set(steps) == {2, 4, 6}
    assert experiment.speed.micro_batches(24, 2) == 1
    assert parse_experiment({**tree, "speed": {"device_batch": 4}}, "t").speed.micro_batches(24, 2) == 3
    of_limit(0, monkeypatch)
    with pytest.raises(RunError, match="a step with 2 pictures does not fit .* Change one of: speed.device_batch"):
        find_device_batch(experiment, tiny_store, 2, ALONE)


def test_another_error_is_raised(tiny_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("device-side assert")

    monkeypatch.setattr(fitting, "train_step", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        find_device_batch(parse_experiment(tiny_tree(), "tiny"), tiny_store, 1, ALONE)
