"""Released files of the methods: recognised, read strictly, and equal to recordings of the methods' own code."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from recipe_methods import method_golden, method_place, method_shapes, off, pictures, released
from torch import Tensor

from hmrb.geometry import rot6d_to_rotmat, rotmat_to_rot6d, rotvec_to_rotmat
from hmrb.models.cameras import box_numbers
from hmrb.models.head import mean_prediction, set_mean
from hmrb.models.hmr import HMR, build_model
from hmrb.models.importing import import_model
from hmrb.models.methods import METHODS, Released
from hmrb.models.methods.released import read_released, recognise_released
from hmrb.models.weight_files import WeightsError
from hmrb.spec import ModelSpec
from hmrb.store import Store


@dataclass(frozen=True)
class Recorded:
    """A recorded network: its method, the section and prefix of its file, its picture, whether its focal was known."""

    method: str
    wrapper: str
    size: tuple[int, int]
    section: str = "state_dict"
    knows_focal: bool = False


RECORDED = {
    "cliff_res50": Recorded("cliff", "module.", (256, 192), "model"),
    "cliff_hr48": Recorded("cliff", "module.", (256, 192), "model"),
    "bedlam_cliff_smpl": Recorded("bedlam_cliff", "", (224, 224)),
    "pare": Recorded("pare", "", (224, 224)),
    "hmr2": Recorded("hmr2", "", (256, 256)),
    "camerahmr": Recorded("camerahmr", "", (256, 256), knows_focal=True),
    "tokenhmr": Recorded("tokenhmr", "", (256, 256)),
}
LARGE = ("hmr2", "camerahmr", "tokenhmr")  # 2.5 GB
HRNETS = ("cliff_hr48", "bedlam_cliff_smpl", "pare")  # seconds each; their necks and heads have tests of their own


def tensors_of(name: str) -> dict[str, Tensor]:
    one = RECORDED[name]
    found = released(name, one.wrapper, one.section)
    if name == "tokenhmr":
        found |= {f"tokenizer.{key}": value for key, value in released(name, "", "tokenizer_net").items()}
    return {key: value for key, value in found.items() if ".smpl." not in f".{key}"}


@cache
def imported(name: str) -> HMR:
    tensors = tensors_of(name)
    layout = recognise_released(tensors)
    assert layout is not None
    held = alone(layout)
    spec, arrays, _ = read_released(held, tensors, Path("made-up.ckpt"))
    with torch.device("meta"):
        model = HMR(spec, Store.default())
    model.load_state_dict(arrays, assign=True)
    return model.eval()


def alone(layout: Released) -> Released:
    """The layout with its second file's tensors already there."""
    return replace(layout, beside=lambda path: {})


