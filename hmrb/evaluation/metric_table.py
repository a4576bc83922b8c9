"""Facts about each metric: title, unit, which direction is better, what it needs. metrics.py computes them."""

from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher"]
# Thresholds as shares of the box, as 4D-Humans reports for COCO and LSP-extended.
PCK2D = {"pck2d_05": 0.05, "pck2d_10": 0.1}
FINE = 0
DEGENERATE = (
    "",
    "no joint of the truth is seen",
    "the prediction's joints lie at one point",
    "the truth's joints lie at one point",
    "the prediction's joints lie on a line",
    "the truth's joints lie on a line",
)


@dataclass(frozen=True, slots=True)
class MetricRow:
    """Facts about a metric that gives one number per person."""

    title: str
    unit: Literal["mm", "deg", "%"] = "mm"
    better: Better = "lower"
    needs: tuple[str, ...] = ("joints",)
    """Fields of `Posed` that it reads."""
    by_true_body: bool = False
    """Whether the prediction is posed with the body of the ground truth instead of its own."""


_MESH, _ROTATIONS = ("joints", "vertices"), ("joints", "rotmats")
METRIC_TABLE = {
    "mpjpe": MetricRow("MPJPE"),
    "pa_mpjpe": MetricRow("PA-MPJPE"),
    "n_mpjpe": MetricRow("N-MPJPE"),
    "pve": MetricRow("PVE", needs=_MESH),
    "pve_study": MetricRow("PVE as the study's", needs=(*_MESH, "root"), by_true_body=True),
    "pa_pve": MetricRow("PA-PVE", needs=_MESH),
    "mpjae": MetricRow("MPJAE", "deg", needs=_ROTATIONS),
    "pa_mpjae": MetricRow("PA-MPJAE", "deg", needs=_ROTATIONS),
    "pck3d": MetricRow("3DPCK@150", "%", "higher"),
    "pa_pck3d": MetricRow("PA-3DPCK@150", "%", "higher"),
    "auc": MetricRow("AUC", "%", "higher"),
    "pa_auc": MetricRow("PA-AUC", "%", "higher"),
}
MOTION = {"acceleration_error": "m/s²", "jitter": "m/s³"}  # per group of consecutive frames, not per person
TITLES = {
    **{name: row.title for name, row in METRIC_TABLE.items()},
    **{name: f"PCK@{share}" for name, share in PCK2D.items()},
    "acceleration_error": "acceleration error",
    "jitter": "jitter",
}
UNITS: dict[str, str] = {
    **{name: row.unit for name, row in METRIC_TABLE.items()},
    **dict.fromkeys(PCK2D, "%"),
    **MOTION,
}
BETTER: dict[str, Better] = {name: METRIC_TABLE[name].better if name in METRIC_TABLE else "lower" for name in TITLES}
BETTER |= dict.fromkeys(PCK2D, "higher")

PACE = {
    "images_per_s": "images per second",
    "data_wait": "share of time spent waiting for data",
    "device_share": "share of time in steps on the device",
    "device_lag": "share of time that the device ended steps after the host",
    "mfu": "MFU, share of the card's peak FLOP/s",
    "peak_gb": "peak memory of the GPU, GB",
    "lr": "learning rate",
}
"""What the lines of a log state besides losses, with the titles of the report's charts."""
