"""The catalogue's rows, and `hmrb list-datasets` as a user sees it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import hmrb, refused, spec_file
from conftest import person, tiny_tree, write_shard, write_tiny_store

from hmrb.check import name_problems
from hmrb.data.convert.catalogue import (
    ALIASES,
    ANNOTATIONS,
    DATASETS,
    ORIGINS,
    PLACES,
    STATUSES,
    Dataset,
    dataset,
    train_set,
)
from hmrb.data.sources import CONVERTERS
from hmrb.errors import RequestError
from hmrb.evaluation.protocols import BENCHMARKS
from hmrb.lookup import UnknownName
from hmrb.skeleton import SKELETONS
from hmrb.spec import parse_experiment
from hmrb.store import Store

ROWS = pytest.mark.parametrize("row", DATASETS.values(), ids=list(DATASETS))


def listed(*arguments: str, home: Path | None = None) -> list[dict]:
    done = hmrb("list-datasets", "--json", *arguments, home=home)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def slugs(*arguments: str, home: Path | None = None) -> list[str]:
    return [row["slug"] for row in listed(*arguments, home=home)]


@ROWS
def test_a_row_says_only_what_its_fields_may_say(row: Dataset) -> None:
    assert row.source in ORIGINS
    assert row.place in PLACES
    assert set(row.annotations) <= set(ANNOTATIONS)
    assert row.size.status in STATUSES
    assert row.size.status == "unverified" or row.size.count
    assert row.year is None or 2010 <= row.year <= 2026
    assert row.homepage == "" or row.homepage.startswith("http")
    assert all((row.name, row.licence, row.access, row.splits, row.size.unit))


@ROWS
def test_a_row_s_skeleton_parent_and_slug_exist(row: Dataset) -> None:
    assert row.skeleton in SKELETONS or "keypoints2d" not in row.annotations
    assert row.parent in DATASETS or not row.parent
    assert row.slug == row.slug.lower().replace("-", "_")


def test_the_study_s_31_datasets_have_its_numbers_and_no_other_has() -> None:
    published = {row.slug: row.published_pa_mpjpe_mm for row in DATASETS.values() if row.published_pa_mpjpe_mm}
    assert set(published) == {row.slug for row in DATASETS.values() if row.role == "train"}
    assert len(published) == 31
    assert (published["eft_coco"], published["ochuman"], published["3dpw"]) == (60.82, 130.55, 89.36)
    assert min(published, key=published.__getitem__) == "eft_coco"
    assert round(sum(published.values()), 2) == 2998.45  # of the 31 rows of the study's table


def test_what_others_call_a_dataset_leads_to_it() -> None:
    study = {"pw3d": "3dpw", "oh50k3d": "3doh50k", "people3d": "3dpeople", "up-3d": "up3d", "muco3dhp": "muco"}
    assert {name: dataset(name).slug for name in study} == study
    assert dataset("eft-coco") is DATASETS["eft_coco"]
    assert not set(ALIASES) & set(DATASETS)
    assert len(ALIASES) == sum(len(row.aliases) for row in DATASETS.values())
    with pytest.raises(UnknownName, match="no dataset named 'eft_cocoo'. Did you mean 'eft_coco'"):
        dataset("eft_cocoo")


def test_sources_and_benchmarks_are_in_the_catalogue() -> None:
    shards = {shard for row in DATASETS.values() for shard in row.shards}
    assert {(name, split) for name, source in CONVERTERS.items() for split in source.splits} <= shards
    assert {(bench.dataset, bench.split) for bench in BENCHMARKS.values()} <= shards
    assert DATASETS["3dpw_test"].shards == (("3dpw", "test"),)
    assert DATASETS["emdb"].shards == (("emdb", "emdb1"), ("emdb", "emdb2"))
    assert DATASETS["spin_mi"].shards == (("spin_mi", "train"),)


def test_one_trains_on_a_slug_that_is_no_test_set() -> None:
    assert train_set("mhp").role == "extra"
    with pytest.raises(RequestError, match="dataset 'pw3d' is an alias; use '3dpw' in specs"):
        train_set("pw3d")
    with pytest.raises(
        RequestError, match=r"'3dpw_test' is a test set \(split test of '3dpw'\) and cannot be trained on"
    ):
        train_set("3dpw_test")
    with pytest.raises(RequestError, match=r"'emdb' is a test set \(split emdb1 of 'emdb'\) and cannot be trained on"):
        train_set("emdb")


def test_a_mix_is_looked_up_in_the_catalogue(tmp_path: Path) -> None:
    mix = {"h36m": 0.5, "pw3d": 0.25, "lspett": 0.25}
    problems = name_problems(parse_experiment(tiny_tree() | {"data": {"mix": mix, "workers": 0}}, "a test"))
    assert "dataset 'pw3d' is an alias; use '3dpw' in specs" in problems
    assert any("no dataset named 'lspett'. Did you mean 'lspet'" in problem for problem in problems)
    assert not any("h36m" in problem.partition("Known:")[0] for problem in problems)
    done = hmrb("train", spec_file(tmp_path, data={"mix": {"coco": 1.0}}, evals={"select_on": None, "benches": []}))
    refused(done, "shard coco_train", "hmrb convert-data coco --raw DIR", "https://cocodataset.org/")


def test_the_list_has_a_line_for_every_dataset_where_no_terminal_is() -> None:
    done = hmrb("list-datasets")
    assert done.returncode == 0, done.stderr
    lines = {line.split("  ")[0].strip(): line for line in done.stdout.splitlines()}
    assert {row.name for row in DATASETS.values()} <= set(lines)
    for words in ("eft_coco ", "2021 3DV", "real, mixed", "keypoints2d, smpl", "79,051 persons", "60.82", "CC-BY-NC"):
        assert words in lines["EFT-COCO"]
    assert "~28,344 persons" in lines["COCO"]
    assert "22,735? person-frames" in lines["3DPW"]
    assert "? frames" in lines["VLOG"]
    assert "[extra]" in lines


def test_a_narrow_terminal_gets_the_columns_that_fit_it() -> None:
    done = hmrb("list-datasets", FORCE_COLOR="1", COLUMNS="80", TERM="xterm")
    table = re.sub(r"\x1b\[\d*m", "", done.stdout).splitlines()[:-4]
    assert max(map(len, table)) <= 80
    assert "coco_wholebody" in done.stdout
    assert "year, venue" not in done.stdout
    assert "shows more" in done.stdout
    assert "year, venue" in hmrb("list-datasets", FORCE_COLOR="1", COLUMNS="200", TERM="xterm").stdout


def test_filters_narrow_the_list() -> None:
    assert slugs("--role", "auxiliary") == ["spin_mi", "cmu_mosh"]
    domains = [row.slug for row in DATASETS.values() if row.name.startswith("Synthetic domain")]
    found = slugs("--kind", "synthetic")
    assert len(domains) == 12
    assert found == [
        "agora",
        "3dpeople",
        "surreal",
        "synthetic",
        "synthetic_full",
        "synthetic_hidden",
        *domains,
        "bedlam",
    ]
    assert slugs("--with", "smplx", "--with", "smpl") == ["agora", "mtp", "bedlam"]
    assert slugs("pw3d", "--role", "train") == ["3dpw"]
    assert slugs("nothing of that name") == []
    refused(hmrb("list-datasets", "nothing of that name"), "no dataset matches all filters")


def test_filters_say_what_is_wrong() -> None:
    refused(hmrb("list-datasets", "--kind", "indor"), "no kind named 'indor'. Did you mean 'indoor'")
    refused(hmrb("list-datasets", "--role", "tests"), "no role named 'tests'. Did you mean 'test'")
    refused(
        hmrb("list-datasets", "--with", "keypoint3d"), "no annotation named 'keypoint3d'. Did you mean 'keypoints3d'"
    )


def test_here_are_those_with_a_shard(tmp_path: Path) -> None:
    write_shard(Store(tmp_path).shard("3dpw", "test"), [person(0)], dataset="3dpw", split="test")
    assert slugs("--here", home=tmp_path) == ["3dpw_test"]
    (row,) = listed("--here", home=tmp_path)
    assert (row["here"], row["shards"]) == (["test"], [str(tmp_path / "shards" / "3dpw_test.h5")])
    assert row["size"] == {
        "count": 35515,
        "unit": "person-frames",
        "status": "unverified",
        "note": "official test split, valid camera poses, every person",
    }
    line = next(line for line in hmrb("list-datasets", home=tmp_path).stdout.splitlines() if "3dpw_test" in line)
    assert line.rstrip().endswith("test")


@pytest.mark.parametrize("has_shards", [False, True])
def test_the_list_imports_nothing_heavy(has_shards: bool, tmp_path: Path) -> None:
    """HDF5 alone, and only where there are shards to read."""
    if has_shards:
        write_tiny_store(tmp_path)
    script = (
        "import sys; sys.argv = ['hmrb', 'list-datasets']\n"
        "from hmrb.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('heavy:', sorted({'torch', 'timm', 'numpy', 'cv2', 'h5py'} & set(sys.modules)))"
    )
    environment = {**os.environ, "HMRB_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert "EFT-COCO" in done.stdout
    assert f"heavy: {['h5py', 'numpy'] if has_shards else []}" in done.stdout
