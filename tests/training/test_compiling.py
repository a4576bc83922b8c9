"""speed.compile compiles backbone, head, body and losses; what does not compile runs as it is, and says so."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_tree

from hmrb.body import load_body
from hmrb.data.loader import StepDraws, on_device, train_loader
from hmrb.data.shard import open_shard
from hmrb.parallel.world import World
from hmrb.spec import parse_experiment
from hmrb.store import Store
from hmrb.training.adversary import draw_dataset
from hmrb.training.compiling import compile_parts
from hmrb.training.learner import Learner, build_learner
from hmrb.training.losses import Losses
from hmrb.training.step import train_step

ALONE = World(0, 1, torch.device("cpu"))
PARTS = ["backbone", "head", "body", "losses"]


def steps(store: Store, is_compiled: bool, count: int = 2) -> tuple[Learner, list[dict[str, float]]]:
    """The terms of a run's first steps."""
    experiment = parse_experiment(tiny_tree(), "tiny")
    shards = {"synthetic": open_shard(store.shard("synthetic", "train"), "synthetic")}
    torch.manual_seed(0)
    learner, losses = build_learner(experiment, shards, store, ALONE), Losses(experiment.losses, load_body("open"))
    if is_compiled:
        compile_parts(learner, losses, ALONE)
    dataset = draw_dataset(experiment, shards, store)
    batches = on_device(train_loader(dataset, StepDraws(4, 0, count, 0, 1), 0), ALONE.device)
    found = [train_step(learner, losses, b, step, experiment.optim, ALONE) for step, b in enumerate(batches)]
    return learner, [{name: float(term) for name, term in terms.items()} for terms in found]


def test_every_part_is_compiled_and_called_in_each_step(tiny_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def stub(function: Callable[..., Any]) -> Callable[..., Any]:
        calls.append(0)
        index = len(calls) - 1

        def compiled(*args: Any) -> Any:
            calls[index] += 1
            return function(*args)

        return compiled

    monkeypatch.setattr(torch, "compile", stub)
    learner, terms = steps(tiny_store, is_compiled=True)
    assert learner.knobs["compile"] == PARTS
    assert calls == [2, 2, 2, 2]
    assert terms == steps(tiny_store, is_compiled=False)[1]


def test_a_part_that_does_not_compile_runs_as_it_is(
    tiny_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Torch compiles at the first call."""

    def stub(function: Callable[..., Any]) -> Callable[..., Any]:
        def compiled(*args: Any) -> Any:
            if "Losses.pair" in str(function):
                raise torch._dynamo.exc.Unsupported("no such operation\nand more")
            return function(*args)

        return compiled

    monkeypatch.setattr(torch, "compile", stub)
    learner, terms = steps(tiny_store, is_compiled=True)
    said = "speed.compile: torch.compile does not work here; the body runs uncompiled: no such operation"
    assert [line for line in capsys.readouterr().out.splitlines() if "compile" in line] == [said]
    assert learner.knobs["compile"] == ["backbone", "head", "losses"]
    assert terms == steps(tiny_store, is_compiled=False)[1]


def test_memory_that_runs_out_is_no_fault_of_the_compiler(tiny_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def stub(function: Callable[..., Any]) -> Callable[..., Any]:
        def compiled(*args: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

        return compiled

    monkeypatch.setattr(torch, "compile", stub)
    with pytest.raises(torch.OutOfMemoryError):
        steps(tiny_store, is_compiled=True)


def in_a_process(*words: str | Path) -> str:
    """The last line that a program prints, in a process of its own, where no types are checked."""
    here = Path(__file__).parent
    environment = {"PYTHONPATH": ":".join(map(str, (here, here.parent, here.parent.parent)))}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_a_compiled_step_has_few_launches_outside_the_backbone(tmp_path: Path) -> None:
    counts = json.loads(in_a_process(Path(__file__).parent / "launches.py", tmp_path))
    print(counts)
    assert counts["parts"] == PARTS
    assert counts["graphs"] == 6  # head, body and losses, forward and backward
    assert 50 < counts["compiled"] < counts["uncompiled"]
    assert counts["rest"] > 50
    assert counts["compiled"] + counts["rest"] <= 300


@pytest.mark.heavy
def test_a_compiled_step_has_the_terms_of_an_uncompiled_one(tiny_store: Store) -> None:
    """70 s of a CPU for the compiler."""
    program = (
        "import json, sys; from pathlib import Path; from hmrb.store import Store; from test_compiling import steps\n"
        "store = Store(Path(sys.argv[1])); learner, fast = steps(store, True)\n"
        "print(json.dumps([learner.knobs['compile'], fast, steps(store, False)[1]]))"
    )
    parts, fast, plain = json.loads(in_a_process("-c", program, tiny_store.root))
    assert parts == PARTS
    for ours, theirs in zip(fast, plain, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
