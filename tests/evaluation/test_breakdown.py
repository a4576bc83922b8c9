"""Results broken down by properties of the people."""

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from command import hmrb, refused
from conftest import machine, person, source
from test_evaluate import scores_of, truth

from hmrb.batch import Batch, Prediction
from hmrb.data.convert.writer import ShardWriter
from hmrb.errors import RequestError
from hmrb.evaluation.breakdown import slices
from hmrb.evaluation.saving import save_scores
from hmrb.store import Store


def wrong_for_some(batch: Batch) -> Prediction:
    """The shape error grows with the row in the shard."""
    right = truth(batch)
    return Prediction(right.rotmats, right.betas + batch.row[:, None] * 0.3, right.camera)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Twenty people in four sequences, male and female, with increasing occlusion."""
    store = Store(tmp_path / "home")
    about = {"dataset": "synthetic", "split": "test", "skeleton": "smpl54", "body": "open", "made_by": "a test"}
    with ShardWriter(store.shard("synthetic", "test"), **about) as out:
        for i in range(20):
            columns = {"sequence": f"walk_{i % 4}", "occlusion": i / 20}
            out.add(replace(person(i), has_body=True, gender=("male", "female")[i % 2], columns=columns))
    return store


def test_names_are_slices_and_numbers_are_cut_at_their_quartiles(store: Store) -> None:
    scores = scores_of(store, wrong_for_some)
    errors = scores.errors["pve"]
    by_sequence = slices(scores, "sequence")
    assert [(part.label, part.num_people) for part in by_sequence] == [(f"walk_{i}", 5) for i in range(4)]
    assert by_sequence[1].metrics["pve"][0] == pytest.approx(errors[1::4].mean())
    assert [part.label for part in slices(scores, "gender")] == ["male", "female"]
    by_occlusion = slices(scores, "occlusion")
    assert [part.num_people for part in by_occlusion] == [5, 5, 5, 5]
    means = [part.metrics["pve"][0] for part in by_occlusion]
    assert means == sorted(means)
    assert means[3] == pytest.approx(errors[15:].mean())
    (low, high) = by_occlusion[3].metrics["pve"][1]
    assert low <= means[3] <= high
    assert sum(part.num_people for part in slices(scores, "box_px")) == 20


def test_an_interval_over_sequences_is_said_to_be_one(store: Store, tmp_path: Path) -> None:
    record = save_scores(scores_of(store, wrong_for_some), tmp_path / "eval", source(), machine())
    assert record.intervals_over == "4 sequences"
    import h5py

    with h5py.File(tmp_path / "eval" / "synthetic_samples.h5", "r") as file:
        np.testing.assert_array_equal(file["sequence"][:], np.arange(20) % 4)


def test_one_sequence_is_no_sample_of_sequences(store: Store, tmp_path: Path) -> None:
    """Its interval would be a single point, so people are resampled, and the record says so."""
    about = {"dataset": "synthetic", "split": "test", "skeleton": "smpl54", "body": "open", "made_by": "a test"}
    with ShardWriter(store.shard("synthetic", "test"), **about) as out:
        for i in range(6):
            out.add(replace(person(i), has_body=True, columns={"sequence": "walk"}))
    record = save_scores(scores_of(store, wrong_for_some), tmp_path / "eval", source(), machine())
    low, high = record.metrics["pve"].ci95
    assert low < high
    assert record.intervals_over == "people"


def test_a_column_that_is_not_there_is_refused(store: Store, tmp_path: Path) -> None:
    said = "has no such column. Did you mean 'occlusion'? It has: body_shape, box_px, gender, occlusion, sequence"
    with pytest.raises(RequestError, match=re.escape(said)):
        slices(scores_of(store, truth), "oclusion")
    refused(hmrb("eval", str(tmp_path / "no.pt"), "--bench", "synthetic", home=store.root), "no such checkpoint")


def test_labels_say_where_people_look_who_they_are_and_how_much_of_them_is_outside(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    about = {"dataset": "synthetic", "split": "test", "skeleton": "smpl54", "body": "open", "made_by": "a test"}
    with ShardWriter(store.shard("synthetic", "test"), **about) as out:
        for i, turn in enumerate((0, 90, 180, 270)):
            one = replace(person(i), has_body=True, betas=np.full(10, i, np.float32))
            pose, points = np.zeros((24, 3), np.float32), np.zeros((54, 3), np.float32)
            facing = cv2.Rodrigues(np.array([np.pi, 0, 0]))[0]  # upright, towards the camera
            about_y = cv2.Rodrigues(np.array([0, -np.radians(turn), 0]))[0]  # to the person's own left
            pose[0] = cv2.Rodrigues(about_y @ facing)[0][:, 0]
            points[:4] = [[5, 5, 1]] * (4 - i) + [[-5, 60, 1]] * i
            out.add(replace(one, pose=pose, keypoints2d=points))
    scores = scores_of(store, truth)
    assert [part.label for part in slices(scores, "viewpoint")] == ["front", "right side", "back", "left side"]
    assert [part.label for part in slices(scores, "truncation")] == ["0", "0.25", "0.5", "0.75"]
    assert next(part.label for part in slices(scores, "body_shape")) == "0"
