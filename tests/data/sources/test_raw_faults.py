"""Faults of raw files: damaged, of another size, stray, thinned, not needed, changed. Each is told, nobody is lost."""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from command import hmrb as run
from command import refused
from raw import aic, coco, h36m, leeds, mpi_inf_3dhp, mupots3d, openpose, up3d
from raw.placed import store_with_body
from test_sources import TREES

import hmrb.data.sources.agora
import hmrb.data.sources.cmu_mosh
import hmrb.data.sources.mpi_inf_3dhp
from hmrb.body.expressive import load_smplx
from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, Raw, convert
from hmrb.data.convert.raw import LABELS
from hmrb.data.convert.reasons import STRAY
from hmrb.data.convert.verify import verify
from hmrb.data.shard import Shard
from hmrb.data.sources import CONVERTERS
from hmrb.errors import RequestError, RunError
from hmrb.store import Store

every_tree = pytest.mark.parametrize("slug", sorted(TREES))
Said = list[str]


def converted(
    slug: str, root: Path, store: Store, compat: bool = False, split: str | None = None, limit: int = 0
) -> tuple[dict[str, tuple[int, str]], Said]:
    """People and hash of each split, and what was said."""
    cached = hmrb.data.sources
    for function in (cached.mpi_inf_3dhp._annotations, cached.agora._smpl, cached.agora._smplx, load_smplx):
        function.cache_clear()
    cached.cmu_mosh._packed.cache_clear()
    source, said, ticker = CONVERTERS[slug], [], ProgressReporter()
    ticker.say = said.append  # type: ignore[method-assign]
    parts = source.plan(Raw(root, compat, store, name=slug, split=split))
    infos = convert(source, parts, store, ConversionOptions("a test", compat=compat, missing_limit=limit), ticker)
    return {info.split: (info.num_people, info.sha) for info in infos}, said


def labels_of_each_kind(root: Path) -> list[Path]:
    """One label file for each name without its numbers."""
    found = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name.endswith(LABELS)]
    return list({re.sub(r"\d+", "", path.relative_to(root).as_posix()): path for path in found}.values())


@every_tree
def test_a_label_file_cut_in_half_is_one_message_and_a_failed_run(slug: str, tmp_path: Path) -> None:
    root, store = tmp_path / "raw", store_with_body(tmp_path / "home")
    TREES[slug](root)
    whole, told = converted(slug, root, store)[0], 0
    for path in labels_of_each_kind(root):
        if slug == "up3d" and path.suffix == ".txt":  # lists and words show no cut at the end of a line
            continue
        shutil.rmtree(store.root / "shards", ignore_errors=True)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        said = failure(slug, root, store)
        if said:
            assert path.name in said
            assert "\n" not in said
            assert all(Shard(file).info.num_people for file in (store.root / "shards").glob("*.h5"))
            told += 1
        else:  # a file that is not used
            shas = {split: Shard(store.shard(slug, split)).info.sha for split in whole}
            assert shas == {split: sha for split, (_, sha) in whole.items()}, path
        path.write_bytes(content)
    assert told


def failure(slug: str, root: Path, store: Store) -> str:
    """The message of a run that failed, or an empty string. A wrong request is an error of the test."""
    try:
        converted(slug, root, store)
    except RunError as error:
        return str(error)
    return ""


def resized(path: Path, size: tuple[int, int] | None = None) -> None:
    """An image of another size, or turned by a quarter."""
    image = cv2.imread(str(path))
    cv2.imwrite(str(path), cv2.resize(image, size) if size else cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE))


