"""What a training step asks of a GPU, found without one: waits of the host, and the number of launches.

The step runs on fake CUDA tensors, which have shapes and devices but no data. Blocking copies, tensors of the CPU in
operations of the GPU, and reads of values are listed: each would let the host wait for the GPU's queue.
"""

import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from conftest import body_arrays, body_from
from launches import Launches, StudyStep, study_step
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import hmrb.body
from hmrb.batch import Batch
from hmrb.data.loader import _imagenet, _on
from hmrb.models.dropout import _places
from hmrb.parallel import world as world_module
from hmrb.parallel.world import Pending, World
from hmrb.spec import Experiment
from hmrb.training import losses as losses_module
from hmrb.training import step as step_module
from hmrb.training.learner import Learner
from hmrb.training.losses import Losses
from hmrb.training.step import train_step

CUDA = torch.device("cuda", 0)
MOST_LAUNCHES = 425  # outside the backbone, with the study's losses, an adversary and averaged weights


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StudyStep:
    return study_step(tmp_path_factory.mktemp("gpu"))


def test_a_step_has_few_launches_outside_the_backbone(made: StudyStep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hmrb.body, "_is_on_gpu", lambda _: True)
    made.run(0)  # the first makes moments and parts of the body
    whole, backbone = Launches(), Launches()
    for module in (losses_module, step_module):
        monkeypatch.setattr(module, "record_function", whole.range)
    with whole:
        made.run(1)
    made.learner.zero_grad()  # else the backbone's gradients would be added to those of the step
    with backbone:
        made.learner.model.backbone(made.batch.image).sum().backward()
    outside = sum(whole.by_phase().values()) - sum(backbone.by_phase().values())
    print(f"{outside} operations outside the backbone: {dict(whole.by_phase())}")
    assert 200 < outside <= MOST_LAUNCHES


class Waits(TorchDispatchMode):
    """Lists what would let the host wait, with the line of hmrb that asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, str(func).removeprefix("aten.")
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if name.startswith(("_local_scalar_dense", "nonzero", "item")):
            self.note(f"reads {name}")
            return 0
        out = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        devices = {tensor.device.type for tensor in given + made}
        if devices == {"cpu", "cuda"}:
            if name.startswith(("_to_copy", "copy_", "to.")):
                if not kwargs.get("non_blocking") and not (name.startswith("copy_") and True in args[2:]):
                    self.note(f"copies {name}")
            elif any(tensor.device.type == "cpu" and tensor.dim() for tensor in given):
                self.note(f"uses a tensor of the CPU in {name}")
        return out

    def note(self, what: str) -> None:
        lines = [frame for frame in traceback.extract_stack() if "/hmrb/" in frame.filename]
        where = lines[-1] if lines else None
        self.found.append(f"{what}: {where.filename.split('/hmrb/')[-1]}: {where.line}" if where else what)


@pytest.fixture
def on_fake_gpu(
    made: StudyStep, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[FakeTensorMode, Experiment, Learner, Losses, Batch]]:
    """The learner, losses and batch as fake tensors; the batch is still on the CPU."""
    torch._C._ensureCUDADeviceGuardSet()  # type: ignore[attr-defined]
    experiment, learner, batch = made.experiment, made.learner, made.loaded
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    body = body_from(body_arrays())

    def moved(tensor: Tensor) -> Tensor:
        with mode:
            return mode.from_tensor(tensor.detach()).to(CUDA)

    def to_fake(module: nn.Module) -> None:
        for part in module.modules():
            for name, weight in part._parameters.items():
                if weight is not None:
                    part._parameters[name] = nn.Parameter(moved(weight), weight.requires_grad)
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = moved(buffer)

    assert learner.adversary
    assert learner.average
    import copy

    learner = copy.deepcopy(learner)
    to_fake(learner.model)
    to_fake(learner.adversary.network)
    to_fake(learner.average)
    to_fake(body)
    learner.wrapped, learner.adversary.wrapped = learner.model, learner.adversary.network
    learner.optimiser = torch.optim.Adam(learner.model.parameters(), 1e-4, foreach=True)
    learner.adversary.optimiser = torch.optim.Adam(learner.adversary.network.parameters(), 1e-4, foreach=True)
    learner.average._is_new = False  # as after the first step
    with mode:
        losses = Losses(experiment.losses, body)
    _places.cache_clear()
    _imagenet.cache_clear()
    monkeypatch.setattr(Tensor, "backward", lambda *_, **__: None)
    monkeypatch.setattr(torch.autograd, "backward", lambda *_, **__: None)
    yield mode, experiment, learner, losses, batch._each(mode.from_tensor)
    _places.cache_clear()
    _imagenet.cache_clear()


class Counted:
    """Stands in for the copy of the flag to the host: the one number that a step reads, after it queued backward."""

    reads = 0

    def __init__(self, pending: Pending) -> None:
        pass

    def wait(self) -> int:
        Counted.reads += 1
        return 0


def test_the_host_waits_for_nothing_in_a_step(
    on_fake_gpu: tuple[FakeTensorMode, Experiment, Learner, Losses, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    mode, experiment, learner, losses, batch = on_fake_gpu
    monkeypatch.setattr(world_module, "HostCopy", Counted)
    monkeypatch.setattr(Counted, "reads", 0)
    fp32 = experiment.optim.model_copy(update={"precision": "fp32"})
    with mode:
        here = _on(batch, CUDA, True)  # once, so that what is cached for a device is there
        train_step(learner, losses, here, 0, fp32, World(0, 1, CUDA))
        waits = Waits()
        with waits:
            here = _on(batch, CUDA, True)
            train_step(learner, losses, here, 1, fp32, World(0, 1, CUDA))
    assert waits.found == []
    assert Counted.reads == 2  # one a step


def test_what_makes_the_host_wait_is_found(
    on_fake_gpu: tuple[FakeTensorMode, Experiment, Learner, Losses, Batch],
) -> None:
    mode, *_ = on_fake_gpu
    with mode:
        there = torch.ones(3, device=CUDA)
        index = torch.tensor([1])
        with Waits() as waits:
            there.new_tensor([1.0, 2.0]).to(CUDA)
            torch.ones(3).to(CUDA)
            torch.ones(3).to(CUDA, non_blocking=True)
            there[index]
            float(there.sum())
    assert [found.split(":")[0].split(" ")[0] for found in waits.found][-3:] == ["copies", "uses", "reads"]
