"""Many pictures: blocks that survive a kill anywhere, several processes, everybody's file in each format."""

import errno
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from command import Done, hmrb, refused
from forked import Forked, start_server
from photos import jpeg, noise, untrained

from hmrb.cli import slurm
from hmrb.predict import plan
from hmrb.predict.parts import part_file, read_part
from hmrb.predict.pictures import GivenBox, PictureSource
from hmrb.predict.plan import blocks_of

KILLED = Path(__file__).with_name("killed.py")
STEPS = 34  # of an undisturbed run: two files per picture, parts, plans, what is removed at the end
PHOTOS, UNREADABLE = 10, "05.jpg"
start_server()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and ten photos of which one cannot be read."""
    folder = tmp_path_factory.mktemp("bulk")
    untrained(folder / "run" / "best.pt")
    (folder / "photos").mkdir()
    for number in range(PHOTOS):
        data = jpeg(noise(40 + number, 60, seed=number))
        (folder / "photos" / f"{number:02d}.jpg").write_bytes(
            data if f"{number:02d}.jpg" != UNREADABLE else data[:-300]
        )
    return folder


def words(here: Path, *more: str) -> list[str]:
    return [
        "predict",
        str(here / "run"),
        str(here / "photos"),
        "-o",
        "out",
        "--whole",
        "--no-overlay",
        "--mesh",
        "none",
        *more,
    ]


def run(folder: Path, asked: list[str], **environment: str) -> Done:
    env = {**os.environ, "HMRB_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1", "COLUMNS": "100", **environment}
    process = Forked(KILLED, asked, env, folder)
    out, err = process.communicate(timeout=300)
    return Done(process.returncode, out, err)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(here: Path) -> dict[str, bytes]:
    """The files of an undisturbed run."""
    done = run(here, words(here, "--device", "cpu"))
    refused(done, UNREADABLE, code=1)
    found = content(here / "out")
    shutil.rmtree(here / "out")
    assert len(found) == 2 * (PHOTOS - 1) + 2
    return found


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.heavy)])
def test_killed_anywhere_and_run_again_it_writes_the_same_files(
    here: Path, whole: dict[str, bytes], kills: int
) -> None:
    rng, killed, most = np.random.default_rng(kills), 0, STEPS
    while killed < kills or (here / "out").exists():
        kill = f"{rng.choice(['before', 'half', 'after'])}:{rng.integers(1, most)}" if killed < kills else ""
        done = run(here, words(here, "--device", "cpu"), KILL=kill)
        if done.returncode == -signal.SIGKILL:
            killed, most = killed + 1, max(most // 2, 4)
            continue
        refused(done, "1 pictures or boxes were left out", code=1)
        assert content(here / "out") == whole
        shutil.rmtree(here / "out")
        most = STEPS


@pytest.mark.slow
def test_two_processes_write_what_one_writes_and_go_on_after_one_dies(here: Path, whole: dict[str, bytes]) -> None:
    asked = words(here, "--cpu-procs", "2", "--gpus", "0")
    done = run(here, asked, FORK="1", RANK_KILLED="1", KILL="before:3")
    assert done.returncode == 1
    assert "process 1 was killed by signal 9; run the command again" in done.stderr
    assert not (here / "out" / "predictions.npz").exists()
    done = run(here, asked, FORK="1")
    refused(done, "1 pictures or boxes were left out", code=1)
    assert done.stdout.count("9 people in 9 pictures") == 1
    assert content(here / "out") == whole
    shutil.rmtree(here / "out")


@pytest.fixture
def in_blocks(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to predict in, in this process, in blocks of four pictures."""
    monkeypatch.setattr(plan, "BLOCK", 4)
    monkeypatch.setattr(plan, "TOGETHER", 2)
    monkeypatch.chdir(tmp_path)
    return here


def test_a_finished_folder_is_said_to_be_complete_and_another_request_is_refused_with_what_differs(
    in_blocks: Path,
) -> None:
    asked = words(in_blocks, "--device", "cpu")
    assert hmrb(*asked).returncode == 1
    before = content(Path("out"))
    done = hmrb(*asked)
    refused(done, UNREADABLE, code=1)
    assert "out is complete: nothing to do" in done.stdout
    assert content(Path("out")) == before
    for more, said in (
        (("--format", "json"), "  format: npz in the folder, json requested"),
        (("--precision", "bf16"), "  precision: fp32 in the folder, bf16 requested"),
        ((str(in_blocks / "photos" / "01.jpg"),), "10 pictures, "),
    ):
        done = hmrb(*asked, *more)
        refused(done, "out already holds predictions (predictions.npz) of another request; choose another folder", said)
    assert content(Path("out")) == before
    Path("out/predictions.npz").unlink()
    assert hmrb(*asked).returncode == 1
    assert content(Path("out")) == before
    Path("out/.plan.json").write_text("[]")
    refused(hmrb(*asked), "out/.plan.json: not the plan of a prediction; choose another folder with -o")


