"""How far two runs of one recipe differ by chance: from reruns of a recipe with other seeds."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from hmrb.errors import RequestError
from hmrb.evaluation.records import Result
from hmrb.reports.tables import recipe_of


def t_quantile(share: float, degrees: int) -> float:
    """The value below which Student's t is with this probability; by integration, t = sqrt(degrees) * tan(angle)."""
    angles = np.linspace(-math.pi / 2, math.pi / 2, 100_001)
    density = np.cos(angles) ** (degrees - 1)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return float(math.sqrt(degrees) * math.tan(np.interp(share * below[-1], below, angles)))


def rerun_band(reruns: Sequence[Result], like: Result) -> Mapping[str, float]:
    """For each metric, the size that the difference of two runs exceeds by chance once in twenty times.

    It is t * s * sqrt(2), where s is the standard deviation between the reruns, and t has their number less one as
    degrees of freedom. Raises RequestError if there are fewer than two, or if they are not reruns of one recipe scored
    as `like` is.
    """
    if len(reruns) < 2:
        raise RequestError(f"--band: {len(reruns)} rerun; name two or more runs of one recipe, each with --band")
    recipes, seeds = {recipe_of(result) for result in reruns}, [result.seed for result in reruns]
    if len(recipes) > 1:
        raise RequestError(f"--band: the runs come from {len(recipes)} recipes, but reruns differ in the seed alone")
    if len(set(seeds)) < len(seeds):
        raise RequestError(f"--band: seeds {', '.join(map(str, seeds))}: a seed is there twice; name each run once")
    if any(result.record.comparable != like.record.comparable for result in reruns):
        raise RequestError("--band: the reruns are of another protocol or other people than the results")
    quantile = t_quantile(0.975, len(reruns) - 1)
    shared = [metric for metric in like.errors if all(metric in result.errors for result in reruns)]
    means = {metric: [float(result.of(metric)[0].mean(dtype=np.float64)) for result in reruns] for metric in shared}
    return {metric: quantile * math.sqrt(2) * float(np.std(values, ddof=1)) for metric, values in means.items()}
