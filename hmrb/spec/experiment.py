"""An experiment: all tables of a spec."""

import hashlib
import json
from typing import Annotated, Any

from pydantic import Field

from hmrb.spec.data import DataSpec
from hmrb.spec.evals import CheckpointSpec, EvalSpec, Expected, Published
from hmrb.spec.fields import SpecModel
from hmrb.spec.model import STUDY_LOSSES, AdversarySpec, LossTerm, ModelSpec
from hmrb.spec.optim import OptimSpec, SpeedSpec

Package = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9._+!-]+$")]
ADDED: dict[str, Any] = {
    "optim.decay": "all", "optim.layer_decay": 1.0, "packages": {}, "data.trusted": [], "data.fraction": {},
    "data.decode": "full", "data.antialias": "none",
    "model.args": {}, "model.backbone_args": {}, "model.start": "backbone", "model.crop": "square",
    "model.camera": "crop_weak",
    "model.head.args": {}, "model.head.box": "none",
    "losses.*.args": {}, "losses.*.reduction": "mean", "losses.*.of_batch": None, "losses.*.space": "crop",
    "losses.*.origin": "hips", "losses.*.gate": "none", "losses.*.loose": 0.05,
}  # fmt: skip
"""Fields that older specs lack, and what they did. A recipe leaves them out while they have this value, so that older
hashes, records and checkpoints stay comparable."""


class Experiment(SpecModel):
    """Everything that determines a run's results, and the numbers to compare them with."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    body: str = "smpl"
    model: ModelSpec = ModelSpec()
    data: DataSpec
    losses: dict[str, LossTerm] = Field(default=STUDY_LOSSES, min_length=1)
    adversary: AdversarySpec = AdversarySpec()
    optim: OptimSpec = OptimSpec()
    evals: EvalSpec = EvalSpec()
    checkpoints: CheckpointSpec = CheckpointSpec()
    speed: SpeedSpec = SpeedSpec()
    published: tuple[Published, ...] = ()
    expected: tuple[Expected, ...] = ()
    packages: dict[Package, Version] = {}
    """Versions of the other packages that the method, backbone, head and losses come from; a run writes them."""

    def recipe(self) -> dict[str, Any]:
        """The fields that determine the run's results, as plain values: no file, speed or reference-number settings."""
        left_out: dict[str, Any] = dict.fromkeys(("checkpoints", "speed", "published", "expected"), True)
        tree = self.model_dump(mode="json", exclude=left_out | {"data": {"workers"}})
        for key, before in ADDED.items():
            *tables, field = key.split(".")
            for table in _tables(tree, tables):
                if field in table and table[field] == before:
                    del table[field]
        return tree

    def sha(self) -> str:
        """12 hex digits of the recipe's hash: equal for equal runs."""
        return hashlib.sha256(json.dumps(self.recipe(), sort_keys=True).encode()).hexdigest()[:12]


def _tables(tree: dict[str, Any], path: list[str]) -> list[dict[str, Any]]:
    """The tables at a path of keys; `*` is every key."""
    found = [tree]
    for key in path:
        found = [inner for table in found for inner in (table.values() if key == "*" else [table[key]])]
    return found
