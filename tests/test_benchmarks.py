"""Benchmarks as protocols: what each row says, what truth and known mistakes score, who is counted and not scored."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import body_arrays, body_from, golden, person
from test_checkpoint import checkpoint as checkpoint
from test_cli import hmrb, refused

from hmrb.benchmarks import BENCHMARKS, GROUPS, ROWS, Benchmark, find_benchmark
from hmrb.body import SMPL
from hmrb.checkpoint import Checkpoint
from hmrb.data.catalogue import DATASETS
from hmrb.data.shard import Shard, ShardError
from hmrb.data.writer import ShardWriter
from hmrb.errors import RequestError, RunError
from hmrb.evaluate import Bodies, Scores, evaluate, metric_errors, save_scores
from hmrb.geometry import rotvec_to_rotmat
from hmrb.lookup import UnknownName
from hmrb.metrics import METRICS, Posed
from hmrb.records import Batch, Prediction, Sample
from hmrb.run import check_files
from hmrb.skeleton import SKELETONS
from hmrb.store import Store
from hmrb.tables import compare, read_results
from hmrb.world import World

ALONE = World(0, 1, torch.device("cpu"))
EVERY_ROW = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
H36M = BENCHMARKS["h36m"]
MM = 1e-3
SMALL = 0.01  # mm: float32 metres of a person some metres away


@pytest.fixture(scope="module")
def bodies() -> Bodies:
    """Three made-up bodies of 100 vertices with one set of regressors."""
    shared = ("J_regressor_h36m", "J_regressor_extra", "vertex_ids")
    members = [body_arrays(seed=seed) for seed in range(3)]
    members = [one | {key: members[0][key] for key in shared} for one in members]
    return Bodies({g: body_from(one, gender=g) for g, one in zip(("neutral", "male", "female"), members, strict=True)})


def truth_of(batch: Batch) -> Prediction:
    return Prediction(rotvec_to_rotmat(batch.pose), batch.betas, torch.ones(len(batch.row), 3))


def score(row: Benchmark, shard: Shard, bodies: Bodies, world: World = ALONE, predict: Callable = truth_of) -> Scores:
    def mean(count: int) -> Prediction:
        return Prediction(torch.eye(3).repeat(count, 24, 1, 1), torch.zeros(count, 10), torch.ones(count, 3))

    return evaluate(predict, mean, row, shard, bodies, world, image_px=32)


def skeleton_of(row: Benchmark) -> str:
    return "smpl54" if row.dataset.startswith("synthetic") else DATASETS[row.dataset].skeleton


def stored_joints(row: Benchmark, body: SMPL, sample: Sample) -> np.ndarray:
    """A person's joints by the protocol's regressor, some metres away, in the rows of the dataset's skeleton."""
    points = body.joints(
        body(rotvec_to_rotmat(torch.tensor(sample.pose)[None]), torch.tensor(sample.betas)[None]), row.regressor
    )[0]
    there = dict(zip(SKELETONS[row.regressor].joints, points.numpy() + [0.3, -0.2, 4], strict=True))
    joints = SKELETONS[skeleton_of(row)].joints
    return np.array([[*there[j], 1] if j in there else [9, 9, 9, 0] for j in joints], np.float32)


def people_of(row: Benchmark, bodies: Bodies, count: int = 5) -> list[Sample]:
    """People whose labels are true for the protocol, in the skeleton of its dataset."""
    rows2d = len(SKELETONS[skeleton_of(row)].joints)
    people = [replace(person(i), has_body=True, keypoints2d=np.zeros((rows2d, 3), np.float32)) for i in range(count)]
    return [replace(one, keypoints3d=stored_joints(row, bodies.by_gender["neutral"], one)) for one in people]


def shard_of(row: Benchmark, folder: Path, people: list[Sample], skeleton: str = "") -> Shard:
    path = Store(folder).shard(row.dataset, row.split)
    with ShardWriter(
        path, dataset=row.dataset, split=row.split, skeleton=skeleton or skeleton_of(row), body="smpl", made_by="a test"
    ) as writer:
        for one in people:
            writer.add(one)
    return Shard(path)


def moved(sample: Sample, row: Benchmark, joint: str, by: tuple[float, ...], confidence: float = 1) -> Sample:
    """The person with one stored joint elsewhere, or not labelled."""
    points = sample.keypoints3d.copy()
    points[SKELETONS[skeleton_of(row)].index(joint)] += (*by, confidence - 1)
    return replace(sample, keypoints3d=points)


@EVERY_ROW
def test_a_row_s_joints_are_in_its_skeletons(row: Benchmark) -> None:
    needed = {*row.root, *row.joint_names}
    assert needed <= set(SKELETONS[row.regressor].joints)
    assert row.truth != "stored" or needed <= set(SKELETONS[skeleton_of(row)].joints)
    assert set(row.metrics) <= set(METRICS)
    assert row.truth != "stored" or not row.has_mesh
    assert row.split == "test" or not row.is_test or row.dataset in ("h36m", "eft_coco")


