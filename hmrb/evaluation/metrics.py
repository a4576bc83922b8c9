"""Errors and scores, one number a person. Metres come in; millimetres, degrees and per cent go out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from hmrb.bodykind import SMPL_KIND, BodyKind
from hmrb.errors import RequestError
from hmrb.geometry import Similarity, fit_similarity, rotmat_to_rotvec
from hmrb.lookup import find
from hmrb.skeleton import SKELETONS

MM = 1000.0
PCK_MM = 150.0  # Mehta et al., 3DV 2017
AUC_MM = tuple(5.0 * i for i in range(31))  # 0 to 150 mm, as Mehta et al.; truth scores 30 / 31, as 0 is not below 0
ANGLE_JOINTS = (  # whose rotations MPJAE compares: 3DPW's challenge and EMDB
    "pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow",
)  # fmt: skip
Better = Literal["lower", "higher"]
PCK2D = {"pck2d_05": 0.05, "pck2d_10": 0.1}  # shares of the box, as 4D-Humans reports on COCO and LSP-extended
RESAMPLES = 2000
DRAWN_AT_ONCE = 1 << 18  # numbers; 2 MB stay in the cache
ONE_POINT_M = 1e-6  # points that lie closer together are one: the rounding of float32 at a metre's distance
ON_A_LINE = 1e-5  # a set of points this many times longer than wide is a line
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
class Posed:
    """A side of a comparison: joints and vertices in metres from the protocol's root joint.

    `rotmats` are relative to the parent. `seen` says, of the truth alone, which joints count in means (None: all); a
    joint that is not seen has a place all the same, and alignment uses it, as in the study. `root` is the root's own
    place, which only `pve_study` adds again. All numbers are finite: whoever reads them refuses others.
    """

    joints: Float[Tensor, "B J 3"]
    vertices: Float[Tensor, "B V 3"] | None = None
    rotmats: Float[Tensor, "B R 3 3"] | None = None
    seen: Bool[Tensor, "B J"] | None = None
    root: Float[Tensor, "B 3"] | None = None
    kind: BodyKind = SMPL_KIND
    """The kind of body whose joints `rotmats` turn."""


@dataclass(frozen=True)
class MetricPair:
    """Prediction and truth; what several metrics share is computed once, when first asked for."""

    pred: Posed
    truth: Posed

    @cached_property
    def similarity(self) -> Similarity:
        """The one that best maps all joints of the prediction onto the truth's."""
        return fit_similarity(self.pred.joints, self.truth.joints)

    @cached_property
    def joint_mm(self) -> Float[Tensor, "B J"]:
        """Distance of each joint after the roots are laid on one another."""
        return joint_distances_mm(self.pred.joints, self.truth.joints)

    @cached_property
    def pa_joint_mm(self) -> Float[Tensor, "B J"]:
        """Distance of each joint after alignment; to the truth's centroid for a prediction at one point."""
        return joint_distances_mm(self.similarity(self.pred.joints), self.truth.joints)

    @cached_property
    def rotations(self) -> tuple[Float[Tensor, "B A 3 3"], Float[Tensor, "B A 3 3"]]:
        """Of ANGLE_JOINTS in the camera's axes, of prediction and truth (float64)."""
        assert self.pred.rotmats is not None
        assert self.truth.rotmats is not None
        kind = self.truth.kind
        pred, truth = (_in_camera(rotmats.double(), kind) for rotmats in (self.pred.rotmats, self.truth.rotmats))
        return pred, truth

    def mean(self, joints: Float[Tensor, "B J"]) -> Float[Tensor, " B"]:
        """Over the joints seen in truth; 0 where none is."""
        if self.truth.seen is None:
            return joints.mean(1)
        seen = self.truth.seen.to(joints.dtype)
        return (joints * seen).sum(1) / seen.sum(1).clamp(min=1)


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of METRICS: called with prediction and truth it gives one number a person."""

    function: Callable[[MetricPair], Float[Tensor, " B"]]
    title: str
    unit: Literal["mm", "deg", "%"] = "mm"
    better: Better = "lower"
    needs: tuple[str, ...] = ("joints",)
    by_true_body: bool = False
    """Whether the prediction is posed with the body that the truth is posed with, and not with its own."""

    def __call__(self, pred: Posed, truth: Posed) -> Float[Tensor, " B"]:
        """Raises RequestError where a part of Posed is missing; `measure` takes several metrics for less."""
        return self.of(MetricPair(pred, truth))

    def of(self, pair: MetricPair) -> Float[Tensor, " B"]:
        """The same of a pair that other metrics share."""
        for side, posed in (("prediction", pair.pred), ("truth", pair.truth)):
            missing = [part for part in self.needs if getattr(posed, part) is None]
            if missing:
                raise RequestError(f"{self.title} needs {', '.join(self.needs)}; the {side} has no {missing[0]}")
        return self.function(pair).to(pair.pred.joints.dtype)


def measure(names: Sequence[str], pred: Posed, truth: Posed) -> dict[str, Float[Tensor, " B"]]:
    """Several metrics of the same people, with one alignment for all that need it. Raises RequestError."""
    pair = MetricPair(pred, truth)
    return {name: find("metric", name, METRICS).of(pair) for name in names}


def degenerate(pred: Posed, truth: Posed) -> Int[Tensor, " B"]:
    """What is wrong with each person, as an index into DEGENERATE; FINE for nearly all. The first that holds is told.

    No metric is NaN for any of them, so that a caller can count them and leave them in or out:
    without a seen joint, means over joints are 0; a prediction at one point is aligned with the truth's centroid and
    has no joint right in PA-PCK and PA-AUC, as in the study (whose PA-MPJPE is NaN); at one point or on a line the
    rotation of the alignment is not determined, and PA-MPJAE is MPJAE. All else is as for anybody.
    """
    reasons = torch.full((len(truth.joints),), FINE, device=truth.joints.device)
    shapes = [_shape(posed.joints) for posed in (pred, truth)]
    for reason, holds in reversed(list(enumerate([point for point, _ in shapes] + [line for _, line in shapes], 2))):
        reasons[holds] = reason
    if truth.seen is not None:
        reasons[~truth.seen.any(1)] = 1
    return reasons


def num_seen(truth: Posed) -> Float[Tensor, " B"]:
    """How many joints a person's mean is of; the study's numbers are means over people with these as weights."""
    if truth.seen is None:
        return torch.full_like(truth.joints[:, 0, 0], truth.joints.shape[1])
    return truth.seen.sum(1).to(truth.joints.dtype)


def joint_distances_mm(pred: Float[Tensor, "B J 3"], truth: Float[Tensor, "B J 3"]) -> Float[Tensor, "B J"]:
    """Distance of each point to its true place."""
    x2, y2, z2 = (pred - truth).square_().unbind(-1)  # a norm over three numbers takes ten times as long
    return (x2 + y2).add_(z2).sqrt_().mul_(MM)


def mpjpe(pair: MetricPair) -> Float[Tensor, " B"]:
    """Mean distance of joints after the roots are laid on one another."""
    return pair.mean(pair.joint_mm)


def pa_mpjpe(pair: MetricPair) -> Float[Tensor, " B"]:
    """Mean distance of joints after the similarity that best maps prediction onto truth."""
    return pair.mean(pair.pa_joint_mm)


def n_mpjpe(pair: MetricPair) -> Float[Tensor, " B"]:
    """Mean distance of joints after the scale about the root that best maps prediction onto truth."""
    pred, truth = pair.pred.joints.double(), pair.truth.joints.double()
    size = (pred * pred).sum((1, 2)).clamp(min=torch.finfo(pred.dtype).tiny)
    scale = (pred * truth).sum((1, 2)) / size
    return pair.mean(joint_distances_mm(scale[:, None, None] * pred, truth))


def pve(pair: MetricPair) -> Float[Tensor, " B"]:
    """Mean distance of vertices after the root joints are laid on one another."""
    return joint_distances_mm(*_vertices(pair)).mean(1)


def pve_study(pair: MetricPair) -> Float[Tensor, " B"]:
    """Mean distance of vertices where the body model leaves them, roots apart (study, `HumanImageDataset.evaluate`).

    The study also poses the prediction with the body of the truth's gender: that is the caller's to do.
    """
    pred, truth = _vertices(pair)
    assert pair.pred.root is not None
    assert pair.truth.root is not None
    return joint_distances_mm(pred + pair.pred.root[:, None], truth + pair.truth.root[:, None]).mean(1)


def pa_pve(pair: MetricPair) -> Float[Tensor, " B"]:
    """Mean distance of vertices after the similarity that best maps the vertices themselves (as SMPLer-X)."""
    pred, truth = _vertices(pair)
    return joint_distances_mm(fit_similarity(pred, truth)(pred), truth).mean(1)


def mpjae(pair: MetricPair) -> Float[Tensor, " B"]:
    """Mean angle between the limbs' rotations in the camera's axes, over ANGLE_JOINTS (3DPW's challenge, EMDB)."""
    pred, truth = pair.rotations
    return _angles_deg(pred, truth).mean(1)


def pa_mpjae(pair: MetricPair) -> Float[Tensor, " B"]:
    """`mpjae` after the rotation of the alignment of joints; without, where that is not determined."""
    pred, truth = pair.rotations
    (_, pred_line), (_, truth_line) = _shape(pair.pred.joints), _shape(pair.truth.joints)
    unknown = (pred_line | truth_line)[:, None, None]
    turn = torch.where(unknown, torch.eye(3, dtype=pred.dtype, device=pred.device), pair.similarity.rotation)
    return _angles_deg(turn[:, None] @ pred, truth).mean(1)


def pck3d(pair: MetricPair) -> Float[Tensor, " B"]:
    """Share of joints less than PCK_MM from their place, roots laid on one another."""
    return pair.mean(_share_below(pair.joint_mm, (PCK_MM,)))


def pa_pck3d(pair: MetricPair) -> Float[Tensor, " B"]:
    """`pck3d` after alignment; 0 for a prediction at one point."""
    return pair.mean(_share_below(_aligned_or_lost(pair), (PCK_MM,)))


def auc(pair: MetricPair) -> Float[Tensor, " B"]:
    """Mean of the PCK at each of AUC_MM."""
    return pair.mean(_share_below(pair.joint_mm, AUC_MM))


def pa_auc(pair: MetricPair) -> Float[Tensor, " B"]:
    """`auc` after alignment; 0 for a prediction at one point."""
    return pair.mean(_share_below(_aligned_or_lost(pair), AUC_MM))


def pck2d(
    pred_px: Float[Tensor, "B J 2"],
    truth_px: Float[Tensor, "B J 2"],
    confidence: Float[Tensor, "B J"],
    box_px: Float[Tensor, " B"],
    share: float,
) -> Float[Tensor, " B"]:
    """Per cent of the labelled joints less than `share` of the box's side from their place; 0 where none is labelled.

    All in pixels of the same picture; `box_px` is the longer side of 1.2 times the annotated box in 4D-Humans, which
    takes means over people first, joint by joint.
    """
    seen = (confidence > 0).to(pred_px.dtype)
    right = ((pred_px - truth_px).norm(dim=-1) < share * box_px[:, None]).to(pred_px.dtype)
    return 100 * (right * seen).sum(1) / seen.sum(1).clamp(min=1)


def acceleration_error(
    pred: Float[Tensor, "N J 3"], truth: Float[Tensor, "N J 3"], fps: float, seen: Bool[Tensor, " N"] | None = None
) -> Float[Tensor, " M"]:
    """Mean over joints of the wrong acceleration's length, m/s^2, for each three frames in a row (HMMR, CVPR 2019).

    `pred` and `truth` are metres of one sequence. Threes with a frame that is not `seen` are left out: M is N - 2 or
    less, 0 for a sequence of two. Papers that print mm and no time mean 1000 times this at 1 frame/s.
    """
    error = (pred - truth).diff(n=2, dim=0).norm(dim=-1).mean(1) * fps**2
    return error if seen is None else error[seen[2:] & seen[1:-1] & seen[:-2]]


def jitter(joints: Float[Tensor, "N J 3"], fps: float) -> Float[Tensor, " M"]:
    """Mean over joints of the length of the jerk, m/s^3, for each four frames in a row (TransPose, SIGGRAPH 2021)."""
    return joints.diff(n=3, dim=0).norm(dim=-1).mean(1) * fps**3


@dataclass(frozen=True, slots=True)
class Difference:
    """What a paired bootstrap finds: mean difference, its 95 % interval, two-sided p of no difference."""

    mean: float
    ci95: tuple[float, float]
    p: float


def interval95(
    values: Float[np.ndarray, " N"], groups: Shaped[np.ndarray, " N"] | None = None, seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over people (percentiles of RESAMPLES resampled means).

    People of one group (frames of a sequence) are alike, so whole groups are drawn; the mean stays that over people.
    Few groups make it too short: in 400 made-up tests it held the mean in 92 % with 20 or 37 groups, in 89 % with 10,
    in 78 % with 5. One group gives its mean twice.
    """
    low, high = np.percentile(_resampled_means(values, groups, seed), [2.5, 97.5])
    return float(low), float(high)


def difference(
    values: Float[np.ndarray, " N"],
    base: Float[np.ndarray, " N"],
    groups: Shaped[np.ndarray, " N"] | None = None,
    seed: int = 0,
) -> Difference:
    """Of two systems on the same people in the same order, `values` less `base`; groups as in `interval95`."""
    away = values - base
    means = _resampled_means(away, groups, seed)
    tail = min((means <= 0).sum(), (means >= 0).sum())
    low, high = np.percentile(means, [2.5, 97.5])
    return Difference(float(away.mean()), (float(low), float(high)), float(min(1, 2 * (1 + tail) / (1 + RESAMPLES))))


def _resampled_means(
    values: Float[np.ndarray, " N"], groups: Shaped[np.ndarray, " N"] | None, seed: int
) -> Float[np.ndarray, " R"]:
    member = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums, sizes = np.bincount(member, values), np.bincount(member).astype(np.float64)
    rng = np.random.default_rng(seed)
    count, step = len(sums), max(1, DRAWN_AT_ONCE // len(sums))
    means = []
    for start in range(0, RESAMPLES, step):
        drawn = rng.integers(0, count, (min(step, RESAMPLES - start), count))
        means.append(sums.take(drawn).sum(1) / sizes.take(drawn).sum(1))
    return np.concatenate(means)


def _aligned_or_lost(pair: MetricPair) -> Float[Tensor, "B J"]:
    at_one_point, _ = _shape(pair.pred.joints)
    return pair.pa_joint_mm.masked_fill(at_one_point[:, None], torch.inf)


def _share_below(distances: Float[Tensor, "B J"], limits: Sequence[float]) -> Float[Tensor, "B J"]:
    """Per cent of the limits that each distance is below."""
    return 100 * (distances[..., None] < distances.new_tensor(limits)).to(distances.dtype).mean(-1)


def _vertices(pair: MetricPair) -> tuple[Float[Tensor, "B V 3"], Float[Tensor, "B V 3"]]:
    assert pair.pred.vertices is not None
    assert pair.truth.vertices is not None
    return pair.pred.vertices, pair.truth.vertices


def _in_camera(rotmats: Float[Tensor, "B R 3 3"], kind: BodyKind) -> Float[Tensor, "B A 3 3"]:
    chosen = [SKELETONS[kind.kinematic].index(joint) for joint in ANGLE_JOINTS]
    chain = [rotmats[:, 0]]
    for joint in range(1, max(chosen) + 1):
        chain.append(chain[kind.parents[joint]] @ rotmats[:, joint])
    return torch.stack([chain[joint] for joint in chosen], 1)


def _angles_deg(pred: Float[Tensor, "B A 3 3"], truth: Float[Tensor, "B A 3 3"]) -> Float[Tensor, "B A"]:
    return torch.rad2deg(rotmat_to_rotvec(pred @ truth.mT).norm(dim=-1))


def _shape(points: Float[Tensor, "B J 3"]) -> tuple[Bool[Tensor, " B"], Bool[Tensor, " B"]]:
    """Whether the points of each person lie at one point; whether on one line (a point is one, too)."""
    centred = points.double() - points.double().mean(1, keepdim=True)
    scatter = centred.mT @ centred
    length2 = scatter.diagonal(dim1=-2, dim2=-1).sum(-1)
    width2 = (length2**2 - (scatter**2).sum((1, 2))) / (2 * length2.clamp(min=torch.finfo(length2.dtype).tiny))
    return length2 <= points.shape[1] * ONE_POINT_M**2, width2 <= ON_A_LINE**2 * length2


_MESH, _ROTATIONS = ("joints", "vertices"), ("joints", "rotmats")
METRICS: dict[str, Metric] = {
    row.function.__name__: row
    for row in (
        Metric(mpjpe, "MPJPE"),
        Metric(pa_mpjpe, "PA-MPJPE"),
        Metric(n_mpjpe, "N-MPJPE"),
        Metric(pve, "PVE", needs=_MESH),
        Metric(pve_study, "PVE as the study's", needs=(*_MESH, "root"), by_true_body=True),
        Metric(pa_pve, "PA-PVE", needs=_MESH),
        Metric(mpjae, "MPJAE", "deg", needs=_ROTATIONS),
        Metric(pa_mpjae, "PA-MPJAE", "deg", needs=_ROTATIONS),
        Metric(pck3d, "3DPCK@150", "%", "higher"),
        Metric(pa_pck3d, "PA-3DPCK@150", "%", "higher"),
        Metric(auc, "AUC", "%", "higher"),
        Metric(pa_auc, "PA-AUC", "%", "higher"),
    )
}
MOTION = {"acceleration_error": "m/s²", "jitter": "m/s³"}  # of frames in a row, not of people
TITLES = {
    **{name: row.title for name, row in METRICS.items()},
    **{name: f"PCK@{share}" for name, share in PCK2D.items()},
    "acceleration_error": "acceleration error",
    "jitter": "jitter",
}
UNITS: dict[str, str] = {**{name: row.unit for name, row in METRICS.items()}, **dict.fromkeys(PCK2D, "%"), **MOTION}
BETTER: dict[str, Better] = {name: METRICS[name].better if name in METRICS else "lower" for name in TITLES}
BETTER |= dict.fromkeys(PCK2D, "higher")
