"""Shards that an experiment cannot use are refused before a run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest
from conftest import person, tiny_tree, write_shard

from hmrb.data.checksums import computed_sha
from hmrb.data.convert.pack import GROWN, TURNED
from hmrb.data.convert.writer import ShardWriter
from hmrb.data.shard import LATER, STUDY_REACH, Shard
from hmrb.errors import RequestError
from hmrb.preflight import needed_region, require_files
from hmrb.spec import load_experiment, parse_experiment
from hmrb.store import Store


def problems(store: Store, **changes: Any) -> list[str]:
    try:
        require_files([parse_experiment(tiny_tree() | changes, "tiny")], store)
    except RequestError as error:
        return list(error.problems)
    return []


def with_set(store: Store, name: str, body: str, has_body: bool = True) -> Store:
    """The store with a training set more."""
    people = [replace(person(i), has_body=has_body) for i in range(4)]
    write_shard(store.shard(name, "train"), people, dataset=name, body=body)
    return store


MIX = {"mix": {"synthetic": 0.5, "lsp": 0.5}, "workers": 0}


def test_a_set_of_another_body_is_refused(tiny_store: Store) -> None:
    with_set(tiny_store, "lsp", "smpl")
    assert problems(tiny_store) == []
    (said,) = problems(tiny_store, data=MIX)
    assert said == (
        f"data.mix: {tiny_store.shard('lsp', 'train')} has 4 people with poses and betas of body 'smpl', but the spec"
        " has body: open; a pose of one body is not a pose of another. Set body: smpl, or leave its bodies out with"
        " data.without: {lsp: [body]}"
    )
    assert problems(tiny_store, data=MIX | {"without": {"lsp": ["body"]}}) == []


def test_a_set_of_another_body_in_which_nobody_has_one_may_be_used(tiny_store: Store) -> None:
    assert problems(with_set(tiny_store, "lsp", "smpl", has_body=False), data=MIX) == []


def test_a_mix_without_a_body_has_none_to_start_from(tiny_store: Store) -> None:
    with_set(tiny_store, "lsp", "smpl", has_body=False)
    alone = {"mix": {"lsp": 1.0}, "workers": 0}
    (said,) = problems(tiny_store, data=alone)
    assert said.startswith("model.mean: labels: none of lsp has a labelled body to start from. Mix in data with bodies")
    (said,) = problems(tiny_store, data=MIX | {"without": {"synthetic": ["body"]}})
    assert "none of synthetic, lsp has a labelled body" in said


@pytest.mark.parametrize(("body", "count"), [("open", 0), ("smpl", 1)])
def test_real_poses_are_of_the_same_body(body: str, count: int, tiny_store: Store) -> None:
    with_set(tiny_store, "cmu_mosh", body)
    said = problems(tiny_store, adversary={"weight": 0.1, "poses": "cmu_mosh"})
    assert len(said) == count
    if said:
        assert said[0].startswith(f"adversary.poses: {tiny_store.shard('cmu_mosh', 'train')} has 4 people with poses")
        assert said[0].endswith("Set body: smpl, or set adversary.poses: labels")
    assert problems(tiny_store, adversary={"weight": 0, "poses": "cmu_mosh"}) == []


def with_regions(store: Store, pictures: str = "region for 32 px, JPEG 90", older: bool = False) -> Store:
    """The store with a training set of regions of photos."""
    path = store.shard("synthetic", "train")
    with ShardWriter(
        path, dataset="synthetic", split="train", skeleton="smpl54", body="open", made_by="a test", pictures=pictures
    ) as out:
        for number in range(4):
            out.add(person(number))
    if older:
        with h5py.File(path, "r+") as file:
            for name in LATER:
                del file.attrs[name]
        sha = computed_sha(Shard(path))  # older shards hash their attributes too
        with h5py.File(path, "r+") as file:
            file.attrs["sha"] = sha
    return store


def augmented(*augment: dict[str, Any] | str) -> dict[str, Any]:
    return {"mix": {"synthetic": 1.0}, "workers": 0, "augment": list(augment)}


@pytest.mark.parametrize("older", [False, True])
def test_crops_larger_than_the_regions_are_refused(older: bool, tiny_store: Store) -> None:
    with_regions(tiny_store, older=older)
    assert Shard(tiny_store.shard("synthetic", "train")).info.region_px == 32
    assert problems(tiny_store) == []
    (said,) = problems(tiny_store, model=tiny_tree()["model"] | {"image_px": 64})
    assert said == (
        f"data.mix: {tiny_store.shard('synthetic', 'train')} holds regions of photos for crops of 32 px, but the spec"
        " needs crops of 64 px. Convert it again: hmrb convert-data synthetic --image-px 64 (or --pictures original)"
    )
    assert problems(with_regions(tiny_store, "original"), model=tiny_tree()["model"] | {"image_px": 64}) == []


@pytest.mark.parametrize(
    ("ops", "said"),
    [
        ((), ""),
        (({"rotate_scale": {"rotation_deg": 30, "scale": 0.25}},), ""),  # the study's
        (("random_crop", "rotate_scale"), ""),
        (({"rotate_scale": {"rotation_deg": 90, "scale": 0.25}},), ""),  # no square is wider than at 45 degrees
        (({"rotate_scale": {"rotation_deg": 30, "scale": 0.3}},), "squares of 1.77 times the person's"),
        (({"rotate_scale": {"rotation_deg": 0, "scale": 0.5}},), "needs crops of 48 px"),
        (({"rotate_scale": {"scale": 0.9, "p": 0}},), "augmentations reach 1.90"),
        (({"random_crop": {"factor": 0.8}},), "needs crops of 96 px"),
        (({"rotate_scale": {"scale": 0.2}}, {"rotate_scale": {"scale": 0.2}}), "augmentations reach 2.04"),
    ],
)
def test_augmentations_that_leave_the_regions_are_refused(ops: tuple[Any, ...], said: str, tiny_store: Store) -> None:
    with_regions(tiny_store)
    found = problems(tiny_store, data=augmented(*ops))
    assert len(found) == bool(said)
    assert said in "".join(found)
    if "reach" in said:
        assert found[0].endswith("Convert it again: hmrb convert-data synthetic --pictures original")
    assert problems(with_regions(tiny_store, "original"), data=augmented(*ops)) == []


def test_the_study_s_specs_fit_the_regions_of_a_conversion() -> None:
    assert pytest.approx(float(GROWN * TURNED)) == STUDY_REACH
    specs = Path(__file__).parents[1] / "specs"
    for path in sorted(set(specs.rglob("*.yaml")) - set((specs / "methods").glob("*.yaml"))):  # those have 256 px
        experiment = load_experiment(path)
        for name in experiment.data.mix:
            needed = needed_region(experiment, name)
            assert needed.image_px <= 224, path
            assert needed.reach <= STUDY_REACH + 1e-3, path