@EVERY_ROW
def test_truth_scores_zero(row: Benchmark, bodies: Bodies, tmp_path: Path) -> None:
    scores = score(row, shard_of(row, tmp_path, people_of(row, bodies)), bodies)
    assert list(scores.errors) == list(row.metrics)
    for name, errors in scores.errors.items():
        assert len(errors) == 5
        assert errors.max() < SMALL, name
        assert scores.baseline[name].min() > 10, name
    assert scores.people.skipped == {}


@EVERY_ROW
def test_a_row_is_found_by_its_names(row: Benchmark) -> None:
    for name in (row.name, row.full_name, row.full_name.partition("@")[0]):
        assert find_benchmark(name) is row
        assert find_benchmark(name.replace("_", "-")) is row
        assert find_benchmark(name.replace("-", "_")) is row
    if row.is_variant:  # its name says what it is
        assert row.full_name.replace("-", "_") == f"{row.name}@{row.version}"


def test_names_and_protocols_are_told_apart() -> None:
    assert len({row.protocol for row in ROWS}) == len({row.name for row in ROWS}) == len(ROWS)
    default = BENCHMARKS["3dpw"]
    assert default.full_name == "3dpw/lsp14-h36mreg-pelvis-gendered@1"
    assert {row.name for row in ROWS if row.is_variant and row.dataset == "3dpw"} > {"3dpw/smpl24_hipmid_gendered"}
    changes = [{"root": default.root * 2}, {"min_labelled": 0.6}, {"version": 2}, {"truth": "neutral"}]
    assert len({default.protocol, *(replace(default, **change).protocol for change in changes)}) == 5
    assert replace(default, metrics=("mpjpe",)).protocol == default.protocol  # each metric is compared by itself
    with pytest.raises(UnknownName, match=r"Did you mean '3dpw/smpl24_hipmid_gendered'.*hmrb list-benches"):
        find_benchmark("3dpw/smpl24-hipmid-genderd")
    with pytest.raises(UnknownName, match=r"no benchmark named '3dpw/smpl24-hipmid-gendered@2'.*@1'"):
        find_benchmark("3dpw/smpl24-hipmid-gendered@2")
    assert all(find_benchmark(name) for names in GROUPS.values() for name in names)


def test_one_of_14_stored_joints_off_by_140_mm_costs_10(bodies: Bodies, tmp_path: Path) -> None:
    people = people_of(H36M, bodies, 3)
    people[0] = moved(people[0], H36M, "left_knee", (0, 0.140, 0))
    people[1] = moved(people[1], H36M, "pelvis_extra", (0.03, 0, 0.04))  # the root: all joints are 50 mm off
    people[2] = moved(people[2], H36M, "spine_extra", (1, 1, 1))  # none of the 14
    scores = score(H36M, shard_of(H36M, tmp_path, people), bodies)
    np.testing.assert_allclose(scores.errors["mpjpe"], [10, 50, 0], atol=SMALL)
    knee = H36M.joint_names.index("left_knee")
    np.testing.assert_allclose(scores.joint_errors[0], np.eye(14)[knee] * 140, atol=SMALL)
    assert scores.errors["pa_mpjpe"][0] > 1
    np.testing.assert_allclose(scores.errors["pa_mpjpe"][1:], 0, atol=SMALL)  # a shift is no error after alignment
    hips = score(
        BENCHMARKS["h36m/lsp14_h36mreg_hipmid_stored"], Shard(Store(tmp_path).shard("h36m", "test_p2")), bodies
    )
    np.testing.assert_allclose(hips.errors["mpjpe"], [10, 0, 0], atol=SMALL)  # the pelvis is none of its joints


def test_joints_without_a_label_do_not_count(bodies: Bodies, tmp_path: Path) -> None:
    people = people_of(H36M, bodies, 2)
    people[0] = moved(people[0], H36M, "left_knee", (5, 5, 5), confidence=0)
    people[0] = moved(people[0], H36M, "headtop", (0, 0.130, 0))
    people[1] = moved(people[1], H36M, "left_knee", (0, 0.014, 0))
    scores = score(H36M, shard_of(H36M, tmp_path, people), bodies)
    np.testing.assert_allclose(scores.errors["mpjpe"], [10, 1], atol=SMALL)  # 130 / 13 joints, 14 / 14
    record = save_scores(scores, tmp_path, {})
    assert record["labelled_joints"] == 27
    assert record["per_joint_mpjpe_mm"]["left_knee"] == pytest.approx(14, abs=SMALL)
    assert record["per_joint_mpjpe_mm"]["headtop"] == pytest.approx(65, abs=SMALL)


