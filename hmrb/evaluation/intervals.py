"""Bootstrap intervals of means and of paired differences, over people, and over seeds and people together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

RESAMPLES = 2000
DRAWN_AT_ONCE = 1 << 18  # random numbers per batch; 2 MB fit the cache


@dataclass(frozen=True, slots=True)
class Difference:
    """Result of a paired bootstrap: mean difference, its 95 % interval, two-sided p-value of no difference."""

    mean: float
    ci95: tuple[float, float]
    p: float


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """Standard deviation that seeds give the mean of one run, or the difference of two; its degrees of freedom."""

    std: float
    degrees: int


def interval95(
    values: Float[np.ndarray, " N"], groups: Shaped[np.ndarray, " N"] | None = None, seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over people (percentiles of RESAMPLES resampled means).

    People in one group (frames of a sequence) are similar, so whole groups are resampled; the mean is still over
    people. With few groups the interval is too short: in 400 simulated tests it contained the mean in 92 % with 20 or
    37 groups, in 89 % with 10 and in 78 % with 5. For a single group, both ends equal its mean.
    """
    low, high = np.percentile(_resampled_means(values, groups, seed), [2.5, 97.5])
    return float(low), float(high)


def interval_text(ends: tuple[float, float] | None, sign: str = "") -> str:
    """An interval as everything has it: `[73.1, 76.9]`, and `-` if it has no width, as that of a single person.

    `sign` is "+" for differences. "" for None.
    """
    if ends is None:
        return ""
    low, high = ends
    return "-" if low == high else f"[{low:{sign}.1f}, {high:{sign}.1f}]"


def difference(
    values: Float[np.ndarray, " N"],
    base: Float[np.ndarray, " N"],
    groups: Shaped[np.ndarray, " N"] | None = None,
    seed: int = 0,
) -> Difference:
    """Compare two systems on the same people in the same order: `values` minus `base`; groups as in `interval95`."""
    away = values - base
    return _difference(float(away.mean()), _resampled_means(away, groups, seed))


def spread_of_runs(means: Sequence[Float[np.ndarray, " _"]]) -> SeedSpread:
    """What seeds do to a run, pooled over recipes: each has the means of its runs, one per seed.

    Three seeds of one recipe say little about it; the runs of all recipes of a table say more, if seeds do about the
    same to each. Without a second seed, nothing is known: 0 with 0 degrees.
    """
    degrees = sum(len(row) - 1 for row in means)
    squares = sum(float(((row - row.mean()) ** 2).sum()) for row in means)
    return SeedSpread(math.sqrt(squares / degrees) if degrees else 0.0, degrees)


def spread_of_differences(means: Float[np.ndarray, "K S"]) -> SeedSpread:
    """What seeds do to the difference of two of K recipes with the same S seeds: what a seed does to all cancels.

    The residual of the two-way layout of recipes and seeds, a randomised block design with seeds as blocks.
    """
    residual = means - means.mean(0) - means.mean(1)[:, None] + means.mean()
    degrees = (means.shape[0] - 1) * (means.shape[1] - 1)
    return SeedSpread(math.sqrt(2 * float((residual**2).sum()) / degrees) if degrees else 0.0, degrees)


def over_seeds_and_people(
    errors: Float[np.ndarray, "S N"],
    spread: SeedSpread,
    groups: Shaped[np.ndarray, " N"] | None = None,
    seed: int = 0,
) -> Difference:
    """Mean of errors, or of paired differences, of S runs on the same N people; interval and p for 0.

    A hierarchical bootstrap: each resample draws people, as `interval95` does, and seeds. Three seeds have only ten
    different resamples, which differ too little, so a resample of seeds is drawn from Student's t instead, with the
    degrees of `spread`, times its standard deviation over the root of S. In 1000 simulated tables of ten recipes with
    three seeds and 200 people, where seeds did as much as the draw of people, a recipe's interval contained its mean in
    96 % and that of a difference in 96 %; with seeds resampled from the recipe's own three it did in 93 %, with people
    alone in 87 %.
    """
    mean, means = float(errors.mean()), _resampled_means(errors.mean(0), groups, seed)
    if spread.degrees:
        means = mean + math.sqrt(_share_of_people(errors, groups, float(means.var()))) * (means - mean)
        drawn = np.random.default_rng((seed, 1)).standard_t(spread.degrees, len(means))
        means = means + drawn * spread.std / math.sqrt(len(errors))
    return _difference(mean, means)


