"""Training on a card: each setting, precision, resumption, memory, waits."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_tiny_store
from on_card import CARD, CPU, CUDA, STEPS, Tiny, tiny

from hmrb.errors import RunError
from hmrb.store import Store
from hmrb.training.failures import explained

pytestmark = CARD
ROUNDED = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.1}  # relative, of the loss after a few steps


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[float]]:
    store = write_tiny_store(tmp_path_factory.mktemp("card"))
    return store, Tiny(store, tiny(), CPU).run()


@pytest.mark.parametrize(
    "knob",
    [
        {}, {"channels_last": False}, {"fused": False}, {"pin_memory": False}, {"prefetch": False},
        {"checkpointing": True}, {"keep_memory": False}, {"tf32": False}, {"cudnn_benchmark": False},
        {"deterministic": True},
    ],
    ids=lambda knob: "-".join(f"{name}-{value}" for name, value in knob.items()) or "defaults",
)  # fmt: skip
def test_a_setting_keeps_the_losses_of_the_cpu(on_cpu: tuple[Store, list[float]], knob: dict[str, Any]) -> None:
    store, expected = on_cpu
    there = Tiny(store, tiny(**knob))
    try:
        assert there.run() == pytest.approx(expected, rel=1e-2)  # TF32 has 10 bits
    finally:
        torch.use_deterministic_algorithms(False)
    for name, value in knob.items():
        if name != "keep_memory":  # of a CPU
            assert there.learner.knobs[name] == value


def test_full_single_precision_is_that_of_the_cpu(on_cpu: tuple[Store, list[float]]) -> None:
    store, expected = on_cpu
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        spec = tiny(tf32=False) if "tf32" in type(tiny().speed).model_fields else tiny()
        assert Tiny(store, spec).run() == pytest.approx(expected, rel=ROUNDED["fp32"])
    finally:
        torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near(on_cpu: tuple[Store, list[float]], precision: str) -> None:
    store, expected = on_cpu
    if precision == "bf16" and not torch.cuda.is_bf16_supported():
        pytest.skip("this card has no bf16")
    there = Tiny(store, tiny(precision))
    assert there.run() == pytest.approx(expected, rel=ROUNDED[precision])
    assert {weight.dtype for weight in there.learner.model.parameters()} == {torch.float32}


def test_the_scaler_of_fp16_skips_a_step_that_overflows(on_cpu: tuple[Store, list[float]]) -> None:
    run = Tiny(on_cpu[0], tiny("fp16"))
    run.run(2)
    scale = run.learner.scaler.get_scale()
    run.learner.scaler.update(2.0**40)  # beyond what fp16 holds: the gradients become infinite
    before = [weight.detach().clone() for weight in run.learner.model.parameters()]
    run.run(3)
    after = list(run.learner.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert run.learner.scaler.get_scale() < 2.0**40
    assert scale > 0


def test_the_scaler_goes_on_where_it_was(on_cpu: tuple[Store, list[float]]) -> None:
    run = Tiny(on_cpu[0], tiny("fp16"))
    run.run(2)
    run.learner.scaler.update(512.0)
    assert run.resumed().learner.scaler.get_scale() == 512.0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_run_has_the_same_weights(on_cpu: tuple[Store, list[float]], precision: str) -> None:
    spec = tiny(precision, deterministic=True)
    try:
        run = Tiny(on_cpu[0], spec)
        run.run(2)
        other = run.resumed()
        run.run(STEPS)
        other.run(STEPS)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(run.weights(), other.weights(), strict=True))


def test_a_run_of_a_card_goes_on_on_a_cpu(on_cpu: tuple[Store, list[float]], tmp_path: Path) -> None:
    store, expected = on_cpu
    run = Tiny(store, tiny())
    run.run(2)
    torch.save(run.learner.state(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", map_location="cpu", weights_only=True)
    there = Tiny(store, tiny(), CPU)
    there.learner.load(state)
    there.step = 2
    assert there.run() == pytest.approx(expected[2:], rel=1e-2)


def test_averaged_weights_are_those_of_the_formula(on_cpu: tuple[Store, list[float]]) -> None:
    run = Tiny(on_cpu[0], tiny(ema=0.5))
    name = next(name for name, _ in run.learner.model.named_parameters())
    average = None
    for batch in run.batches(3):
        run.train(batch)
        now = dict(run.learner.model.named_parameters())[name].detach().clone()
        average = now if average is None else 0.5 * average + 0.5 * now
    torch.testing.assert_close(dict(run.learner.to_evaluate.named_parameters())[name], average)


def test_micro_batches_have_the_loss_of_the_whole(on_cpu: tuple[Store, list[float]]) -> None:
    spec = tiny(device_batch=2)
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"freeze_bn": True})})
    whole = spec.model_copy(update={"speed": tiny().speed})
    run, once = Tiny(on_cpu[0], spec), Tiny(on_cpu[0], whole)
    assert run.run(2) == pytest.approx(once.run(2), rel=1e-2)
    assert run.learner.num_micro_batches == 2


def test_a_compiled_backbone_has_the_same_losses(on_cpu: tuple[Store, list[float]]) -> None:
    store, expected = on_cpu
    run = Tiny(store, tiny(compile=True))
    if not run.learner.knobs["compile"]:
        pytest.skip("torch.compile does not work on this machine")
    assert run.run() == pytest.approx(expected, rel=1e-2)


def test_pictures_and_weights_lie_channels_last(on_cpu: tuple[Store, list[float]]) -> None:
    run = Tiny(on_cpu[0], tiny())
    (batch,) = run.batches(1)
    assert batch.image.is_cuda
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    wide = [weight for weight in run.learner.model.parameters() if weight.dim() == 4 and weight.shape[-1] > 1]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in wide)


def test_the_host_waits_for_nothing_in_a_step(on_cpu: tuple[Store, list[float]]) -> None:
    run = Tiny(on_cpu[0], tiny())
    batches = run.batches(STEPS)
    for batch in batches[:3]:
        run.train(batch)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[3:]:
            run.train(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_loss_that_is_not_finite_changes_no_weight(on_cpu: tuple[Store, list[float]]) -> None:
    run = Tiny(on_cpu[0], tiny())
    run.run(1)
    before = [weight.detach().clone() for weight in run.learner.model.parameters()]
    (batch,) = run.batches(2)
    batch.keypoints3d[:, :, :3] = math.nan
    with pytest.raises(RunError, match="is not finite"):
        run.train(batch)
    assert all(torch.equal(a, b) for a, b in zip(before, run.learner.model.parameters(), strict=True))


def test_memory_that_runs_out_is_explained_and_the_run_can_go_on(on_cpu: tuple[Store, list[float]]) -> None:
    run = Tiny(on_cpu[0], tiny())
    (batch,) = run.batches(1)
    with pytest.raises(RunError, match=r"step 7: out of memory on the GPU with 4 pictures.*speed\.device_batch"):
        with explained(7, 4):
            torch.empty(1 << 45, dtype=torch.uint8, device=CUDA)
    assert math.isfinite(float(run.train(batch)["total"]))
