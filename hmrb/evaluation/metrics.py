"""Errors and scores, one value per person. Input in metres; output in millimetres, degrees and per cent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hmrb.bodykind import SMPL_KIND, BodyKind
from hmrb.errors import RequestError
from hmrb.evaluation.metric_table import FINE, METRIC_TABLE, MetricRow
from hmrb.geometry import Similarity, fit_similarity, rotmat_to_rotvec
from hmrb.lookup import find
from hmrb.skeleton import SKELETONS

MM = 1000.0
PCK_MM = 150.0  # Mehta et al., 3DV 2017
# 0 to 150 mm, as Mehta et al.; the truth scores 30 / 31, because 0 is not below 0.
AUC_MM = tuple(5.0 * i for i in range(31))
ANGLE_JOINTS = (  # joints whose rotations MPJAE compares, as in 3DPW's challenge and EMDB
    "pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow",
)  # fmt: skip
ONE_POINT_M = 1e-6  # points closer together count as one: float32 rounding at a distance of a metre
ON_A_LINE = 1e-5  # points whose width is below this share of their length count as collinear


@dataclass(frozen=True, slots=True)
class Posed:
    """One side of a comparison: joints and vertices in metres, relative to the protocol's root joint.

    `rotmats` are parent-relative. `seen`, used only for the truth, marks the joints that count in means (None: all).
    As in the study, alignment also uses the positions of joints that are not seen. `root` is the root's position, which
    only `pve_study` adds back. All values are finite, because readers reject others.
    """

    joints: Float[Tensor, "B J 3"]
    vertices: Float[Tensor, "B V 3"] | None = None
    rotmats: Float[Tensor, "B R 3 3"] | None = None
    seen: Bool[Tensor, "B J"] | None = None
    root: Float[Tensor, "B 3"] | None = None
    kind: BodyKind = SMPL_KIND
    """The kind of body to which `rotmats` belong."""


@dataclass(frozen=True)
class MetricPair:
    """Prediction and truth; intermediate results that metrics share are computed once, on first use."""

    pred: Posed
    truth: Posed

    @cached_property
    def similarity(self) -> Similarity:
        """Least-squares similarity from all joints of the prediction onto those of the truth."""
        return fit_similarity(self.pred.joints, self.truth.joints)

    @cached_property
    def joint_mm(self) -> Float[Tensor, "B J"]:
        """Distance of each joint after aligning the roots, mm."""
        return joint_distances_mm(self.pred.joints, self.truth.joints)

    @cached_property
    def pa_joint_mm(self) -> Float[Tensor, "B J"]:
        """Distance of each joint after similarity alignment, mm. Coinciding predictions map to the truth's centroid."""
        return joint_distances_mm(self.similarity(self.pred.joints), self.truth.joints)

    @cached_property
    def rotations(self) -> tuple[Float[Tensor, "B A 3 3"], Float[Tensor, "B A 3 3"]]:
        """Rotations of ANGLE_JOINTS in the camera frame, of prediction and truth (float64)."""
        assert self.pred.rotmats is not None
        assert self.truth.rotmats is not None
        kind = self.truth.kind
        pred, truth = (_in_camera(rotmats.double(), kind) for rotmats in (self.pred.rotmats, self.truth.rotmats))
        return pred, truth

    def mean(self, joints: Float[Tensor, "B J"]) -> Float[Tensor, " B"]:
        """Mean over the joints seen in the truth; 0 if none is seen."""
        if self.truth.seen is None:
            return joints.mean(1)
        seen = self.truth.seen.to(joints.dtype)
        return (joints * seen).sum(1) / seen.sum(1).clamp(min=1)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of METRIC_TABLE; calling it with prediction and truth returns one value per person."""

    row: MetricRow
    function: Callable[[MetricPair], Float[Tensor, " B"]]

    def __call__(self, pred: Posed, truth: Posed) -> Float[Tensor, " B"]:
        """Raises RequestError if a part of Posed is missing; `measure` is faster for several metrics."""
        return self.of(MetricPair(pred, truth))

    def of(self, pair: MetricPair) -> Float[Tensor, " B"]:
        """As `__call__`, for a pair shared with other metrics."""
        needs = self.row.needs
        for side, posed in (("prediction", pair.pred), ("truth", pair.truth)):
            missing = [part for part in needs if getattr(posed, part) is None]
            if missing:
                raise RequestError(f"{self.row.title} needs {', '.join(needs)}; the {side} has no {missing[0]}")
        return self.function(pair).to(pair.pred.joints.dtype)


def measure(names: Sequence[str], pred: Posed, truth: Posed) -> dict[str, Float[Tensor, " B"]]:
    """Compute several metrics of the same people with a shared alignment. Raises RequestError."""
    pair = MetricPair(pred, truth)
    return {name: find("metric", name, METRICS).of(pair) for name in names}


def degenerate(pred: Posed, truth: Posed) -> Int[Tensor, " B"]:
    """Find degenerate people: returns the first matching index into DEGENERATE for each person, FINE for most.

    No metric is NaN for them, so the caller can count them and include or exclude them:
    - No joint seen: means over joints are 0.
    - Predicted joints coincide: alignment maps them to the truth's centroid, and PA-PCK and PA-AUC are 0, as in the
      study (whose PA-MPJPE is NaN).
    - Joints coincide or are collinear: the alignment's rotation is not determined, and PA-MPJAE equals MPJAE.
    All other values are computed as usual.
    """
    reasons = torch.full((len(truth.joints),), FINE, device=truth.joints.device)
    shapes = [_shape(posed.joints) for posed in (pred, truth)]
    for reason, holds in reversed(list(enumerate([point for point, _ in shapes] + [line for _, line in shapes], 2))):
        reasons[holds] = reason
    if truth.seen is not None:
        reasons[~truth.seen.any(1)] = 1
    return reasons


def num_seen(truth: Posed) -> Float[Tensor, " B"]:
    """Number of joints in each person's mean; the study weights the mean over people by these numbers."""
    if truth.seen is None:
        return torch.full_like(truth.joints[:, 0, 0], truth.joints.shape[1])
    return truth.seen.sum(1).to(truth.joints.dtype)


