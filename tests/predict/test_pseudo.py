"""hmrb convert-data pseudo: predictions become a shard that hmrb verify accepts and hmrb train reads."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import hmrb, refused
from photos import jpeg, noise, open_body, untrained, with_exif

from hmrb.data.shard import Shard
from hmrb.formats.files import short_sha
from hmrb.geometry import rotvec_to_rotmat
from hmrb.predict.network import Network
from hmrb.store import Store


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos, one of them turned, one that cannot be read, and what a model says of them."""
    folder = tmp_path_factory.mktemp("pseudo")
    untrained(folder / "run" / "best.pt")
    (folder / "photos").mkdir()
    for name, data in (
        ("a.jpg", jpeg(noise(90, 70))),
        ("b.jpg", with_exif(jpeg(noise(60, 80, 1)), {0x0112: (3, 6)})),
        ("c.jpg", jpeg()[:-300]),
    ):
        (folder / "photos" / name).write_bytes(data)
    for kind in ("npz", "h5", "json"):
        done = hmrb("predict", str(folder / "run"), str(folder / "photos"), "-o", str(folder / kind), "--whole",
                    "--no-overlay", "--mesh", "none", "--device", "cpu", "--format", kind)  # fmt: skip
        assert done.returncode == 1, done.stderr
    return folder


def label(folder: Path, home: Path, *more: str, name: str = "mydata"):  # type: ignore[no-untyped-def]
    return hmrb("convert-data", "pseudo", "--predictions", str(folder), "--as", name, *more, home=home)


def test_predictions_become_labels_that_say_so(predicted: Path, tmp_path: Path) -> None:
    done = label(predicted / "npz", tmp_path)
    assert done.returncode == 0, done.stderr
    shard = Shard(Store(tmp_path).shard("mydata", "train"))
    assert shard.info.source == f"pseudo: run/best.pt, sha {short_sha(predicted / 'run' / 'best.pt')}"
    assert shard.info.label.startswith("mydata (pseudo: run/best.pt, sha ")
    assert [shard.name(row) for row in range(len(shard))] == ["photos/a.jpg", "photos/b.jpg"]
    table = np.load(predicted / "npz" / "predictions.npz")
    for row in range(2):
        one, square = shard.read(row), table["square"][row]
        left, top, zoom = one.origin.tolist()
        assert (one.columns["pseudo"], one.columns["score"]) == (1, 1)
        assert one.photo_px == tuple(table["picture_px"][row].tolist())
        x, y, width, height = one.box.tolist()
        middle = ((x + width / 2 + 0.5) / zoom - 0.5 + left, (y + height / 2 + 0.5) / zoom - 0.5 + top)
        assert (*middle, width / zoom) == pytest.approx(square.tolist(), abs=1e-3)
        assert height == width
        rotmats = rotvec_to_rotmat(torch.from_numpy(one.pose.copy())).numpy()
        np.testing.assert_allclose(rotmats, table["rotmats"][row], atol=1e-4)
        np.testing.assert_array_equal(one.betas, table["betas"][row])
        np.testing.assert_allclose(one.keypoints3d[:, :3], table["joints_m"][row], rtol=1e-6)
        # The network's own camera: weak perspective in the crop, to what the depth of a body changes.
        points = (one.keypoints2d[:, :2] + 0.5) / zoom - 0.5 + (left, top)
        np.testing.assert_allclose(points, table["joints_px"][row], atol=0.01 * square[2])
    assert hmrb("verify", "mydata_train", home=tmp_path).returncode == 0
    h5 = label(predicted / "h5", tmp_path / "other")
    assert h5.returncode == 0, h5.stderr
    assert Shard(Store(tmp_path / "other").shard("mydata", "train")).info.sha == shard.info.sha


def test_what_is_no_finished_prediction_is_refused(predicted: Path, tmp_path: Path) -> None:
    refused(
        hmrb("convert-data", "pseudo"), "pseudo: set --predictions DIR, the folder of an hmrb predict, and --as NAME"
    )
    refused(label(tmp_path, tmp_path), f"--predictions {tmp_path}: no folder of hmrb predict")
    raw = label(predicted / "npz", tmp_path, "--split", "val", "--pictures", "raw")
    refused(raw, "--pictures raw: val keeps the original pictures")
    refused(label(predicted / "json", tmp_path), "written with --format json; pseudo labels are read from npz or h5")
    refused(label(predicted / "npz", tmp_path, name="3dpw"), "--as 3dpw: a dataset of the catalogue")
    tree = json.loads((predicted / "npz" / ".plan.json").read_text())
    (tmp_path / ".plan.json").write_text(json.dumps(tree | {"account": None}))
    refused(label(tmp_path, tmp_path), "not finished; run its hmrb predict again, which goes on")
    (tmp_path / ".plan.json").write_text(json.dumps(tree))
    table = dict(np.load(predicted / "npz" / "predictions.npz"))
    table["betas"][0, 0] = np.nan
    np.savez(tmp_path / "predictions.npz", **table)
    refused(label(tmp_path, tmp_path), "predictions.npz: betas missing, not finite or of another shape")
    np.savez(tmp_path / "predictions.npz", **{key: table[key] for key in table if key != "square"})
    refused(label(tmp_path, tmp_path), "predictions.npz: square, betas missing")
    assert not (tmp_path / "shards").exists()


def test_a_picture_that_is_gone_or_another_is_counted(predicted: Path, tmp_path: Path) -> None:
    photo = predicted / "photos" / "a.jpg"
    data = photo.read_bytes()
    try:
        photo.write_bytes(jpeg(noise(30, 30)))
        refused(label(predicted / "npz", tmp_path), "has (30, 30) pixels, had (90, 70) when it was predicted", code=1)
        photo.unlink()
        refused(label(predicted / "npz", tmp_path), "photos/a.jpg: is not among the pictures", code=1)
        done = label(predicted / "npz", tmp_path, "--allow-missing", "1")
        assert done.returncode == 0, done.stderr
        assert "left out: photos/a.jpg: is not among the pictures" in done.stdout
        assert len(Shard(Store(tmp_path).shard("mydata", "train"))) == 1
    finally:
        photo.write_bytes(data)


def test_people_behind_the_camera_are_left_out_and_counted(
    predicted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hmrb.batch import Prediction

    regress = Network.regress

    def turned(self: Network, crops, about) -> Prediction:  # type: ignore[no-untyped-def]
        found = regress(self, crops, about)
        return Prediction(found.rotmats, found.betas, found.camera.abs() * torch.tensor([[-1.0, 1, 1], [1, 1, 1]]))

    monkeypatch.setattr(Network, "regress", turned)
    words = ("--whole", "--no-overlay", "--mesh", "none", "--device", "cpu")
    hmrb("predict", str(predicted / "run"), str(predicted / "photos"), "-o", str(tmp_path / "out"), *words)
    done = label(tmp_path / "out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "left out: 1 people: predicted with a camera of scale 0 or less" in done.stdout
    assert open_body().name == Shard(Store(tmp_path).shard("mydata", "train")).info.body
