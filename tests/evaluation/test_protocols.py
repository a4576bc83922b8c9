"""Benchmarks: the choices of each row, scores of the truth and of known errors, and which people are skipped."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import hmrb, refused
from conftest import body_arrays, body_from, golden, machine, person, source
from test_checkpoint import checkpoint as checkpoint
from test_evaluate import resting

from hmrb.batch import Batch, Prediction
from hmrb.body import SMPL, BodyError
from hmrb.checkpoint import Checkpoint
from hmrb.data.convert.catalogue import DATASETS
from hmrb.data.convert.writer import ShardWriter
from hmrb.data.shard import Shard, ShardError
from hmrb.errors import RequestError, RunError
from hmrb.evaluation.evaluate import Feed, ScoredPeople, Scores, evaluate, network_predictor
from hmrb.evaluation.metric_table import BETTER, MOTION, TITLES
from hmrb.evaluation.metrics import Posed
from hmrb.evaluation.motion import Frames
from hmrb.evaluation.posing import posed, rooted
from hmrb.evaluation.protocols import BENCHMARKS, GROUPS, ROWS, SHARES, Benchmark, find_benchmark
from hmrb.evaluation.records import read_results
from hmrb.evaluation.saving import save_scores
from hmrb.evaluation.scoring import Bodies, Points, Scorer, metric_errors, true_posed
from hmrb.evaluation.truths import Truths
from hmrb.geometry import project, rotvec_to_rotmat
from hmrb.lookup import UnknownName
from hmrb.parallel.world import World
from hmrb.records import GENDERS, Sample
from hmrb.reports.tables import compare
from hmrb.run import check_files
from hmrb.skeleton import SKELETONS
from hmrb.store import Store

ALONE = World(0, 1, torch.device("cpu"))
EVERY_ROW = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
SPATIAL_ROWS = pytest.mark.parametrize(
    "row", [row for row in ROWS if row.truth != "marked"], ids=[row.name for row in ROWS if row.truth != "marked"]
)
H36M = BENCHMARKS["h36m"]
MM = 1e-3
SMALL = 0.01  # mm; float32 error of a person some metres away


@pytest.fixture(scope="module")
def bodies() -> Bodies:
    """Three random bodies of 100 vertices with the same regressors."""
    shared = ("J_regressor_h36m", "J_regressor_extra", "vertex_ids", "SMPL_to_J19")
    members = [body_arrays(seed=seed) for seed in range(3)]
    members = [one | {key: members[0][key] for key in shared} for one in members]
    return Bodies({g: body_from(one, gender=g) for g, one in zip(("neutral", "male", "female"), members, strict=True)})


def truth_of(batch: Batch) -> Prediction:
    return Prediction(batch.rotmats, batch.betas, torch.ones(len(batch.row), 3))


def score(row: Benchmark, shard: Shard, bodies: Bodies, world: World = ALONE, predict: Callable = truth_of) -> Scores:
    guess = network_predictor(predict, Feed(row, shard, 32, world.device))
    return evaluate(guess, resting(), row, shard, bodies, world, image_px=32)


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
    """People with correct labels for the protocol, in the skeleton of its dataset; frames of one sequence."""
    rows2d = len(SKELETONS[skeleton_of(row)].joints)
    body, out = bodies.by_gender["neutral"], []
    for i in range(count):
        one = replace(person(i), has_body=True, columns={"sequence": "walk"})
        marks = marked_joints(row, body, one) if row.truth == "marked" else np.zeros((rows2d, 3), np.float32)
        out.append(replace(one, keypoints2d=marks, keypoints3d=stored_joints(row, body, one)))
    return out


def marked_joints(row: Benchmark, body: SMPL, sample: Sample) -> np.ndarray:
    """A person's joints where the camera (1, 1, 1) sees them in a crop of 32 px, in pixels of its image."""
    rotmats, betas = rotvec_to_rotmat(torch.tensor(sample.pose)[None]), torch.tensor(sample.betas)[None]
    seen = project(body.joints(body(rotmats, betas), row.regressor), torch.ones(1, 3), 32)[0].numpy() - 0.5
    x, y, width, height = sample.box
    middle, side = np.array([x + width / 2, y + height / 2]), max(width, height) * row.box_scale
    there = dict(zip(SKELETONS[row.regressor].joints, middle + seen * side / 32, strict=True))
    return np.array([[*there[joint], 1] for joint in SKELETONS[skeleton_of(row)].joints], np.float32)