def joint_distances_mm(pred: Float[Tensor, "B J 3"], truth: Float[Tensor, "B J 3"]) -> Float[Tensor, "B J"]:
    """Distance of each point to the truth, mm."""
    x2, y2, z2 = (pred - truth).square_().unbind(-1)  # a norm over three values takes ten times as long
    return (x2 + y2).add_(z2).sqrt_().mul_(MM)


def mpjpe(pair: MetricPair) -> Float[Tensor, " B"]:
    """Mean distance of joints after aligning the roots."""
    return pair.mean(pair.joint_mm)


def pa_mpjpe(pair: MetricPair) -> Float[Tensor, " B"]:
    """Mean distance of joints after the least-squares similarity from prediction onto truth."""
    return pair.mean(pair.pa_joint_mm)


def n_mpjpe(pair: MetricPair) -> Float[Tensor, " B"]:
    """Mean distance of joints after the least-squares scaling of the prediction about the root."""
    pred, truth = pair.pred.joints.double(), pair.truth.joints.double()
    size = (pred * pred).sum((1, 2)).clamp(min=torch.finfo(pred.dtype).tiny)
    scale = (pred * truth).sum((1, 2)) / size
    return pair.mean(joint_distances_mm(scale[:, None, None] * pred, truth))


def pve(pair: MetricPair) -> Float[Tensor, " B"]:
    """Mean distance of vertices after aligning the root joints."""
    return joint_distances_mm(*_vertices(pair)).mean(1)


def pve_study(pair: MetricPair) -> Float[Tensor, " B"]:
    """Mean distance of vertices without root alignment (study, `HumanImageDataset.evaluate`).

    The study also poses the prediction with the body of the truth's gender; the caller has to do that.
    """
    pred, truth = _vertices(pair)
    assert pair.pred.root is not None
    assert pair.truth.root is not None
    return joint_distances_mm(pred + pair.pred.root[:, None], truth + pair.truth.root[:, None]).mean(1)


def pa_pve(pair: MetricPair) -> Float[Tensor, " B"]:
    """Mean distance of vertices after the least-squares similarity between the vertices (as SMPLer-X)."""
    pred, truth = _vertices(pair)
    return joint_distances_mm(fit_similarity(pred, truth)(pred), truth).mean(1)


def mpjae(pair: MetricPair) -> Float[Tensor, " B"]:
    """Mean angle between the rotations of ANGLE_JOINTS in the camera frame (3DPW's challenge, EMDB)."""
    pred, truth = pair.rotations
    return _angles_deg(pred, truth).mean(1)


