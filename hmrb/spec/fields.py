"""Types of fields that the tables of a spec share."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hmrb.errors import RequestError

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Precision = Literal["fp32", "bf16", "fp16"]
"""Precision of the network in training."""
EvalPrecision = Literal["fp32", "tf32", "bf16", "fp16"]
"""Precision of the network in an evaluation; tf32 is fp32 with products in TF32, on a GPU."""


class SpecError(RequestError):
    """An invalid spec; the message lists every problem, one per line."""


class SpecModel(BaseModel):
    """Base class of all spec tables: frozen, refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def one_spelling(value: object) -> object:
    """Replaces `-` with `_` in names, as in the tables."""
    if isinstance(value, str):
        return value.replace("-", "_")
    if isinstance(value, dict):
        return {one_spelling(key): number for key, number in value.items()}
    return [one_spelling(name) for name in value] if isinstance(value, list | tuple) else value


Names = Annotated[tuple[str, ...], BeforeValidator(one_spelling)]
