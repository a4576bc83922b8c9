"""hmrb convert-data and verify as a user sees them: raw folders, packed files, --explain, subsets, errors."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from command import hmrb, refused
from conftest import GOLDENS
from raw import coco, h36m, leeds
from raw.people import draw, someone

from hmrb.data.shard import Shard
from hmrb.store import Store


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_raw_files_become_a_shard_that_verifies(tmp_path: Path, home: Path) -> None:
    leeds.TREES["lsp"](tmp_path / "raw")
    done = hmrb("convert-data", "lsp", "--raw", str(tmp_path / "raw"), "--workers", "1", home=home)
    assert done.returncode == 0, done.stderr
    assert "looking in" in done.stdout
    assert "joints.mat" in done.stdout  # the files that it looks for
    assert " people, " in done.stdout  # the estimate
    assert "check it: hmrb verify" in done.stdout
    info = Shard(Store(home).shard("lsp", "train")).info
    assert (info.made_by, info.compat, info.selection) == ("hmrb convert-data lsp", "", "")
    assert info.pictures.startswith("region for 224 px")
    checked = hmrb("verify", "lsp_train", home=home)
    assert checked.returncode == 0, checked.stdout
    assert "picture_fits" in checked.stdout


def test_what_was_written_as_json(tmp_path: Path, home: Path) -> None:
    leeds.TREES["lsp"](tmp_path / "raw" / "lsp")
    coco.write_coco(tmp_path / "raw" / "coco")
    asked = ("convert-data", "--all", "--raw", str(tmp_path / "raw"), "--workers", "1")
    done = hmrb(*asked, "--json", home=home)
    assert done.returncode == 0, done.stderr
    records = {f"{record['dataset']}_{record['split']}": record for record in json.loads(done.stdout)}
    for name in ("lsp_train", "coco_train"):
        record, shard = records[name], Shard(home / "shards" / f"{name}.h5")
        assert (record["num_people"], record["sha"]) == (len(shard), shard.info.sha)
        assert record["file"] == str(shard.path)
        assert record["bytes"] == shard.path.stat().st_size
        assert Path(record["contact_sheet"] or shard.path).is_file()
        assert "--json" not in record["made_by"]
    told = [
        f"left out: {count} people: {reason}" for row in records.values() for reason, count in row["left_out"].items()
    ]
    assert told
    assert all(line in done.stderr for line in told)
    plain = hmrb(*asked, home=tmp_path / "other")
    assert sorted(line for line in plain.stdout.splitlines() if "left out" in line) == sorted(told)


def test_json_of_a_request_that_fails(tmp_path: Path, home: Path) -> None:
    """What was written before stays in it; without any, stdout is empty."""
    leeds.TREES["lsp"](tmp_path / "raw" / "lsp")
    asked = ("--raw", str(tmp_path / "raw"), "--workers", "1", "--json")
    done = hmrb("convert-data", "lsp", "coco", *asked, home=home)
    refused(done, "coco")
    assert [record["dataset"] for record in json.loads(done.stdout)] == ["lsp", "lsp"]
    done = hmrb("convert-data", "coco", *asked, home=home)
    refused(done, "coco")
    assert done.stdout == ""
    refused(hmrb("convert-data", "coco", "--explain", "--json", home=home), "hmrb list-datasets --json has the facts")


def test_regions_can_be_tiled(tmp_path: Path, home: Path) -> None:
    leeds.TREES["lsp"](tmp_path / "raw")
    asked = ("convert-data", "lsp", "--raw", str(tmp_path / "raw"), "--workers", "1", "--pictures")
    assert "the choices are region, tiled, raw and original" in hmrb(*asked, "tiles", home=home).stderr
    done = hmrb(*asked, "tiled", home=home)
    assert done.returncode == 0, done.stderr
    shard = Shard(Store(home).shard("lsp", "train"))
    assert (shard.info.pictures, shard.info.region_px) == ("region for 224 px, JPEG 90, tiled", 224)
    assert b"\xff\xdd" in shard.jpeg(0)


def test_regions_can_be_raw(tmp_path: Path, home: Path) -> None:
    leeds.TREES["lsp"](tmp_path / "raw")
    asked = ("convert-data", "lsp", "--raw", str(tmp_path / "raw"), "--workers", "1", "--pictures", "raw")
    done = hmrb(*asked, home=home)
    assert done.returncode == 0, done.stderr
    shard = Shard(Store(home).shard("lsp", "train"))
    assert (shard.info.pictures, shard.info.region_px) == ("region for 224 px, raw pixels", 224)
    pixels = shard.raw_pixels(0)
    assert pixels is not None
    assert len(shard.jpeg(0)) - pixels.size < 24
    assert "pictures: region for 224 px, raw pixels" in done.stdout
    assert "pictures: original" in done.stdout  # of the test split
    assert hmrb("verify", str(shard.path), home=home).returncode == 0
    for said, wrong in (("region for 224 px, JPEG 90", "is raw"), ("original", "is a region")):
        with h5py.File(shard.path, "r+") as file:
            file.attrs["pictures"] = said
            file.attrs["region_px"] = 0 if said == "original" else 224
        told = hmrb("verify", str(shard.path), home=home)
        assert told.returncode == 1
        assert wrong in told.stdout + told.stderr
    with h5py.File(shard.path, "r+") as file:
        file.attrs["pictures"] = np.bytes_(b"region \xff")
    refused(hmrb("verify", str(shard.path), home=home), "attribute pictures is not UTF-8")


@pytest.mark.parametrize("words", [("lsp", "--split", "test"), ("synthetic_street",), ("body",), ("occluders",)])
def test_raw_is_refused_where_pictures_are_kept(words: tuple[str, ...], tmp_path: Path, home: Path) -> None:
    leeds.TREES["lsp"](tmp_path / "raw")
    done = hmrb("convert-data", *words, "--raw", str(tmp_path / "raw"), "--pictures", "raw", home=home)
    refused(done, "leave --pictures out" if words[0] == "lsp" else "leave it out")
    assert not list(home.rglob("*.h5"))


def test_a_folder_of_datasets_is_not_stopped_by_one_that_keeps_its_pictures(tmp_path: Path, home: Path) -> None:
    leeds.TREES["lsp"](tmp_path / "raw" / "lsp")
    words = ("convert-data", "--all", "--raw", str(tmp_path / "raw"), "--split", "test", "--workers", "1")
    done = hmrb(*words, "--pictures", "raw", home=home)
    assert done.returncode == 0, done.stderr
    assert "pictures: original" in done.stdout


def test_a_folder_of_the_dataset_s_name_can_be_a_part_of_its_tree(tmp_path: Path, home: Path) -> None:
    """Human3.6M's bodies lie in h36m_mosh, which is another name of the dataset."""
    h36m.write(tmp_path / "raw", "S1", "Directions 1", h36m.FRONT)
    words = ("convert-data", "h36m", "--workers", "1", "--raw")
    done = hmrb(*words, str(tmp_path / "raw"), home=home)
    assert done.returncode == 0, done.stderr
    refused(hmrb(*words, str(tmp_path / "raw" / "S1"), home=home), f"{tmp_path / 'raw' / 'S1'}: contains no S*/")


