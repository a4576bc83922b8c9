"""Shards that an experiment cannot use are refused before a run."""

from dataclasses import replace
from typing import Any

import pytest
from conftest import person, tiny_tree, write_shard

from hmrb.preflight import file_problems
from hmrb.spec import parse_experiment
from hmrb.store import Store


def problems(store: Store, **changes: Any) -> list[str]:
    return file_problems(parse_experiment(tiny_tree() | changes, "tiny"), store)


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


@pytest.mark.parametrize(("body", "count"), [("open", 0), ("smpl", 1)])
def test_real_poses_are_of_the_same_body(body: str, count: int, tiny_store: Store) -> None:
    with_set(tiny_store, "cmu_mosh", body)
    said = problems(tiny_store, adversary={"weight": 0.1, "poses": "cmu_mosh"})
    assert len(said) == count
    if said:
        assert said[0].startswith(f"adversary.poses: {tiny_store.shard('cmu_mosh', 'train')} has 4 people with poses")
        assert said[0].endswith("Set body: smpl, or set adversary.poses: labels")
    assert problems(tiny_store, adversary={"weight": 0, "poses": "cmu_mosh"}) == []