def seen(one: Recorded) -> Tensor:
    """The recorded picture as a square crop, of which the network sees the middle columns."""
    height, width = one.size
    if height == width:
        return pictures(height, width)
    crop = torch.zeros(2, 3, height, height)
    crop[..., (height - width) // 2 : (height + width) // 2] = pictures(height, width)
    return crop


def each(heavy: tuple[str, ...]) -> pytest.MarkDecorator:
    """A test of each recorded network, of these only on demand."""
    rows = [pytest.param(name, marks=pytest.mark.heavy if name in heavy else ()) for name in RECORDED]
    return pytest.mark.parametrize("name", rows)


@each(LARGE + HRNETS)
@torch.no_grad()
def test_a_released_file_predicts_what_the_method_does(name: str) -> None:
    one, recorded = RECORDED[name], method_golden(f"method_{name}_seed0")
    prediction = imported(name)(seen(one), None, method_place(one.knows_focal))
    camera = recorded["cam"] if "cam" in recorded else recorded["pred_cam"]
    parts = [recorded[key] for key in ("global_orient", "body_pose") if key in recorded]
    rotmats = recorded["rotmat"] if "rotmat" in recorded else np.concatenate(parts, 1)
    assert np.abs(prediction.rotmats.numpy() - rotmats).max() < 1e-4
    assert off(prediction.betas, recorded["betas"]) < 1e-4
    assert off(prediction.camera, camera) < 1e-4


@pytest.mark.heavy
@torch.no_grad()
def test_a_known_focal_length_is_seen() -> None:
    recorded = method_golden("method_bedlam_cliff_smpl_seed0")
    prediction = imported("bedlam_cliff_smpl")(pictures(224, 224), None, method_place(True))
    assert np.abs(prediction.rotmats.numpy() - recorded["rotmat_fl"]).max() < 1e-4
    assert off(prediction.camera, recorded["cam_fl"]) < 1e-4


@pytest.mark.parametrize("name", ["cliff_res50", "bedlam_cliff_smpl", "camerahmr"])
def test_box_numbers_are_the_methods_own(name: str) -> None:
    one = RECORDED[name]
    fields = METHODS[one.method].released[0].fields
    found = box_numbers(fields["head"]["box"], method_place(one.knows_focal), fields["camera"])
    golden = "cliff_hr48" if name == "cliff_res50" else name  # the same boxes
    np.testing.assert_allclose(found.numpy(), method_golden(f"method_{golden}_seed0")["bbox_info"], rtol=1e-5)


@each(HRNETS)
def test_every_tensor_is_used_or_dropped_by_a_rule(name: str) -> None:
    """By shapes alone; a missing, a strange and a misshapen tensor are each named."""
    shapes = method_shapes(name, RECORDED[name].section)
    if name == "tokenhmr":
        shapes |= {f"tokenizer.{key}": shape for key, shape in method_shapes(name, "tokenizer_net").items()}
    wrapper = RECORDED[name].wrapper
    tensors = {key.removeprefix(wrapper): torch.empty(shape, device="meta") for key, shape in shapes.items()}
    layout = recognise_released(tensors)
    assert layout is not None
    assert layout.fields["method"] == RECORDED[name].method
    held = alone(layout)
    _, arrays, report = read_released(held, tensors, Path("a.ckpt"))
    assert f"  used     {len(arrays):5d}" in report
    last = next(key for key in reversed(tensors) if key.endswith("deccam.bias") or key.endswith("cam_mlp.bias"))
    with pytest.raises(WeightsError, match="1 missing"):
        read_released(held, {key: value for key, value in tensors.items() if key != last}, Path("a.ckpt"))
    with pytest.raises(WeightsError, match=r"1 that the model lacks \(odd.weight\)"):
        read_released(held, tensors | {"odd.weight": tensors[last]}, Path("a.ckpt"))
    with pytest.raises(WeightsError, match="1 of a wrong shape"):
        read_released(held, tensors | {last: torch.empty(4, device="meta")}, Path("a.ckpt"))


def test_a_file_is_imported_by_its_name_alone(tmp_path: Path) -> None:
    torch.save(
        {"model": {f"module.{key}": value for key, value in tensors_of("cliff_res50").items()}}, tmp_path / "a.pt"
    )
    found = import_model(tmp_path / "a.pt")
    assert (found.spec.method, found.spec.camera, found.spec.head.box) == ("cliff", "full_frame", "cliff")
    assert found.made_by == "CLIFF, ResNet-50"
    assert found.family == "cliff"
    with pytest.raises(WeightsError, match="looks like a file of CLIFF, ResNet-50, not of hmr2; omit --as"):
        import_model(tmp_path / "a.pt", kind="hmr2")


def test_tokenhmr_says_that_it_needs_its_second_file(tmp_path: Path) -> None:
    (layout,) = METHODS["tokenhmr"].released
    with pytest.raises(WeightsError, match=r"put tokenizer.pth beside it"):
        read_released(layout, {}, tmp_path / "model.ckpt")


@pytest.mark.parametrize("layout", ["interleaved", "triplets", "rows"])
def test_six_numbers_are_read_as_they_are_written(layout: str) -> None:
    rotmats = rotvec_to_rotmat(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(rot6d_to_rotmat(rotmat_to_rot6d(rotmats, layout), layout), rotmats)


def test_the_mean_body_is_turned_into_the_head_s_numbers() -> None:
    """Read as triplets, the interleaved numbers of the mean body would be no rotation of it."""
    rotmats = rotvec_to_rotmat(0.5 * torch.randn(24, 3, generator=torch.Generator().manual_seed(0)))
    mean = torch.cat([rotmat_to_rot6d(rotmats).flatten(), torch.arange(10.0), torch.tensor([0.9, 0, 0])])
    spec = {"backbone": "mini", "weights": "none", "features": "map", "image_px": 64}
    decoder = {"name": "decoder", "layers": 1, "width": 16, "heads": 2, "head_width": 8, "hidden": 16}
    head = build_model(ModelSpec.model_validate({**spec, "method": "hmr2", "head": decoder})).head
    set_mean(head, mean)
    found = mean_prediction(head, 1)
    torch.testing.assert_close(found.rotmats[0], rotmats)
    torch.testing.assert_close(found.betas[0], torch.arange(10.0))


SPINS, TURNED, AT_REST = (1.0, 0, 0, -1, 0, 0), (1.0, 0, 0, 0, -1, 0), (1.0, 0, 0, 1, 0, 0)


def told_of_root(name: str, root: tuple[float, ...]) -> str:
    """The report on a file whose mean body has this root."""
    one = RECORDED[name]
    shapes = method_shapes(name, one.section)
    tensors = {key.removeprefix(one.wrapper): torch.empty(shape, device="meta") for key, shape in shapes.items()}
    (mean,) = (key for key in tensors if key.endswith(("init_pose", "init_body_pose")))
    tensors[mean] = torch.tensor(root).repeat(24)[None]
    layout = recognise_released(tensors)
    assert layout is not None
    return read_released(alone(layout), tensors, Path("a.ckpt"))[2]


@pytest.mark.parametrize("name", ["hmr2", "camerahmr"])
def test_spin_s_mean_body_in_hmr2_s_place_is_told_and_kept(name: str) -> None:
    """As triplets its root's vectors are (1, 0, 0) and (-1, 0, 0): no rotation, but trained layers may count on it."""
    assert "note: its mean body is SPIN's" in told_of_root(name, SPINS)
    assert "note" not in told_of_root(name, TURNED)
    assert "note" not in told_of_root(name, (0.0,) * 6)


@pytest.mark.parametrize(
    ("name", "root", "shown"),
    [
        ("cliff_res50", TURNED, r"\(1, 0, 0, 0, -1, 0\), no rotation as CLIFF.* \(interleaved\)"),
        ("bedlam_cliff_smpl", TURNED, r"no rotation as BEDLAM's CLIFF of real pictures reads"),
        ("hmr2", AT_REST, r"\(1, 0, 0, 1, 0, 0\), no rotation as HMR2.0 reads six numbers \(triplets\)"),
    ],
)
def test_a_mean_body_in_another_method_s_layout_is_refused(name: str, root: tuple[float, ...], shown: str) -> None:
    """It loads without an error, and every prediction is wrong."""
    with pytest.raises(WeightsError, match=shown):
        told_of_root(name, root)


def test_a_mean_body_that_is_right_or_unused_is_read() -> None:
    assert "note" not in told_of_root("cliff_res50", SPINS)
    assert "note" not in told_of_root("pare", TURNED)  # its head does not use it


def main() -> None:
    """Prints the table of docs/checkpoints.md: largest differences over the sizes of the values."""
    for name, one in RECORDED.items():
        recorded = method_golden(f"method_{name}_seed0")
        with torch.no_grad():
            prediction = imported(name)(seen(one), None, method_place(one.knows_focal))
        imported.cache_clear()
        camera = recorded["cam"] if "cam" in recorded else recorded["pred_cam"]
        parts = [recorded[key] for key in ("global_orient", "body_pose") if key in recorded]
        rotmats = recorded["rotmat"] if "rotmat" in recorded else np.concatenate(parts, 1)
        numbers = [off(prediction.rotmats, rotmats), off(prediction.betas, recorded["betas"])]
        print(
            f"| `{name}` | {' | '.join(f'{n:.1e}' for n in [*numbers, off(prediction.camera, camera)])} |", flush=True
        )


if __name__ == "__main__":
    main()