def test_a_photo_whose_disk_failed_is_read_by_the_next_run(in_blocks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = words(in_blocks, "--device", "cpu")
    assert hmrb(*asked, "-o", "whole").returncode == 1
    fstat, photo = os.fstat, os.stat(in_blocks / "photos" / "02.jpg").st_ino

    def fails(descriptor: int) -> os.stat_result:
        if fstat(descriptor).st_ino == photo:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return fstat(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fails)
        done = hmrb(*asked)
    refused(done, "2 pictures or boxes were left out", "02.jpg: image cannot be read: the disk or its", code=1)
    assert "run the command again to try 1 of them anew" in done.stderr
    assert len(np.load("out/predictions.npz")["name"]) == PHOTOS - 2
    done = hmrb(*asked)
    refused(done, "1 pictures or boxes were left out", UNREADABLE, code=1)
    assert "continuing: 6 of 10 pictures are done" in done.stdout
    again, whole = content(Path("out")), content(Path("whole"))
    assert again.keys() == whole.keys()
    assert all(again[name] == whole[name] for name in whole if name != plan.PLAN)
    assert "out is complete: nothing to do" in hmrb(*asked).stdout


def test_a_photo_that_comes_later_is_predicted_by_the_next_run(in_blocks: Path) -> None:
    photo = (in_blocks / "photos" / "02.jpg").rename("kept.jpg")
    listed = Path("list.csv")
    listed.write_text("path,x,y,w,h\n" + "".join(f"photos/0{n}.jpg,1,1,40,60\n" for n in range(1, 5)))
    asked = ("predict", *words(in_blocks, "--device", "cpu")[1:2], str(listed), "--images", str(in_blocks), "-o", "out")
    done = hmrb(*asked)
    refused(done, "02.jpg", "run the command again to try 1 of them anew", code=1)
    photo.rename(in_blocks / "photos" / "02.jpg")
    done = hmrb(*asked)
    assert done.returncode == 0, done.stderr
    assert len(np.load("out/predictions.npz")["name"]) == 4
    assert "out is complete: nothing to do" in hmrb(*asked).stdout


def test_a_damaged_part_is_predicted_anew(in_blocks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = words(in_blocks, "--device", "cpu")
    join = "hmrb.predict.request.join"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(join, stop)
        assert hmrb(*asked).returncode == 130
    refused(hmrb(*asked, "--precision", "bf16"), "out holds the beginning of predictions (parts) of another request")
    parts = [part_file(Path("out/parts"), number) for number in range(3)]
    before = [part.read_bytes() for part in parts]
    parts[0].write_bytes(before[0][:-100])
    with h5py.File(parts[1], "r+") as file:
        file["betas"][0] = 7
    done = hmrb(*asked)
    refused(done, "00001.h5: its content has changed; run the command again, which predicts this block anew", code=1)
    assert "continuing: 6 of 10 pictures are done" in done.stdout
    assert parts[0].read_bytes() == before[0]
    refused(hmrb(*asked), "1 pictures or boxes were left out", code=1)
    assert len(np.load("out/predictions.npz")["name"]) == 9


def test_every_format_of_everybody_s_file_holds_the_same(in_blocks: Path) -> None:
    files = {"npz": "predictions.npz", "h5": "predictions.h5", "json": "people.json"}
    for kind, name in files.items():
        asked = words(in_blocks, "--device", "cpu", "--format", kind)
        asked = [word if word != "out" else kind for word in asked]
        assert hmrb(*asked).returncode == 1
        assert Path(kind, name).exists()
    table = dict(np.load("npz/predictions.npz"))
    with h5py.File("h5/predictions.h5") as file:
        assert set(file) == set(table)
        for key, array in table.items():
            theirs = file[key][()]
            np.testing.assert_array_equal(np.char.decode(theirs) if array.dtype.kind == "U" else theirs, array)
    tree = json.loads(Path("json/people.json").read_text())
    assert tree["joint_names"] == table.pop("joint_names").tolist()
    assert len(tree["people"]) == 9
    for row, person in enumerate(tree["people"]):
        assert {key: array[row].tolist() for key, array in table.items()} == person
    listed = sorted(path.name for path in Path("h5").iterdir())
    assert listed == [".plan.json", "predictions.h5"]


def test_for_millions_nothing_is_written_per_picture(in_blocks: Path) -> None:
    done = hmrb("predict", str(in_blocks / "run"), str(in_blocks / "photos"), "-o", "out", "--whole", "--format", "h5",
                "--device", "cpu")  # fmt: skip
    refused(done, UNREADABLE, code=1)
    assert sorted(content(Path("out"))) == [".plan.json", "predictions.h5"]


def test_parquet_has_the_same_rows_or_says_what_it_needs(in_blocks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        done = hmrb(*words(in_blocks, "--format", "parquet"))
    refused(done, "pyarrow is required", "pip install 'hmrb[parquet]', or use --format h5")
    assert not Path("out").exists()
    parquet = pytest.importorskip("pyarrow.parquet")
    assert hmrb(*words(in_blocks, "--device", "cpu", "--format", "parquet")).returncode == 1
    rows = parquet.read_table("out/predictions.parquet").to_pydict()
    assert len(rows["name"]) == 9
    assert np.array(rows["rotmats"]).shape == (9, 216)


def test_a_format_that_is_unknown_and_devices_that_exclude_each_other_are_refused(in_blocks: Path) -> None:
    refused(hmrb(*words(in_blocks, "--format", "npy")), "no format named 'npy'")
    both = words(in_blocks, "--device", "cpu", "--gpus", "1")
    refused(hmrb(*both), "--device cpu is for one process; for several use --gpus N, or --gpus 0 --cpu-procs N")
    refused(hmrb(*words(in_blocks, "--gpus", "512")), "--gpus 512: this machine has")
    refused(hmrb(*words(in_blocks, "--slurm")), "--slurm: set --gpus N, the number of GPUs per node")


def test_slurm_gets_the_same_command(in_blocks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(slurm, "submit", lambda *given: asked.append(given))
    monkeypatch.setattr(slurm, "check_slurm", lambda: None)
    plain = words(in_blocks, "--gpus", "0", "--cpu-procs", "3")
    assert hmrb(*plain, "--slurm", "--partition", "small", "--time=60").returncode == 0
    ((command,), submission, papers, follow) = asked[0]
    assert list(command.words) == plain
    assert (submission["cpus_per_task"], submission["partition"], submission["time"]) == (9, "small", 60)
    assert (papers, follow) == (Path("out.slurm").absolute(), False)
    assert Path("out/.plan.json").exists()


def boxes(count: int) -> tuple[GivenBox, ...]:
    return (GivenBox((0, 0, 1, 1)),) * count


def test_blocks_hold_every_picture_once_and_whole_batches_of_given_people() -> None:
    rng = np.random.default_rng(0)
    for counts in (rng.integers(0, 4, 5000), [1] * 1000, [0] * 3000, [700] * 3, [1]):
        pictures = [PictureSource(str(i), jpeg, boxes(int(count))) for i, count in enumerate(counts)]
        blocks = blocks_of(pictures)
        assert [at for block in blocks for at in block] == list(range(len(pictures)))
        sizes = [sum(int(counts[at]) for at in block) for block in blocks[:-1]]
        assert all(
            size % 64 == 0 or size >= 1024 or len(block) == 1024 for size, block in zip(sizes, blocks, strict=False)
        )
        assert max(map(len, blocks)) <= 1024
    unknown = [PictureSource(str(i), jpeg) for i in range(600)]
    assert blocks_of(unknown) == [range(256), range(256, 512), range(512, 600)]


def test_a_part_keeps_names_that_are_no_text(in_blocks: Path, tmp_path: Path) -> None:
    from hmrb.predict.account import Account
    from hmrb.predict.parts import write_part

    names = np.array(["a\udcff.jpg", "ü.jpg"])
    write_part(tmp_path / "a.h5", {"name": names}, Account())
    assert read_part(tmp_path / "a.h5")["name"].tolist() == names.tolist()


@pytest.mark.parametrize("target", ["/dev/full", "folder"])
def test_a_plan_that_is_no_file_is_refused_at_once(target: str, here: Path, tmp_path: Path) -> None:
    """What never ends would be read for ever."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".plan.json").symlink_to(tmp_path / target)  # an absolute path replaces the first
    asked = [str(tmp_path / "out") if word == "out" else word for word in words(here)]
    refused(hmrb(*asked), ".plan.json: not a file, so not the plan of a prediction")
