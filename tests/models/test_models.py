from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from conftest import golden
from timm.layers.drop import DropPath as TimmDropPath

from hmrb.data.mixture import mix64
from hmrb.errors import RequestError
from hmrb.models.backbones import BACKBONES, backbone_name, build_backbone
from hmrb.models.discriminator import Discriminator
from hmrb.models.dropout import DropPath, drop_factors
from hmrb.models.head import IterativeHead, mean_prediction, set_mean
from hmrb.models.heads import HEADS
from hmrb.models.hmr import build_model
from hmrb.models.tails import STUDY_PX, Mean, Runs
from hmrb.spec import HeadSpec, ModelSpec


@pytest.mark.parametrize("steps", [1, 3])
def test_the_regressor_equals_the_study(steps: int) -> None:
    g = {key: torch.from_numpy(value) for key, value in golden("1_hmr_head").items()}
    head = IterativeHead(64, HeadSpec(hidden=128, steps=steps))
    head.load_state_dict({key.removeprefix("sd."): value for key, value in g.items() if key.startswith("sd.")})
    for name in ("x2", "x4"):
        features = g[f"in.{name}"]
        out = head.eval()(features if features.ndim == 2 else features.mean((2, 3)))
        for part, key in ((out.rotmats, "pred_pose"), (out.betas, "pred_shape"), (out.camera, "pred_cam")):
            torch.testing.assert_close(part, g[f"out.{name}.it{steps}.{key}"], rtol=0, atol=2e-6)


def test_a_new_head_says_the_mean_body() -> None:
    head = HEADS["direct"](8, HeadSpec(name="direct", hidden=16, steps=1)).eval()
    mean = torch.randn(157, generator=torch.Generator().manual_seed(0))
    set_mean(head, mean)
    expected = mean_prediction(head, 4)
    out = head(torch.zeros(4, 8))
    torch.testing.assert_close(out.betas, expected.betas, rtol=0, atol=0.02)  # the last layers' weights are small
    torch.testing.assert_close(expected.betas[0], mean[144:154])
    assert torch.linalg.det(out.rotmats).allclose(torch.ones(4, 24))


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_has_the_channels_it_states(name: str) -> None:
    for px in (64, 96) if BACKBONES[name].make is None else (64,):
        with torch.device("meta"), torch.no_grad():
            backbone, num_features = build_backbone(ModelSpec(backbone=name, weights="none", image_px=px))
            assert backbone.eval()(torch.zeros(2, 3, px, px)).shape == (2, num_features)
        assert num_features == BACKBONES[name].channels


def test_flat_features_are_the_whole_map() -> None:
    for name, cells in (("mini", 4), ("test_vit", 16), ("swin_t", 4)):
        backbone, num_features = build_backbone(
            ModelSpec(backbone=name, weights="none", features="flatten", image_px=64)
        )
        plain, channels = build_backbone(ModelSpec(backbone=name, weights="none", image_px=64))
        plain.load_state_dict(backbone.state_dict())
        assert num_features == channels * cells
        with torch.no_grad():
            flat, mean = (network.eval()(torch.ones(2, 3, 64, 64)) for network in (backbone, plain))
        torch.testing.assert_close(flat.unflatten(1, (channels, cells)).mean(2), mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "channels"),
    # A map, a channels-last map, tokens, tokens with a class token, and the same without num_prefix_tokens in timm.
    [("test_resnet", 96), ("test_mambaout", 64), ("levit_128s", 384), ("test_vit", 64), ("volo_d1_224", 384)],
)
def test_every_layout_of_timm_is_averaged_over_its_patches(name: str, channels: int) -> None:
    px = 224 if name in ("levit_128s", "volo_d1_224") else 160
    backbone, num_features = build_backbone(ModelSpec(backbone=name, weights="none", image_px=px))
    image = torch.randn(1, 3, px, px, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        last = backbone.eval().network.forward_features(image)
        features = backbone(image)
    if name in ("test_vit", "volo_d1_224"):
        last = last[:, 1:]  # the class token
    where = {"test_resnet": (2, 3), "test_mambaout": (1, 2)}.get(name, (1,))
    assert features.shape == (1, num_features) == (1, channels)
    torch.testing.assert_close(features, last.mean(where))


def test_a_backbone_answers_to_the_study_s_and_timm_s_names() -> None:
    assert [backbone_name(name) for name in ("vit_b", "swin", "hrnet", "efficientnet", "twins-svt")] == [
        "vit_b16", "swin_t", "hrnet_w32", "efficientnet_b5", "twins_svt_b",
    ]  # fmt: skip
    assert backbone_name("swin_tiny_patch4_window7_224") == backbone_name("swin_tiny_patch4_window7_224.ms_in1k")
    assert backbone_name("resnet50.a1_in1k") == "resnet50.a1_in1k"  # other ImageNet weights mean a different backbone
    assert backbone_name("resnet10t") == "resnet10t"  # not `mini`, which is narrower
    for name in ("resnet5", "resnet50.a9_in1k"):
        message = rf"no backbone named '{name}'. Did you mean 'resnet50'.*every timm model"
        with pytest.raises(RequestError, match=message):
            backbone_name(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"backbone": "mini", "features": "study"},
            "features: study is available for resnet50, .*; for 'mini' use mean",
        ),
        ({"backbone": "vit_b", "features": "study", "image_px": 192}, "need 224 px, as in the study, not 192"),
        ({"backbone": "pit_ti_224"}, "'pit_ti_224' has no features 'mean': it outputs only its class token"),
        ({"backbone": "efficientvim_m1"}, "'efficientvim_m1' has no features 'mean': it outputs no single map"),
        ({"backbone": "coat_tiny"}, "'coat_tiny' cannot be built for 224 px: Only token or avg pooling"),
        ({"backbone": "hrnet", "image_px": 100}, "'hrnet' does not accept images of 100 px: The size of tensor"),
        ({"backbone": "twins_svt", "image_px": 100}, "'twins_svt' cannot be built for 100 px: img_size"),
    ],
)
def test_features_that_a_backbone_can_t_give_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        build_backbone(ModelSpec.model_validate({"weights": "none", **changes}))