def test_a_store_that_cannot_be_written_does_not_make_verify_fail(tmp_path: Path, home: Path) -> None:
    leeds.TREES["lsp"](tmp_path / "raw")
    assert hmrb("convert-data", "lsp", "--raw", str(tmp_path / "raw"), "--workers", "1", home=home).returncode == 0
    sheet = Store(home).shard("lsp", "train").with_suffix(".png")
    sheet.unlink(missing_ok=True)
    sheet.mkdir()  # nothing can be written there, whoever asks
    done = hmrb("verify", "lsp_train", home=home)
    assert done.returncode == 0, done.stderr
    assert f"no contact sheet: {sheet}" in done.stdout.replace("\n", "")


def test_a_shard_that_is_wrong_makes_verify_fail(tmp_path: Path, home: Path) -> None:
    import h5py

    leeds.TREES["lsp"](tmp_path / "raw")
    assert hmrb("convert-data", "lsp", "--raw", str(tmp_path / "raw"), "--workers", "1", home=home).returncode == 0
    with h5py.File(Store(home).shard("lsp", "train"), "r+") as file:
        file["box"][:, 0] += 500
    done = hmrb("verify", "lsp_train", "--json", home=home)
    assert done.returncode == 1
    (record,) = json.loads(done.stdout)
    verdicts = {name: check["verdict"] for name, check in record["checks"].items()}
    assert (record["ok"], verdicts["checksums"], verdicts["box_fit"]) == (False, "wrong", "wrong")
    assert "checks failed for" in done.stderr


def test_a_subset_and_the_study_s_mistakes_are_recorded(tmp_path: Path, home: Path) -> None:
    leeds.TREES["lspet"](tmp_path / "raw")
    words = ("convert-data", "lspet", "--raw", str(tmp_path / "raw"), "--workers", "1", "--compat", "study")
    done = hmrb(*words, "--every", "2", home=home)
    assert done.returncode == 0, done.stderr
    info = Shard(Store(home).shard("lspet", "train")).info
    assert (info.selection, info.compat) == ("every 2", "study")
    assert info.made_by == "hmrb convert-data lspet --compat study --every 2"


def test_several_datasets_lie_in_folders_of_their_names(tmp_path: Path, home: Path) -> None:
    leeds.TREES["lsp"](tmp_path / "all" / "lsp")
    leeds.TREES["lspet"](tmp_path / "all" / "lspet")
    done = hmrb("convert-data", "lsp", "lspet", "--raw", str(tmp_path / "all"), "--workers", "1", home=home)
    assert done.returncode == 0, done.stderr
    assert [len(Shard(Store(home).shard(name, "train"))) > 0 for name in ("lsp", "lspet")] == [True, True]


