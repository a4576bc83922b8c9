"""Scores predictions of people against their ground truth by a benchmark's protocol."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hmrb.batch import Prediction
from hmrb.body import SMPL, Mesh, load_body
from hmrb.body.expressive import ToSMPL, load_to_smpl
from hmrb.body.official import BodyError
from hmrb.data.shard import Shard, ShardError
from hmrb.errors import RequestError, RunError
from hmrb.evaluation.metric_table import METRIC_TABLE, PCK2D
from hmrb.evaluation.metrics import Posed, degenerate, joint_distances_mm, measure, pck2d
from hmrb.evaluation.posing import by_gender, posed, rooted
from hmrb.evaluation.protocols import OF_MAPPED, Benchmark
from hmrb.evaluation.truths import Truths
from hmrb.geometry import rotvec_to_rotmat
from hmrb.models.cameras import project_to_crop
from hmrb.needs import SMPL_PAGES, SPIN19, body_need, file_need
from hmrb.records import GENDERS
from hmrb.skeleton import SKELETONS
from hmrb.store import Store

IMAGE_PX = 224  # of the crop that a camera without a model is for


@dataclass(frozen=True, slots=True)
class Bodies:
    """The bodies that a benchmark poses: the neutral one and, for gendered ground truth, the male and the female.

    Where predictions are SMPL-X's and the truth is SMPL's, `expressive` poses them and `to_smpl` maps their vertices.
    """

    by_gender: dict[str, SMPL]
    expressive: SMPL | None = None
    to_smpl: ToSMPL | None = None

    @classmethod
    def load(cls, name: str, benchmark: Benchmark, store: Store, device: torch.device) -> "Bodies":
        """Reads the files. Raises BodyError if a body or the benchmark's regressor is missing."""
        genders = GENDERS if benchmark.truth == "gendered" else GENDERS[:1]
        name = "smplx" if benchmark.is_mapped else name
        is_mapped = benchmark.is_mapped and benchmark.has_bodies
        of_truth = "smpl" if is_mapped else name
        by_gender = {gender: load_body(of_truth, gender, store).to(device) for gender in genders}
        bodies = cls(by_gender)
        if is_mapped:
            bodies = cls(by_gender, load_body(name, store=store).to(device), load_to_smpl(store))
        can_join = not is_mapped or benchmark.regressor in OF_MAPPED
        if not can_join or not bodies.neutral.has_joints(benchmark.regressor):
            raise _without_joints(name, benchmark, store)
        return bodies

    @property
    def neutral(self) -> SMPL:
        """The neutral body of the truth, whose regressors are used."""
        return self.by_gender["neutral"]

    @property
    def predicted(self) -> SMPL:
        """The body that predictions are parameters of."""
        return self.expressive or self.neutral

    def pose(self, rotmats: Float[Tensor, "B R 3 3"], betas: Float[Tensor, "B S"], part: str = "") -> Mesh:
        """Predictions as meshes of the neutral body; with `part`, perhaps only the vertices of that part.

        The chain of a mapped mesh is SMPL-X's.
        """
        if self.expressive is None or self.to_smpl is None:
            return self.neutral(rotmats, betas, part)
        mesh = self.expressive(rotmats, betas)
        return Mesh(self.to_smpl(mesh.vertices), mesh.chain, self.neutral.name)


def _without_joints(body: str, benchmark: Benchmark, store: Store) -> BodyError:
    """What a body lacks for a benchmark's regressor."""
    folder, regressor = store.bodies / "smpl", benchmark.regressor
    if regressor == "spin19":
        return BodyError(
            f"{benchmark.name} needs {folder / SPIN19}, which is not there or, for the open body, does not exist; get"
            f" it from {SMPL_PAGES['spin19']}",
            [] if body == "open" else [file_need(folder / SPIN19)],
        )
    if regressor == "mesh24":
        return BodyError(
            f"{benchmark.name} needs J_regressor of neutral SMPL, and {folder} has no such body",
            [body_need("neutral")],
        )
    return BodyError(
        f"{benchmark.name} needs SMPL's joints {regressor}, and body '{body}' has other ones; choose a protocol of"
        f" {', '.join(OF_MAPPED)}: hmrb list-benches"
    )


@dataclass(frozen=True, slots=True)
class Points:
    """Joints or vertices that a system predicts instead of a pose, in metres in the camera's axes."""

    joints: Float[Tensor, "B K 3"] | None
    vertices: Float[Tensor, "B V 3"] | None

    @property
    def has(self) -> tuple[str, ...]:
        """What metrics can use."""
        return ("joints", "vertices") if self.vertices is not None else ("joints",)


BodyOrPoints = Prediction | Points


