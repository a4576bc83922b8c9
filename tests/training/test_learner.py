"""What decays, which BatchNorm exchanges statistics, and what the record says of it."""

import pytest
import torch
from conftest import tiny_tree

from hmrb.models.hmr import build_model
from hmrb.parallel.world import World
from hmrb.spec import ModelSpec, OptimSpec
from hmrb.training.learner import is_matrix, optimiser_for, syncs_bn

DECAYED = OptimSpec(optimiser="adamw", weight_decay=0.05, decay="matrices", head_lr=1e-3)


@pytest.mark.parametrize("backbone", ["mini", "vit_b16", "swin_t"])
def test_norms_biases_tables_and_tokens_do_not_decay(backbone: str) -> None:
    with torch.device("meta"):
        model = build_model(ModelSpec(**tiny_tree()["model"] | {"backbone": backbone, "image_px": 224}))
    optimiser = optimiser_for(model, DECAYED)
    decay = {id(weight): group["weight_decay"] for group in optimiser.param_groups for weight in group["params"]}
    rate = {id(weight): group["base_lr"] for group in optimiser.param_groups for weight in group["params"]}
    names = {name for name, weight in model.named_parameters() if decay[id(weight)] == 0}
    left = {name.rpartition(".")[2] for name in names}
    assert {"weight", "bias"} <= left <= {"weight", "bias", "pos_embed", "cls_token", "relative_position_bias_table"}
    assert all(
        weight.ndim == 1 for name, weight in model.named_parameters() if name in names and name.endswith("weight")
    )
    assert len(decay) == len(list(model.parameters()))
    for name, weight in model.named_parameters():
        assert rate[id(weight)] == (1e-3 if name.startswith("head.") else 2.5e-4)
        assert decay[id(weight)] == (0.05 if weight.ndim > 1 and name.endswith("weight") else 0)


def test_all_weights_decay_as_before() -> None:
    model = build_model(ModelSpec(**tiny_tree()["model"]))
    groups = optimiser_for(model, DECAYED.model_copy(update={"decay": "all"})).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [
        (len(list(part.parameters())), 0.05) for part in (model.backbone, model.head)
    ]


def test_names_of_tables() -> None:
    square = torch.zeros(2, 2)
    assert is_matrix("blocks.0.attn.qkv.weight", square)
    for name in ("pos_embed", "cls_token", "layers.0.attn.relative_position_bias_table", "blocks.1.attn.rel_pos_h"):
        assert not is_matrix(name, square)
    assert not is_matrix("norm.weight", torch.zeros(2))


@pytest.mark.parametrize(
    ("choice", "pictures", "size", "device", "syncs"),
    [
        (True, 32, 8, "cuda", True),
        (False, 4, 8, "cuda", False),
        ("auto", 15, 8, "cuda", True),
        ("auto", 16, 8, "cuda", False),
        ("auto", 4, 1, "cuda", False),
        (True, 4, 1, "cuda", False),
        (True, 4, 8, "cpu", False),
    ],
)
def test_batchnorm_exchanges_statistics(choice: bool, pictures: int, size: int, device: str, syncs: bool) -> None:
    assert syncs_bn(choice, pictures, World(0, size, torch.device(device))) is syncs


def test_layers_of_a_backbone_have_rates_that_fall_towards_the_first() -> None:
    spec = {
        "method": "hmr2", "backbone": "vitpose_s", "weights": "none", "features": "map", "image_px": 64, "crop": "tall",
        "head": {"name": "decoder", "layers": 1, "width": 16, "heads": 2, "head_width": 8, "hidden": 16},
    }  # fmt: skip
    with torch.device("meta"):
        model = build_model(ModelSpec.model_validate(spec))
    optim = OptimSpec(lr=1.0, layer_decay=0.5, head_lr=3.0)
    groups = optimiser_for(model, optim, fused=False).param_groups
    rates = [0.5**n for n in range(12, -1, -1)]  # of the stem and 12 blocks, the last with the norm
    assert [group["lr"] for group in groups] == [*rates, 3.0]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    (plain, _) = optimiser_for(model, OptimSpec(lr=1.0), fused=False).param_groups
    assert len(plain["params"]) == len(list(model.backbone.parameters()))
