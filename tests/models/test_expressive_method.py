"""BEDLAM-CLIFF's file, whose body is SMPL-X: read strictly, and equal to recordings of its code and of its losses."""

import gzip
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDENS
from recipe_methods import method_golden, off, pictures, released
from torch import Tensor

from hmrb.batch import Conditioning
from hmrb.bodykind import SMPLX_KIND
from hmrb.checkpoint import save_checkpoint
from hmrb.finding import imported_checkpoint
from hmrb.geometry import picture_translation
from hmrb.models.cameras import box_numbers
from hmrb.models.hmr import HMR
from hmrb.models.methods import METHODS
from hmrb.models.methods.released import read_released, recognise_released
from hmrb.models.weight_files import WeightsError
from hmrb.store import Store


def recorded() -> dict[str, np.ndarray]:
    return method_golden("method_bedlam_cliff_seed0")


def place(knows_focal: bool) -> Conditioning:
    """The recorded people in their pictures of 640 x 480 px."""
    square = torch.tensor([[255.0, 232.5, 270.0], [400.25, 180.75, 180.0]])
    intrinsics = torch.tensor([[[f, 0, 320], [0, f, 240], [0, 0, 1]] for f in (800.0, 650.0)])
    known = torch.tensor([knows_focal, knows_focal])
    return Conditioning(square, torch.tensor([[640.0, 480.0]] * 2), torch.zeros(2, 2, 3), intrinsics, known)


@cache
def file() -> dict[str, Tensor]:
    """What the released file holds, and some of what its trainer adds."""
    return released("bedlam_cliff", "") | {
        "model.smpl.smplx.shapedirs": torch.zeros(3), "smplx.faces": torch.zeros(3), "J_regressor": torch.zeros(3),
    }  # fmt: skip


@cache
def network() -> HMR:
    layout = recognise_released(file())
    assert layout is not None
    spec, arrays, report = read_released(layout, file(), Path("bedlam_cliff.ckpt"))
    assert (layout.title, layout.body, layout.family) == ("BEDLAM-CLIFF", "smplx", "bedlam")
    assert "dropped" in report
    with torch.device("meta"):
        model = HMR(spec, Store.default(), SMPLX_KIND)
    model.load_state_dict(arrays, assign=True)
    return model.eval()


@pytest.mark.heavy  # by default: its tensors, the neck and the head
@pytest.mark.parametrize(("knows_focal", "ending"), [(False, ""), (True, "_fl")])
@torch.no_grad()
def test_the_released_file_predicts_what_bedlam_s_code_does(knows_focal: bool, ending: str) -> None:
    where, theirs = place(knows_focal), recorded()
    np.testing.assert_allclose(
        box_numbers("over_f", where, "intrinsics").numpy(), theirs[f"bbox_info{ending}"], rtol=1e-5
    )
    found = network()(pictures(224, 224), None, where)
    assert np.abs(found.rotmats.numpy() - theirs[f"rotmat{ending}"]).max() < 1e-4
    assert off(found.betas, theirs[f"betas{ending}"]) < 1e-4
    assert off(found.camera, theirs[f"cam{ending}"]) < 1e-4
    focal = torch.tensor([800.0, 650.0]) if knows_focal else torch.full((2,), 800.0)
    center = torch.tensor([[320.0, 240.0]] * 2)
    moved = picture_translation(found.camera, where.square[:, 2], where.square[:, :2], focal, center)
    assert off(moved, theirs[f"cam_t_full{ending}"]) < 1e-4


def test_every_tensor_is_used_or_dropped_by_a_rule() -> None:
    with gzip.open(GOLDENS / "methods" / "bedlam_cliff_keys.json.gz", "rt") as keys:
        shapes = json.load(keys)["state_dict"]
    tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    layout = recognise_released(tensors)
    assert layout is METHODS["bedlam_cliff"].released[1]
    _, arrays, report = read_released(layout, tensors, Path("a.ckpt"))
    assert f"  used     {len(arrays):5d}" in report
    last = "model.head.deccam.bias"
    with pytest.raises(WeightsError, match="1 missing"):
        read_released(layout, {key: value for key, value in tensors.items() if key != last}, Path("a.ckpt"))
    with pytest.raises(WeightsError, match=r"1 that the model lacks \(odd.weight\)"):
        read_released(layout, tensors | {"odd.weight": tensors[last]}, Path("a.ckpt"))
    with pytest.raises(WeightsError, match=r"of a wrong shape .* expected \(3,\)"):
        read_released(layout, tensors | {last: torch.empty(4, device="meta")}, Path("a.ckpt"))


def test_a_file_becomes_a_checkpoint_of_body_smplx(tmp_path: Path) -> None:
    torch.save({"state_dict": file()}, tmp_path / "bedlam_cliff.ckpt")
    checkpoint, report = imported_checkpoint(tmp_path / "bedlam_cliff.ckpt")
    save_checkpoint(checkpoint, tmp_path / "ours.pt")
    assert checkpoint.experiment().body == "smplx"
    assert checkpoint.body["name"] == "smplx"
    assert "BEDLAM-CLIFF, backbone hrnet_w48, method bedlam_cliff" in report