class Scorer:
    """Measures predictions of people of a shard."""

    def __init__(
        self,
        benchmark: Benchmark,
        shard: Shard,
        bodies: Bodies,
        mean: BodyOrPoints,
        device: torch.device,
        image_px: int,
        truths: Truths | None = None,
    ) -> None:
        self._truths = truths or Truths(0)
        self.benchmark, self.shard, self.bodies = benchmark, shard, bodies
        self.device, self.image_px, self.mean = device, image_px, mean
        self._mean_posed = None if benchmark.truth == "marked" else self._posed(mean, None)

    def score(
        self, rows: Int[np.ndarray, " B"], prediction: BodyOrPoints, seen: Bool[Tensor, "B J"]
    ) -> dict[str, Tensor]:
        """Scores a block of people; each column has a row per person.

        Columns: `errors` and `baseline` (B, metrics), `joint_errors` (B, joints), `degenerate` (B,); for bodies
        `rotmats` (B, R, 3, 3), `betas` (B, S), `camera` (B, 3); for metrics of motion `pred_joints` and `true_joints`
        (B, joints, 3). Raises RunError for a prediction that is not finite.
        """
        self._check_finite(prediction, rows)
        score = self._score_2d if self.benchmark.truth == "marked" else self._score_3d
        columns = score(rows, prediction, seen)
        if isinstance(prediction, Prediction):
            columns |= {"rotmats": prediction.rotmats, "betas": prediction.betas, "camera": prediction.camera}
        return columns

    def _score_3d(
        self, rows: Int[np.ndarray, " B"], prediction: BodyOrPoints, seen: Bool[Tensor, "B J"]
    ) -> dict[str, Tensor]:
        assert self._mean_posed is not None
        count, benchmark = len(rows), self.benchmark
        truth = self._truth(rows)
        pred = self._posed(prediction, None)
        errors, degenerate_kinds = self._errors(prediction, pred, truth, seen, rows)
        baseline, _ = self._errors(_repeated(self.mean, count), _expanded(self._mean_posed, count), truth, seen, rows)
        distances = joint_distances_mm(pred.joints, truth.joints) * seen
        columns = {"errors": errors, "baseline": baseline, "joint_errors": distances, "degenerate": degenerate_kinds}
        if benchmark.of_motion:
            columns |= {"pred_joints": pred.joints, "true_joints": truth.joints}
        return columns

    def _truth(self, rows: Int[np.ndarray, " B"]) -> Posed:
        benchmark, shard, bodies = self.benchmark, self.shard, self.bodies
        shas = tuple(bodies.by_gender[gender].sha for gender in sorted(bodies.by_gender))
        key = (benchmark.protocol, benchmark.part, str(shard.path), shard.info.sha, shas, self.device, rows.tobytes())
        return self._truths.of(key, lambda: true_posed(benchmark, shard, bodies, rows, self.device))

    def _errors(
        self,
        prediction: BodyOrPoints,
        pred: Posed,
        truth: Posed,
        seen: Bool[Tensor, "B J"],
        rows: Int[np.ndarray, " B"],
    ) -> tuple[Float[Tensor, "B M"], Int[Tensor, " B"]]:
        names = self.benchmark.of_people
        by_true_body = [name for name in names if METRIC_TABLE[name].by_true_body]
        own = [name for name in names if name not in by_true_body]
        errors, odd = metric_errors(pred, truth, seen, own)
        columns = dict(zip(own, errors.unbind(1), strict=True))
        if by_true_body:
            others, _ = metric_errors(self._posed(prediction, rows), truth, seen, by_true_body)
            columns |= dict(zip(by_true_body, others.unbind(1), strict=True))
        return torch.stack([columns[name] for name in names], 1), odd

    def _posed(self, prediction: BodyOrPoints, true_bodies_of: Int[np.ndarray, " B"] | None) -> Posed:
        """Poses the prediction with the neutral body, or with the bodies of the ground truth of these rows."""
        benchmark, neutral = self.benchmark, self.bodies.neutral
        if isinstance(prediction, Points):
            return _posed_points(benchmark, neutral, prediction)
        if true_bodies_of is None:
            mesh = self.bodies.pose(prediction.rotmats, prediction.betas, benchmark.part)
        else:
            genders = genders_of(benchmark, self.shard, true_bodies_of)
            mesh = by_gender(self.bodies.by_gender, genders, prediction.rotmats, prediction.betas, benchmark.part)
        return posed(benchmark, neutral, mesh, None if self.bodies.to_smpl else prediction.rotmats)

    def _score_2d(
        self, rows: Int[np.ndarray, " B"], prediction: BodyOrPoints, seen: Bool[Tensor, "B J"]
    ) -> dict[str, Tensor]:
        """Keypoints are measured from the square's centre, in units of its side."""
        if isinstance(prediction, Points):
            raise RequestError(
                f"{self.benchmark.name} projects bodies with their camera, but these predictions are points without one"
            )
        arrays, num_joints = self.shard.arrays, len(self.benchmark.joint_names)
        box = torch.from_numpy(arrays["box"][rows]).to(self.device)
        side = self.benchmark.box_scale * box[:, 2:].amax(1)
        marks = torch.from_numpy(arrays["keypoints2d"][rows][:, stored_rows(self.benchmark, self.shard), :2])
        center = (box[:, :2] + box[:, 2:] / 2)[:, None]
        truth = (marks.to(self.device) - center) / side[:, None, None]
        confidence, one = seen.to(truth.dtype), torch.ones_like(side)
        projected, mean = self._projected(prediction), self._projected(_repeated(self.mean, len(rows)))

        def scores(joints: Float[Tensor, "B J 2"]) -> Float[Tensor, "B M"]:
            metrics = self.benchmark.of_people
            return torch.stack([pck2d(joints, truth, confidence, one, PCK2D[name]) for name in metrics], 1)

        correct = (projected - truth).norm(dim=-1) < max(PCK2D.values())
        return {
            "errors": scores(projected),
            "baseline": scores(mean),
            "joint_errors": 100 * correct[:, :num_joints] * confidence,
            "degenerate": torch.zeros(len(rows), dtype=torch.long, device=self.device),
        }

    def _projected(self, body: BodyOrPoints) -> Float[Tensor, "B J 2"]:
        """The projected joints. The image's centre is at (image_px - 1) / 2, the square's at image_px / 2."""
        assert isinstance(body, Prediction)
        benchmark, neutral = self.benchmark, self.bodies.neutral
        points = neutral.joints(neutral(body.rotmats, body.betas, benchmark.part), benchmark.regressor)
        index = SKELETONS[benchmark.regressor].index
        joints = points[:, [index(joint) for joint in benchmark.joint_names]]
        pixels = project_to_crop(joints, body.camera, self.image_px, body.projection, body.place)
        return (pixels - 0.5) / self.image_px

    def _check_finite(self, prediction: BodyOrPoints, rows: Int[np.ndarray, " B"]) -> None:
        if isinstance(prediction, Prediction):
            parts = list(prediction.tensors)
        else:
            parts = [part for part in (prediction.joints, prediction.vertices) if part is not None]
        finite = torch.stack([part.flatten(1).isfinite().all(1) for part in parts]).all(0).cpu().numpy()
        if not finite.all():
            row = int(rows[~finite][0])
            name = f"{self.shard.name(row)} (row {row})"
            raise RunError(f"{self.benchmark.name}: the prediction for {name} is not finite")


