"""A loss that needs no label: bodies far from the average one cost something."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from hmrb.training.loss_terms import Distance, LossPair


def plausible(pair: LossPair, distance: Distance, *, free: Annotated[float, Field(ge=0)] = 3.0) -> Float[Tensor, ""]:
    """The distance of betas beyond `free` standard deviations, where the average body is 0."""
    beyond = (pair.prediction.betas.abs() - free).clamp(min=0)
    return distance(beyond, beyond.new_zeros(()).expand_as(beyond)).mean()
