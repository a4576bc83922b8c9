"""Files of ViTPose and of mmpose, in their true formats, as initial weights of the small ViT."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hmrb.errors import RequestError
from hmrb.models.hmr import HMR, build_model
from hmrb.models.importing import import_model
from hmrb.models.vitpose import ViTPose
from hmrb.spec import ModelSpec

ROWS, WIDTH = 16 * 12, 384
TO_MMPRETRAIN = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^blocks\.(\d+)\.norm([12])\.", r"layers.\1.ln\2."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"layers.\1.ffn.layers.0.0."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"layers.\1.ffn.layers.1."),
    (r"^blocks\.", "layers."),
    (r"^last_norm\.", "ln1."),
)


def spec(**changes: Any) -> ModelSpec:
    fields = {"method": "hmr2", "backbone": "vitpose_s", "features": "map", "head": {"name": "decoder", "layers": 1}}
    return ModelSpec.model_validate(fields | {"weights": "none", "image_px": 256, "crop": "tall"} | changes)


@pytest.fixture(scope="module")
def donor() -> dict[str, Tensor]:
    """Tensors of a network under ViTPose's names, each different."""
    torch.manual_seed(1)
    with torch.device("cpu"):
        state = build_model(spec()).backbone.network.state_dict()
    return {key: value + 0.01 * torch.randn(value.shape) for key, value in state.items()}


def heads() -> Iterator[tuple[str, Tensor]]:
    """ViTPose's simple decoder, as mmpose names it."""
    yield "keypoint_head.final_layer.weight", torch.ones(17, 256, 1, 1)
    for number in (0, 3):
        yield f"keypoint_head.deconv_layers.{number}.weight", torch.ones(4, 4, 4, 4)


def written(path: Path, donor: dict[str, Tensor], layout: str) -> Path:
    """A file: of ViTPose's repository (mmpose 0), its backbone alone, or of mmpose 1 (mmpretrain's ViT)."""
    if layout == "backbone":
        content: dict[str, Any] = {"state_dict": donor}
    else:
        theirs = dict(donor)
        if layout == "mmpose":
            theirs["pos_embed"] = theirs["pos_embed"][:, 1:]
            for pattern, new in TO_MMPRETRAIN:
                theirs = {re.sub(pattern, new, key): value for key, value in theirs.items()}
        state = {f"backbone.{key}": value for key, value in theirs.items()} | dict(heads())
        content = {"meta": {"epoch": 210, "mmpose_version": "0.24.0"}, "state_dict": state, "message_hub": {}}
    torch.save(content, path)
    return path


def network(model: HMR) -> ViTPose:
    found = model.backbone.network
    assert isinstance(found, ViTPose)
    return found


@pytest.mark.parametrize("layout", ["vitpose", "backbone", "mmpose"])
def test_every_tensor_of_the_backbone_is_taken(layout: str, donor: dict[str, Tensor], tmp_path: Path) -> None:
    path = written(tmp_path / "vitpose_small.pth", donor, layout)
    model = build_model(spec(weights=str(path)))
    expected = dict(donor)
    if layout == "mmpose":  # no class token: nothing is added to every patch
        expected["pos_embed"] = torch.cat([torch.zeros(1, 1, WIDTH), donor["pos_embed"][:, 1:]], 1)
    mine = network(model).state_dict()
    assert mine.keys() == expected.keys()
    assert all(torch.equal(mine[key], expected[key]) for key in mine)
    rest = "" if layout == "backbone" else "; unused: keypoint_head (3)"
    assert model.weights_used == f"weights: {path}: {len(donor)} tensors used{rest}"


@torch.no_grad()
def test_the_first_row_of_the_table_is_added_to_every_patch(donor: dict[str, Tensor], tmp_path: Path) -> None:
    model = build_model(spec(weights=str(written(tmp_path / "a.pth", donor, "vitpose"))))
    bare = network(model).eval()
    bare.blocks, bare.last_norm = nn.ModuleList(), nn.Identity()
    table = bare.forward_features(torch.zeros(1, 3, 256, 192)).flatten(2)[0].T - donor["patch_embed.proj.bias"]
    assert table.shape == (ROWS, WIDTH)
    torch.testing.assert_close(table, donor["pos_embed"][0, 1:] + donor["pos_embed"][0, 0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("layout", ["vitpose", "mmpose"])
def test_another_variant_is_named(layout: str, donor: dict[str, Tensor], tmp_path: Path) -> None:
    path = written(tmp_path / "a.pth", donor, layout)
    said = "weights of backbone 'vitpose_s', but the model has 'vitpose_b'; set model.backbone to vitpose_s"
    with torch.device("meta"), pytest.raises(RequestError, match=said):
        build_model(spec(backbone="vitpose_b", weights=str(path)))


def test_a_file_that_lacks_a_tensor_or_has_another_grid_is_refused(donor: dict[str, Tensor], tmp_path: Path) -> None:
    less = {key: value for key, value in donor.items() if key != "blocks.3.attn.qkv.weight"}
    path = written(tmp_path / "a.pth", less, "vitpose")
    with pytest.raises(RequestError, match=r"1 missing in the file \(network.blocks.3.attn.qkv.weight\)"):
        build_model(spec(weights=str(path)))
    path = written(tmp_path / "a.pth", donor, "vitpose")
    with pytest.raises(RequestError, match=r"network.pos_embed \(1, 193, 384\), expected \(1, 257, 384\)"):
        build_model(spec(weights=str(path), crop="square"))


def test_import_says_what_it_is_for(donor: dict[str, Tensor], tmp_path: Path) -> None:
    path = written(tmp_path / "a.pth", donor, "mmpose")
    with pytest.raises(
        RequestError, match="no body regressor, .* set model.backbone: vitpose_s and model.weights: PATH"
    ):
        import_model(path)