def test_people_without_a_truth_are_counted_and_not_averaged(bodies: Bodies, tmp_path: Path) -> None:
    people = people_of(H36M, bodies, 5)
    people[1] = moved(people[1], H36M, "pelvis_extra", (0, 0, 0), confidence=0)
    for joint in H36M.joint_names[:8]:
        people[2] = moved(people[2], H36M, joint, (0, 0, 0), confidence=0)
    for joint in H36M.joint_names[:7]:  # half are left
        people[3] = moved(people[3], H36M, joint, (0, 0, 0), confidence=0)
    scores = score(H36M, shard_of(H36M, tmp_path, people), bodies)
    record = save_scores(scores, tmp_path, {})
    assert record["skipped"] == {"no labelled root": 1, "less than 50% of the joints labelled": 1}
    assert record["num_people"] == 3
    assert record["shard"]["num_people"] == 5
    assert scores.people.rows.tolist() == [0, 3, 4]
    assert scores.rotmats.shape == (3, 24, 3, 3)

    bodiless = BENCHMARKS["eft_coco"]
    people = [replace(one, has_body=i != 2) for i, one in enumerate(people_of(bodiless, bodies, 3))]
    assert score(bodiless, shard_of(bodiless, tmp_path, people), bodies).people.skipped == {"no labelled body": 1}
    shard = shard_of(bodiless, tmp_path, [replace(one, has_body=False) for one in people])
    with pytest.raises(RunError, match=r"eft_coco: none of the 3 people of .* can be scored: 3 have no labelled body"):
        score(bodiless, shard, bodies)


def test_a_shard_of_another_skeleton_is_refused(bodies: Bodies, tmp_path: Path) -> None:
    people = [replace(one, keypoints3d=np.ones((17, 4), np.float32)) for one in people_of(H36M, bodies, 2)]
    shard = shard_of(H36M, tmp_path, people, skeleton="coco")
    with pytest.raises(
        ShardError, match="is in skeleton 'coco', which has no neck_extra, headtop, pelvis_extra; .*h36m"
    ):
        score(H36M, shard, bodies)


def test_people_whose_gender_is_not_known_get_the_neutral_body_and_are_counted(bodies: Bodies, tmp_path: Path) -> None:
    row = BENCHMARKS["3dpw"]
    people = people_of(row, bodies, 5)
    people[1], people[4] = replace(people[1], gender="male"), replace(people[4], gender="female")
    scores = score(row, shard_of(row, tmp_path, people), bodies)
    assert (scores.errors["mpjpe"] > 10).tolist() == [False, True, False, False, True]
    shas = {name: body.sha for name, body in bodies.by_gender.items()}
    assert scores.truth_bodies == {
        "neutral": {"sha": shas["neutral"], "people": 3},
        "male": {"sha": shas["male"], "people": 1},
        "female": {"sha": shas["female"], "people": 1},
    }
    neutral = score(BENCHMARKS["3dpw/smpl24_pelvis_neutral"], Shard(Store(tmp_path).shard("3dpw", "test")), bodies)
    assert neutral.errors["mpjpe"].max() < SMALL
    assert list(neutral.truth_bodies) == ["neutral"]


@pytest.mark.parametrize("regressor", ["h36m17", "smpl24", "smpl54"])
def test_joints_alone_need_no_whole_mesh(regressor: str, bodies: Bodies) -> None:
    row = Benchmark(
        "x", "x", "test", "a test", regressor=regressor, root=SKELETONS[regressor].joints[:1], joints=regressor
    )
    lean, body = replace(row, metrics=("mpjpe",)), bodies.by_gender["neutral"]
    rotmats, betas = rotvec_to_rotmat(torch.tensor(person(0).pose)[None]), torch.tensor(person(0).betas)[None]
    whole, part = body(rotmats, betas, row.part), body(rotmats, betas, lean.part)
    assert whole.vertices.shape[1] == 100
    assert (part.vertices.shape[1] == 0) == (regressor == "smpl24")
    difference = row.posed(body, whole).joints - lean.posed(body, part).joints
    assert difference.abs().max() < 1e-6  # metres; sums in another order


@pytest.mark.parametrize("size", [2, 3, 9])
def test_processes_share_the_people_and_each_counts_once(size: int, bodies: Bodies, tmp_path: Path) -> None:
    told = []

    class Part(World):
        def gather_rows(self, rows: torch.Tensor, values: torch.Tensor, total: int) -> torch.Tensor:
            told.append((rows, values))
            return torch.zeros(total, values.shape[1])

    people = people_of(H36M, bodies, 8)
    people[3] = moved(people[3], H36M, "pelvis_extra", (0, 0, 0), confidence=0)
    people[5] = moved(people[5], H36M, "left_knee", (0.1, 0, 0))
    shard = shard_of(H36M, tmp_path, people)
    score(H36M, shard, bodies, Part(0, 1, ALONE.device))
    (_, alone), *_ = told
    told.clear()
    for rank in range(size):
        score(H36M, shard, bodies, Part(rank, size, ALONE.device))
    rows, values = (torch.cat(parts) for parts in zip(*told, strict=True))
    assert sorted(rows.tolist()) == list(range(7))
    together = ALONE.gather_rows(rows, values, 7)
    assert (together - alone).abs().max() < 1e-3  # mm; float32 sums of a larger batch run in another order