def true_posed(
    benchmark: Benchmark, shard: Shard, bodies: Bodies, rows: Int[np.ndarray, " B"], device: torch.device
) -> Posed:
    """The ground truth of people of a shard, in 3D."""
    if benchmark.truth == "stored":
        points = torch.from_numpy(shard.arrays["keypoints3d"][rows][..., :3]).to(device)
        joints, root = rooted(benchmark, points, shard.info.skeleton)
        return Posed(joints, root=root[:, 0])
    rotmats = rotvec_to_rotmat(torch.from_numpy(shard.arrays["pose"][rows]).to(device))
    betas = torch.from_numpy(shard.arrays["betas"][rows]).to(device)
    mesh = by_gender(bodies.by_gender, genders_of(benchmark, shard, rows), rotmats, betas, benchmark.part)
    return posed(benchmark, bodies.neutral, mesh, rotmats)


def metric_errors(
    pred: Posed, truth: Posed, seen: Bool[Tensor, "B J"], metrics: Sequence[str]
) -> tuple[Float[Tensor, "B M"], Int[Tensor, " B"]]:
    """Each metric of each person over the joints with ground truth, and the kind of degenerate people.

    Scores people with the same joints together.
    """
    out, odd = truth.joints.new_zeros(len(seen), len(metrics)), torch.zeros(len(seen), dtype=torch.long)
    for joints in seen.unique(dim=0):
        same = (seen == joints).all(1)
        one, other = (_some(side, same, joints) for side in (pred, truth))
        if metrics:
            out[same] = torch.stack(list(measure(metrics, one, other).values()), 1)
        odd[same.cpu()] = degenerate(one, other).cpu()
    return out, odd


