"""TF32, reproducible algorithms and the choice of convolutions are set as asked, and only for networks."""

from collections.abc import Iterator

import pytest
import torch
from torch.backends import cuda, cudnn

from hmrb.errors import RequestError
from hmrb.models.numerics import WORKSPACE, apply_numerics, check_precision, products_in, reserve_workspace
from hmrb.spec import SpeedSpec

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    flags = cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    yield
    cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = flags
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def ampere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))


def flags() -> tuple[bool, bool]:
    return cuda.matmul.allow_tf32, cudnn.allow_tf32


@pytest.mark.parametrize("tf32", [True, False])
def test_products_and_convolutions_compute_alike(ampere: None, tf32: bool) -> None:
    """Torch's defaults are TF32 for convolutions only: fp32 was TF32 in a ResNet and not in a ViT."""
    used = apply_numerics(SpeedSpec(tf32=tf32), GPU)
    assert (used["tf32"], *flags()) == (tf32, tf32, tf32)


def test_what_a_device_cannot_do_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert apply_numerics(SpeedSpec(), GPU)["tf32"] is False
    assert flags() == (False, False)
    assert apply_numerics(SpeedSpec(), CPU) == {"tf32": False, "deterministic": False, "cudnn_benchmark": False}


def test_convolutions_are_tried_unless_digits_must_stay(ampere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert apply_numerics(SpeedSpec(), GPU)["cudnn_benchmark"]
    assert (cudnn.benchmark, cudnn.deterministic) == (True, False)
    monkeypatch.setenv(WORKSPACE, ":4096:8")
    used = apply_numerics(SpeedSpec(deterministic=True), GPU)
    assert used == {"tf32": True, "deterministic": True, "cudnn_benchmark": False}
    assert torch.are_deterministic_algorithms_enabled()
    assert (cudnn.benchmark, cudnn.deterministic) == (False, True)


def test_deterministic_needs_a_workspace(ampere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKSPACE, raising=False)
    with pytest.raises(RequestError, match="CUBLAS_WORKSPACE_CONFIG is not set.*set it to :4096:8 or :16:8"):
        apply_numerics(SpeedSpec(deterministic=True), GPU)
    monkeypatch.setenv(WORKSPACE, ":0:0")
    reserve_workspace()  # what the user chose stays
    with pytest.raises(RequestError, match="is :0:0"):
        apply_numerics(SpeedSpec(deterministic=True), GPU)
    monkeypatch.delenv(WORKSPACE)
    reserve_workspace()
    assert apply_numerics(SpeedSpec(deterministic=True), GPU)["deterministic"]


def test_a_part_computes_in_full_and_what_follows_as_before() -> None:
    cuda.matmul.allow_tf32, cudnn.allow_tf32 = False, True
    with products_in(tf32=True):
        assert flags() == (True, True)
        with pytest.raises(ZeroDivisionError), products_in(tf32=False):
            assert flags() == (False, False)
            raise ZeroDivisionError
        assert flags() == (True, True)
    assert flags() == (False, True)


def test_an_evaluation_in_tf32_needs_a_device_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="--precision tf32: needs a GPU .* runs on the CPU. Use fp32"):
        check_precision("tf32", CPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(RequestError, match="runs on an older GPU"):
        check_precision("tf32", GPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    check_precision("tf32", GPU)
    check_precision("fp32", CPU)
