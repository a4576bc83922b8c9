"""Cost of models."""

import json

import pytest
from typer.testing import CliRunner

from hmrb.cli import app
from hmrb.errors import RequestError
from hmrb.models.flops import VERTICES, count
from hmrb.spec import ModelSpec


def test_resnet50_costs_what_is_known() -> None:
    cost = count(ModelSpec())
    backbone, head = cost.parts["backbone"], cost.parts["head"]
    assert backbone.params == 23_508_032
    # 7x7 stem, 16 bottlenecks: 4.09 G; He et al. (2016), table 1, print 3.8, which excludes the projections
    assert backbone.multiply_adds == pytest.approx(4.1e9, rel=0.01)
    assert backbone.flops == 2 * backbone.multiply_adds
    width = 2048 + 144 + 10 + 3
    assert head.params == width * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 * 157 + 157
    assert head.multiply_adds == 3 * (width * 1024 + 1024 * 1024 + 1024 * 157)


def test_the_body_costs_its_blend_shapes_and_skinning() -> None:
    blend = VERTICES["smpl"] * 3 * (10 + 207)
    skin = VERTICES["smpl"] * (24 * 12 + 9)
    assert count(ModelSpec()).parts["body"].multiply_adds == pytest.approx(blend + skin, rel=0.01)


def test_cost_grows_with_the_picture() -> None:
    small, large = (count(ModelSpec(image_px=px)).parts["backbone"].multiply_adds for px in (128, 256))
    assert large == pytest.approx(4 * small, rel=1e-6)


def test_what_is_not_counted_is_named() -> None:
    assert {"native_batch_norm", "relu_", "max_pool2d_with_indices"} <= set(count(ModelSpec()).not_counted)
    assert "convolution" not in count(ModelSpec()).not_counted


def test_attention_is_counted() -> None:
    """ViT's q k^T and attention times v: 2 * 12 blocks * 197^2 tokens * 768 multiply-adds on top of its matrices."""
    cost = count(ModelSpec(backbone="vit_b16"))
    tokens, width = 197, 768
    linear = 12 * tokens * 12 * width**2 + 196 * width * 768
    attention = 12 * 2 * tokens**2 * width
    assert cost.parts["backbone"].multiply_adds == pytest.approx(linear + attention, rel=1e-3)


def test_all_backbones_as_json() -> None:
    done = CliRunner().invoke(app, ["flops", "--all", "--json"])
    rows = json.loads(done.stdout)
    assert {row["backbone"] for row in rows} == {
        "resnet50", "resnet101", "resnet152", "resnext101", "hrnet_w32", "efficientnet_b5", "vit_b16", "swin_t",
        "twins_svt_b", "twins_pcpvt_b",
    }  # fmt: skip
    for row in rows:
        assert row["parts"]["total"]["params"] == sum(row["parts"][part]["params"] for part in ("backbone", "head"))
        assert row["parts"]["backbone"]["multiply_adds"] > 1e9
        assert row["counter"].startswith("torch.utils.flop_counter of torch ")
    # Exact parameter counts recorded from the study's backbones with the study's tails.
    study = {row["backbone"]: row["parts"]["backbone"]["params"] for row in rows if row["features"] == "study"}
    assert study["hrnet_w32"] == pytest.approx(31_409_752, abs=200_000)  # the recorded model has an unused final layer
    assert study["swin_t"] == pytest.approx(46_438_458, abs=2_000)  # and a norm that the study's tail does not use


def test_a_measured_speed_names_its_device() -> None:
    done = CliRunner().invoke(app, ["flops", "--backbone", "mini", "--shape", "64", "--latency", "2", "--json"])
    record = json.loads(done.stdout)
    assert record["latency"]["images_per_s"]["2"] > 0
    assert "CPU" in record["latency"]["device"] or record["latency"]["device"]
    assert record["image_px"] == 64


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give exactly one of SPEC, --backbone NAME and --all"),
        (["--backbone", "resnet5"], r"no backbone named 'resnet5'. Did you mean 'resnet50'"),
        (["--backbone", "resnet50", "--features", "best"], "features: Input should be 'mean', 'flatten', 'study', "),
    ],
)
def test_wrong_requests_get_one_message(words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["flops", *words])
    assert isinstance(done.exception, RequestError)
    assert said in str(done.exception)