def shard_of(row: Benchmark, folder: Path, people: list[Sample], skeleton: str = "") -> Shard:
    path = Store(folder).shard(row.dataset, row.split)
    with ShardWriter(
        path, dataset=row.dataset, split=row.split, skeleton=skeleton or skeleton_of(row), body="smpl", made_by="a test"
    ) as writer:
        for one in people:
            writer.add(one)
    return Shard(path)


def moved(sample: Sample, row: Benchmark, joint: str, by: tuple[float, ...], confidence: float = 1) -> Sample:
    """The person with one stored joint moved, or not labelled."""
    points = sample.keypoints3d.copy()
    points[SKELETONS[skeleton_of(row)].index(joint)] += (*by, confidence - 1)
    return replace(sample, keypoints3d=points)


@EVERY_ROW
def test_a_row_s_joints_are_in_its_skeletons(row: Benchmark) -> None:
    needed = {*row.root, *row.joint_names}
    assert needed <= set(SKELETONS[row.regressor].joints)
    assert row.truth not in ("stored", "marked") or needed <= set(SKELETONS[skeleton_of(row)].joints)
    assert set(row.metrics) <= set(TITLES)
    assert {row.dataset, *row.siblings} <= set(DATASETS)
    assert row.truth != "stored" or not row.has_mesh
    assert row.split == "test" or not row.is_test or row.dataset in ("h36m", "eft_coco", "coco", "emdb")


@EVERY_ROW
def test_truth_scores_zero(row: Benchmark, bodies: Bodies, tmp_path: Path) -> None:
    scores = score(row, shard_of(row, tmp_path, people_of(row, bodies)), bodies)
    assert list(scores.errors) == list(row.metrics)
    for name, errors in scores.errors.items():
        counted, baseline = scores.counted[name], scores.baseline[name][scores.counted[name]]
        assert counted.sum() == {"acceleration_error": 3, "jitter": 2}.get(name, 5)
        if name == "jitter":  # depends only on the prediction
            assert errors[counted].min() > 1
        elif BETTER[name] == "lower":
            limit = 0.1 if name == "acceleration_error" else SMALL  # m/s^2: float32 joints, times 900
            assert errors.max() < limit, name
            assert baseline.min() > 5, name
        else:  # an error of 0 is not below the threshold 0
            assert errors.min() == pytest.approx(100 * 30 / 31 if "auc" in name else 100), name
            assert "pck" in name or baseline.max() < 96, name  # the random body's joints are within 150 mm
    assert (scores.people.skipped, scores.left_out) == ({}, {})
    assert scores.odd.tolist() == [0] * 5


@SPATIAL_ROWS
def test_a_turn_of_20_degrees_costs_what_it_moves(row: Benchmark, bodies: Bodies, tmp_path: Path) -> None:
    turn = rotvec_to_rotmat(torch.tensor([0.0, np.radians(20), 0.0], dtype=torch.float32))

    def turned(batch: Batch) -> Prediction:
        right = truth_of(batch)
        root = turn @ right.rotmats[:, :1]
        return Prediction(torch.cat([root, right.rotmats[:, 1:]], 1), right.betas, right.camera)

    people = people_of(row, bodies)
    shard = shard_of(row, tmp_path, people)
    scores = score(row, shard, bodies, predict=turned)
    joints = true_posed(row, shard, bodies, np.arange(5), ALONE.device).joints
    moved_mm = 1000 * (joints @ turn.T - joints).norm(dim=-1)
    np.testing.assert_allclose(scores.errors["mpjpe"], moved_mm.mean(1), rtol=1e-4)
    np.testing.assert_allclose(scores.joint_errors, moved_mm, rtol=1e-3, atol=SMALL)
    assert scores.errors["pa_mpjpe"].max() < SMALL
    if "mpjae" in row.metrics:
        np.testing.assert_allclose(scores.errors["mpjae"], 20, rtol=1e-3)
        assert scores.errors["pa_mpjae"].max() < 0.1
    if "pve" in row.metrics:
        assert scores.errors["pve"].min() > 10
        assert scores.errors["pa_pve"].max() < SMALL


