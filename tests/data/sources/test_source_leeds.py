"""LSP and LSP-Extended, read from artificial trees in their formats."""

from pathlib import Path

import numpy as np
import pytest
from raw import leeds
from raw.sources import made, people_of, photos_of

from hmrb.data.convert.conversion import Raw
from hmrb.data.sources.leeds import plan_lsp, plan_lspet
from hmrb.errors import RequestError, RunError

HALF_PIXEL = 0.006  # the trees round to hundredths


def test_lsp_s_first_half_is_to_train_on(tmp_path: Path) -> None:
    truth = leeds.write_lsp(tmp_path)
    parts = plan_lsp(Raw(tmp_path))
    names = [photo.name for photo in photos_of(parts, "train")]
    assert names == [f"images/im{row + 1:04d}.jpg" for row in range(14) if row != leeds.OUTSIDE]
    assert photos_of(parts, "test")[0].name == "images/im0015.jpg"
    rows = [row for row in range(14) if row != leeds.OUTSIDE]
    for person, row in zip(people_of(parts, "train"), rows, strict=True):
        np.testing.assert_allclose(person.keypoints2d[:, :2], truth[row].points2d("lsp"), atol=HALF_PIXEL)
        low, high = (bound(truth[row].points2d("lsp"), 0) for bound in (np.min, np.max))
        expected = [*((low + high) / 2 - 0.6 * (high - low)), *(1.2 * (high - low))]
        np.testing.assert_allclose(person.box, expected, atol=0.02)  # the tree rounds to hundredths


def test_a_hidden_point_of_lsp_counts_and_one_of_lspet_does_not(tmp_path: Path) -> None:
    leeds.write_lsp(tmp_path / "lsp")
    person = people_of(plan_lsp(Raw(tmp_path / "lsp")), "train")[leeds.HIDDEN]
    assert (person.keypoints2d[:, 2] == 1).all()
    assert person.columns["occlusion"] == 1 / 14
    truth = leeds.write_lspet(tmp_path / "lspet")
    people = people_of(plan_lspet(Raw(tmp_path / "lspet")), "train")
    assert people[leeds.HIDDEN].keypoints2d[leeds.HEADTOP].tolist() == [0, 0, 0]
    assert (people[0].keypoints2d[:, 2] == 1).all()
    seen = truth[leeds.HIDDEN].points2d("lsp")[: leeds.HEADTOP]
    low, high = seen.min(0), seen.max(0)
    np.testing.assert_allclose(people[leeds.HIDDEN].box[2:], 1.2 * (high - low), atol=0.02)


def test_each_release_of_lsp_has_its_own_pixels(tmp_path: Path) -> None:
    large = leeds.write_lsp(tmp_path, "lsp_dataset_original")
    small = leeds.write_lsp(tmp_path, "lsp_dataset", seed=60)
    parts = plan_lsp(Raw(tmp_path))
    assert photos_of(parts, "train")[0].name == "lsp_dataset_original/images/im0001.jpg"
    assert photos_of(parts, "test")[0].name == "lsp_dataset/images/im0015.jpg"
    for split, there in (("train", large[0]), ("test", small[14])):
        person = people_of(parts, split)[0]
        np.testing.assert_allclose(person.keypoints2d[:, :2], there.points2d("lsp"), atol=HALF_PIXEL)


@pytest.mark.parametrize("name", ["im{:05d}.png", "images/im{:05d}.jpg"])
def test_a_row_of_lspet_is_the_number_in_the_name(tmp_path: Path, name: str) -> None:
    truth = leeds.write_lspet(tmp_path, name)
    (tmp_path / name.format(1)).unlink()
    photos = photos_of(plan_lspet(Raw(tmp_path)), "train")
    assert len(photos) == 12
    assert photos[0].name == name.format(2)
    np.testing.assert_allclose(photos[0].people[0].keypoints2d[:, :2], truth[1].points2d("lsp"), atol=HALF_PIXEL)


def test_compat_counts_every_point_and_from_1(tmp_path: Path) -> None:
    leeds.write_lspet(tmp_path)
    ours, study = (people_of(plan_lspet(Raw(tmp_path, compat)), "train") for compat in (False, True))
    np.testing.assert_array_equal(study[0].keypoints2d[:, :2], ours[0].keypoints2d[:, :2] + 1)
    assert study[leeds.HIDDEN].keypoints2d[leeds.HEADTOP].tolist() == [0, 0, 1]
    left, top, width, height = study[leeds.HIDDEN].box
    # The point at (0, 0) is a corner of the box before it grows by a tenth on each side.
    np.testing.assert_allclose([left, top], [-width / 12, -height / 12], rtol=1e-4)
    assert (len(ours), len(study)) == (13, 12)  # the study also excludes one for an unlabelled point


def test_the_other_set_s_file_is_refused(tmp_path: Path) -> None:
    leeds.write_lsp(tmp_path / "lsp")
    with pytest.raises(RunError, match=r"joints has shape \(3, 14, 28\), expected \(14, 3, 'N'\)"):
        plan_lspet(Raw(tmp_path / "lsp"))
    with pytest.raises(RequestError, match="contains no lsp_dataset_original/joints.mat or joints.mat or lsp_dataset/"):
        plan_lsp(Raw(tmp_path))
    leeds.write_lspet(tmp_path)
    (tmp_path / "im00014.png").rename(tmp_path / "im00140.png")
    with pytest.raises(RunError, match="im00140.png: .*joints.mat has no row for it, only 14 rows"):
        plan_lspet(Raw(tmp_path))


@pytest.mark.parametrize(("name", "people"), [("lsp", 13), ("lspet", 13)])
def test_a_tree_becomes_a_shard(tmp_path: Path, name: str, people: int) -> None:
    leeds.TREES[name](tmp_path / "raw")
    assert made(name, tmp_path).num_people == people
