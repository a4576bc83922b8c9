"""What a caller of the Python API gives: anything that cannot be used is one error with one message."""

import inspect
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_tree
from photos import jpeg, noise, untrained, with_exif
from PIL import Image, ImageOps

import hmrb
from hmrb.api import _prediction
from hmrb.bodykind import SMPL_KIND
from hmrb.errors import RequestError, RunError
from hmrb.predict.pictures import GivenBox


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> hmrb.Predictor:
    return hmrb.load(untrained(tmp_path_factory.mktemp("run") / "best.pt"), device="cpu")


def as_users_call(function: Any) -> Any:
    """The function without the checks of types that tests alone have."""
    return inspect.unwrap(function)


PIXELS = noise()
PEOPLE = [[1, 2, 30, 40]]
WRONG_CALLS: list[tuple[tuple[object, ...], dict[str, object], str]] = [
    ((PIXELS, [["a", 1, 2, 3]]), {}, "no real numbers; expected"),
    ((PIXELS, [[1, 2, 3, 4], [1, 2]]), {}, "boxes of picture 0 are list .*, expected"),
    ((PIXELS, {"x": 1}), {}, "boxes of picture 0 are dict"),
    ((PIXELS, 5), {}, "have shape"),
    ((PIXELS, [[1, 2, 3 + 1j, 4]]), {}, "no real numbers"),
    ((PIXELS, [[10**400, 2, 3, 4]]), {}, "no real numbers"),
    ((PIXELS, [[1, 2, np.inf, 4]]), {}, "not all four are finite"),
    ((PIXELS, [[10, 10, 1e-300, 1e-300]]), {}, "a side is below 1 pixel"),
    ((PIXELS, [[0, 0, 1e30, 1e30]]), {}, "beyond 1,000,000 pixels"),
    (([PIXELS, PIXELS], 5), {}, "boxes=5: give arrays of boxes"),
    (([PIXELS, PIXELS], {"a": 1, "b": 2}), {}, "boxes=dict"),
    ((PIXELS[None], PEOPLE), {}, r"shape \(1, 80, 60, 3\) is no picture"),
    ((torch.zeros(3, 80, 60, dtype=torch.uint8), PEOPLE), {}, r"type uint8 and shape \(3, 80, 60\) is no picture"),
    (([torch.zeros(80, 60, 3)], [PEOPLE]), {}, "type float32"),
    ((Image.new("I;16", (60, 80)), PEOPLE), {}, "mode I;16 has no pixels of 8 bits"),
    ((b"bytes", PEOPLE), {}, "pictures=bytes .*: give a path"),
    ((None, PEOPLE), {}, "pictures=None: give a path"),
    (({"a": PIXELS}, PEOPLE), {}, "pictures=dict"),
    (([None], [PEOPLE]), {}, "picture 0 is None: give a path"),
    (([PIXELS, 7], [PEOPLE, PEOPLE]), {}, "picture 1 is 7: give a path"),
    ((PIXELS, PEOPLE), {"focal_px": 1e300}, r"focal_px=1e\+300: a focal length is .* from 1 to 1,000,000"),
    ((PIXELS, PEOPLE), {"focal_px": 1e-300}, "from 1 to 1,000,000"),
    ((PIXELS, PEOPLE), {"focal_px": 10**400}, "focal_px=inf"),
    ((PIXELS, PEOPLE), {"focal_px": np.nan}, "focal_px=nan"),
    ((PIXELS, PEOPLE), {"focal_px": "900"}, "focal_px='900': give a focal length"),
    ((PIXELS, PEOPLE), {"focal_px": ["900"]}, "focal_px='900': give a focal length"),
    ((PIXELS, PEOPLE), {"focal_px": True}, "focal_px=True"),
    ((PIXELS, PEOPLE), {"focal_px": {"f": 9}}, "focal_px=dict"),
    ((PIXELS, PEOPLE), {"focal_px": np.array([900.0, 800.0])}, "2 focal lengths for 1 pictures"),
    ((PIXELS, PEOPLE), {"focal_px": np.array([[900.0]])}, "focal_px=list"),
    ((PIXELS, PEOPLE), {"batch": 0}, "batch=0: give a whole number from 1"),
    ((PIXELS, PEOPLE), {"batch": -1}, "batch=-1"),
    ((PIXELS, PEOPLE), {"batch": 2.5}, "batch=2.5"),
    ((PIXELS, "whole"), {"detector": "nobody"}, "no detector named 'nobody'.* Known: mobilenet, torchvision"),
    ((PIXELS, PEOPLE), {"detector": "nobody"}, "no detector named 'nobody'"),
    ((PIXELS, "whole"), {"detector": 5}, "detector=5: give a text"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "options", "said"), WRONG_CALLS)