@SPATIAL_ROWS
def test_a_shift_costs_nothing_and_half_size_half_the_body(row: Benchmark, bodies: Bodies, tmp_path: Path) -> None:
    shard = shard_of(row, tmp_path, people_of(row, bodies))
    joints = regressed(row, shard, bodies)
    shifted = score_points(row, shard, bodies, joints + torch.tensor([0.1, -0.2, 3.0]))
    of_joints = {"mpjpe", "pa_mpjpe", "n_mpjpe"} & set(row.metrics)
    assert max(shifted.errors[name].max() for name in of_joints) < SMALL
    half = score_points(row, shard, bodies, joints / 2)
    sizes_mm = 1000 * true_posed(row, shard, bodies, np.arange(5), ALONE.device).joints.norm(dim=-1).mean(1)
    np.testing.assert_allclose(half.errors["mpjpe"], sizes_mm / 2, rtol=1e-4)
    assert max(half.errors[name].max() for name in of_joints - {"mpjpe"}) < SMALL
    assert set(half.left_out) == set(row.metrics) - {*of_joints, *SHARES, *MOTION}
    assert half.rotmats.shape == (0, 24, 3, 3)


@SPATIAL_ROWS
def test_another_root_and_another_order_of_joints_are_noticed(row: Benchmark, bodies: Bodies, tmp_path: Path) -> None:
    shard = shard_of(row, tmp_path, people_of(row, bodies))
    joints = regressed(row, shard, bodies)
    mirrored = score_points(row, shard, bodies, joints[:, SKELETONS[row.regressor].mirror()])
    assert mirrored.errors["mpjpe"].min() > 10  # left and right swapped
    other = replace(row, root=(next(joint for joint in row.joint_names if joint not in row.root),))
    assert other.protocol != row.protocol
    people = people_of(row, bodies)
    if row.truth == "stored":  # only the label of that root is wrong
        people = [moved(one, row, other.root[0], (0.3, 0, 0)) for one in people]
        shard = shard_of(row, tmp_path / "b", people)
        right, wrong = (score_points(one, shard, bodies, joints).errors["mpjpe"] for one in (row, other))
        assert (wrong > 3 * right).all()
    record = save_scores(score_points(other, shard, bodies, joints), tmp_path / "eval", source(), machine())
    assert record.protocol == other.protocol
    with pytest.raises(
        RequestError, match=rf"has protocol .*, but in this hmrb {row.name} is .*; score the checkpoint"
    ):
        read_results([tmp_path / "eval" / f"{row.file_stem}.json"])


def regressed(row: Benchmark, shard: Shard, bodies: Bodies) -> torch.Tensor:
    """True joints of a shard's people by the protocol's regressor, without root alignment."""
    rotmats = rotvec_to_rotmat(torch.from_numpy(shard.arrays["pose"].copy()))
    mesh = bodies.by_gender["neutral"](rotmats, torch.from_numpy(shard.arrays["betas"].copy()))
    return bodies.by_gender["neutral"].joints(mesh, row.regressor)


def score_points(row: Benchmark, shard: Shard, bodies: Bodies, joints: torch.Tensor) -> Scores:
    """Predicted joints instead of bodies."""

    def predictor(blocks: Sequence[np.ndarray]) -> Iterator[Points]:
        for rows in blocks:
            yield Points(joints[rows], None)

    return evaluate(predictor, Points(joints.mean(0, keepdim=True), None), row, shard, bodies, ALONE)


@EVERY_ROW
def test_a_row_is_found_by_its_names(row: Benchmark) -> None:
    for name in (row.name, row.full_name, row.full_name.partition("@")[0]):
        assert find_benchmark(name) is row
        assert find_benchmark(name.replace("_", "-")) is row
        assert find_benchmark(name.replace("-", "_")) is row
    if row.is_variant:  # its name lists its choices
        assert row.full_name.replace("-", "_") == f"{row.name}@{row.version}"


def test_names_and_protocols_are_told_apart() -> None:
    assert len({row.protocol for row in ROWS}) == len({row.name for row in ROWS}) == len(ROWS)
    default = BENCHMARKS["3dpw"]
    assert default.full_name == "3dpw/lsp14-h36mreg-pelvis-gendered@1"
    assert {row.name for row in ROWS if row.is_variant and row.dataset == "3dpw"} > {"3dpw/smpl24_hipmid_gendered"}
    changes = [{"root": default.root * 2}, {"min_labelled": 0.6}, {"version": 2}, {"truth": "neutral"}]
    assert len({default.protocol, *(replace(default, **change).protocol for change in changes)}) == 5
    assert replace(default, metrics=("mpjpe",)).protocol == default.protocol  # metrics are compared separately
    with pytest.raises(UnknownName, match=r"Did you mean '3dpw/smpl24_hipmid_gendered'.*hmrb list-benches"):
        find_benchmark("3dpw/smpl24-hipmid-genderd")
    with pytest.raises(UnknownName, match=r"no benchmark named '3dpw/smpl24-hipmid-gendered@2'.*@1'"):
        find_benchmark("3dpw/smpl24-hipmid-gendered@2")
    assert all(find_benchmark(name) for names in GROUPS.values() for name in names)