def test_the_study_s_numbers_come_from_its_joints() -> None:
    """Its evaluator's MPJPE and PA-MPJPE of 8 people, from the 17 joints of each side to the number."""
    study, row = golden("4b_evaluate_pw3d_mini"), BENCHMARKS["3dpw"]
    sides = [study["pred_keypoints17"], golden("4b_pw3d_mini_truth")["truth_keypoints17"]]
    pred, truth = (Posed(row.rooted(torch.from_numpy(side), "h36m17")[0], torch.zeros(8, 0, 3)) for side in sides)
    errors = metric_errors(pred, truth, torch.ones(8, 14).bool(), ("mpjpe", "pa_mpjpe")).double().mean(0)
    assert float(errors[0]) == pytest.approx(float(study["metric.mpjpe"]), abs=1e-3)
    assert float(errors[1]) == pytest.approx(float(study["metric.pa-mpjpe"]), abs=1e-3)


def test_variants_are_never_in_one_table(bodies: Bodies, tmp_path: Path) -> None:
    default, variant = BENCHMARKS["3dpw"], BENCHMARKS["3dpw/smpl24_hipmid_gendered"]
    shard = shard_of(default, tmp_path, people_of(default, bodies))
    for name in ("one", "other"):
        about = {"experiment": name, "spec": {"name": name, "seed": 0, "published": []}}
        for row in (default, variant):
            save_scores(score(row, shard, bodies), tmp_path / name / "eval", about)
    assert (tmp_path / "one" / "eval" / "3dpw-smpl24_hipmid_gendered.json").exists()
    tables = compare(read_results([tmp_path / "one", tmp_path / "other"]), "mpjpe", None)
    assert sorted(table.protocol for table in tables) == sorted([default.protocol, variant.protocol])
    assert all([row.experiment for row in table.rows] == ["one", "other"] for table in tables)


def test_the_page_has_every_row_as_it_is() -> None:
    """A protocol cannot change unseen: its hash stands in docs/benchmarks.md."""
    lines = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text().splitlines()
    for row in ROWS:
        assert any(f"| `{row.name}` " in line and f" `{row.protocol}` " in line for line in lines), row.protocol


def test_all_that_is_missing_is_said_before_anything_runs(checkpoint: Checkpoint, tmp_path: Path) -> None:
    store, licensed = Store(tmp_path), replace(checkpoint, spec=checkpoint.spec.replace('"open"', '"smpl"'))
    benchmarks = [BENCHMARKS[name] for name in ("3dpw", "3dpw/smpl24_hipmid_gendered", "h36m")]
    with pytest.raises(RequestError) as refusal:
        check_files(benchmarks, licensed, store)
    pw3d, h36m, body = str(refusal.value).splitlines()
    assert pw3d == f"no shard of '3dpw' at {tmp_path}/shards/3dpw_test.h5; make it: hmrb convert-data 3dpw"
    assert h36m.endswith("make it: hmrb convert-data h36m")
    assert "SMPL_NEUTRAL.npz: no such file; get it from https://smpl" in body


def test_list_benches_and_explain_say_what_there_is(bodies: Bodies, tmp_path: Path) -> None:
    shard_of(H36M, tmp_path, people_of(H36M, bodies, 1))
    done = hmrb("list-benches", "--json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = {row["name"]: row for row in json.loads(done.stdout)}
    assert list(listed) == [row.name for row in ROWS]
    assert {name for name, row in listed.items() if row["here"]} == {"h36m", "h36m/lsp14_h36mreg_hipmid_stored"}
    assert listed["h36m"]["protocol"] == H36M.protocol
    table = hmrb("list-benches", "--here", home=tmp_path)
    assert "14 lsp14" in table.stdout
    assert "eft_coco" not in table.stdout
    said = hmrb("eval", "--explain", "mpi-inf-3dhp")
    assert said.returncode == 0, said.stderr
    for words in (BENCHMARKS["mpi_inf_3dhp"].protocol, "by name", "pelvis_extra", "right_ankle, right_knee", "fewer"):
        assert words in said.stdout
    refused(hmrb("eval", "--explain", "3dpv"), "no benchmark named '3dpv'. Did you mean '3dpw'")
    refused(hmrb("eval", "--bench", "3dpw"), "which checkpoint? hmrb eval CHECKPOINT --bench NAME")