def between_people(
    errors: Float[np.ndarray, "S N"], others: Float[np.ndarray, "S M"], spread: SeedSpread, seed: int = 0
) -> Difference:
    """As `over_seeds_and_people`, for the difference of the same S runs on two sets of different people.

    `spread` is of one run's difference.
    """
    means = _resampled_means(errors.mean(0), None, seed) - _resampled_means(others.mean(0), None, seed + 1)
    if spread.degrees:
        drawn = np.random.default_rng((seed, 2)).standard_t(spread.degrees, len(means))
        means = means + drawn * spread.std / math.sqrt(len(errors))
    return _difference(float(errors.mean() - others.mean()), means)


def resampled_recipes(
    errors: Sequence[Float[np.ndarray, "_ N"]], spread: SeedSpread, seed: int = 0
) -> Float[np.ndarray, "R K"]:
    """Means of K recipes in each resample of their people, the same for all, and of the seeds of each.

    `spread` is of one run, without what a seed does to all recipes.
    """
    rng, people = np.random.default_rng(seed), errors[0].shape[1]
    means = np.stack([one.mean(0) for one in errors])
    step = max(1, DRAWN_AT_ONCE // people)
    sizes = [min(step, RESAMPLES - start) for start in range(0, RESAMPLES, step)]
    drawn = np.concatenate([means[:, rng.integers(0, people, (size, people))].mean(2).T for size in sizes])
    if spread.degrees:
        runs = np.sqrt([len(one) for one in errors])
        drawn = drawn + rng.standard_t(spread.degrees, drawn.shape) * spread.std / runs
    return drawn


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of one family, corrected for their number (Holm, Scandinavian Journal of Statistics 1979)."""
    order, out, least = np.argsort(p_values, kind="stable"), [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[index]))
        out[index] = least
    return out


def _share_of_people(
    errors: Float[np.ndarray, "S N"], groups: Shaped[np.ndarray, " N"] | None, variance: float
) -> float:
    """The share of the people's variance that is no noise of single runs, which is in the seeds' part too."""
    seeds, people = errors.shape
    if seeds < 2 or not variance:
        return 1.0
    residual = errors - errors.mean(0) - errors.mean(1)[:, None] + errors.mean()
    member = np.arange(people) if groups is None else np.unique(groups, return_inverse=True)[1]
    squares = sum(float((np.bincount(member, row) ** 2).sum()) for row in residual)
    return max(0.0, 1 - squares / (people**2 * seeds * (seeds - 1)) / variance)


def _difference(mean: float, means: Float[np.ndarray, " R"]) -> Difference:
    tail = min((means <= 0).sum(), (means >= 0).sum())
    low, high = np.percentile(means, [2.5, 97.5])
    return Difference(mean, (float(low), float(high)), float(min(1, 2 * (1 + tail) / (1 + RESAMPLES))))


def _resampled_means(
    values: Float[np.ndarray, " N"], groups: Shaped[np.ndarray, " N"] | None, seed: int
) -> Float[np.ndarray, " R"]:
    member = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums, sizes = np.bincount(member, values), np.bincount(member).astype(np.float64)
    rng = np.random.default_rng(seed)
    count, step = len(sums), max(1, DRAWN_AT_ONCE // len(sums))
    means = []
    for start in range(0, RESAMPLES, step):
        drawn = rng.integers(0, count, (min(step, RESAMPLES - start), count))
        means.append(sums.take(drawn).sum(1) / sizes.take(drawn).sum(1))
    return np.concatenate(means)
