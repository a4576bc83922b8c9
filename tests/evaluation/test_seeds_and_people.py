"""Intervals over seeds and people contain a known truth as often as they say; those over people alone do not."""

import numpy as np
import pytest

from hmrb.evaluation.agreement import kendall_tau_b
from hmrb.evaluation.intervals import (
    SeedSpread,
    between_people,
    holm,
    interval95,
    over_seeds_and_people,
    resampled_recipes,
    spread_of_differences,
    spread_of_runs,
)

RECIPES, SEEDS, PEOPLE, TABLES = 6, 3, 80, 250
OF_PEOPLE, OF_NOISE, OF_INTERACTION = 1.0, 1.0, 0.3
OF_SEEDS = (OF_PEOPLE / np.sqrt(PEOPLE)) * np.sqrt(SEEDS)  # seeds move a mean as much as the draw of people does


def drawn_table(rng: np.random.Generator) -> np.ndarray:
    """Errors of RECIPES whose true means are 0: parts of people, seeds, runs, people by recipe, and noise."""
    people, seeds = rng.normal(0, OF_PEOPLE, PEOPLE), rng.normal(0, 0.6 * OF_SEEDS, (SEEDS, 1))
    runs, mixed = (
        rng.normal(0, 0.8 * OF_SEEDS, (RECIPES, SEEDS, 1)),
        rng.normal(0, OF_INTERACTION, (RECIPES, 1, PEOPLE)),
    )
    return people + seeds + runs + mixed + rng.normal(0, OF_NOISE, (RECIPES, SEEDS, PEOPLE))


def test_intervals_contain_the_truth_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hmrb.evaluation.intervals.RESAMPLES", 500)
    rng, found = np.random.default_rng(0), {"row": 0, "difference": 0, "people alone": 0, "false alarm": 0}
    for _ in range(TABLES):
        table = drawn_table(rng)
        means = table.mean(2)
        row = over_seeds_and_people(table[0], spread_of_runs(list(means)))
        difference = over_seeds_and_people(table[1] - table[0], spread_of_differences(means))
        alone = interval95(table[0].mean(0))
        found["row"] += row.ci95[0] <= 0 <= row.ci95[1]
        found["difference"] += difference.ci95[0] <= 0 <= difference.ci95[1]
        found["people alone"] += alone[0] <= 0 <= alone[1]
        found["false alarm"] += difference.p < 0.05
    shares = {name: count / TABLES for name, count in found.items()}
    assert 0.92 <= shares["row"] <= 0.985
    assert 0.92 <= shares["difference"] <= 0.985
    assert shares["false alarm"] <= 0.08
    assert shares["people alone"] < 0.9  # the interval of before, which seeds are not in


def test_the_spread_of_seeds_is_the_one_that_made_them() -> None:
    rng = np.random.default_rng(1)
    runs = rng.normal(0, 5, (1, 3)) + rng.normal(0, 2, (400, 3))  # a seed does 5 to all recipes, and 2 to each
    whole, paired = spread_of_runs(list(runs - runs.mean(0))), spread_of_differences(runs)
    assert (whole.degrees, paired.degrees) == (800, 399 * 2)
    assert whole.std == pytest.approx(2, rel=0.05)
    assert paired.std == pytest.approx(2 * np.sqrt(2), rel=0.05)  # what it does to all cancels
    assert spread_of_runs([np.array([3.0]), np.array([4.0])]) == SeedSpread(0.0, 0)
    assert spread_of_differences(np.array([[3.0], [4.0]])) == SeedSpread(0.0, 0)


def test_one_seed_leaves_the_interval_of_people() -> None:
    errors = np.random.default_rng(2).normal(50, 10, (1, 60))
    found = over_seeds_and_people(errors, SeedSpread(0.0, 0))
    assert found.ci95 == interval95(errors[0])


def test_different_people_are_not_paired() -> None:
    rng = np.random.default_rng(3)
    person = rng.normal(50, 10, 200)
    hard, easy = person + 5 + rng.normal(0, 1, (3, 200)), person + rng.normal(0, 1, (3, 200))
    known = SeedSpread(0.01, 4)
    paired, apart = over_seeds_and_people(hard - easy, known), between_people(hard, easy, known)
    assert paired.mean == pytest.approx(apart.mean)
    assert apart.ci95[1] - apart.ci95[0] > 5 * (paired.ci95[1] - paired.ci95[0])


def test_a_resample_has_the_same_people_in_every_recipe() -> None:
    errors = np.random.default_rng(4).normal(50, 10, (3, 40))
    drawn = resampled_recipes([errors, errors + 1], SeedSpread(0.0, 0))
    assert np.allclose(drawn[:, 1] - drawn[:, 0], 1)
    assert drawn[:, 0].std() == pytest.approx(errors.mean(0).std() / np.sqrt(40), rel=0.1)


def test_p_values_are_corrected_for_their_number() -> None:
    """The example of R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_tau_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(5)
    for count in (2, 3, 8, 30):
        one, other = rng.integers(0, 6, (2, count)).astype(float)  # with ties
        if len(set(one)) > 1 < len(set(other)):
            assert kendall_tau_b(one, other) == pytest.approx(stats.kendalltau(one, other).statistic)


def test_tau_of_orders_known_by_hand() -> None:
    order = np.arange(5.0)
    assert kendall_tau_b(order, order) == 1
    assert kendall_tau_b(order, -order) == -1
    assert kendall_tau_b(np.array([1.0, 2, 3]), np.array([1.0, 3, 2])) == pytest.approx(1 / 3)
    assert kendall_tau_b(np.array([1.0, 1, 2]), np.array([1.0, 2, 3])) == pytest.approx(2 / np.sqrt(2 * 3))
    assert np.isnan(kendall_tau_b(order, 0 * order))
