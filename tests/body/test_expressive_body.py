"""SMPL-X with hands and face at rest: equal to the smplx package's, joined with SMPL's regressors, checked."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import smplx
import torch
from command import hmrb, refused
from expressive import NUM_SMPL, SHARES, matrix, own_store, places, smpl_members, smplx_members

from hmrb.body import load_body
from hmrb.body.expressive import LANDMARKS, load_to_smpl
from hmrb.body.official import BodyError
from hmrb.bodykind import SMPLX_KIND
from hmrb.geometry import rotvec_to_rotmat
from hmrb.skeleton import SKELETONS
from hmrb.store import Store

FILE = "smplx/SMPLX_NEUTRAL.npz"
POSE = torch.randn(3, 22, 3, generator=torch.Generator().manual_seed(1))
BETAS = torch.randn(3, 11, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_vertices_joints_and_landmarks_equal_smplx(smplx_store: Store) -> None:
    body = load_body("smplx", store=smplx_store)
    peer = smplx.SMPLX(
        str(smplx_store.bodies / FILE), num_betas=11, use_pca=False, flat_hand_mean=True, batch_size=3, gender="neutral"
    )
    theirs = peer(betas=BETAS, global_orient=POSE[:, 0], body_pose=POSE[:, 1:].flatten(1))
    mesh = body(rotvec_to_rotmat(POSE), BETAS)
    points = body.joints(mesh, "smplx52")
    torch.testing.assert_close(mesh.vertices, theirs.vertices, rtol=0, atol=1e-5)
    torch.testing.assert_close(mesh.chain, theirs.joints[:, :22], rtol=0, atol=1e-5)
    torch.testing.assert_close(points[:, 22:43], theirs.joints[:, 55:76], rtol=0, atol=1e-5)


def test_landmarks_are_the_vertices_of_smplx_by_their_names() -> None:
    names = SKELETONS["smplx52"].joints[22:43]
    theirs = smplx.vertex_ids.vertex_ids["smplx"]
    for name, vertex in zip(names, LANDMARKS, strict=True):
        side, _, point = name.rpartition("_")
        key = {"bigtoe": "BigToe", "smalltoe": "SmallToe", "heel": "Heel"}.get(point, point)
        first = side[:1].upper() if key != point else side[:1]
        assert theirs[f"{first}{key}"] == vertex, name


@torch.no_grad()
def test_smpl_s_regressors_act_on_the_mapped_vertices(smplx_store: Store) -> None:
    body, smpl = load_body("smplx", store=smplx_store), smpl_members()
    mesh = body(rotvec_to_rotmat(POSE), BETAS)
    mapped = np.einsum("bwkc,k->bwc", mesh.vertices.numpy()[:, places()], SHARES)
    np.testing.assert_allclose(load_to_smpl(smplx_store)(mesh.vertices).numpy(), mapped, atol=1e-6)
    for skeleton, key in (("h36m17", "J_regressor_h36m"), ("mesh24", "J_regressor")):
        np.testing.assert_allclose(body.joints(mesh, skeleton).numpy(), smpl[key] @ mapped, atol=1e-5)
    extra = body.joints(mesh, "smplx52")[:, 43:].numpy()
    np.testing.assert_allclose(extra, smpl["J_regressor_extra"] @ mapped, atol=1e-5)
    part = body(rotvec_to_rotmat(POSE), BETAS, "smplx52")
    torch.testing.assert_close(body.joints(part, "smplx52"), body.joints(mesh, "smplx52"), rtol=0, atol=1e-6)


def test_smpl_s_own_file_adds_its_joints_and_does_not_change_the_body(smplx_store: Store, tmp_path: Path) -> None:
    store = own_store(smplx_store, tmp_path)
    whole = load_body("smplx", store=store)
    assert whole.kind is SMPLX_KIND
    assert whole.has_joints("mesh24")
    for path in (store.bodies / "smpl").glob("SMPL_*.npz"):
        path.unlink()
    alone = load_body("smplx", store=store)
    assert not alone.has_joints("mesh24")
    assert alone.sha == whole.sha


def test_rows_that_map_to_one_vertex_or_to_none(smplx_store: Store, tmp_path: Path) -> None:
    store, made = own_store(smplx_store, tmp_path), matrix().astype(np.float32)
    made[5] = 0
    made[6] = np.eye(1, made.shape[1], 9)[0]
    replaced(store.bodies / "smplx/smplx2smpl.pkl", lambda path: path.write_bytes(pickle.dumps({"matrix": made})))
    vertices = torch.randn(1, made.shape[1], 3)
    mapped = load_to_smpl(store)(vertices)
    assert mapped.shape == (1, NUM_SMPL, 3)
    assert not mapped[0, 5].any()
    assert torch.equal(mapped[0, 6], vertices[0, 9])


def replaced(path: Path, write: Callable[[Path], object]) -> None:
    path.unlink()
    write(path)


def changed(**changes: Any) -> Callable[[Path], object]:
    return lambda path: np.savez(path, **(smplx_members() | changes))


def with_table(table: object) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(pickle.dumps(table))


def spoiled(key: str, value: float) -> dict[str, np.ndarray]:
    array = np.array(smplx_members()[key], np.float32)
    array.flat[7] = value
    return {key: array}


TREE = smplx_members()["kintree_table"]
FEW = {key: smplx_members()[key][:9000] for key in ("v_template", "shapedirs", "posedirs", "weights")}
FEW |= {"J_regressor": np.eye(55, 9000), "f": np.zeros((1, 3), np.uint32)}


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        (FILE, None, r"SMPLX_NEUTRAL.npz: no such file; get SMPL-X .* from https://smpl-x"),
        ("smplx/smplx2smpl.pkl", None, r"smplx2smpl.pkl: no such file; get it from BEDLAM's data"),
        ("smpl/J_regressor_h36m.npy", None, r"J_regressor_h36m.npy: no such file; get it from SPIN"),
        (FILE, lambda path: path.write_bytes(b"no"), "SMPLX_NEUTRAL.npz: not an .npz file"),
        (FILE, changed(shapedirs=smplx_members()["shapedirs"][..., :20]), "has 20 directions, .* needs 11: get SMPL-X"),
        (FILE, changed(kintree_table=TREE[:, ::-1]), "kintree_table is not the tree of SMPL-X"),
        (FILE, changed(kintree_table=np.zeros((2, 24))), r"kintree_table has shape \(2, 24\), expected \(2, 55\)"),
        (FILE, changed(**spoiled("posedirs", np.nan)), "posedirs contains values that are not finite"),
        (FILE, changed(**spoiled("weights", 9.0)), "SMPLX_NEUTRAL.npz: weights: row 0 sums to"),
        (FILE, changed(f=np.full((1, 3), 10_000)), "f needs vertex 10000, but there are 10000"),
        (FILE, changed(**FEW), "the mesh needs vertex 9929, but there are 9000; this is no SMPL-X"),
        ("smplx/smplx2smpl.pkl", with_table([1]), "smplx2smpl.pkl: has no array named matrix"),
        ("smplx/smplx2smpl.pkl", with_table({"matrix": np.ones((5, 6))}), "its matrix has 6 columns, but .* 10000"),
        ("smplx/smplx2smpl.pkl", with_table({"matrix": np.full((2, 2), np.inf)}), "not one row of numbers per vertex"),
        (
            "smpl/J_regressor_extra.npy",
            lambda path: np.save(path, np.ones((9, 5)) / 5),
            r"J_regressor_extra.npy: has shape \(9, 5\), expected \(9, 6800\), as .*smplx2smpl.pkl has 6800 rows",
        ),
    ],
)  # fmt: skip
def test_a_file_that_is_missing_or_wrong_is_named(
    smplx_store: Store, tmp_path: Path, name: str, write: Callable[[Path], object] | None, message: str
) -> None:
    store = own_store(smplx_store, tmp_path)
    replaced(store.bodies / name, write or (lambda path: None))
    with pytest.raises(BodyError, match=message):
        load_body("smplx", store=store)


def test_a_file_of_smplx_is_not_imported_as_smpl(tmp_path: Path) -> None:
    (tmp_path / "SMPLX_NEUTRAL.npz").write_bytes(b"")
    done = hmrb("convert-data", "body", "--file", str(tmp_path / "SMPLX_NEUTRAL.npz"), home=tmp_path / "home")
    refused(done, f"put it in {tmp_path}/home/bodies/smplx as SMPLX_NEUTRAL.npz, with smplx2smpl.pkl of BEDLAM beside")
