"""How far two lists order the same things alike: Kendall's tau-b."""

import math

import numpy as np
from jaxtyping import Float


def kendall_tau_b(one: Float[np.ndarray, " K"], other: Float[np.ndarray, " K"]) -> float:
    """Pairs in one order less pairs in opposite orders, over those without ties (Kendall, Biometrika 1945): -1 to 1.

    NaN if all values of a list are equal.
    """
    ours, theirs = (
        np.sign(np.subtract.outer(values, values))[np.triu_indices(len(values), 1)] for values in (one, other)
    )
    pairs = math.sqrt(float(np.abs(ours).sum()) * float(np.abs(theirs).sum()))
    return float((ours * theirs).sum()) / pairs if pairs else math.nan
