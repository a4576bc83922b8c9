"""Types of fields that the tables of a spec share."""

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from hmrb.errors import RequestError
from hmrb.lookup import is_of_numbers, truth_in

LARGEST = 1e30  # of a weight or rate: single precision ends at 3e38, and a loss is a factor of it

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, le=LARGEST)]
Weight = Annotated[float, Field(ge=0, le=LARGEST)]
Share = Annotated[float, Field(ge=0, le=1)]
Precision = Literal["fp32", "bf16", "fp16"]
"""Precision of the network in training."""
EvalPrecision = Literal["fp32", "tf32", "bf16", "fp16"]
"""Precision of the network in an evaluation; tf32 is fp32 with products in TF32, on a GPU."""


class SpecError(RequestError):
    """An invalid spec; the message lists every problem, one per line."""


class SpecModel(BaseModel):
    """Base class of all spec tables: frozen, refuses unknown keys, and true and false where a number belongs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: Any) -> Any:
        if info.field_name and _is_of_numbers(cls, info.field_name) and (key := truth_in(value)) is not None:
            raise ValueError(f"{key}must be a number, not true or false")
        return value


@cache
def _is_of_numbers(table: type[SpecModel], field: str) -> bool:
    return is_of_numbers(table.model_fields[field].annotation)


def on_or_off(value: object) -> object:
    """YAML reads `on` and `off` as booleans, a command line may not."""
    known = {True: True, False: False, "on": True, "off": False, "auto": "auto"}
    if not isinstance(value, bool | int | str) or value not in known:
        raise ValueError("must be auto, on or off")
    return known[value]


def one_spelling(value: object) -> object:
    """Replaces `-` with `_` in names, as in the tables."""
    if isinstance(value, str):
        return value.replace("-", "_")
    if isinstance(value, dict):
        return {one_spelling(key): number for key, number in value.items()}
    return [one_spelling(name) for name in value] if isinstance(value, list | tuple) else value


Names = Annotated[tuple[str, ...], BeforeValidator(one_spelling)]
