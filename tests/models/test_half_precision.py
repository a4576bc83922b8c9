"""Half precision is used where it pays."""

import pytest
import torch

from hmrb.models import half_precision
from hmrb.models.half_precision import half_over_fp32, precision_in_use

CPU = torch.device("cpu")


def test_a_cpu_that_emulates_half_precision_computes_in_fp32_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_precision, "half_over_fp32", lambda precision: 16.2)
    used, why = precision_in_use("bf16", CPU, None)
    assert used == "fp32"
    assert why.startswith("optim.precision: bf16 takes 16.2 times as long as fp32 on this CPU")
    assert precision_in_use("fp32", CPU, None) == ("fp32", "")
    assert precision_in_use("bf16", torch.device("cuda"), None) == ("bf16", "")
    monkeypatch.setattr(half_precision, "half_over_fp32", lambda precision: 0.6)
    assert precision_in_use("bf16", CPU, None) == ("bf16", "")


def test_measuring_leaves_a_run_s_random_numbers_alone() -> None:
    torch.manual_seed(3)
    half_over_fp32.cache_clear()
    assert half_over_fp32("bf16") > 0
    drawn = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(2))
