"""DINOv2 and DINOv3 through timm, on pictures that are not square, with files under their authors' names."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from hmrb.check import name_problems, resolve
from hmrb.errors import RequestError
from hmrb.lookup import UnknownName
from hmrb.models.backbones import BACKBONES, Backbone, backbone_name, build_backbone
from hmrb.models.hmr import HMR, build_model
from hmrb.spec import ModelSpec, parse_experiment

V2, V2_REGISTERS, V3 = "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "vit_tiny_patch16_dinov3_qkvb"
CELLS = {V2: (18, 13), V2_REGISTERS: (18, 13), V3: (16, 12)}  # of 256 x 192 px
SMALL = {"depth": 2, "embed_dim": 32, "num_heads": 2}


def tall(backbone: str, **changes: Any) -> ModelSpec:
    fields = {"method": "hmr2", "features": "map", "head": {"name": "decoder", "layers": 1}, "image_px": 256}
    return ModelSpec.model_validate(fields | {"backbone": backbone, "weights": "none", "crop": "tall"} | changes)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shallow and narrow networks under short names."""
    for name, of in (("v2", V2), ("v2_registers", V2_REGISTERS), ("v3", V3)):
        monkeypatch.setitem(BACKBONES, name, Backbone(of, args=SMALL, pretrained=False))


@pytest.mark.parametrize("name", CELLS)
def test_a_tall_picture_gives_a_map_with_its_rows_and_columns(name: str) -> None:
    with torch.device("meta"):
        backbone, channels = build_backbone(tall(name))
        assert backbone(torch.zeros(2, 3, 256, 192)).shape == (2, channels, *CELLS[name])


def test_rows_and_columns_are_those_of_the_picture(small: None) -> None:
    """A change in one patch moves its own cell most."""
    for name, size in (("v2", 14), ("v3", 16)):
        backbone, _ = build_backbone(tall(name))
        image = torch.zeros(1, 3, 256, 192)
        other = image.clone()
        other[..., 3 * size : 4 * size, 7 * size : 8 * size] = 1
        with torch.no_grad():
            moved = (backbone.eval()(image) - backbone(other)).norm(dim=1)[0]
        assert divmod(int(moved.argmax()), moved.shape[1]) == (3, 7)


@pytest.mark.parametrize("name", ["v2", "v3"])
@pytest.mark.parametrize("head", ["decoder", "part_attention"])
def test_heads_that_look_at_places_take_it(name: str, head: str, small: None) -> None:
    fields = {"method": "pare", "head": {"name": head, "width": 8, "shape_width": 4}} if head != "decoder" else {}
    model = build_model(tall(name, **fields))
    model(torch.randn(2, 3, 256, 256), torch.arange(2)).betas.sum().backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in model.backbone.parameters())


@pytest.mark.parametrize("name", CELLS)
def test_a_spec_with_it_resolves(name: str) -> None:
    model = tall(name).model_dump(mode="json")
    experiment = parse_experiment({"name": "a", "body": "open", "data": {"mix": {"synthetic": 1}}, "model": model}, "a")
    assert name_problems(experiment) == []
    assert resolve(experiment).model.backbone == name


def authors_file(path: Path, name: str, slope: bool = True) -> dict[str, Tensor]:
    """A file under DINOv2's own names, for 518 x 518 px: 37 x 37 positions, whose numbers grow along both axes."""
    network = timm.create_model(BACKBONES[name].timm_name, pretrained=False, num_classes=0, **SMALL)
    state = network.state_dict()
    rows, columns = torch.meshgrid(torch.arange(37.0), torch.arange(37.0), indexing="ij")
    grid = torch.zeros(1, 37 * 37, 32)
    grid[0, :, 0], grid[0, :, 1] = rows.flatten(), columns.flatten()
    state["pos_embed"] = torch.cat([torch.full((1, 1, 32), 100.0), grid], 1)
    state["mask_token"] = torch.zeros(1, 32)
    if "reg_token" in state:
        state["register_tokens"] = state.pop("reg_token")
    torch.save(state, path)
    return state