def pa_mpjae(pair: MetricPair) -> Float[Tensor, " B"]:
    """`mpjae` after the rotation of the joints' alignment; without that rotation if it is not determined."""
    pred, truth = pair.rotations
    (_, pred_line), (_, truth_line) = _shape(pair.pred.joints), _shape(pair.truth.joints)
    unknown = (pred_line | truth_line)[:, None, None]
    turn = torch.where(unknown, torch.eye(3, dtype=pred.dtype, device=pred.device), pair.similarity.rotation)
    return _angles_deg(turn[:, None] @ pred, truth).mean(1)


def pck3d(pair: MetricPair) -> Float[Tensor, " B"]:
    """Share of joints less than PCK_MM from the truth after aligning the roots."""
    return pair.mean(_share_below(pair.joint_mm, (PCK_MM,)))


def pa_pck3d(pair: MetricPair) -> Float[Tensor, " B"]:
    """`pck3d` after similarity alignment; 0 if all predicted joints coincide."""
    return pair.mean(_share_below(_aligned_or_lost(pair), (PCK_MM,)))


def auc(pair: MetricPair) -> Float[Tensor, " B"]:
    """Mean PCK over the thresholds AUC_MM."""
    return pair.mean(_share_below(pair.joint_mm, AUC_MM))


def pa_auc(pair: MetricPair) -> Float[Tensor, " B"]:
    """`auc` after similarity alignment; 0 if all predicted joints coincide."""
    return pair.mean(_share_below(_aligned_or_lost(pair), AUC_MM))


def pck2d(
    pred_px: Float[Tensor, "B J 2"],
    truth_px: Float[Tensor, "B J 2"],
    confidence: Float[Tensor, "B J"],
    box_px: Float[Tensor, " B"],
    share: float,
) -> Float[Tensor, " B"]:
    """Per cent of the labelled joints that are less than `share` of `box_px` from the truth; 0 if none is labelled.

    All arguments are in pixels of the same image. In 4D-Humans, `box_px` is the longer side of 1.2 times the annotated
    box, and means are computed over people first, separately for each joint.
    """
    seen = (confidence > 0).to(pred_px.dtype)
    right = ((pred_px - truth_px).norm(dim=-1) < share * box_px[:, None]).to(pred_px.dtype)
    return 100 * (right * seen).sum(1) / seen.sum(1).clamp(min=1)


def acceleration_error(
    pred: Float[Tensor, "N J 3"], truth: Float[Tensor, "N J 3"], fps: float, seen: Bool[Tensor, " N"] | None = None
) -> Float[Tensor, " M"]:
    """Mean over joints of the acceleration error, m/s^2, for every three consecutive frames (HMMR, CVPR 2019).

    `pred` and `truth` are metres in one sequence. Triples with a frame that is not `seen` are skipped, so M is at most
    N - 2, and 0 for two frames. Papers that print mm without a time unit report 1000 times this value at 1 frame/s.
    """
    error = (pred - truth).diff(n=2, dim=0).norm(dim=-1).mean(1) * fps**2
    return error if seen is None else error[seen[2:] & seen[1:-1] & seen[:-2]]


def jitter(joints: Float[Tensor, "N J 3"], fps: float) -> Float[Tensor, " M"]:
    """Mean over joints of the jerk's norm, m/s^3, for every four consecutive frames (TransPose, SIGGRAPH 2021)."""
    return joints.diff(n=3, dim=0).norm(dim=-1).mean(1) * fps**3


def _aligned_or_lost(pair: MetricPair) -> Float[Tensor, "B J"]:
    at_one_point, _ = _shape(pair.pred.joints)
    return pair.pa_joint_mm.masked_fill(at_one_point[:, None], torch.inf)


def _share_below(distances: Float[Tensor, "B J"], limits: Sequence[float]) -> Float[Tensor, "B J"]:
    """For each distance, the per cent of limits that it is below."""
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
    """Whether each person's points coincide, and whether they are collinear (which includes coinciding)."""
    centred = points.double() - points.double().mean(1, keepdim=True)
    scatter = centred.mT @ centred
    length2 = scatter.diagonal(dim1=-2, dim2=-1).sum(-1)
    width2 = (length2**2 - (scatter**2).sum((1, 2))) / (2 * length2.clamp(min=torch.finfo(length2.dtype).tiny))
    return length2 <= points.shape[1] * ONE_POINT_M**2, width2 <= ON_A_LINE**2 * length2


_FUNCTIONS = (
    mpjpe, pa_mpjpe, n_mpjpe, pve, pve_study, pa_pve, mpjae, pa_mpjae, pck3d, pa_pck3d, auc, pa_auc,
)  # fmt: skip
METRICS = {function.__name__: Metric(METRIC_TABLE[function.__name__], function) for function in _FUNCTIONS}
