"""hmrb predict as a user sees it: files, exit codes, one message for each thing that goes wrong."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from command import Done, hmrb, refused
from conftest import person, write_shard
from photos import jpeg, noise, saved_by_pillow, untrained, with_exif

from hmrb.errors import RequestError
from hmrb.evaluation.records import read_record
from hmrb.predict import request
from hmrb.predict.pictures import GivenBox
from hmrb.store import Store

PHOTO = "photo.jpg"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("run") / "best.pt")


def predict(*words: object, home: Path | None = None) -> Done:
    return hmrb("predict", *map(str, words), "--device", "cpu", home=home)


def seen_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def png16() -> bytes:
    wide = noise().astype(np.uint16) * 257
    return cv2.imencode(".png", wide[..., ::-1])[1].tobytes()


def wide_jpeg() -> bytes:
    return jpeg(np.full((40, 30_000, 3), 128, np.uint8))


def rgba() -> bytes:
    return saved_by_pillow("RGBA", "PNG")


READABLE: dict[str, Callable[[], bytes]] = {
    "grey.jpg": lambda: saved_by_pillow("L", "JPEG", quality=95),
    "grey_alpha.png": lambda: saved_by_pillow("LA", "PNG"),
    "alpha.png": rgba,
    "sixteen.png": png16,
    "cmyk.jpg": lambda: saved_by_pillow("CMYK", "JPEG", quality=95),
    "palette.png": lambda: saved_by_pillow("P", "PNG"),
    "turned.jpg": lambda: with_exif(jpeg(), {0x0112: (3, 6)}),
    "wide.jpg": wide_jpeg,
}
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "empty.jpg": (b"", "empty.jpg: image cannot be decoded: it is an empty file"),
    "cut.jpg": (jpeg()[:-300], "cut.jpg: image "),
    "text.jpg": (b"This is a letter.", "text.jpg: image cannot be decoded"),
    "page.jpg": (b"<!doctype html><html>", "page.jpg: image cannot be decoded: it is an HTML page"),
    "giant.png": (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0),
        "giant.png: image of 30000 x 30000 pixels; the limit is 100,000,000",
    ),
}


def test_an_overlay_a_mesh_and_parameters_of_a_photo_in_one_command(model: Path, tmp_path: Path) -> None:
    (tmp_path / PHOTO).write_bytes(jpeg())
    out = tmp_path / "out"
    done = predict(model, tmp_path / PHOTO, "-o", out, "--box", "10,5,30,60", "--box", "20,10,30,50")
    assert done.returncode == 0, done.stderr
    assert "crop: a square of 1.2 times the box's longer side, scaled to 32 px" in done.stdout
    assert "this model has seen rendered people alone" in done.stdout
    assert "2 people in 1 pictures" in done.stdout
    assert "camera of 2 people: rule of the method" in done.stdout
    names = ["photo.json", "photo.npz", "photo_1.glb", "photo_1.obj", "photo_2.glb", "photo_2.obj", "photo_overlay.jpg",
             "photo_views.jpg", "predictions.npz"]  # fmt: skip
    assert seen_in(out) == names
    assert all(str(out / name) in done.stdout for name in names)
    assert cv2.imread(str(out / "photo_overlay.jpg")).shape == (640, 480, 3)
    people = json.loads((out / "photo.json").read_text())["people"]
    assert [one["square"] for one in people] == [[25, 35, 72], [35, 35, 60]]
    assert people[0]["focal_px"] == pytest.approx(5000 * 72 / 32)
    refused(predict(model, tmp_path / PHOTO, "-o", out, "--whole"), "already holds predictions (predictions.npz)")


def test_eval_of_the_predictions_of_a_shard_is_eval_of_the_checkpoint(tiny_store: Store, tmp_path: Path) -> None:
    people = [replace(person(i), has_body=True) for i in range(150)]  # three batches, the last not full
    path = write_shard(tiny_store.shard("synthetic", "test"), people, split="test")
    checkpoint = untrained(tmp_path / "run" / "best.pt")
    done = predict(tmp_path / "run", "synthetic_test", "-o", tmp_path / "out", home=tiny_store.root)
    assert done.returncode == 0, done.stderr
    assert seen_in(tmp_path / "out") == ["predictions.npz"]
    assert "rendered people alone" not in done.stdout  # of rendered pictures it may expect much
    predictions = str(tmp_path / "out" / "predictions.npz")
    scored = hmrb("eval", "--from-predictions", predictions, "--bench", "synthetic", home=tiny_store.root)
    assert scored.returncode == 0, scored.stderr
    whole = hmrb("eval", str(checkpoint), "--bench", "synthetic", home=tiny_store.root)
    assert whole.returncode == 0, whole.stderr
    theirs = read_record(tmp_path / "out" / "predictions" / "eval" / "synthetic.json")
    ours = read_record(tmp_path / "run" / "eval" / "synthetic.json")
    assert {name: number.value for name, number in theirs.metrics.items()} == {
        name: number.value for name, number in ours.metrics.items()
    }
    assert theirs.num_people == ours.num_people == 150
    again = predict(tmp_path / "run", path, "-o", tmp_path / "again", "--json", home=tiny_store.root)
    assert json.loads(again.stdout)["people"] == 150


@pytest.mark.parametrize("name", READABLE)
def test_pictures_of_any_kind_are_read(model: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(READABLE[name]())
    done = predict(model, tmp_path / name, "-o", tmp_path / "out", "--whole", "--mesh", "none", "--no-overlay")
    assert done.returncode == 0, done.stderr
    size = json.loads((tmp_path / "out" / f"{Path(name).stem}.json").read_text())["size_px"]
    assert size == {"turned.jpg": [80, 60], "wide.jpg": [30_000, 40]}.get(name, [60, 80])


def test_the_pixels_are_the_photo_s(model: Path, tmp_path: Path) -> None:
    """Grey, alpha, 16 bits and CMYK look like the photo: within what their conversion loses."""
    from hmrb.predict.pictures import PictureSource, open_picture

    photo, grey = noise().astype(int), cv2.cvtColor(noise(), cv2.COLOR_RGB2GRAY).astype(int)[..., None]
    for name, close in (("alpha.png", 0), ("sixteen.png", 0), ("cmyk.jpg", 40), ("grey.jpg", 12)):
        pixels = open_picture(PictureSource(name, READABLE[name])).pixels.astype(int)
        assert np.abs(pixels - (grey if name == "grey.jpg" else photo)).max() <= close, name


def test_an_animated_picture_is_its_first_frame_and_that_is_said(model: Path, tmp_path: Path) -> None:
    from PIL import Image

    frame = Image.fromarray(noise(seed=1))
    (tmp_path / "moving.gif").write_bytes(saved_by_pillow("RGB", "GIF", save_all=True, append_images=[frame]))
    done = predict(model, tmp_path / "moving.gif", "-o", tmp_path / "out", "--whole", "--mesh", "none")
    assert done.returncode == 0, done.stderr
    assert "moving.gif: has several frames; only the first is used" in done.stdout


def test_pictures_that_cannot_be_read_are_listed_and_the_others_done(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, (data, _) in UNREADABLE.items():
        (folder / name).write_bytes(data)
    (folder / PHOTO).write_bytes(jpeg())
    done = predict(model, folder, "-o", tmp_path / "out", "--whole", "--mesh", "none")
    refused(done, "5 pictures or boxes were left out:", *(said for _, said in UNREADABLE.values()), code=1)
    assert "1 people in 1 pictures" in done.stdout
    assert len(np.load(tmp_path / "out" / "predictions.npz")["name"]) == 1
    (folder / PHOTO).unlink()
    done = predict(model, folder, "-o", tmp_path / "none", "--whole")
    refused(done, "5 pictures or boxes were left out:", code=1)
    assert not (tmp_path / "none").exists()


def test_boxes_outside_their_picture_are_counted(model: Path, tmp_path: Path) -> None:
    (tmp_path / PHOTO).write_bytes(jpeg())
    (tmp_path / "list.csv").write_text("path,x,y,w,h\nphoto.jpg,0,0,30,60\nphoto.jpg,500,0,30,60\ngone.jpg,1,1,9,9\n")
    done = predict(model, tmp_path / "list.csv", "-o", tmp_path / "out", "--no-overlay", "--mesh", "none")
    said = "photo.jpg: box 500,0,30,60: lies outside the picture of 60 x 80 px"
    refused(done, "2 pictures or boxes were left out:", said, "gone.jpg: image cannot be read: no such file", code=1)
    assert "1 people in 1 pictures" in done.stdout
    done = predict(model, tmp_path / PHOTO, "-o", tmp_path / "other", "--box", "500,0,30,60")
    refused(done, said, code=1)


def test_people_are_found_where_no_box_is_given(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def named(name: str | None):  # type: ignore[no-untyped-def]
        asked.append(name)
        return lambda pixels: [GivenBox((1, 2, 20, 30), 0.75)] if pixels.shape[0] == 80 else []

    monkeypatch.setattr(request, "finder_named", named)
    (tmp_path / PHOTO).write_bytes(jpeg())
    (tmp_path / "empty.jpg").write_bytes(jpeg(noise(50, 40)))
    words = (tmp_path / PHOTO, tmp_path / "empty.jpg", "-o", tmp_path / "out", "--mesh", "none")
    done = predict(model, *words, "--detector", "torchvision")
    assert done.returncode == 0, done.stderr
    assert asked == ["torchvision"]
    assert "empty.jpg: nobody found" in done.stdout
    assert "1 people in 2 pictures, 1 of them without people" in done.stdout
    table = np.load(tmp_path / "out" / "predictions.npz")
    assert (table["box"].tolist(), table["score"].tolist()) == ([[1, 2, 20, 30]], [0.75])
    (tmp_path / "list.csv").write_text("path,x,y,w,h\nphoto.jpg,0,0,30,60\n")
    for words, boxes in (((), [[0, 0, 30, 60]]), (("--detect",), [[1, 2, 20, 30]]), (("--whole",), [[0, 0, 60, 80]])):
        out = tmp_path / f"out{len(asked)}{words}"
        assert predict(model, tmp_path / "list.csv", "-o", out, "--mesh", "none", *words).returncode == 0
        assert np.load(out / "predictions.npz")["box"].tolist() == boxes


def test_a_detector_of_the_package_is_asked_by_its_name() -> None:
    find = request.finder_named(None)
    assert find(np.full((200, 300, 3), 128, np.uint8)) == []
    with pytest.raises(RequestError, match="no detector named 'nobody'"):
        request.finder_named("nobody")


def test_the_camera_is_the_option_s_then_exif_s_then_the_method_s(model: Path, tmp_path: Path) -> None:
    (tmp_path / PHOTO).write_bytes(with_exif(jpeg(), {0xA405: (3, 26)}))
    for name, words, said, focal in (
        ("a", ("--focal", "900"), "option: focal length", 900.0),
        ("b", ("--fov", "90"), "option: angle of view", 30.0),
        ("c", (), "EXIF FocalLengthIn35mmFilm", 26 * 100 / np.hypot(36, 24)),
    ):
        done = predict(model, tmp_path / PHOTO, "-o", tmp_path / name, "--box", "10,5,30,60", "--mesh", "none", *words)
        assert done.returncode == 0, done.stderr
        found = json.loads((tmp_path / name / "photo.json").read_text())["people"][0]
        assert found["camera_from"] == said
        assert found["focal_px"] == pytest.approx(focal)
        assert found["transl"][2] == pytest.approx(2 * focal / (72 * found["camera"][0]), rel=1e-5)


def test_requests_that_are_refused_before_anything_is_done(model: Path, tmp_path: Path) -> None:
    (tmp_path / PHOTO).write_bytes(jpeg())
    photo, out = tmp_path / PHOTO, tmp_path / "out"
    for words, said in (
        ((tmp_path / "gone.pt", photo), "gone.pt: no such checkpoint or run"),
        ((photo, photo, "--whole"), "photo.jpg: refused: not an hmrb checkpoint"),
        ((model, tmp_path / "gone.jpg"), "gone.jpg: no such file or folder"),
        ((model, photo, "--box", "1,2,nan,4"), "--box: box 1,2,nan,4: not all four are finite numbers"),
        ((model, photo, "--box", "1,2,-3,4"), "--box: box 1,2,-3,4: width and height must be positive"),
        ((model, photo, "--box", "1,2,3,4", "--whole"), "three ways to say where the people are"),
        ((model, photo, "--mesh", "stl"), "--mesh stl: no format 'stl'"),
        ((model, photo, "--focal", "0"), "--focal 0: a focal length is a positive number"),
        ((model, photo, "--fov", "200"), "--fov 200: an angle of view"),
        ((model, photo, "--whole", "--precision", "int8"), "no precision named 'int8'"),
        ((model, photo, "--whole", "--device", "tpu"), "--device tpu: not here"),
        ((model, photo, "--whole", "--device", "cuda:99"), "--device cuda:99: not here"),
    ):
        refused(hmrb("predict", *map(str, words), "-o", str(out)), said)
    assert not out.exists()


def test_a_model_without_its_licensed_body_gives_parameters(tmp_path: Path) -> None:
    checkpoint = untrained(tmp_path / "run" / "best.pt", body="smpl")
    (tmp_path / PHOTO).write_bytes(jpeg())
    done = predict(checkpoint, tmp_path / PHOTO, "-o", tmp_path / "out", "--whole", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "SMPL_NEUTRAL.npz: no such file" in done.stdout
    assert "without this body: parameters only, no meshes, joints and overlays" in done.stdout
    assert seen_in(tmp_path / "out") == ["photo.json", "photo.npz", "predictions.npz"]


def test_another_project_s_checkpoint_is_imported_once(tmp_path: Path) -> None:
    import torch

    from hmrb.models.hmr import build_model
    from hmrb.spec import ModelSpec

    spec = ModelSpec(backbone="resnet50", weights="none")
    state = build_model(spec).state_dict()
    theirs = {key.replace("backbone.network.", "backbone."): value for key, value in state.items()}
    torch.save({"state_dict": theirs}, tmp_path / "theirs.pth")
    (tmp_path / PHOTO).write_bytes(jpeg())
    words = (tmp_path / "theirs.pth", tmp_path / PHOTO, "--whole", "-o")
    done = predict(*words, tmp_path / "a", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "HMR of the study or mmhuman3d" in done.stdout
    assert "imported as" in done.stdout
    assert len(list((tmp_path / "models" / "imported").glob("*.pt"))) == 1
    again = predict(*words, tmp_path / "b", home=tmp_path)
    assert "imported as" not in again.stdout
    one, two = (np.load(tmp_path / name / "predictions.npz")["rotmats"] for name in "ab")
    np.testing.assert_array_equal(one, two)
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    refused(
        predict(tmp_path / "other.pth", *words[1:], tmp_path / "c", home=tmp_path), "nor can hmrb import-checkpoint"
    )


def test_a_full_disk_and_ctrl_c_leave_nothing_half_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(jpeg())
    words = (model, tmp_path / "a.jpg", tmp_path / "b.jpg", "--whole", "--mesh", "none", "--no-overlay")
    whole = np.savez
    for number, (error, code) in enumerate(((OSError(28, ""), 1), (KeyboardInterrupt(), 130))):
        count = 0

        def strike(file: object, error: BaseException = error, **arrays: np.ndarray) -> None:
            nonlocal count
            count += 1
            file.write(b"half")  # type: ignore[attr-defined]
            if count == 2:
                raise error
            whole(file, **arrays)

        out = tmp_path / f"out{number}"
        monkeypatch.setattr(np, "savez", strike)
        done = predict(*words, "-o", out)
        monkeypatch.setattr(np, "savez", whole)
        said = "b.npz: could not be written: the disk is full" if code == 1 else ""
        refused(done, said, code=code)
        assert seen_in(out) == ["a.json", "a.npz", "b.json", "parts"]
        assert predict(*words, "-o", out).returncode == 0  # what is there is written again


def test_paths_are_checked_without_torch(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"")
    script = (
        "import sys; sys.argv = ['hmrb', 'predict', *sys.argv[1:]]\n"
        "from hmrb.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('heavy:', sorted({'torch', 'timm', 'smplx'} & set(sys.modules)))"
    )
    for words in ([str(tmp_path / "x.pt"), "a.jpg"], [str(tmp_path / "best.pt"), str(tmp_path / "gone.jpg")]):
        command = [sys.executable, "-c", script, *words, "-o", str(tmp_path / "out")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "no such" in done.stderr
        assert "heavy: []" in done.stdout


def test_many_large_photos_are_not_held_at_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hmrb.predict import engine
    from hmrb.predict.network import load_network
    from hmrb.predict.pictures import PictureSource

    network, together = load_network(model, "cpu"), []
    regress = type(network).regress
    monkeypatch.setattr(
        type(network), "regress", lambda self, crops, about: together.append(len(crops)) or regress(self, crops, about)
    )
    monkeypatch.setattr(engine, "HELD_BYTES", 3 * noise().nbytes)
    sources = [PictureSource(f"{i}.jpg", jpeg) for i in range(10)]
    kept = list(engine.predict_pictures(sources, network))
    assert together == [4, 4, 2]
    together.clear()
    loose = list(engine.predict_pictures(sources, network, keep_pixels=False))
    assert together == [10]
    assert [result.source.name for result in kept] == [result.source.name for result in loose]
    assert kept[0].people is not None
    assert kept[0].people.pictures[0].pixels is not None


def test_people_behind_the_camera_are_counted(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hmrb.batch import Prediction
    from hmrb.predict.network import Network

    regress = Network.regress

    def turned(self: Network, crops, about) -> Prediction:  # type: ignore[no-untyped-def]
        found = regress(self, crops, about)
        return Prediction(found.rotmats, found.betas, -found.camera.abs())

    monkeypatch.setattr(Network, "regress", turned)
    (tmp_path / PHOTO).write_bytes(jpeg())
    done = predict(model, tmp_path / PHOTO, "-o", tmp_path / "out", "--whole")
    assert done.returncode == 0, done.stderr
    assert "photo.jpg: 1 people with a camera of scale 0 or less, in no overlay" in done.stdout
    assert json.loads((tmp_path / "out" / "photo.json").read_text())["people"]