def test_one_of_14_stored_joints_off_by_140_mm_costs_10(bodies: Bodies, tmp_path: Path) -> None:
    people = people_of(H36M, bodies, 3)
    people[0] = moved(people[0], H36M, "left_knee", (0, 0.140, 0))
    people[1] = moved(people[1], H36M, "pelvis_extra", (0.03, 0, 0.04))  # the root: moves all joints by 50 mm
    people[2] = moved(people[2], H36M, "spine_extra", (1, 1, 1))  # not one of the 14
    scores = score(H36M, shard_of(H36M, tmp_path, people), bodies)
    np.testing.assert_allclose(scores.errors["mpjpe"], [10, 50, 0], atol=SMALL)
    knee = H36M.joint_names.index("left_knee")
    np.testing.assert_allclose(scores.joint_errors[0], np.eye(14)[knee] * 140, atol=SMALL)
    assert scores.errors["pa_mpjpe"][0] > 1
    np.testing.assert_allclose(scores.errors["pa_mpjpe"][1:], 0, atol=SMALL)  # alignment removes a translation
    hips = score(
        BENCHMARKS["h36m/lsp14_h36mreg_hipmid_stored"], Shard(Store(tmp_path).shard("h36m", "test_p2")), bodies
    )
    np.testing.assert_allclose(hips.errors["mpjpe"], [10, 0, 0], atol=SMALL)  # the pelvis is not one of its joints


def test_joints_without_a_label_do_not_count(bodies: Bodies, tmp_path: Path) -> None:
    people = people_of(H36M, bodies, 2)
    people[0] = moved(people[0], H36M, "left_knee", (5, 5, 5), confidence=0)
    people[0] = moved(people[0], H36M, "headtop", (0, 0.130, 0))
    people[1] = moved(people[1], H36M, "left_knee", (0, 0.014, 0))
    scores = score(H36M, shard_of(H36M, tmp_path, people), bodies)
    np.testing.assert_allclose(scores.errors["mpjpe"], [10, 1], atol=SMALL)  # 130 / 13 joints, 14 / 14
    record = save_scores(scores, tmp_path, source(), machine())
    assert record.labelled_joints == 27
    assert record.per_joint["left_knee"] == pytest.approx(14, abs=SMALL)
    assert record.per_joint["headtop"] == pytest.approx(65, abs=SMALL)


def test_people_without_a_truth_are_counted_and_not_averaged(bodies: Bodies, tmp_path: Path) -> None:
    people = people_of(H36M, bodies, 5)
    people[1] = moved(people[1], H36M, "pelvis_extra", (0, 0, 0), confidence=0)
    for joint in H36M.joint_names[:8]:
        people[2] = moved(people[2], H36M, joint, (0, 0, 0), confidence=0)
    for joint in H36M.joint_names[:7]:  # half remain
        people[3] = moved(people[3], H36M, joint, (0, 0, 0), confidence=0)
    scores = score(H36M, shard_of(H36M, tmp_path, people), bodies)
    record = save_scores(scores, tmp_path, source(), machine())
    assert record.skipped == {"no labelled root": 1, "less than 50% of the joints labelled": 1}
    assert record.num_people == 3
    assert record.conditions.shard["num_people"] == 5
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
    with pytest.raises(ShardError, match="has skeleton 'coco' without neck_extra, headtop, pelvis_extra; .*h36m"):
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
    difference = posed(row, body, whole).joints - posed(lean, body, part).joints
    assert difference.abs().max() < 1e-6  # metres; another summation order


