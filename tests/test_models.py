import numpy as np
import pytest
import torch
from conftest import golden

from hmrb.errors import RequestError
from hmrb.models.backbones import BACKBONES, build_backbone, weight_problems
from hmrb.models.discriminator import Discriminator
from hmrb.models.head import HEADS, IterativeHead, mean_prediction, set_mean
from hmrb.models.hmr import build_model
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
    torch.testing.assert_close(out.betas, expected.betas, rtol=0, atol=0.02)  # the last layers start small
    torch.testing.assert_close(expected.betas[0], mean[144:154])
    assert torch.linalg.det(out.rotmats).allclose(torch.ones(4, 24))


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("features", ["mean", "flatten"])
def test_a_backbone_has_the_channels_it_states(name: str, features: str) -> None:
    backbone, num_features = build_backbone(ModelSpec(backbone=name, weights="none", features=features, image_px=64))
    with torch.no_grad():
        assert backbone.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, num_features)
    assert num_features == BACKBONES[name].channels * (4 if features == "flatten" else 1)


def test_every_parameter_of_a_model_is_used() -> None:
    model = build_model(ModelSpec(backbone="mini", weights="none", image_px=32))
    out = model(torch.randn(2, 3, 32, 32))
    (out.rotmats.square().sum() + out.betas.sum() + out.camera.sum()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_the_discriminator_scores_joints_pose_and_shape() -> None:
    network = Discriminator()
    rotmats, betas = torch.eye(3).repeat(3, 24, 1, 1), torch.randn(3, 10)
    scores = network(rotmats, betas)
    assert scores.shape == (3, 25)
    turned = rotmats.clone()
    turned[:, 0] = torch.tensor(np.diag([1.0, -1, -1])).float()
    torch.testing.assert_close(network(turned, betas), scores)  # the root is not looked at
    turned[:, 5] = turned[:, 0]
    changed = (network(turned, betas) - scores).abs().max(0).values > 1e-6
    assert changed.nonzero().flatten().tolist() == [4, 23]


def test_weights_that_are_not_there_are_named(tmp_path) -> None:
    gone = ModelSpec(backbone="mini", weights=str(tmp_path / "gone.pth"))
    assert weight_problems(gone) == [
        f"model.weights: no file {tmp_path}/gone.pth; it is none, imagenet, or the path of a state dict"
    ]
    assert "has no ImageNet weights" in weight_problems(ModelSpec(backbone="mini", weights="imagenet"))[0]
    (tmp_path / "other.pth").write_bytes(b"nonsense")
    with pytest.raises(RequestError, match=r"other\.pth: no state dict of 'resnet10t'"):
        build_backbone(ModelSpec(backbone="mini", weights=str(tmp_path / "other.pth")))


def test_weights_come_from_a_file(tmp_path) -> None:
    donor, _ = build_backbone(ModelSpec(backbone="mini", weights="none"))
    torch.save(donor.network.state_dict(), tmp_path / "donor.pth")
    copy, _ = build_backbone(ModelSpec(backbone="mini", weights=str(tmp_path / "donor.pth")))
    for key, value in donor.state_dict().items():
        assert torch.equal(copy.state_dict()[key], value)
