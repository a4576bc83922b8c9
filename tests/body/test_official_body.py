"""Import of official SMPL files into the store, tested with synthetic files in every layout."""

import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import hmrb, refused
from conftest import body_arrays, body_from
from raw.pickled import Bomb, library, with_state

from hmrb.body import load_body
from hmrb.body.official import MEAN_PARAMS, REGRESSORS, SMPL_LANDMARKS, BodyError, find_body, gender_in
from hmrb.store import Store

V10 = "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"


@cache
def members() -> dict[str, np.ndarray]:
    """A random body with enough vertices for SMPL's landmarks."""
    made = body_arrays(6800)
    made["f"][:] = made["f"] % 6800
    return made | {"vertex_ids": np.array(SMPL_LANDMARKS)}


def official(**changes: Any) -> dict[str, Any]:
    ours = ("J_regressor_h36m", "J_regressor_extra", "vertex_ids")
    return {key: value for key, value in members().items() if key not in ours} | changes


def write_old_pickle(path: Path) -> Path:
    """As in the first releases: protocol 2, chumpy arrays, a sparse regressor, 300 betas, unused members."""
    body = official()
    sparse, wide = body["J_regressor"].copy(), np.zeros((6800, 3, 300))
    wide[..., :10] = body["shapedirs"]
    rows, columns = np.nonzero(sparse.T)[::-1]
    starts = np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=6800))])
    with library(ch="chumpy.ch.Ch", csc="scipy.sparse.csc.csc_matrix") as (ch, csc):
        body["shapedirs"] = with_state(ch, x=wide, _dirty_vars=set())
        body["v_template"] = with_state(ch, x=body["v_template"].astype(np.float64))
        body["J_regressor"] = with_state(
            csc, _shape=(24, 6800), indptr=starts, indices=rows, data=sparse[rows, columns]
        )
        body |= {"bs_type": "lrotmin", "J": np.zeros((24, 3)), "weights_prior": None}
        path.write_bytes(pickle.dumps(body, 2))
    return path


def write_companions(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in REGRESSORS:
        np.save(folder / name, members()[name.removesuffix(".npy")])
    np.savez(folder / MEAN_PARAMS, pose=np.zeros(144), shape=np.zeros(10), cam=np.array([0.9, 0, 0]))


def same_body(store: Store, gender: str = "neutral") -> bool:
    return load_body("smpl", gender, store).sha == body_from(members(), gender=gender).sha


@pytest.mark.parametrize(
    ("name", "gender"),
    [
        (V10, "neutral"),
        ("basicmodel_m_lbs_10_207_0_v1.1.0.pkl", "male"),
        ("basicModel_f_lbs_10_207_0_v1.0.0.pkl", "female"),
        ("basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl", "neutral"),
        ("SMPL_NEUTRAL.pkl", "neutral"),
        ("SMPL_MALE.npz", "male"),
        ("SMPL_FEMALE.pkl", "female"),
        ("model.pkl", ""),
    ],
)
def test_a_name_says_the_gender(name: str, gender: str) -> None:
    assert gender_in(name) == gender


def test_an_old_pickle_becomes_a_clean_npz(tmp_path: Path) -> None:
    file = write_old_pickle(tmp_path / V10)
    write_companions(tmp_path)
    home = tmp_path / "home"
    done = hmrb("convert-data", "body", "--file", str(file), home=home)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{home}/bodies/smpl/SMPL_NEUTRAL.npz: SMPL neutral, 6800 vertices, sha256 ")
    assert [line.split(":")[0].rpartition("/")[2] for line in lines[1:]] == [*REGRESSORS, MEAN_PARAMS]
    assert all(f"from {tmp_path}" in line and "sha256" in line for line in lines[1:])
    assert same_body(Store(home))
    with np.load(home / "bodies" / "smpl" / "SMPL_NEUTRAL.npz", allow_pickle=False) as clean:
        assert {key: clean[key].dtype for key in ("shapedirs", "J_regressor", "f")} == {
            "shapedirs": np.float32,
            "J_regressor": np.float32,
            "f": np.int64,
        }
        assert clean["shapedirs"].shape == (6800, 3, 10)
    again = hmrb("convert-data", "body", "--file", str(file), home=tmp_path / "other")
    assert again.stdout.splitlines()[0].rpartition(" ")[2] == lines[0].rpartition(" ")[2]  # the same bytes


def test_companions_are_found_above_the_body_or_in_the_store(tmp_path: Path) -> None:
    models = tmp_path / "smpl" / "models"
    models.mkdir(parents=True)
    np.savez(models / "SMPL_MALE.npz", **official())
    write_companions(tmp_path / "smpl")
    store = Store(tmp_path / "home")
    done = hmrb("convert-data", "body", "--file", str(models / "SMPL_MALE.npz"), "--out", str(store.root))
    assert f"J_regressor_h36m.npy: from {tmp_path}/smpl/J_regressor_h36m.npy, sha256" in done.stdout
    assert same_body(store, "male")
    for name in (*REGRESSORS, MEAN_PARAMS):
        (tmp_path / "smpl" / name).unlink()
    np.savez(models / "SMPL_FEMALE.npz", **official())
    done = hmrb("convert-data", "body", "--file", str(models / "SMPL_FEMALE.npz"), "--out", str(store.root))
    assert "J_regressor_h36m.npy: already there, sha256" in done.stdout
    assert same_body(store, "female")


def test_what_is_missing_is_named_with_the_page_that_has_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", **official())
    done = hmrb("convert-data", "body", "--file", str(tmp_path / "model.npz"), "--gender", "neutral", home=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in (*REGRESSORS, MEAN_PARAMS):
        assert f"missing: {name}; get it from SPIN's data archive, https://github.com/nkolot/SPIN" in done.stdout
    with pytest.raises(BodyError, match=r"J_regressor_h36m\.npy: no such file; get it from SPIN's data archive"):
        load_body("smpl", store=Store(tmp_path))


def test_an_official_file_in_the_store_is_read_as_it_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.bodies / "smpl"
    write_companions(folder)
    write_old_pickle(folder / V10)
    assert same_body(store)
    with pytest.raises(BodyError, match=r"SMPL_MALE\.npz: no such file; get it from https://smpl"):
        load_body("smpl", "male", store)
    (folder / "SMPL_NEUTRAL.pkl").write_bytes(b"")
    with pytest.raises(BodyError, match=f"SMPL_NEUTRAL.pkl and {V10} are both neutral bodies; keep one"):
        load_body("smpl", store=store)
    np.savez(folder / "SMPL_NEUTRAL.npz", **official())
    assert find_body(folder, "neutral").name == "SMPL_NEUTRAL.npz"
    assert same_body(store)


def spoil_extra(folder: Path) -> None:
    np.save(folder / "J_regressor_extra.npy", np.ones((9, 6800), np.float32))


def spoil_h36m(folder: Path) -> None:
    np.save(folder / "J_regressor_h36m.npy", members()["J_regressor_h36m"][:, :-1])


def spoil_mean(folder: Path) -> None:
    np.savez(folder / MEAN_PARAMS, pose=np.zeros(72), shape=np.zeros(10))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_extra, "J_regressor_extra.npy: J_regressor_extra: row 0 sums to 6800.000"),
        (spoil_h36m, "J_regressor_h36m.npy: J_regressor_h36m has shape (17, 6799)"),
        (spoil_mean, "smpl_mean_params.npz: contains {'pose': (72,), 'shape': (10,), 'cam': None}"),
    ],
)
def test_a_wrong_companion_stops_everything(spoil: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "SMPL_NEUTRAL.npz", **official())
    write_companions(tmp_path)
    spoil(tmp_path)
    done = hmrb("convert-data", "body", "--file", str(tmp_path / "SMPL_NEUTRAL.npz"), home=tmp_path / "home")
    refused(done, said)
    assert not (tmp_path / "home").exists()