def test_a_wrong_call_is_a_request_error(
    predictor: hmrb.Predictor, words: tuple[object, ...], options: dict[str, object], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        as_users_call(hmrb.Predictor.__call__)(predictor, *words, **options)


WRONG_WORDS: list[tuple[str, tuple[object, ...], dict[str, object], str]] = [
    ("load", (None,), {}, "checkpoint=None: give a path"),
    ("load", (5,), {}, "checkpoint=5: give a path"),
    ("load", ("x" * 5000,), {}, "no checkpoint can be read"),
    ("load", ("demo",), {"device": None}, "device=None: give a text"),
    ("load", ("demo",), {"precision": None}, "precision=None: give a text"),
    ("evaluate", (len, None), {}, "benchmark=None: give a text"),
    ("evaluate", (None, "synthetic"), {}, "predictor is of type NoneType"),
    ("evaluate", (len, "synthetic"), {"image_px": 0}, "image_px=0: give a whole number"),
    ("evaluate", (len, "synthetic"), {"body": 5}, "body=5: give a text"),
    ("evaluate", (len, "synthetic"), {"name": None}, "name=None: give a text"),
    ("evaluate", (len, "synthetic"), {"out": 5}, "out=5: give a path"),
    ("open_shard", (None, "x"), {}, "name=None: give a text"),
    ("open_shard", ("x", None), {}, "split=None: give a text"),
    ("open_shard", ("a\0", "x"), {}, "name='a"),
    ("train", (None,), {}, "spec=None: give a path"),
    ("train", ("a\0",), {}, "spec='a"),
    ("train", ("a.yaml",), {"device": None}, "device=None: give a text"),
    ("train", ("a.yaml",), {"out": 5}, "out=5: give a path"),
    ("train", ("a.yaml",), {"overrides": "seed=1"}, "overrides='seed=1': give a list"),
    ("train", ("a.yaml",), {"overrides": [1]}, "overrides=1: give a text"),
]


@pytest.mark.parametrize(("name", "words", "options", "said"), WRONG_WORDS)
def test_a_wrong_argument_is_a_request_error(
    name: str, words: tuple[object, ...], options: dict[str, object], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        as_users_call(getattr(hmrb, name))(*words, **options)


def test_training_on_a_device_that_is_not_here_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--device tpu: not here"):
        as_users_call(hmrb.train)(tiny_tree(), out=tmp_path / "run", device="tpu")
    assert not (tmp_path / "run").exists()


def test_pictures_of_pil_and_torch_are_those_of_arrays_and_files(predictor: hmrb.Predictor, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(with_exif(jpeg(), {0x0112: (3, 6), 0xA405: (3, 26)}))
    box = [[10, 5, 30, 40]]
    of_file = predictor(tmp_path / "a.jpg", box)
    with Image.open(tmp_path / "a.jpg") as image:
        of_pil = predictor([image, image], [box, box])
        upright = predictor(ImageOps.exif_transpose(image), box)
    for found in (of_pil.of(0), of_pil.of(1), upright):
        assert found.pictures[0].size_px == of_file.pictures[0].size_px == (80, 60)
        assert found.focal_px.tolist() == of_file.focal_px.tolist()
        np.testing.assert_allclose(found.rotmats, of_file.rotmats, rtol=0, atol=0.05)  # PIL decodes otherwise
    of_array, of_tensor = predictor(PIXELS, box), predictor(torch.from_numpy(PIXELS.copy()), box)
    np.testing.assert_array_equal(of_array.rotmats, of_tensor.rotmats)
    assert len(predictor(Image.fromarray(PIXELS).convert("RGBA"), box)) == 1


def test_a_damaged_pil_image_is_a_run_error(predictor: hmrb.Predictor) -> None:
    with pytest.raises(RunError, match="picture 0: the PIL image cannot be decoded"):
        predictor(Image.open(io.BytesIO(jpeg()[:900])), PEOPLE)


@pytest.mark.parametrize("focal", [np.array([900.0, 800.0]), torch.tensor([900.0, 800.0]), (900, np.float32(800))])
def test_focal_lengths_come_in_any_sequence(predictor: hmrb.Predictor, focal: object) -> None:
    call, two = as_users_call(hmrb.Predictor.__call__), np.int64(2)
    found = call(predictor, [PIXELS, PIXELS], [PEOPLE, PEOPLE], focal_px=focal, batch=two)
    assert found.focal_px.tolist() == [900, 800]
    assert call(predictor, PIXELS, PEOPLE, focal_px=np.float64(700)).focal_px.tolist() == [700]


def test_no_boxes_are_boxes_to_find(predictor: hmrb.Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    import hmrb.api

    monkeypatch.setattr(hmrb.api, "finder_named", lambda name: lambda pixels: [GivenBox((1, 2, 3, 4), 0.5)])
    assert len(predictor([PIXELS, PIXELS], None)) == len(predictor([PIXELS, PIXELS])) == 2


def test_the_largest_and_smallest_boxes_and_cameras_give_finite_people(predictor: hmrb.Predictor) -> None:
    for box in ([5, 5, 1, 1], [0, 0, 1e6, 1e6], [5, -5e5, 1, 1e6]):
        for focal in (1, 1e6):
            found = predictor(PIXELS, [box], focal_px=focal)
            assert np.isfinite(found.transl).all()
            assert found.draw().any()


def test_rows_of_a_result_are_checked(predictor: hmrb.Predictor, tmp_path: Path) -> None:
    found = predictor(PIXELS, PEOPLE)
    for which in (np.int64(0), np.uint8(0), -1):
        assert len(found[which]) == len(as_users_call(hmrb.People.of)(found, which)) == 1
    for call, said in (
        (lambda: found.of(1), "picture 1: there are 1, counted from 0"),
        (lambda: found.draw(9), "picture 9: there are 1"),
        (lambda: as_users_call(hmrb.People.draw)(found, 0, "foo"), "through='foo': give 'picture' or 'crop'"),
        (lambda: found.save_obj(tmp_path / "a.obj", 3), "person 3: there are 1"),
        (lambda: as_users_call(hmrb.People.save_glb)(found, tmp_path / "a.glb", 9), "person 9"),
        (lambda: as_users_call(hmrb.People.save_obj)(found, "a\0b"), "path='a.*give a path"),
        (lambda: found.to_npz("a\0b"), "path='a.*give a path"),
    ):  # type: Callable[[], object], str
        with pytest.raises(RequestError, match=said):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [None, 5, {"rotmats": [[1], [1, 2]]}, {"rotmats": "text"}])
def test_a_function_that_gives_no_bodies_is_a_run_error(wrong: object) -> None:
    with pytest.raises(RunError, match="the function gave"):
        as_users_call(_prediction)(wrong, 1, SMPL_KIND)
