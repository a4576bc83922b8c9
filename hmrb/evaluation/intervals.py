"""Bootstrap intervals of means and of paired differences."""

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
    means = _resampled_means(away, groups, seed)
    tail = min((means <= 0).sum(), (means >= 0).sum())
    low, high = np.percentile(means, [2.5, 97.5])
    return Difference(float(away.mean()), (float(low), float(high)), float(min(1, 2 * (1 + tail) / (1 + RESAMPLES))))


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
