"""PARE's head with stand-in weights under the released names, against recordings of its code."""

from functools import cache

import numpy as np
import pytest
import torch
from recipe_methods import method_golden, off, pictures, released
from test_necks import loaded
from torch import Tensor

from hmrb.models.head import mean_prediction
from hmrb.models.part_attention import PartAttentionHead


def pare_head() -> PartAttentionHead:
    head = PartAttentionHead().eval()
    head.load_state_dict(released("pare", "model.head."))
    return head


@cache
def cells() -> Tensor:
    """The map that the recordings were made on."""
    with torch.no_grad():
        return loaded("hrnet_w32 map")(pictures(224, 224))


@torch.no_grad()
def test_backbone_and_head_predict_what_pare_does() -> None:
    recorded = method_golden("method_pare_seed0")
    prediction = pare_head()(cells())
    assert np.abs(prediction.rotmats.numpy() - recorded["rotmat"]).max() < 1e-4
    assert off(prediction.betas, recorded["betas"]) < 1e-4
    assert off(prediction.camera, recorded["cam"]) < 1e-4


@torch.no_grad()
def test_parts_are_scored_as_in_pare() -> None:
    recorded = method_golden("method_pare_seed0")
    _, parts = pare_head().with_parts(cells())
    assert off(parts[..., ::4, ::4], recorded["segm_logits_every4"]) < 1e-5
    assert off(parts.mean((2, 3)), recorded["segm_mean"]) < 1e-5
    assert off(parts[:, 1:].flatten(2).softmax(2).amax(2), recorded["attention_max"]) < 1e-4


def test_every_released_tensor_of_the_head_has_its_place() -> None:
    mine, theirs = PartAttentionHead().state_dict(), released("pare", "model.head.")
    assert {key: value.shape for key, value in mine.items()} == {key: value.shape for key, value in theirs.items()}


def test_the_mean_body_is_kept_and_not_added() -> None:
    head, small = pare_head(), torch.randn(2, 480, 4, 4)
    before = head(small)
    head.init_pose.zero_(), head.init_shape.fill_(3), head.init_cam.fill_(3)
    assert torch.equal(head(small).betas, before.betas)
    assert torch.equal(head(small).rotmats, before.rotmats)
    assert torch.equal(mean_prediction(head, 2).camera, torch.full((2, 3), 3.0))


@pytest.mark.parametrize("output", [0, 1, 2])
def test_every_output_teaches_where_the_parts_are(output: int) -> None:
    head = PartAttentionHead(channels=8, width=6, shape_width=4)
    head(torch.randn(2, 8, 5, 5)).tensors[output].flatten(1)[:, :3].sum().backward()
    slopes = head.keypoint_final_layer.weight.grad
    assert slopes[1:].abs().max() > 0
    assert slopes[0].abs().max() == 0  # nobody attends to the background