def test_whatever_is_found_under_a_root_is_made(tmp_path: Path, home: Path) -> None:
    leeds.TREES["lsp"](tmp_path / "all" / "lsp")
    coco.TREES["coco"](tmp_path / "all" / "coco")
    (tmp_path / "all" / "h36m").mkdir()
    done = hmrb("convert-data", "--all", "--raw", str(tmp_path / "all"), "--workers", "1", home=home)
    assert done.returncode == 0, done.stderr
    assert "lsp: found in" in done.stdout
    assert "h36m: skipped: " in done.stdout
    assert Store(home).shard("lsp", "train").exists()
    assert Store(home).shard("coco", "train").exists()


def test_a_card_says_how_to_get_a_dataset() -> None:
    done = hmrb("convert-data", "3dpw", "--explain")
    assert done.returncode == 0
    for words in ("https://virtualhumans", "sequenceFiles/train/", "gendered", "splits: train, val, test"):
        assert words in done.stdout


def test_a_packed_file_becomes_a_shard(tmp_path: Path, home: Path) -> None:
    """The study's own HumanData file, with a picture for each name in it."""
    file = GOLDENS / "4b_pw3d_mini_humandata.npz"
    from hmrb.formats.npz import Npz

    with Npz(file) as packed:
        names = [str(name) for name in packed.read("image_path")]
    for number, name in enumerate(names):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.ascontiguousarray(draw([someone(number)], (1920, 1920))[..., ::-1]))
    words = ("convert-data", "humandata", "--file", str(file), "--images", str(tmp_path / "images"), "--as", "pw3d")
    done = hmrb(*words, "--split", "test", home=home)
    assert done.returncode == 0, done.stderr
    shard = Shard(Store(home).shard("3dpw", "test"))
    assert len(shard) == len(names) == 8
    assert (shard.info.pictures, shard.info.made_by) == (
        "original", "hmrb convert-data humandata --as pw3d --split test",
    )  # fmt: skip
    assert shard.arrays["has_body"].all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("convert-data",), "which dataset? hmrb convert-data 3dpw --raw DIR"),
        (("convert-data", "3dpw"), "3dpw: set --raw DIR, the folder with its files"),
        (("convert-data", "3dpw", "--raw", "nowhere"), "nowhere: no such folder"),
        (("convert-data", "3dpw", "--raw", "."), "contains no sequenceFiles; see hmrb convert-data"),
        (("convert-data", "4dpw", "--raw", "."), "no dataset named '4dpw'. Did you mean '3dpw'"),
        (("convert-data", "panoptic", "--raw", "."), "no dataset with a converter named 'panoptic'"),
        (("convert-data", "lsp", "--raw", ".", "--compat", "mine"), "--compat mine: the only choice is --compat study"),
        (("convert-data", "humandata", "--as", "3dpw"), "humandata: set --file FILE and --as DATASET"),
        (("convert-data", "spin", "--file", "a.npz", "--as", "3dpw"), "--images DIR must be the folder"),
        (
            ("convert-data", "spin", "--file", "a.npz", "--as", "3dpw", "--compat", "study"),
            "--compat applies to raw files only and has no effect here",
        ),
        (("convert-data", "body"), "which body? hmrb convert-data body --file"),
        (("convert-data", "occluders"), "occluders: set --raw DIR, the folder with the unpacked Pascal VOC 2012"),
        (("verify", "nothing"), "no shard nothing: not a file, and not in"),
    ],
)
def test_a_wrong_request_gets_one_message(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(hmrb(*words, home=tmp_path), said)


def test_hostile_files_are_refused(tmp_path: Path, home: Path) -> None:
    """A pickle that runs code instead of a packed file, and a picture name outside its folder."""
    import os

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    (tmp_path / "images").mkdir()
    content = {"image_path": np.array(["a.jpg"], object), "smpl": np.array(Bomb(), object)}
    content |= {"bbox_xywh": np.zeros((1, 5)), "__key_strict__": np.array(False)}
    np.savez(tmp_path / "bomb.npz", allow_pickle=True, **content)
    words = ("--images", str(tmp_path / "images"), "--as", "3dpw")
    done = hmrb("convert-data", "humandata", "--file", str(tmp_path / "bomb.npz"), *words, home=home)
    refused(done, "no code from the file was run", code=1)
    assert not (tmp_path / "ran").exists()


@pytest.mark.heavy  # by default: the signals of a run
@pytest.mark.slow
def test_sigterm_ends_the_workers_and_leaves_no_semaphore(tmp_path: Path) -> None:
    words = ("convert-data", "synthetic", "--people", "3000", "--split", "train", "--workers", "2", "-o", str(tmp_path))
    command = [sys.executable, "-m", "hmrb", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        folder = tmp_path / "shards"
        deadline = time.time() + 60
        while not list(folder.rglob("*.h5")) and time.time() < deadline:  # until a first block is written
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
    assert (process.returncode, said) == (143, "")
