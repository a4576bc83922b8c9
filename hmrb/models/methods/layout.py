"""What a method is besides the fields of a spec: its rules, and the layout of the files that its authors released."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from hmrb.models.foreign import Rules

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Released:
    """The layout of a released file, after the keys `state_dict` or `model` and a `prefix` of all names.

    `shapes` identify it (None: absent). `rules` turn names into hmrb's; `dropped` names what a file may hold besides,
    as patterns with reasons. `fields` are those of the spec's `model` table; `family` is the model zoo's row that
    states the licence.
    """

    title: str
    family: str
    shapes: Mapping[str, tuple[int, ...] | None]
    rules: Rules
    dropped: Mapping[str, str]
    fields: Mapping[str, Any]
    prefix: str = ""
    body: str = "smpl"
    beside: Callable[[Path], State] = field(default=lambda path: {})
    """Tensors of a second file that the method needs, found beside the first. Raises WeightsError."""

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether a file's tensors have this layout."""
        for key, shape in self.shapes.items():
            name = self.prefix + key
            if (shape is None) == (name in tensors) or (shape is not None and tuple(tensors[name].shape) != shape):
                return False
        return True

    def renamed(self, tensors: Mapping[str, Tensor]) -> tuple[State, Counter[str], list[str]]:
        """The tensors under hmrb's names; the number of dropped ones by reason; names that no rule knows."""
        out: State = {}
        reasons: Counter[str] = Counter()
        unknown: list[str] = []
        for key, value in tensors.items():
            name = key.removeprefix(self.prefix)
            why = next((why for pattern, why in self.dropped.items() if re.match(pattern, name)), None)
            new, is_known = name, False
            for pattern, replacement in self.rules:
                is_known |= bool(re.search(pattern, new))
                new = re.sub(pattern, replacement, new)
            if why is not None:
                reasons[why] += 1
            elif is_known:
                out[new] = value
            else:
                unknown.append(key)
        return out, reasons, unknown


@dataclass(frozen=True, slots=True)
class Method:
    """A method and the files of its authors. What it leaves to a spec is in hmrb.names."""

    name: str
    title: str
    crop: str
    """The name of its crop rule."""
    released: tuple[Released, ...] = field(default=())
