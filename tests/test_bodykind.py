"""A second kind of body (22 joints, 11 betas) works throughout: shard, loader, head, losses, step, evaluation."""

import ast
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import smplx.joint_names
import torch
from command import hmrb, spec_file
from conftest import person, write_shard

from hmrb import bodykind
from hmrb.body import READERS, BodyFile, load_body
from hmrb.bodykind import BODIES, SMPL_KIND, BodyKind, kind_of
from hmrb.checkpoint import load_checkpoint
from hmrb.data.augment import flip
from hmrb.data.loader import read_view
from hmrb.data.shard import Shard
from hmrb.evaluation.records import read_record
from hmrb.lookup import UnknownName
from hmrb.skeleton import SKELETONS, Skeleton
from hmrb.store import Store

NUM_JOINTS, NUM_BETAS, NUM_VERTICES = 22, 11, 60
KINEMATIC = SKELETONS["smpl24"].joints[:NUM_JOINTS]  # without hands
KEYPOINTS = (*KINEMATIC, "nose", "left_eye", "right_eye", "right_hip_extra", "left_hip_extra", "headtop")
KIND = BodyKind("handless", "handless22", "handless28", SMPL_KIND.parents[:NUM_JOINTS], NUM_BETAS, 3, 3)


def read_handless(gender: str, store: Store) -> BodyFile:
    rng = np.random.default_rng(len(gender))

    def normal(*shape: int, size: float = 0.3) -> np.ndarray:
        return rng.normal(0, size, shape).astype(np.float32)

    def rows(count: int, width: int) -> np.ndarray:
        values = rng.random((count, width)).astype(np.float32)
        return values / values.sum(1, keepdims=True)

    return BodyFile(
        name="handless", gender=gender, kind=KIND, template=normal(NUM_VERTICES, 3),
        shapedirs=normal(NUM_VERTICES, 3, NUM_BETAS, size=0.02), posedirs=normal(NUM_VERTICES, 3, 9 * 21, size=0.002),
        joint_regressor=rows(NUM_JOINTS, NUM_VERTICES), weights=rows(NUM_VERTICES, NUM_JOINTS),
        parents=np.array(KIND.parents), faces=rng.integers(0, NUM_VERTICES, (80, 3)), landmarks=np.array([3, 7, 11]),
        h36m_regressor=rows(17, NUM_VERTICES), extra_regressor=rows(3, NUM_VERTICES),
    )  # fmt: skip


