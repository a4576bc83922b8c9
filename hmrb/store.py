"""Paths of shards, body models, weights, models and occluders."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Store:
    """A folder with shards/, bodies/, weights/, models/ and occluders/. `$HMRB_HOME`, or ~/.cache/hmrb."""

    root: Path

    @classmethod
    def default(cls) -> "Store":
        """The store at `$HMRB_HOME`, or at ~/.cache/hmrb."""
        home = os.environ.get("HMRB_HOME")
        return cls(Path(home).expanduser() if home else Path.home() / ".cache" / "hmrb")

    @property
    def bodies(self) -> Path:
        """Body models: bodies/smpl/SMPL_NEUTRAL.npz, J_regressor_h36m.npy, ..."""
        return self.root / "bodies"

    @property
    def weights(self) -> Path:
        """Pretrained weights of backbones."""
        return self.root / "weights"

    @property
    def models(self) -> Path:
        """Complete models of other projects, under the names that they were published with."""
        return self.root / "models"

    @property
    def imported(self) -> Path:
        """The same as hmrb checkpoints, each named after the hash of the original file."""
        return self.models / "imported"

    @property
    def pascal(self) -> Path:
        """Objects cut from Pascal VOC, to paste over people."""
        return self.root / "occluders" / "pascal.npz"

    def shard(self, dataset: str, split: str) -> Path:
        """The shard of one split of a dataset."""
        return self.root / "shards" / f"{dataset}_{split}.h5"
