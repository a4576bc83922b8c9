"""Which person of the shard a prediction is for, where pictures hold several people."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import person, write_shard
from test_evaluate import scores_of

from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.evaluation.predictions import Predictions, read_predictions
from hmrb.store import Store

BOXES = {0: (4, 2, 20, 40), 1: (24, 4, 22, 40)}  # of the two people of each picture
PICTURES = ("walk/000.jpg", "walk/001.jpg", "run/000.jpg")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two people in each of three pictures, numbered."""
    store = Store(tmp_path / "home")
    people = [
        replace(
            person(i, seed=1),
            name=PICTURES[i // 2],
            has_body=True,
            box=np.array(BOXES[i % 2], np.float32),
            columns={"sequence": PICTURES[i // 2].split("/")[0], "person": float(i % 2)},
        )
        for i in range(6)
    ]
    write_shard(store.shard("synthetic", "test"), people, split="test")
    return store


def perfect(store: Store) -> dict[str, np.ndarray]:
    arrays = Shard(store.shard("synthetic", "test")).arrays
    return {"pose": arrays["pose"].reshape(6, 72), "betas": arrays["betas"][:], "imgname": np.repeat(PICTURES, 2)}


def read(store: Store, table: dict[str, Any], order: np.ndarray | list[int] | None = None) -> Predictions:
    path = store.root / "theirs.npz"
    np.savez(path, **{key: part if order is None else part[order] for key, part in table.items()})
    return read_predictions(path, Shard(store.shard("synthetic", "test")))


def error_mm(store: Store, found: Predictions) -> float:
    return float(scores_of(store, predictor=found.predictor, mean=found.mean()).errors["mpjpe"].max())


SHUFFLED = [5, 0, 3, 1, 4, 2]
NUMBERS = np.array([0, 1, 0, 1, 0, 1])
BOX = np.array([BOXES[i % 2] for i in range(6)], float)
AIDS: dict[str, dict[str, Any]] = {
    "person": {"person": NUMBERS},
    "track_id": {"track_id": NUMBERS[:, None].astype(np.float32)},
    "bbox": {"bbox": BOX + (0.5, -0.5, 3, 1)},
    "center": {"center": BOX[:, :2] + BOX[:, 2:] / 2, "scale": np.ones(6)},
    "numbers of no column, and boxes": {"pid": np.arange(6) + 50, "box": BOX},
}


@pytest.mark.parametrize("given", AIDS)
def test_shuffled_predictions_find_their_people_by_number_or_box(given: str, store: Store) -> None:
    assert error_mm(store, read(store, perfect(store) | AIDS[given], SHUFFLED)) < 0.1
    assert error_mm(store, read(store, perfect(store), [1, 0, 2, 3, 4, 5])) > 10  # without them, the order counts


def test_pictures_in_another_order_are_matched_by_name_and_people_by_order(store: Store) -> None:
    assert error_mm(store, read(store, perfect(store), [4, 0, 2, 5, 3, 1])) < 100  # 2, 3 and 0, 1 and 4, 5 in order
    assert error_mm(store, read(store, perfect(store), [4, 0, 2, 5, 1, 3])) < 0.1


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"/data/photos/{name}",
        lambda name: f"C:\\photos\\{name}".replace("/", "\\"),
        lambda name: {PICTURES[0]: "000.jpg"}.get(name, name),
        lambda name: name.encode(),
    ],
    ids=["longer paths", "Windows", "ambiguous", "bytes"],
)
def test_names_match_from_their_end_if_one_picture_fits(rename: Any, store: Store) -> None:
    table = perfect(store)
    table["imgname"] = np.array([rename(str(name)) for name in table["imgname"]])
    if rename(PICTURES[0]) == "000.jpg":
        with pytest.raises(RequestError, match=r"'000.jpg' can be 'run/000.jpg' or 'walk/000.jpg' of .*longer paths"):
            read(store, table)
    else:
        assert error_mm(store, read(store, table, [4, 0, 2, 5, 1, 3])) < 0.1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"imgname": np.array(["walk/000.jpg"] * 2 + ["jump/9.jpg"] * 2 + ["run/000.jpg"] * 2)},
            "has no picture 'jump/9.jpg'; its first picture without a prediction is 'walk/001.jpg'",
        ),
        (
            {"imgname": np.array(["walk/000.jpg", "a/walk/000.jpg", *["walk/001.jpg"] * 2, *["run/000.jpg"] * 2])},
            "'walk/000.jpg' and 'a/walk/000.jpg' both match picture 'walk/000.jpg'",
        ),
        ({"imgname": np.repeat(PICTURES[:2], 3)}, "3 predictions for the 2 people of 'walk/000.jpg'"),
        ({"person": np.zeros(6, int)}, "more than one prediction for 'person 0 of walk/000.jpg'"),
        ({"bbox": np.tile(BOX[0], (6, 1))}, "its boxes do not tell the people of 'walk/000.jpg' apart"),
        ({"bbox": BOX * 5 + 500}, "its boxes do not tell the people of 'walk/000.jpg' apart"),
        ({"track_id": np.array([7, 8, 8, 7, 7, 8])}, "person 8 of 'walk/001.jpg' is person 0 of .* and person 1 in"),
        ({"row": np.array([0.5, 1, 2, 3, 4, 5])}, "its rows do not match"),
        ({"row": np.arange(6)[:, None]}, "its rows do not match"),
        ({"row": np.array([1, 2, 3, 4, 5, 0])}, "its rows do not match"),
        ({"imgname": np.arange(6)}, "imgname is not a list of picture names"),
        ({"imgname": np.array([b"\xff\xfe.jpg"] * 6)}, "imgname of row 0, b'.xff.xfe.jpg', is not UTF-8"),
    ],
)
def test_what_does_not_match_is_refused(change: dict[str, Any], said: str, store: Store) -> None:
    with pytest.raises(RequestError, match=said):
        read(store, perfect(store) | change)


def test_fewer_predictions_than_people_need_a_number_or_a_box(store: Store) -> None:
    with pytest.raises(RequestError, match="1 predictions for the 2 people of 'walk/000.jpg'; add their boxes"):
        read(store, perfect(store), [1, 2, 3, 4, 5])
    found = read(store, perfect(store) | {"person": NUMBERS}, [1, 2, 3, 4, 5])
    assert found.place.tolist() == [-1, 0, 1, 2, 3, 4]