@pytest.mark.parametrize(
    "slug", ["agora", "aic", "coco", "coco_wholebody", "crowdpose", "emdb", "muco", "ochuman", "posetrack"]
)
def test_a_picture_of_another_size_than_stated_is_refused(slug: str, tmp_path: Path) -> None:
    root, store = tmp_path / "raw", store_with_body(tmp_path / "home")
    {"aic": aic.write_coco}.get(slug, TREES[slug])(root)
    split = next(iter(converted(slug, root, store)[0]))
    shard = Shard(store.shard(slug, split))
    name = shard.name(0)
    path = next(path for path in root.rglob(Path(name).name) if path.as_posix().endswith(name))
    width, height = cv2.imread(str(path)).shape[1::-1]
    half, turned = path.read_bytes(), path.read_bytes()
    for image, size, cause in (
        (half, (width // 2, height // 2), "it is a resized copy"),
        (turned, None, "it was turned by 90 degrees, perhaps by its EXIF data"),
        (turned, (width, height // 3), "it is another image, or a cut one"),
    ):
        path.write_bytes(image)
        resized(path, size)
        have = size or (height, width)
        said = f"image has {have[0]} x {have[1]} pixels, but its annotations state {width} x {height}: {cause}"
        with pytest.raises(RunError, match=re.escape(said)):
            converted(slug, root, store, split=split)
        assert any(said in line for line in converted(slug, root, store, split=split, limit=1)[1])


def test_pictures_of_another_release_are_not_a_small_data_set(tmp_path: Path) -> None:
    leeds.write_lspet(tmp_path / "raw")
    for path in (tmp_path / "raw").glob("im*.png"):
        height, width = cv2.imread(str(path)).shape[:2]
        resized(path, (width // 3, height // 3))
    with pytest.raises(RunError, match=r"of 1\d people cannot be used, more than 5%: .*a keypoint is outside"):
        converted("lspet", tmp_path / "raw", Store(tmp_path / "home"))
    assert not Store(tmp_path / "home").shard("lspet", "train").exists()


def test_where_no_size_is_stated_people_mostly_outside_their_picture_end_a_conversion(tmp_path: Path) -> None:
    TREES["mpii"](tmp_path / "raw")
    for path in (tmp_path / "raw/images").iterdir():
        height, width = cv2.imread(str(path)).shape[:2]
        resized(path, (width // 4, height // 4))
    store = Store(tmp_path / "home")
    with pytest.raises(RunError, match="doubtful: .*most of their keypoints are outside the image, more") as error:
        converted("mpii", tmp_path / "raw", store)
    count = int(re.findall(r"--allow-missing (\d+)", str(error.value))[0])
    assert any("kept, but doubtful" in line for line in converted("mpii", tmp_path / "raw", store, limit=count)[1])


def test_thinned_pictures_of_3dhp_are_missed_not_counted(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    mpi_inf_3dhp.write(root)
    store = Store(tmp_path / "home")
    whole, _ = converted("mpi_inf_3dhp", root, store, split="train")
    needed = {Shard(store.shard("mpi_inf_3dhp", "train")).name(row) for row in range(whole["train"][0])}
    for folder in root.glob("S1/Seq1/video_*"):
        for path in sorted(folder.iterdir())[:-1]:
            if path.relative_to(root).as_posix() not in needed:
                path.unlink()
    assert converted("mpi_inf_3dhp", root, store, split="train")[0] == whole
    (root / sorted(needed)[0]).unlink()
    with pytest.raises(RunError, match="1 images cannot be used, --allow-missing allows 0"):
        converted("mpi_inf_3dhp", root, store, split="train")


STRAYS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "coco": (coco.write_coco, "annotations/person_keypoints_train2014.json"),
    "crowdpose": (TREES["crowdpose"], "crowdpose_train.json"),
    "muco": (TREES["muco"], "MuCo-3DHP.json"),
    "posetrack": (TREES["posetrack"], "posetrack_data/annotations/train/000000_bonn_train.json"),
}


@pytest.mark.parametrize("slug", STRAYS)
def test_an_annotation_of_no_listed_picture_is_left_out_and_counted(slug: str, tmp_path: Path) -> None:
    write, name = STRAYS[slug]
    root, store = tmp_path / "raw", store_with_body(tmp_path / "home")
    write(root)
    before = converted(slug, root, store, split="train")[0]["train"][0]
    path = next(root.rglob(Path(name).name))
    table = json.loads(path.read_text())
    person = next(one for one in table["annotations"] if one.get("keypoints") or one.get("keypoints_vis"))
    table["annotations"] += [person | {"image_id": number} for number in (123456789, "text")]
    path.write_text(json.dumps(table))
    people, said = converted(slug, root, store, split="train", limit=3)
    assert people["train"][0] == before
    assert f"left out: 2 people: {STRAY}" in said
    with pytest.raises(RunError, match="[23] of .* people cannot be used"):  # one fit of muco's is not finite
        converted(slug, root, store, split="train")


def test_compat_leaves_out_whom_the_study_leaves_out(tmp_path: Path) -> None:
    store = store_with_body(tmp_path / "home")
    for action, mosh in (("Directions 1", True), ("Photo", False), ("Eating", True)):
        h36m.write(tmp_path / "h36m", "S1", action, h36m.FRONT, mosh=mosh)
    ours, study = (converted("h36m", tmp_path / "h36m", store, compat)[0]["train"][0] for compat in (False, True))
    assert (ours, study) == (9, 6)
    openpose.write_prox(tmp_path / "prox", count=5)
    ours, study = (converted("prox", tmp_path / "prox", store, compat)[0]["train"][0] for compat in (False, True))
    assert (ours, study) == (6, 4)  # in each recording, frame 4 has no fit


def test_files_that_a_conversion_does_not_use_are_not_needed(tmp_path: Path) -> None:
    store = store_with_body(tmp_path / "home")
    openpose.write_mtp(tmp_path / "mtp")
    up3d.TREES["up3d"](tmp_path / "up3d")
    mupots3d.TREES["mupots3d"](tmp_path / "mupots3d")
    coco.TREES["coco"](tmp_path / "coco")
    next((tmp_path / "mtp/smplify-xmc/smplx").rglob("*.pkl")).unlink()
    next((tmp_path / "up3d").rglob("*_fit_crop_info.txt")).unlink()
    next((tmp_path / "mupots3d").rglob("occlusion.mat")).write_bytes(b"damaged")
    for slug in ("mtp", "up3d"):
        with pytest.raises(RequestError, match="no such file"):
            converted(slug, tmp_path / slug, store)
    with pytest.raises(RunError, match="This file is optional"):
        converted("mupots3d", tmp_path / "mupots3d", store)
    for slug in ("mtp", "up3d", "mupots3d"):
        assert converted(slug, tmp_path / slug, store, compat=True)[0]
    (tmp_path / "coco/annotations/person_keypoints_train2014.json").write_text("damaged")
    assert converted("coco", tmp_path / "coco", store, split="val")[0]


@every_tree
def test_every_label_file_is_in_the_identity_of_the_plan(slug: str, tmp_path: Path) -> None:
    root, store = tmp_path / "raw", store_with_body(tmp_path / "home")
    TREES[slug](root)
    raw = Raw(root, False, store, name=slug)
    CONVERTERS[slug].plan(raw)
    before = raw.stamps()
    for path in labels_of_each_kind(root):
        os.utime(path, ns=(1, 1))
        after = raw.stamps()
        assert after != before, path
        before = after


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A glob passes over it, and the people in it would be missing without a word."""
    root, store, scandir = tmp_path / "raw", store_with_body(tmp_path / "home"), os.scandir
    TREES["surreal"](root)
    closed = next(root.rglob("*_info.mat")).parent

    def listed(path: Any = ".") -> Any:
        if str(path) == str(closed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", listed)
    done = run("convert-data", "surreal", "--raw", str(root), "--workers", "1", home=store.root)
    refused(done, f"{closed}: not readable by this user", code=1)
    assert not list(store.root.rglob("*.h5"))


def test_changed_masks_and_mosh_are_in_the_identity_of_h36m(tmp_path: Path) -> None:
    h36m.write(tmp_path / "h36m", "S1", "Directions 1", h36m.FRONT)
    (tmp_path / "h36m/h36m_mosh").rename(tmp_path / "h36m_mosh")
    raw = Raw(tmp_path / "h36m", store=Store(tmp_path / "home"))
    CONVERTERS["h36m"].plan(raw)
    before = raw.stamps()
    os.utime(next((tmp_path / "h36m_mosh").rglob("*.pkl")), ns=(1, 1))
    assert raw.stamps() != before


@pytest.mark.parametrize("slug", [slug for slug in sorted(TREES) if CONVERTERS[slug].study])
def test_verify_does_not_call_the_study_s_mistakes_faults(slug: str, tmp_path: Path) -> None:
    root, store = tmp_path / "raw", store_with_body(tmp_path / "home")
    TREES[slug](root)
    for split in converted(slug, root, store, compat=True)[0]:
        shard, fails = Shard(store.shard(slug, split)), CONVERTERS[slug].study_fails
        checks = {check.name: check for check in verify(shard, store, None, study_fails=fails)}
        assert set(fails) <= checks.keys()
        wrong = [check.detail for check in checks.values() if check.verdict == "wrong"]
        assert not wrong
        strict = [check for check in verify(shard, store, None) if check.verdict == "wrong"]
        assert {check.name for check in strict} <= set(fails)
        for check in strict:
            assert checks[check.name].detail == f"as expected of --compat study: {check.detail}"


def test_a_skipped_check_says_how_many_people_it_lacks(tmp_path: Path) -> None:
    h36m.write(tmp_path / "raw", "S1", "Directions 1", h36m.FRONT)
    store = store_with_body(tmp_path / "home")
    converted("h36m", tmp_path / "raw", store)
    said = {check.name: check.detail for check in verify(Shard(store.shard("h36m", "train")), store, None)}
    assert said["upright"] == "only 3 with 3D hips and shoulders, 3 with a body; 8 are needed"
    assert said["projection"].endswith("; 8 are needed")
    assert said["box_fit"] == "only 3 with 6 labelled joints in the image; 8 are needed"


def test_hints_name_the_dataset(tmp_path: Path) -> None:
    assert np.all([source.study_fails == () or source.study for source in CONVERTERS.values()])
    with pytest.raises(RequestError, match="see hmrb convert-data cmu_mosh --explain"):
        CONVERTERS["cmu_mosh"].plan(Raw(tmp_path, name="cmu_mosh"))