@pytest.mark.parametrize("row", [H36M, BENCHMARKS["3dpw"]], ids=["one body", "by gender"])
@pytest.mark.parametrize("size", [2, 3, 9])
def test_processes_share_the_people_and_give_the_same_digits(
    size: int, row: Benchmark, bodies: Bodies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hmrb.evaluation.evaluate.BATCH", 2)
    told, whole = [], {}

    class Part(World):
        def gather_rows(self, rows: torch.Tensor, columns: dict[str, torch.Tensor], total: int) -> dict:
            told.append((rows, columns))
            return {name: column.new_zeros(total, *column.shape[1:]) for name, column in (columns or whole).items()}

    people = [replace(one, gender=GENDERS[i % 3]) for i, one in enumerate(people_of(row, bodies, 8))]
    if row is H36M:
        people[3] = moved(people[3], H36M, "pelvis_extra", (0, 0, 0), confidence=0)
    else:
        people[3] = replace(people[3], has_body=False)
    shard = shard_of(row, tmp_path, people)
    score(row, shard, bodies, Part(0, 1, ALONE.device))
    rows, whole = told.pop()
    alone = ALONE.gather_rows(rows, whole, 7)
    for rank in range(size):
        score(row, shard, bodies, Part(rank, size, ALONE.device))
    rows = torch.cat([rows for rows, _ in told])
    assert sorted(rows.tolist()) == list(range(7))
    together = {name: torch.cat([columns[name] for _, columns in told if columns]) for name in whole}
    shared = ALONE.gather_rows(rows, together, 7)
    assert shared.keys() == alone.keys()
    assert all(torch.equal(shared[name], column) for name, column in alone.items())


def test_the_study_s_numbers_come_from_its_joints() -> None:
    """MPJPE and PA-MPJPE of 8 people, computed as in its evaluator from 17 joints per side."""
    study, row = golden("4b_evaluate_pw3d_mini"), BENCHMARKS["3dpw"]
    sides = [study["pred_keypoints17"], golden("4b_pw3d_mini_truth")["truth_keypoints17"]]
    pred, truth = (Posed(rooted(row, torch.from_numpy(side), "h36m17")[0], torch.zeros(8, 0, 3)) for side in sides)
    errors = metric_errors(pred, truth, torch.ones(8, 14).bool(), ("mpjpe", "pa_mpjpe"))[0].double().mean(0)
    assert float(errors[0]) == pytest.approx(float(study["metric.mpjpe"]), abs=1e-3)
    assert float(errors[1]) == pytest.approx(float(study["metric.pa-mpjpe"]), abs=1e-3)


def test_variants_are_never_in_one_table(bodies: Bodies, tmp_path: Path) -> None:
    default, variant = BENCHMARKS["3dpw"], BENCHMARKS["3dpw/smpl24_hipmid_gendered"]
    shard = shard_of(default, tmp_path, people_of(default, bodies))
    for name in ("one", "other"):
        for row in (default, variant):
            save_scores(score(row, shard, bodies), tmp_path / name / "eval", source(name), machine())
    assert (tmp_path / "one" / "eval" / "3dpw-smpl24_hipmid_gendered.json").exists()
    tables = compare(read_results([tmp_path / "one", tmp_path / "other"]), "mpjpe", None)
    assert sorted(table.protocol for table in tables) == sorted([default.protocol, variant.protocol])
    assert all([row.experiment for row in table.rows] == ["one", "other"] for table in tables)


def test_the_page_has_every_row_as_it_is() -> None:
    """A protocol cannot change unnoticed, because docs/benchmarks.md contains its hash."""
    lines = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text().splitlines()
    for row in ROWS:
        assert any(f"| `{row.name}` " in line and f" `{row.protocol}` " in line for line in lines), row.protocol


def test_all_that_is_missing_is_said_before_anything_runs(checkpoint: Checkpoint, tmp_path: Path) -> None:
    store, licensed = Store(tmp_path), replace(checkpoint, spec=checkpoint.spec.replace('"open"', '"smpl"'))
    benchmarks = [BENCHMARKS[name] for name in ("3dpw", "3dpw/smpl24_hipmid_gendered", "h36m")]
    with pytest.raises(RequestError) as refusal:
        check_files(benchmarks, licensed, store)
    assert [need.what for need in refusal.value.needs] == [
        "shard 3dpw_test", "shard h36m_test_p2", "SMPL neutral", "SMPL male", "SMPL female", "J_regressor_h36m.npy",
        "J_regressor_extra.npy",
    ]  # fmt: skip
    assert refusal.value.needs[1].command == "hmrb convert-data h36m --raw DIR"


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


def test_the_study_s_pve_leaves_roots_apart_and_takes_the_true_body(bodies: Bodies, tmp_path: Path) -> None:
    row = BENCHMARKS["3dpw/lsp14_h36mreg_pelvis_gendered_study"]
    assert find_benchmark("3dpw/study") is row
    people = [replace(one, gender="male") for one in people_of(row, bodies, 3)]
    shard = shard_of(row, tmp_path, people)
    theirs, ours = (score(one, shard, bodies).errors for one in (row, BENCHMARKS["3dpw"]))
    assert theirs["pve_study"].max() < SMALL  # the correct pose with the true body
    assert ours["pve"].min() > 10  # with the neutral body
    np.testing.assert_array_equal(theirs["mpjpe"], ours["mpjpe"])
    assert theirs["mpjpe"].min() > 10


def test_only_some_metrics_are_taken_and_no_mesh_where_none_is_asked_for(bodies: Bodies, tmp_path: Path) -> None:
    row = BENCHMARKS["3dpw"].only(("pa-mpjpe", "mpjpe"))
    assert (row.metrics, row.part, row.protocol) == (("pa_mpjpe", "mpjpe"), "h36m17", BENCHMARKS["3dpw"].protocol)
    shard = shard_of(row, tmp_path, people_of(row, bodies, 3))
    assert list(score(row, shard, bodies).errors) == ["pa_mpjpe", "mpjpe"]
    with pytest.raises(RequestError, match="h36m has no pve; it has mpjpe, pa_mpjpe, n_mpjpe"):
        H36M.only(("pve",))
    with pytest.raises(UnknownName, match=r"no metric named 'pa-mpje'. Did you mean 'pa_mpjpe'"):
        H36M.only(("pa-mpje",))


def test_frames_are_followed_by_person_and_number(bodies: Bodies, tmp_path: Path) -> None:
    """Two people in eight images, with one image missing in the middle, in random order."""
    row, frames = BENCHMARKS["3dpw"], (0, 1, 2, 3, 5, 6, 7)
    people = people_of(row, bodies, 14)
    people = [
        replace(one, name=f"walk/image_{frames[i // 2]:05d}.jpg", columns={"sequence": "walk", "person": float(i % 2)})
        for i, one in enumerate(people)
    ]
    order = np.random.default_rng(0).permutation(14)
    scores = score(row, shard_of(row, tmp_path, [people[i] for i in order]), bodies)
    last = {name: sorted(frames[i // 2] for i in order[scores.counted[name]]) for name in MOTION}
    assert last == {"acceleration_error": [2, 2, 3, 3, 7, 7], "jitter": [3, 3]}
    alone = [replace(one, columns={}) for one in people]
    still = score(row, shard_of(row, tmp_path, alone), bodies)
    assert still.left_out == dict.fromkeys(MOTION, "the shard has no frames of one sequence in a row")


def test_a_person_s_frames_do_not_follow_on_another_s(bodies: Bodies, tmp_path: Path) -> None:
    """One is in pictures 0 to 2, another in 3 to 5."""
    row = BENCHMARKS["3dpw"]
    people = [
        replace(one, name=f"walk/image_{frame:05d}.jpg", columns={"sequence": "walk", "person": float(frame // 3)})
        for frame, one in enumerate(people_of(row, bodies, 6))
    ]
    frames = Frames.of(shard_of(row, tmp_path, people), np.arange(6))
    assert frames.order.tolist() == [0, 1, 2, 3, 4, 5]
    assert frames.follows.tolist() == [False, True, True, False, True, True]


@pytest.mark.parametrize("gone", ["left_hip_extra", "right_hip_extra"])
def test_a_root_of_two_hips_needs_both_labelled(gone: str, bodies: Bodies, tmp_path: Path) -> None:
    row = find_benchmark("h36m/hipmid")
    people = people_of(row, bodies, 3)
    people[1] = moved(people[1], row, gone, (0, 0, 0), confidence=0)
    found = ScoredPeople.of(row, shard_of(row, tmp_path, people))
    assert found.skipped == {"no labelled root": 1}
    assert found.rows.tolist() == [0, 2]


@SPATIAL_ROWS
def test_joints_are_measured_from_the_middle_of_the_root(row: Benchmark) -> None:
    names = SKELETONS[row.regressor].joints
    points = torch.randn(2, len(names), 3, generator=torch.Generator().manual_seed(0))
    hips = [points[:, names.index(joint)] for joint in row.root]
    middle = hips[0] if len(hips) == 1 else (hips[0] + hips[1]) / 2
    joints, root = rooted(row, points, row.regressor)
    torch.testing.assert_close(root[:, 0], middle)
    first = names.index(row.joint_names[0])
    torch.testing.assert_close(joints[:, 0], points[:, first] - middle)


def test_a_projected_joint_is_where_training_has_its_label(bodies: Bodies, tmp_path: Path) -> None:
    """Training: the square's middle is at size / 2 of the crop, a projection counts from (size - 1) / 2."""
    row = BENCHMARKS["coco_val"]
    scorer = Scorer(row, shard_of(row, tmp_path, people_of(row, bodies, 1)), bodies, resting(), ALONE.device, 32)
    given = resting()
    joints = bodies.neutral.joints(bodies.neutral(given.rotmats, given.betas), row.regressor)
    names = [SKELETONS[row.regressor].index(joint) for joint in row.joint_names]
    crop_px = project(joints[:, names], given.camera, 32) + (32 - 1) / 2
    torch.testing.assert_close(scorer._projected(given), (crop_px - 32 / 2) / 32)


def test_a_regressor_that_is_missing_is_said_with_its_page(tmp_path: Path) -> None:
    with pytest.raises(
        BodyError, match=r"3dpw/hmr14_j19_pelvis_gendered needs .*SMPL_to_J19.pkl.* get it from 4D-Humans"
    ):
        Bodies.load("open", BENCHMARKS["3dpw/hmr14_j19_pelvis_gendered"], Store(tmp_path), ALONE.device)
    assert find_benchmark("3dpw/4dhumans").joint_names[-1] == "head_extra"


def test_people_of_a_degenerate_kind_are_counted_and_named(bodies: Bodies, tmp_path: Path) -> None:
    shard = shard_of(H36M, tmp_path, people_of(H36M, bodies, 3))
    joints = regressed(H36M, shard, bodies)
    joints[1] = joints[1, :1]
    scores = score_points(H36M, shard, bodies, joints)
    record = save_scores(scores, tmp_path / "eval", source(), machine())
    assert record.degenerate == {"the prediction's joints lie at one point": 1}
    assert (record.num_people, record.metrics["mpjpe"].people) == (3, 3)
    assert np.isfinite(scores.errors["pa_mpjpe"]).all()
    assert scores.errors["pa_mpjpe"][1] > 10


@pytest.mark.parametrize("most_bytes", [0, 3000, 1 << 30])
@pytest.mark.parametrize("row", [BENCHMARKS["3dpw"], H36M], ids=["bodies", "points"])
def test_truth_kept_from_another_checkpoint_changes_no_number(
    row: Benchmark, bodies: Bodies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    monkeypatch.setattr("hmrb.evaluation.evaluate.BATCH", 2)
    shard, truths, posings = shard_of(row, tmp_path, people_of(row, bodies, 5)), Truths(most_bytes), []

    def wrong(batch: Batch) -> Prediction:
        return Prediction(batch.rotmats, batch.betas + 1, torch.ones(len(batch.row), 3))

    def counted(*args: Any) -> Posed:
        posings.append(args)
        return true_posed(*args)

    monkeypatch.setattr("hmrb.evaluation.scoring.true_posed", counted)
    for predict in (truth_of, wrong, wrong):
        plain = score(row, shard, bodies, predict=predict)
        posings.clear()
        guess = network_predictor(predict, Feed(row, shard, 32, ALONE.device))
        kept = evaluate(guess, resting(), row, shard, bodies, ALONE, image_px=32, truths=truths)
        for name, errors in plain.errors.items():
            np.testing.assert_array_equal(kept.errors[name], errors)
            np.testing.assert_array_equal(kept.baseline[name], plain.baseline[name])
    assert most_bytes == 3000 or len(posings) == (0 if most_bytes else 3)
    assert truths.gigabytes * 1e9 <= most_bytes
    posings.clear()
    elsewhere = shard_of(row, tmp_path / "other", people_of(row, bodies, 4))
    guess = network_predictor(wrong, Feed(row, elsewhere, 32, ALONE.device))
    evaluate(guess, resting(), row, elsewhere, bodies, ALONE, image_px=32, truths=truths)
    assert len(posings) == 2


def test_what_is_kept_is_a_share_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hmrb.evaluation.truths.memory_bytes", lambda: 16 << 30)
    assert Truths.for_processes(2).most_bytes == 2 << 30