@pytest.fixture
def handless_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with shards of the second kind, which is registered in every table."""
    for name, joints in {"handless22": KINEMATIC, "handless28": KEYPOINTS}.items():
        monkeypatch.setitem(SKELETONS, name, Skeleton(name, joints))
    monkeypatch.setitem(BODIES, "handless", KIND)
    monkeypatch.setitem(READERS, "handless", read_handless)
    store, rng = Store(tmp_path / "home"), np.random.default_rng(0)
    for split, count in {"train": 20, "val": 6, "test": 7}.items():
        people = [
            replace(
                person(index),
                has_body=True,
                pose=rng.normal(0, 0.3, (NUM_JOINTS, 3)).astype(np.float32),
                betas=rng.normal(0, 1, NUM_BETAS).astype(np.float32),
            )
            for index in range(count)
        ]
        write_shard(store.shard("synthetic", split), people, split=split, body="handless")
    return store


def test_a_second_kind_of_body_trains_is_evaluated_and_recorded(handless_store: Store, tmp_path: Path) -> None:
    run = tmp_path / "run"
    losses = {
        name: {"distance": "l1", "weight": 1} for name in ("keypoints3d", "keypoints2d", "vertices", "pose", "betas")
    }
    augment = [{"name": "flip", "args": {"p": 0.5}}, {"name": "rotate_scale"}]
    spec = spec_file(
        tmp_path, body="handless", losses=losses, data={"mix": {"synthetic": 1.0}, "workers": 0, "augment": augment}
    )
    done = hmrb("train", spec, "--out", str(run), home=handless_store.root)
    assert done.returncode == 0, done.stderr
    model = load_checkpoint(run / "last.pt").model
    assert model["head.init_pose"].shape == (1, 6 * NUM_JOINTS)
    assert model["head.init_shape"].shape == (1, NUM_BETAS)
    adversary = load_checkpoint(run / "last.pt").training["adversary"]
    assert adversary["full_pose_discriminator.fc_blocks.regressor_fc_0.weight"].shape == (1024, 32 * (NUM_JOINTS - 1))
    record = read_record(run / "eval" / "synthetic.json")
    assert record.conditions.body_sha == load_body("handless").sha
    assert {"mpjpe", "pve", "mpjae"} <= set(record.metrics)
    with h5py.File(run / "eval" / "synthetic_samples.h5") as samples:
        assert samples["rotmats"].shape == (7, NUM_JOINTS, 3, 3)
        assert samples["betas"].shape == (7, NUM_BETAS)
    assert (run / "report.html").exists()
    again = hmrb(
        "eval", "--from-predictions", str(run / "eval" / "synthetic_samples.h5"), "--bench", "synthetic",
        "--out", str(tmp_path / "again"), home=handless_store.root,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert read_record(tmp_path / "again" / "eval" / "synthetic.json").metrics["mpjpe"].value == pytest.approx(
        record.metrics["mpjpe"].value, rel=1e-6
    )


def test_a_flip_exchanges_the_sides_of_the_second_kind(handless_store: Store) -> None:
    view = read_view(Shard(handless_store.shard("synthetic", "train")), 0)
    assert view.keypoints3d.shape == (len(KEYPOINTS), 4)
    flipped = flip(view, np.random.default_rng(0), p=1)
    left, right = KINEMATIC.index("left_knee"), KINEMATIC.index("right_knee")
    np.testing.assert_array_equal(flipped.pose[left], view.pose[right] * [1, -1, -1])
    eyes = KEYPOINTS.index("left_eye"), KEYPOINTS.index("right_eye")
    np.testing.assert_array_equal(flipped.keypoints3d[eyes[0]], view.keypoints3d[eyes[1]] * [-1, 1, 1, 1])


def test_a_pose_of_another_kind_is_refused_by_its_size(handless_store: Store, tmp_path: Path) -> None:
    np.savez(tmp_path / "smpl.npz", pose=np.zeros((7, 72)), betas=np.zeros((7, 10)))
    done = hmrb(
        "eval", "--from-predictions", str(tmp_path / "smpl.npz"), "--bench", "synthetic", home=handless_store.root
    )
    assert done.returncode == 2
    assert "poses have 72 values, expected 66 for handless, or 198 as rotation matrices" in done.stderr


def test_the_numbers_of_smpl_are_those_of_its_paper_and_of_smplx() -> None:
    assert SMPL_KIND.num_joints == 24
    assert SMPL_KIND.num_betas == 10
    assert SMPL_KIND.bend_numbers == 207
    assert SMPL_KIND.mean_numbers == 144 + 10 + 3
    theirs = smplx.joint_names.JOINT_NAMES[:22]  # SMPL-X's names for the joints that both have
    ours = [joint.replace("spine_", "spine") for joint in SKELETONS[SMPL_KIND.kinematic].joints]
    assert ours == [*theirs, "left_hand", "right_hand"]
    other = {"left": "right", "right": "left"}
    sides = [name.partition("_") for name in ours]
    assert [ours[row] for row in SMPL_KIND.mirror] == [other.get(side, side) + bar + rest for side, bar, rest in sides]


@pytest.mark.parametrize("name", ["open"])
def test_a_body_file_has_the_tree_of_its_kind(name: str) -> None:
    body = load_body(name)
    assert body.kind is kind_of(name)
    assert tuple(body.parents.tolist()) == body.kind.parents
    with torch.no_grad():
        mesh = body(torch.eye(3).expand(1, body.kind.num_joints, 3, 3), torch.zeros(1, body.kind.num_betas))
    assert body.joints(mesh, body.kind.keypoints).shape[1] == body.kind.num_keypoints


def test_an_unknown_body_is_named() -> None:
    with pytest.raises(UnknownName, match=r"no body named 'smlp'. Did you mean 'smpl'"):
        kind_of("smlp")


def test_no_other_file_holds_the_numbers_of_a_kind() -> None:
    """Array types use R joints and S betas, and only bodykind.py contains SMPL's numbers."""
    package = Path(bodykind.__file__).parent
    numbers = {SMPL_KIND.rotmat_numbers, SMPL_KIND.rot6d_numbers, SMPL_KIND.mean_numbers, SMPL_KIND.bend_numbers}
    sizes = {"10", "23", "24", *map(str, numbers)}
    found = []
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            is_shape = isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("Float", "Int", "Bool", "Shaped")
            if (
                is_shape
                and isinstance(node.slice, ast.Tuple)
                and sizes & set(ast.literal_eval(node.slice.elts[1]).split())
            ):
                found.append(f"{path.name}:{node.lineno}")
            is_number = isinstance(node, ast.Constant) and type(node.value) is int and node.value in numbers
            if is_number and not ast.get_source_segment(text, node).startswith("0x"):  # bytes of a file format
                found.append(f"{path.name}:{node.lineno}")
    assert found == []