def test_what_is_no_body_is_one_message(tmp_path: Path) -> None:
    def convert(name: str, content: bytes, *more: str) -> Any:
        (tmp_path / name).write_bytes(content)
        return hmrb("convert-data", "body", "--file", str(tmp_path / name), *more, home=tmp_path / "home")

    refused(hmrb("convert-data", "body"), "which body? hmrb convert-data body --file")
    gone = hmrb("convert-data", "body", "--file", str(tmp_path / "SMPL_MALE.pkl"))
    refused(gone, "SMPL_MALE.pkl: no such file")
    refused(convert("model.pkl", b""), "model.pkl: no gender in its name; --gender accepts neutral, male, female")
    refused(convert("model.pkl", b"", "--gender", "man"), "unknown gender 'man'")
    refused(convert("SMPL_MALE.pkl", b""), "file is truncated or empty")
    refused(convert("SMPL_MALE.pkl", pickle.dumps([1])), "contains a list, expected a dict of arrays")
    refused(
        convert("SMPL_MALE.pkl", pickle.dumps({"pose": 1})),
        ": v_template, shapedirs, J_regressor, weights, kintree_table, f missing",
    )
    bomb = pickle.dumps(official(f=Bomb(tmp_path / "ran")))
    refused(convert("SMPL_MALE.pkl", bomb), "asks for posix.system")
    assert not (tmp_path / "ran").exists()
    smplx = official(weights=np.ones((6800, 55)) / 55)
    refused(convert("SMPL_MALE.pkl", pickle.dumps(smplx)), "weights has shape (6800, 55)")
    holes = official(v_template=np.full((6800, 3), np.nan))
    refused(convert("SMPL_MALE.pkl", pickle.dumps(holes)), "v_template contains values that are not finite numbers")
    knot = official(kintree_table=np.tile(np.arange(24)[::-1], (2, 1)))
    refused(convert("SMPL_MALE.pkl", pickle.dumps(knot)), "kintree_table is not a tree")
    wild = official(f=np.array([[0, 1, 6800]]))
    refused(convert("SMPL_MALE.pkl", pickle.dumps(wild)), "f refers to vertex 6800, but the body has 6800 vertices")
    assert not (tmp_path / "home").exists()
