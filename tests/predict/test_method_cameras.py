"""Where methods put bodies before a picture, and whose focal length they do it with."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from conftest import golden
from photos import jpeg, noise, people, untrained

import hmrb
from hmrb.errors import RequestError
from hmrb.formats.exif import Exif
from hmrb.models.crops import CROPS, rule_named
from hmrb.predict.cameras import AskedCamera
from hmrb.predict.engine import camera_seen, conditioning_of, cut, predict_pictures
from hmrb.predict.people import People
from hmrb.predict.pictures import GivenBox, OpenedPicture, PictureSource
from hmrb.predict.pseudo import read_people

WIDTH, HEIGHT = 640, 480
SQUARES = np.array([[255.0, 232.5, 270.0], [400.25, 180.75, 180.0]], np.float32)  # of the recordings
KNOWN_PX = np.array([800.0, 650.0], np.float32)
BOX = (10.0, 5.0, 30.0, 60.0)
METHODS = {  # recorded file, camera, translation: with the focal length of the rule, or with KNOWN_PX
    "hmr2": ("hmr2", "pred_cam", "cam_t_full", False),
    "cliff": ("cliff_hr48", "cam", "cam_t_full", False),
    "bedlam": ("bedlam_cliff", "cam", "cam_t_full", False),
    "bedlam, known": ("bedlam_cliff", "cam_fl", "cam_t_full_fl", True),
    "camerahmr": ("camerahmr", "cam", "cam_t_full", True),
}


def standing(rule: str, camera: np.ndarray, focal_px: np.ndarray) -> People:
    facts = {"square": SQUARES, "crop_rule": rule, "image_px": CROPS[rule].image_px}
    return people(2, camera=camera, focal_px=focal_px.astype(np.float32), **facts)


def rule_focal(rule: str) -> np.ndarray:
    return np.array([CROPS[rule].focal_of(side, (WIDTH, HEIGHT)) for side in SQUARES[:, 2].tolist()], np.float32)


@pytest.mark.parametrize("name", METHODS)
def test_bodies_stand_where_the_methods_own_code_puts_them(name: str) -> None:
    file, camera, translation, is_known = METHODS[name]
    rule, held = name.partition(",")[0], golden(f"methods/method_{file}_seed0")
    some = standing(rule, held[camera], KNOWN_PX if is_known else rule_focal(rule))
    np.testing.assert_allclose(some.transl, held[translation], rtol=1e-4, atol=1e-4)


def test_pare_s_depth_is_the_recorded_one() -> None:
    """Before the crop and before the picture it is the same, with the rule's focal length."""
    held = golden("methods/method_pare_seed0")
    some = standing("pare", held["cam"], rule_focal("pare"))
    np.testing.assert_allclose(some.transl[:, 2], held["pred_cam_t"][:, 2], rtol=1e-5)


