"""HRNet necks with stand-in weights under the released names, against recordings of the methods' code."""

from collections import Counter
from functools import cache

import pytest
import timm
import torch
from recipe_methods import method_golden, off, pictures, released
from torch import Tensor

from hmrb.models.backbones import Features
from hmrb.models.foreign import renamed_by
from hmrb.models.necks import RELEASED_HRNETS, MapNeck, StridedNeck
from hmrb.models.tails import Mean

NECKS = {"hrnet_w48 strided": StridedNeck, "hrnet_w48 classifier": lambda network: Mean(), "hrnet_w32 map": MapNeck}
FILES = {
    "hrnet_w48 strided": ("bedlam_cliff", "model.backbone.", "state_dict"),
    "hrnet_w48 classifier": ("cliff_hr48", "module.encoder.", "model"),
    "hrnet_w32 map": ("pare", "model.backbone.", "state_dict"),
}
DROPPED = {"hrnet_w48 strided": {"final_layer": 2}, "hrnet_w48 classifier": {}, "hrnet_w32 map": {"final_layer": 2}}


def blank(layout: str) -> Features:
    """The network and its neck, without weights."""
    with torch.device("meta"):
        network = timm.create_model(layout.split()[0], num_classes=0, global_pool="")
        return Features(network, NECKS[layout](network)).eval()


@cache
def weights(layout: str) -> tuple[dict[str, Tensor], Counter[str]]:
    return renamed_by(RELEASED_HRNETS[layout], released(*FILES[layout]))


def loaded(layout: str) -> Features:
    backbone = blank(layout)
    backbone.load_state_dict(weights(layout)[0], assign=True)
    return backbone


@pytest.mark.parametrize("layout", RELEASED_HRNETS)
def test_every_released_tensor_is_used_or_dropped_by_a_rule(layout: str) -> None:
    arrays, dropped = weights(layout)
    mine = blank(layout).state_dict()
    assert arrays.keys() == mine.keys()
    assert all(arrays[key].shape == mine[key].shape for key in mine)
    assert dropped == DROPPED[layout]


@pytest.mark.parametrize("layout", RELEASED_HRNETS)
def test_the_shapes_of_a_layout_are_those_of_its_file_alone(layout: str) -> None:
    found = {key: tuple(value.shape) for key, value in released(*FILES[layout]).items()}
    fitting = [
        name
        for name, row in RELEASED_HRNETS.items()
        if all(found.get(key) == shape for key, shape in row.shapes.items())
    ]
    assert fitting == [layout]


@torch.no_grad()
def test_strided_branches_are_those_of_bedlam() -> None:
    recorded = method_golden("method_bedlam_cliff_seed0")
    backbone = loaded("hrnet_w48 strided")
    cells = backbone.tail.map(backbone.network, pictures(224, 224))
    assert list(cells.shape) == recorded["feat_shape"].tolist() == [2, 720, 7, 7]
    assert off(cells.mean(1), recorded["feat_map"]) < 1e-5
    assert off(backbone(pictures(224, 224)), recorded["pooled"]) < 1e-5


@torch.no_grad()
def test_the_network_for_classification_gives_cliff_s_features() -> None:
    recorded = method_golden("method_cliff_hr48_seed0")
    features = loaded("hrnet_w48 classifier")(pictures(256, 192))
    assert off(features, recorded["encoder_out"]) < 1e-5


@torch.no_grad()
def test_the_upsampled_map_is_pare_s() -> None:
    recorded = method_golden("method_pare_seed0")
    cells = loaded("hrnet_w32 map")(pictures(224, 224))
    assert list(cells.shape) == recorded["feat_shape"].tolist() == [2, 480, 56, 56]
    assert off(cells.mean(1), recorded["feat_map"]) < 1e-5
    assert off(cells.mean((2, 3)), recorded["feat_mean"]) < 1e-5
    assert off(cells.std((2, 3), correction=0), recorded["feat_std"]) < 1e-5