@pytest.mark.parametrize("name", ["v2", "v2_registers"])
def test_positions_of_dinov2_s_own_file_are_interpolated_to_the_grid(name: str, small: None, tmp_path: Path) -> None:
    state = authors_file(tmp_path / "a.pth", name)
    model = build_model(tall(name, weights=str(tmp_path / "a.pth")))
    network: Any = model.backbone.network
    table = network.pos_embed.detach()[0]
    table = (table if name == "v2_registers" else table[1:]).unflatten(0, (18, 13))
    rows = (torch.arange(18) + 0.5) * 37 / 18 - 0.5
    columns = (torch.arange(13) + 0.5) * 37 / 13 - 0.5
    inner = table[3:-3, 3:-3]  # at the edges, interpolation bends what is straight
    torch.testing.assert_close(inner[..., 0], rows[3:-3, None].expand(inner.shape[:2]), atol=0.05, rtol=0)
    torch.testing.assert_close(inner[..., 1], columns[None, 3:-3].expand(inner.shape[:2]), atol=0.05, rtol=0)
    assert torch.equal(network.blocks[1].attn.qkv.weight, state["blocks.1.attn.qkv.weight"])
    if name == "v2_registers":  # the class token has its own position in it
        assert torch.equal(network.cls_token, state["cls_token"] + 100)
        assert torch.equal(network.reg_token, state["register_tokens"])


def test_dinov2_s_own_file_fits_pictures_of_its_own_size(small: None, tmp_path: Path) -> None:
    """Where nothing but the token of masked patches differs from timm's."""
    state = authors_file(tmp_path / "a.pth", "v2")
    model = build_model(tall("v2", weights=str(tmp_path / "a.pth"), image_px=518, crop="square"))
    assert torch.equal(model.backbone.network.pos_embed, state["pos_embed"])


def test_dinov3_s_own_file_is_read(small: None, tmp_path: Path) -> None:
    donor: HMR = build_model(tall("v3"))
    state = dict(donor.backbone.network.state_dict())
    theirs = {"mask_token": torch.zeros(1, 32), "rope_embed.periods": torch.ones(4)}
    for key, value in state.items():
        if key.endswith("q_bias"):
            third = torch.zeros_like(value)
            theirs[key.replace("q_bias", "qkv.bias")] = torch.cat([value, third, state[key.replace("q_", "v_")]])
        elif not key.endswith(("v_bias", "k_bias")):
            key = key.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
            theirs[key.replace("reg_token", "storage_tokens")] = value
    torch.save(theirs, tmp_path / "a.pth")
    copy = build_model(tall("v3", weights=str(tmp_path / "a.pth")))
    mine, expected = copy.backbone.state_dict(), donor.backbone.state_dict()
    assert all(torch.equal(mine[key], expected[key]) for key in expected)


def test_a_file_of_another_variant_has_one_message(small: None, tmp_path: Path) -> None:
    authors_file(tmp_path / "a.pth", "v2_registers")
    with pytest.raises(RequestError, match=r"a.pth: does not fit: 2 missing in the file \(network.cls_token"):
        build_model(tall("v2", weights=str(tmp_path / "a.pth")))


def test_what_patches_leave_of_a_picture_is_said(small: None) -> None:
    said = build_model(tall("v2")).weights_used
    assert "patches of 14 px leave the last 4 rows and 10 columns of 256 x 192 px unseen; model.image_px: 280" in said
    assert build_model(tall("v2", image_px=280)).weights_used == ""
    assert build_model(tall("v3")).weights_used == ""


def test_a_head_on_parts_needs_rows_and_columns() -> None:
    fields = {"method": "pare", "head": {"name": "part_attention"}, "crop": "square", "image_px": 224}
    with pytest.raises(RequestError, match="head part_attention reads rows and columns"):
        build_backbone(tall("levit_128s", **fields))


def test_a_timm_that_lacks_dinov3_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for name in timm.list_models() if "dinov3" not in name]
    monkeypatch.setattr(timm, "list_models", lambda *_: names)
    monkeypatch.setattr(timm, "is_model", lambda name: name in names)
    with pytest.raises(UnknownName, match=r"timm [\d.]+\S* has no dinov3: install timm 1\.0\.20 or newer"):
        backbone_name("vit_small_patch16_dinov3")
    with pytest.raises(UnknownName) as told:
        backbone_name("resnet500")
    assert "install timm" not in str(told.value)