def test_pare_s_bodies_stand_aside_as_its_demo_draws_them() -> None:
    held = golden("methods/preprocess_pare")
    square = held["orig_cam/in_cx_cy_h"]
    focal = (5000 * square[:, 2] / 224).astype(np.float32)
    camera = held["orig_cam/in_cam"].astype(np.float32)
    some = people(4, camera=camera, focal_px=focal, square=square, crop_rule="pare")
    np.testing.assert_allclose(some.transl[:, :2], held["orig_cam/out_sx_sy_tx_ty"][:, 2:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", CROPS)
def test_the_own_camera_is_the_picture_s_where_the_network_was_taught_with_it(rule: str) -> None:
    some = standing(rule, people(2).camera, KNOWN_PX)
    own, picture = some.crop_camera, some.picture_camera
    origin = np.zeros((2, 1, 3))
    np.testing.assert_allclose(own.project(origin), picture.project(origin), atol=1e-3)
    is_same = rule in ("cliff", "bedlam", "camerahmr")
    assert np.array_equal(own.focal_px, picture.focal_px) == is_same
    if not is_same:
        np.testing.assert_allclose(own.focal_px, 5000 * SQUARES[:, 2] / some.image_px, rtol=1e-6)


def opened(asked: AskedCamera | None = None) -> OpenedPicture:
    source = PictureSource("photo", noise, (GivenBox(BOX),))
    return OpenedPicture(source if asked is None else replace(source, asked=asked), noise(), Exif(1, {}))


def test_methods_are_told_the_square_of_their_rule_and_not_the_box() -> None:
    for name, side in (("hmr", 72.0), ("cliff", 66.0), ("hmr2", 60.0)):
        rule = rule_named(name, 32)
        told = conditioning_of([cut(opened(), GivenBox(BOX), rule.margin, rule, None)], [(60, 80)])
        torch.testing.assert_close(told.square, torch.tensor([[25.0, 35.0, side]]))
        torch.testing.assert_close(told.picture_px, torch.tensor([[60.0, 80.0]]))
        torch.testing.assert_close(told.crop[0] @ torch.tensor([25.0, 35.0, 1.0]), torch.tensor([16.0, 16.0]))
        assert not told.has_intrinsics.any()
        focal = {"hmr": 5000 * side / 32, "cliff": 100.0, "hmr2": 5000 / 32 * 80}[name]
        assert told.intrinsics[0, 0, 0] == pytest.approx(focal)
        assert told.intrinsics[0, :2, 2].tolist() == [29.5, 39.5]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> hmrb.Predictor:
    return hmrb.load(untrained(tmp_path_factory.mktemp("run") / "best.pt"), device="cpu")


def test_a_focal_length_is_the_known_one_then_the_seen_one_then_the_rule_s(predictor: hmrb.Predictor) -> None:
    looked: list[tuple[int, ...]] = []

    def see(pixels: np.ndarray) -> float | None:
        looked.append(pixels.shape)
        return 321.0 if len(looked) == 1 else None

    network = replace(predictor.network, see_focal=see)
    for number in (-3.0, 0.0, np.nan, np.inf):
        assert camera_seen(opened(), replace(network, see_focal=Mock(return_value=number))) is None
    asked = AskedCamera(focal_px=77.0)
    known = camera_seen(opened(asked), network)
    assert known is not None
    assert (known.focal_px, looked) == (77, [])
    sources = [opened().source, opened().source, replace(opened().source, boxes=())]
    first, second, nobody = (result.people for result in predict_pictures(sources, network))
    assert first is not None
    assert second is not None
    assert first.camera_from == ("seen by the method in the picture",)
    assert first.focal_px.tolist() == [321]
    assert second.camera_from == ("rule of the method",)
    assert nobody is not None
    assert not len(nobody)
    assert looked == [(80, 60, 3)] * 2, "once a picture, and not where nobody is"
    told = conditioning_of([cut(opened(), GivenBox(BOX), 1.2, network.rule, known)], [(60, 80)])
    assert told.has_intrinsics.all()


@pytest.mark.parametrize("name", CROPS)
def test_a_result_names_the_rule_and_the_focal_length(
    predictor: hmrb.Predictor, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor.network.model, "crop_rule", rule_named(name, 32))
    some = predictor(noise(), np.array([BOX]))
    assert (some.crop_rule, some.image_px) == (name, 32)
    said = {"hmr": "", "pare": "", "hmr2": ": 5000/256 of the longer side", "tokenhmr": ": 5000/256 of the longer side"}
    assert some.camera_from == ("rule of the method" + said.get(name, ": the picture's diagonal"),)
    assert some.square[0, 2] == pytest.approx(60 * CROPS[name].margin)
    assert np.isfinite(some.transl).all()


def test_the_rule_is_kept_in_files_and_is_hmr_s_in_those_without(predictor: hmrb.Predictor, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    some = replace(predictor(tmp_path / "a.jpg", np.array([BOX])), crop_rule="cliff")
    file = tmp_path / "people.npz"
    some.to_npz(file)
    again, _ = read_people(file)
    assert again.crop_rule == "cliff"
    np.testing.assert_allclose(again.transl, some.transl, rtol=1e-5)
    with np.load(file) as held:
        table = {key: held[key] for key in held.files if key != "crop_rule"}
    np.savez(file, **table)
    assert read_people(file)[0].crop_rule == "hmr"
    np.savez(file, **table, crop_rule=np.array(["mine"]))
    with pytest.raises(RequestError, match="with crops by one of these rules: hmr, pare"):
        read_people(file)
