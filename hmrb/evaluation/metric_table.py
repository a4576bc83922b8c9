"""Facts about each metric: title, meaning, unit, which direction is better, what it needs. metrics.py computes them."""

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
    meaning: str
    """What it measures, for readers of a report."""
    unit: Literal["mm", "deg", "%"] = "mm"
    better: Better = "lower"
    needs: tuple[str, ...] = ("joints",)
    """Fields of `Posed` that it reads."""
    by_true_body: bool = False
    """Whether the prediction is posed with the body of the ground truth instead of its own."""


_ROOTED = "after moving both roots to one place"
_ALIGNED = "after the best shift, rotation and scale of the whole prediction"
_MESH, _ROTATIONS = ("joints", "vertices"), ("joints", "rotmats")
METRIC_TABLE = {
    "mpjpe": MetricRow("MPJPE", f"mean distance of the joints from the true ones, {_ROOTED}"),
    "pa_mpjpe": MetricRow("PA-MPJPE", f"mean distance of the joints from the true ones, {_ALIGNED}"),
    "n_mpjpe": MetricRow("N-MPJPE", f"mean distance of the joints from the true ones, {_ROOTED} and scaling at best"),
    "pve": MetricRow("PVE", f"mean distance of the mesh's vertices from the true ones, {_ROOTED}", needs=_MESH),
    "pve_study": MetricRow(
        "PVE as the study's",
        "mean distance of the mesh's vertices from the true ones, posed with the true body, with no alignment",
        needs=(*_MESH, "root"),
        by_true_body=True,
    ),
    "pa_pve": MetricRow("PA-PVE", f"mean distance of the mesh's vertices from the true ones, {_ALIGNED}", needs=_MESH),
    "mpjae": MetricRow("MPJAE", "mean angle between a joint's rotation and the true one", "deg", needs=_ROTATIONS),
    "pa_mpjae": MetricRow(
        "PA-MPJAE", f"mean angle between a joint's rotation and the true one, {_ALIGNED}", "deg", needs=_ROTATIONS
    ),
    "pck3d": MetricRow("3DPCK@150", f"share of joints less than 150 mm from the true ones, {_ROOTED}", "%", "higher"),
    "pa_pck3d": MetricRow(
        "PA-3DPCK@150", f"share of joints less than 150 mm from the true ones, {_ALIGNED}", "%", "higher"
    ),
    "auc": MetricRow(
        "AUC", f"share of joints closer than a limit, mean over limits from 0 to 150 mm, {_ROOTED}", "%", "higher"
    ),
    "pa_auc": MetricRow(
        "PA-AUC", f"share of joints closer than a limit, mean over limits from 0 to 150 mm, {_ALIGNED}", "%", "higher"
    ),
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
MEANINGS = {
    **{name: row.meaning for name, row in METRIC_TABLE.items()},
    **{
        name: f"share of joints whose projection is less than {share:g} of the person's box from the marked point"
        for name, share in PCK2D.items()
    },
    "acceleration_error": "mean difference of the joints' acceleration from the true one, over three frames in a row",
    "jitter": "mean jerk (change of acceleration) of the predicted joints, over four frames in a row",
}
ARROWS: dict[Better, str] = {"lower": "↓", "higher": "↑"}
HEADINGS = {name: f"{TITLES[name]} {UNITS[name]} {ARROWS[BETTER[name]]}" for name in TITLES}
"""The metric with its unit and an arrow towards better, as tables have it: PA-MPJPE mm ↓."""

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
