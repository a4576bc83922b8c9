"""Counts the operations of a training step: what a GPU would launch, forward and backward, by phase or by part.

As a program, it counts those of the study's step with and without torch.compile: `python launches.py FOLDER`.
"""

import contextlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch._inductor.graph
from conftest import body_arrays, body_from, tiny_tree, write_tiny_store
from torch import Tensor
from torch._inductor.async_compile import AsyncCompile
from torch.utils._python_dispatch import TorchDispatchMode

import hmrb.body
from hmrb.batch import Batch
from hmrb.data.loader import _on, collate
from hmrb.data.shard import open_shard
from hmrb.errors import RunError
from hmrb.parallel.world import World
from hmrb.spec import Experiment, parse_experiment
from hmrb.training.adversary import draw_dataset
from hmrb.training.compiling import compile_parts
from hmrb.training.learner import Learner, build_learner
from hmrb.training.losses import Losses
from hmrb.training.step import train_step

STUDY = {
    "keypoints3d": {"distance": "mse", "weight": 1},
    "keypoints2d": {"distance": "mse", "weight": 1},
    "vertices": {"distance": "l1", "weight": 1},
    "pose": {"distance": "mse", "weight": 1},
    "betas": {"distance": "mse", "weight": 0.1},
}
VIEWS = {
    "view", "_unsafe_view", "_reshape_alias", "expand", "unsqueeze", "squeeze", "permute", "transpose", "t", "slice",
    "select", "detach", "alias", "unbind", "split", "split_with_sizes", "as_strided", "unfold", "diagonal",
    "is_same_size", "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided",
    "_record_function_enter_new", "_record_function_exit",
}  # fmt: skip
"""Operations that launch nothing: they move no data."""


class Launches(TorchDispatchMode):
    """Counts operations that are no views by (phase, name); `record_function` of the code names the phases."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.phase = "rest"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).split(".")[1]
        if name not in VIEWS:
            self.counts[self.phase, name] += 1
        return func(*args, **(kwargs or {}))

    @contextlib.contextmanager
    def range(self, name: str) -> Iterator[None]:
        """Stands in for record_function: what runs inside counts for this phase."""
        before, self.phase = self.phase, name.removeprefix("hmrb: ")
        try:
            yield
        finally:
            self.phase = before

    def by_phase(self) -> Counter[str]:
        """Number of operations of each phase."""
        out: Counter[str] = Counter()
        for (phase, _), count in self.counts.items():
            out[phase] += count
        return out


class LaunchesByPart(TorchDispatchMode):
    """Counts operations that are no views by part of a step, those of its backward pass included; "" for no part."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.part = ""
        self._made: list[tuple[int, int, str]] = []  # sequence numbers of the nodes that a part made

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).split(".")[1] not in VIEWS:
            node = torch._C._current_autograd_node()
            self.counts[self.part if node is None else self._part_of(node._sequence_nr())] += 1
        return func(*args, **(kwargs or {}))

    def counting(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose operations count for `part`."""

        def counted(*args: Any) -> Any:
            first, before, self.part = torch.autograd._get_sequence_nr(), self.part, part
            try:
                return function(*args)
            finally:
                self.part = before
                self._made.append((first, torch.autograd._get_sequence_nr(), part))

        return counted

    def _part_of(self, number: int) -> str:
        return next((part for first, last, part in self._made if first <= number < last), "")


def num_kernels(code: str) -> int:
    """How many kernels a graph that torch.compile made calls: its own, and those of libraries."""
    body = code[code.index("def call(") :]
    return len(
        re.findall(
            r"^\s+(?:\w+ = )?(?:cpp_fused|triton_|extern_kernels\.|aten\.|torch\.ops\.)\w*[\w.]*\(", body, re.MULTILINE
        )
    )


@dataclass
class StudyStep:
    """What a step of the study's losses and adversary needs, on a tiny store; the batch as loaded, and as used."""

    experiment: Experiment
    learner: Learner
    losses: Losses
    loaded: Batch
    batch: Batch
    world: World

    def run(self, step: int) -> dict[str, Tensor]:
        """One training step."""
        return train_step(self.learner, self.losses, self.batch, step, self.experiment.optim, self.world)


def study_step(folder: Path) -> StudyStep:
    """A learner with all that a step can have, and a batch from the loader."""
    tree = tiny_tree() | {"losses": STUDY, "adversary": {"weight": 1.0, "poses": "labels"}}
    tree["model"] |= {"head": {"name": "iterative", "steps": 3, "hidden": 16, "dropout": 0.5}}
    experiment, store, world = (
        parse_experiment(tree, "tiny"),
        write_tiny_store(folder),
        World(0, 1, torch.device("cpu")),
    )
    shards = {name: open_shard(store.shard(name, "train"), name) for name in experiment.data.mix}
    learner = build_learner(experiment, shards, store, world)
    data = draw_dataset(experiment, shards, store)
    loaded, losses = collate([data[draw] for draw in range(4)]), Losses(experiment.losses, body_from(body_arrays()))
    return StudyStep(experiment, learner, losses, loaded, _on(loaded, world.device, True), world)


def main(folder: Path) -> None:
    """Prints, as JSON, how many operations the study's step has outside the backbone.

    `uncompiled` are those of head, body and losses; `compiled` are the kernels that torch.compile makes of them here;
    `rest` are those of the parts that are never compiled.
    """
    hmrb.body._is_on_gpu = lambda _: True
    step = study_step(folder)
    model, losses, counts = step.learner.model, step.losses, LaunchesByPart()
    parts: dict[str, tuple[Any, str]] = {
        "backbone": (model.backbone, "forward"),
        "head": (model.head, "forward"),
        "body": (losses, "pair"),
        "losses": (losses, "weighted"),
    }
    plain = {part: getattr(owner, method) for part, (owner, method) in parts.items()}
    step.run(0)  # the first makes moments and parts of the body
    for part, (owner, method) in parts.items():
        setattr(owner, method, counts.counting(part, plain[part]))
    with counts:
        step.run(1)
    for part, (owner, method) in parts.items():
        setattr(owner, method, plain[part])
    codes: list[str] = []
    torch._inductor.graph.GraphLowering.save_output_code = staticmethod(codes.append)  # type: ignore[method-assign]
    torch._inductor.config.force_disable_caches = True
    # Kernels are counted, not run: no compiler, and no result.
    AsyncCompile.cpp_pybinding = lambda *_, **__: lambda *_: None  # type: ignore[method-assign]
    compile_parts(step.learner, losses, step.world)
    model.backbone.forward = plain["backbone"]
    with contextlib.suppress(RunError):  # of terms that are not finite
        step.run(2)
    uncompiled = sum(counts.counts[part] for part in ("head", "body", "losses"))
    compiled = sum(map(num_kernels, codes))
    found = {"uncompiled": uncompiled, "compiled": compiled, "rest": counts.counts[""]}
    print(json.dumps({"parts": step.learner.knobs["compile"], "graphs": len(codes), **found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