OWN_TAILS = [name for name, row in BACKBONES.items() if isinstance(row.study, type)]  # not the mean of the last map


@pytest.mark.parametrize(
    ("name", "features"),
    [(name, "mean") for name in [*BACKBONES, "convnext_atto"]] + [(name, "study") for name in OWN_TAILS],
)
def test_every_parameter_that_is_to_move_has_a_gradient(name: str, features: str) -> None:
    """Distributed training would wait for the gradient of an unused parameter. No row of BACKBONES has one."""
    px = STUDY_PX if features == "study" else 64
    spec = ModelSpec(backbone=name, weights="none", features=features, image_px=px, head=HeadSpec(hidden=8))
    with torch.device("meta"):  # shapes alone: which parameters have a gradient does not depend on numbers
        model = build_model(spec).eval()
        out = model.head(model.backbone(torch.randn(2, 3, px, px)))
        (out.rotmats.square().sum() + out.betas.sum() + out.camera.sum()).backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert without == [key for key, parameter in model.named_parameters() if not parameter.requires_grad]
    head_norm = ["backbone.network.head.norm.weight", "backbone.network.head.norm.bias"]  # not used by timm's map
    assert without == (head_norm if name == "convnext_atto" else [])


@pytest.mark.parametrize("name", ["iterative", "direct"])  # the others have no dropout
def test_dropout_goes_with_the_draw_and_not_with_its_batch(name: str) -> None:
    torch.manual_seed(0)  # of other weights a few have nearly parallel columns, which amplify rounding
    head = HEADS[name](8, HeadSpec(name=name, hidden=64, steps=1))
    torch.nn.init.normal_(head.decpose.weight)
    features, keys = torch.randn(6, 8), torch.randint(2**62, (6,))
    whole, part = head(features, keys), head(features[4:], keys[4:])
    torch.testing.assert_close(part.rotmats, whole.rotmats[4:])
    other = head(features, keys + 1)
    assert not torch.allclose(other.rotmats, whole.rotmats)
    assert torch.equal(head.eval()(features, keys).rotmats, head(features).rotmats)
    with pytest.raises(ValueError, match="needs the keys of the draws"):
        head.train()(features)