def stored_rows(benchmark: Benchmark, shard: Shard) -> list[int]:
    """The rows of the protocol's joints, then of its root, in the shard's keypoints."""
    have = SKELETONS[shard.info.skeleton].joints
    needed = (*benchmark.joint_names, *benchmark.root)
    if missing := [joint for joint in dict.fromkeys(needed) if joint not in have]:
        raise ShardError(
            f"{benchmark.name}: {shard.path} has skeleton '{shard.info.skeleton}' without {', '.join(missing)};"
            f" the benchmark needs the shard that hmrb convert-data {benchmark.dataset} writes"
        )
    return [have.index(joint) for joint in needed]


def possible(benchmark: Benchmark, has: Sequence[str]) -> tuple[Benchmark, dict[str, str]]:
    """The benchmark with the metrics that predictions of these parts allow, and why it leaves out the others.

    Raises RequestError if nothing is left.
    """
    only = f"the predictions have only {' and '.join(has)}{' of SMPL, mapped from SMPL-X' * benchmark.is_mapped}"
    left_out = {
        name: f"needs {' and '.join(METRIC_TABLE[name].needs)}; {only}"
        for name in benchmark.of_people
        if name in METRIC_TABLE and (METRIC_TABLE[name].by_true_body or not set(METRIC_TABLE[name].needs) <= set(has))
    }
    left = tuple(name for name in benchmark.metrics if name not in left_out)
    if not left:
        raise RequestError(f"{benchmark.name}: {'; '.join(f'{name} {why}' for name, why in left_out.items())}")
    return benchmark.only(left), left_out


def _posed_points(benchmark: Benchmark, body: SMPL, points: Points) -> Posed:
    """Points relative to the protocol's root. Joints are the regressor's, or the protocol's if these include it."""
    vertices = points.vertices if points.joints is None or benchmark.has_mesh else None
    if vertices is not None and vertices.shape[1] != body.num_vertices:
        raise RequestError(
            f"{benchmark.name} needs the {body.num_vertices} vertices of body '{body.name}'; the predictions have"
            f" {vertices.shape[1]}"
        )
    if points.joints is not None:
        count = points.joints.shape[1]
        kinds = [name for name in (benchmark.regressor, benchmark.joints) if len(SKELETONS[name].joints) == count]
        known = [name for name in kinds if set(benchmark.root) <= set(SKELETONS[name].joints)]
        if not known:
            raise RequestError(
                f"{benchmark.name} needs the {len(SKELETONS[benchmark.regressor].joints)} joints of"
                f" {benchmark.regressor} including its root {' and '.join(benchmark.root)}; the predictions have"
                f" {count} joints"
            )
        joints, root = rooted(benchmark, points.joints, known[0])
    else:
        assert vertices is not None
        if benchmark.regressor != "h36m17" and benchmark.regressor != "spin19":
            raise RequestError(
                f"{benchmark.name} needs {benchmark.regressor} joints, and vertices alone do not determine them;"
                " add `joints`"
            )
        mesh = Mesh(vertices, vertices.new_zeros(len(vertices), body.kind.num_joints, 3), body.name)
        joints, root = rooted(benchmark, body.joints(mesh, benchmark.regressor), benchmark.regressor)
    return Posed(joints, None if vertices is None or not benchmark.has_mesh else vertices - root, root=root[:, 0])


def _repeated(prediction: BodyOrPoints, count: int) -> BodyOrPoints:
    def each(part: Tensor | None) -> Tensor:
        assert part is not None
        return part.expand(count, *part.shape[1:])

    if isinstance(prediction, Points):
        return prediction  # of points nothing is posed again
    return Prediction(each(prediction.rotmats), each(prediction.betas), each(prediction.camera))


def _expanded(posed: Posed, count: int) -> Posed:
    parts = (posed.joints, posed.vertices, posed.rotmats, posed.root)
    joints, vertices, rotmats, root = (None if p is None else p.expand(count, *p.shape[1:]) for p in parts)
    assert joints is not None
    return replace(posed, joints=joints, vertices=vertices, rotmats=rotmats, root=root)


def _some(posed: Posed, people: Bool[Tensor, " B"], joints: Bool[Tensor, " J"]) -> Posed:
    if people.all() and joints.all():
        return posed
    vertices, rotmats, root = (None if p is None else p[people] for p in (posed.vertices, posed.rotmats, posed.root))
    return replace(posed, joints=posed.joints[people][:, joints], vertices=vertices, rotmats=rotmats, root=root)


def genders_of(benchmark: Benchmark, shard: Shard, rows: Int[np.ndarray, " B"]) -> list[str]:
    """The gender of the body that poses each person's ground truth."""
    return [GENDERS[g] if benchmark.truth == "gendered" else "neutral" for g in shard.arrays["gender"][rows]]
