from collections import Counter

import pytest

from hmrb.data.mixture import MixtureSampler, mix64, permuted

MIX = {"a": 0.5, "b": 0.3, "c": 0.2}
SIZES = {"a": 1000, "b": 10, "c": 10_000_000}


def test_a_draw_depends_on_seed_and_number_alone() -> None:
    one, two = MixtureSampler(MIX, SIZES, seed=3), MixtureSampler(MIX, SIZES, seed=3)
    backwards = [one.draw(i) for i in reversed(range(100))][::-1]
    assert backwards == [two.draw(i) for i in range(100)]
    assert backwards != [MixtureSampler(MIX, SIZES, seed=4).draw(i) for i in range(100)]


def test_shares_are_met_and_rows_are_even() -> None:
    sampler = MixtureSampler(MIX, SIZES, seed=0)
    draws = [sampler.draw(i) for i in range(30_000)]
    names = Counter(name for name, _ in draws)
    for name, share in MIX.items():
        assert abs(names[name] / 30_000 - share) < 0.012  # four standard deviations
    rows = Counter(row for name, row in draws if name == "b")
    assert set(rows) == set(range(10))
    assert max(rows.values()) < 1.2 * min(rows.values())
    assert max(row for name, row in draws if name == "c") > 9_900_000


def test_a_dataset_of_share_0_is_never_drawn() -> None:
    sampler = MixtureSampler({"a": 1.0, "b": 0.0}, SIZES, seed=0)
    assert {sampler.draw(i)[0] for i in range(200)} == {"a"}


def test_a_single_dataset_is_gone_through_once_an_epoch_in_a_new_order() -> None:
    sampler = MixtureSampler({"a": 1.0}, {"a": 97}, seed=1)
    first, second = ([sampler.draw(epoch * 97 + i)[1] for i in range(97)] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(97))
    assert first != second != list(range(97))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 65, 1000])
def test_a_permutation_hits_every_place(size: int) -> None:
    assert sorted(permuted(i, size, key=mix64(5)) for i in range(size)) == list(range(size))


def test_a_replacement_is_another_draw() -> None:
    sampler = MixtureSampler({"a": 1.0}, {"a": 1_000_000}, seed=1)
    assert len({sampler.draw(0, attempt) for attempt in range(20)}) == 20