@pytest.mark.parametrize(("name", "steps"), [("iterative", 3), ("direct", 1)])
def test_no_two_layers_of_a_head_leave_out_the_same(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers a step, each told a number of its own, which decides with the key what is left out."""
    layers = []

    class Factors(tuple):  # type: ignore[type-arg]
        def __getitem__(self, layer: Any) -> Any:
            layers.append(layer)
            return super().__getitem__(layer)

    def noted(share: float, keys: torch.Tensor, width: int, first: int, last: int) -> Factors:
        return Factors(drop_factors(share, keys, width, first, last))

    monkeypatch.setattr("hmrb.models.head.drop_factors", noted)
    HEADS[name](8, HeadSpec(name=name, hidden=16, steps=steps))(torch.zeros(2, 8), torch.arange(2))
    assert layers[-2 * steps :] == list(range(2 * steps))  # before them, the check of types looks at one
    factors = drop_factors(0.5, torch.arange(2), 16, 0, 2 * steps - 1)
    assert not any(torch.equal(one, two) for one, two in combinations(factors, 2))


@pytest.mark.parametrize("name", ["swin_t", "efficientnet_b5"])
def test_stochastic_depth_goes_with_the_draw_and_not_with_its_batch(name: str) -> None:
    torch.manual_seed(0)
    spec = ModelSpec(
        backbone=name, weights="none", image_px=64, drop_path=0.9, freeze_bn=True, head=HeadSpec(dropout=0)
    )
    model, image, keys = build_model(spec), torch.randn(6, 3, 64, 64), torch.randint(2**62, (6,))
    assert not [module for module in model.modules() if isinstance(module, TimmDropPath)]

    def features(rows: slice, shift: int = 0) -> torch.Tensor:
        kept: list[torch.Tensor] = []
        hook = model.backbone.register_forward_hook(lambda _, __, out: kept.append(out.detach()))
        model(image[rows], keys[rows] + shift)
        hook.remove()
        return kept[0]

    whole, size = features(slice(6)), float(features(slice(6)).std())
    torch.testing.assert_close(features(slice(4, 6)), whole[4:], rtol=0, atol=1e-4 * size)
    assert (features(slice(6), shift=1) - whole).abs().flatten(1).amax(1).min() > 1e-2 * size  # holds for every image
    with pytest.raises(ValueError, match="needs the keys of the draws"):
        model(image)
    model.eval()
    assert torch.equal(model(image).betas, model(image, keys).betas)


def test_stochastic_depth_leaves_out_its_share_of_whole_branches() -> None:
    rows, share = 4000, 0.3
    one, two = DropPath(share, 0), DropPath(share, 1)
    one.keys = two.keys = torch.tensor([mix64(7, draw) >> 1 for draw in range(rows)])
    branches = [drop_path(torch.ones(rows * 4, 3, 2)).unflatten(0, (rows, 4)).flatten(1) for drop_path in (one, two)]
    for branch in branches:
        torch.testing.assert_close(branch.unique(), torch.tensor([0, 1 / (1 - share)]))
        assert torch.equal(branch.amin(1), branch.amax(1))  # either all rows of an image or none
        assert float((branch[:, 0] == 0).float().mean()) == pytest.approx(share, abs=5 * (0.21 / rows) ** 0.5)
    both = ((branches[0][:, 0] == 0) & (branches[1][:, 0] == 0)).float().mean()
    assert float(both) == pytest.approx(share**2, abs=5 * (0.09 / rows) ** 0.5)


def test_dropout_is_like_chance() -> None:
    """Shares of rows, columns and layers, and the overlap of two of them, are within five sigma of independence."""
    rows, width, share = 400, 500, 0.3
    keys = torch.tensor([mix64(7, draw) >> 1 for draw in range(rows)])
    one, two = drop_factors(share, keys, width, 0, 1)
    torch.testing.assert_close(one.unique(), torch.tensor([0, 1 / (1 - share)]))
    for gone in (one == 0, two == 0):
        assert float(gone.float().mean()) == pytest.approx(share, abs=5 * (0.21 / (rows * width)) ** 0.5)
        for line, other in ((gone[1:], gone[:-1]), (gone[:, 1:], gone[:, :-1]), (one == 0, two == 0)):
            both = (line & other).float().mean() if line is not gone else 0.09
            assert float(both) == pytest.approx(share**2, abs=5 * (0.09 / (rows * width)) ** 0.5)
        assert (gone.float().mean(0) - share).abs().max() < 5 * (0.21 / rows) ** 0.5
        assert (gone.float().mean(1) - share).abs().max() < 5 * (0.21 / width) ** 0.5


def test_frozen_batchnorm_keeps_its_statistics_in_training() -> None:
    for freeze in (False, True):
        model = build_model(ModelSpec(backbone="mini", weights="none", image_px=32, freeze_bn=freeze))
        before = model.backbone.network.bn1.running_mean.clone()
        model.eval().train()(torch.randn(4, 3, 32, 32), torch.arange(4))
        assert torch.equal(model.backbone.network.bn1.running_mean, before) == freeze
        assert model.backbone.network.bn1.weight.requires_grad


class Echo(torch.nn.Module):
    """A network whose last map is its input image."""

    def forward_features(self, image: torch.Tensor) -> torch.Tensor:
        return image


def test_the_study_s_pooling_averages_neighbours_across_channels() -> None:
    image = torch.arange(3.0 * 64 * 64).view(1, 3, 64, 64)  # 12288 values, 6 for each of 2048 features
    features = Runs()(Echo(), image)
    assert features.shape == (1, 2048)
    assert features[0, :2].tolist() == [2.5, 8.5]
    assert features[0, 682].item() == 4092 + 2.5  # a run across the border of two channels
    torch.testing.assert_close(Mean()(Echo(), image)[0, 0], image[0, 0].mean())


def test_the_discriminator_scores_joints_pose_and_shape() -> None:
    network = Discriminator()
    rotmats, betas = torch.eye(3).repeat(3, 24, 1, 1), torch.randn(3, 10)
    scores = network(rotmats, betas)
    assert scores.shape == (3, 25)
    turned = rotmats.clone()
    turned[:, 0] = torch.tensor(np.diag([1.0, -1, -1])).float()
    torch.testing.assert_close(network(turned, betas), scores)  # the root rotation has no effect
    turned[:, 5] = turned[:, 0]
    changed = (network(turned, betas) - scores).abs().max(0).values > 1e-6
    assert changed.nonzero().flatten().tolist() == [4, 23]
