"""Measures evaluation against the usual implementation, in one run on one core: `python benchmarks/eval_rate.py`.

(a) PA-MPJPE of as many people as in 3DPW's test set: batched, against a loop with one singular value decomposition per
person, as in other evaluators; and the largest difference of their values. (b) A complete evaluation from saved
predictions, with ground truth posed with the body of each person's gender: MPJPE, PA-MPJPE, PVE and peak memory; of a
first checkpoint, and of a second, for which the ground truth is posed already. (c) The same for the first `--plain`
people as in SPIN's eval.py: smplx in batches of 32, the truth with the male and the female body, one singular value
decomposition per person. The bodies are random, of SMPL's size. `--study-ms` is the time per frame of the study's
evaluator on such a core.
"""

import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import smplx
import torch
from record import Figure, arguments, finish

from hmrb.body import SMPL, body_file
from hmrb.body.official import rows_to_one
from hmrb.data.convert.writer import ShardWriter
from hmrb.data.shard import Shard
from hmrb.evaluation.evaluate import evaluate
from hmrb.evaluation.metrics import Posed, measure
from hmrb.evaluation.predictions import read_predictions
from hmrb.evaluation.protocols import BENCHMARKS
from hmrb.evaluation.scoring import Bodies
from hmrb.evaluation.truths import Truths
from hmrb.parallel.world import World
from hmrb.records import Sample
from hmrb.store import Store

FRAMES, NUM_VERTICES, BLOCK = 35_515, 6890, 4096
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)


def main() -> None:
    """Runs both measurements and prints the results."""
    parser = arguments(__doc__)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--study-ms", type=float, default=3.3)
    parser.add_argument("--plain", type=int, default=1000, help="people that (c) scores")
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures = [*alignment(args.frames), *whole(args.frames, args.study_ms, args.plain)]
    finish(args, "eval_rate", figures)


def alignment(frames: int) -> list[Figure]:
    """Measurement (a)."""
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 0.3, (frames, 14, 3)).astype(np.float32)
    pred = truth + rng.normal(0, 0.05, truth.shape).astype(np.float32)
    one_by_one(pred[0], truth[0])  # warm up both
    in_blocks(pred, truth)
    start = time.perf_counter()
    ours = in_blocks(pred, truth)
    batched = time.perf_counter() - start
    start = time.perf_counter()
    theirs = np.array([one_by_one(*pair) for pair in zip(pred, truth, strict=True)])
    looped = time.perf_counter() - start
    print(
        f"PA-MPJPE of {frames} people: {batched:.2f} s batched, {looped:.2f} s one by one:"
        f" {looped / batched:.0f} times as fast; at most {np.abs(ours - theirs).max():.1e} mm apart"
    )
    return [Figure("PA-MPJPE of a person, in blocks", [1e6 * batched / frames], "us")]


def in_blocks(pred: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """PA-MPJPE of each person in mm, in blocks that fit in the cache."""
    sides = [torch.from_numpy(side).split(BLOCK) for side in (pred, truth)]
    return torch.cat([
        measure(["pa_mpjpe"], Posed(one), Posed(other))["pa_mpjpe"] for one, other in zip(*sides, strict=True)
    ]).numpy()  # fmt: skip


def one_by_one(pred: np.ndarray, truth: np.ndarray) -> float:
    """PA-MPJPE of one person in mm, by a singular value decomposition of the covariance."""
    one, other = pred.astype(np.float64), truth.astype(np.float64)
    one, other = one - one.mean(0), other - other.mean(0)
    u, sizes, vt = np.linalg.svd(one.T @ other)
    signs = np.ones(3)
    signs[-1] = np.sign(np.linalg.det(u @ vt))
    turn = vt.T @ np.diag(signs) @ u.T
    scale = (sizes * signs).sum() / (one**2).sum()
    return float(1000 * np.linalg.norm(scale * one @ turn.T - other, axis=1).mean())


def whole(frames: int, study_ms: float, plain: int) -> list[Figure]:
    """Measurements (b) and (c)."""
    rng = np.random.default_rng(0)
    row = BENCHMARKS["3dpw"].only(("mpjpe", "pa_mpjpe", "pve"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shard = made_up_shard(folder, frames, rng)
        pose = shard.arrays["pose"] + rng.normal(0, 0.1, (frames, 24, 3)).astype(np.float32)
        betas = rng.normal(0, 1, (frames, 10)).astype(np.float32)
        np.savez(folder / "theirs.npz", pose=pose, betas=betas)
        members = {gender: made_up_members(rng) for gender in ("neutral", "male", "female")}
        bodies = Bodies({gender: made_up_body(gender, one) for gender, one in members.items()})
        world, truths = World(0, 1, torch.device("cpu")), Truths.for_processes(1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds, peaks = [], []
        for _ in range(2):
            start = time.process_time()
            found = read_predictions(folder / "theirs.npz", shard)
            scores = evaluate(found.predictor, found.mean(), row, shard, bodies, world, truths=truths)
            seconds.append(time.process_time() - start)
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    ms, again = (1000 * taken / frames for taken in seconds)
    print(
        f"{frames} frames from saved predictions: {seconds[0]:.1f} s, {ms:.3f} ms per frame, {study_ms / ms:.1f} times"
        f" as fast as {study_ms} ms; with the truth kept from another checkpoint {again:.3f} ms; peak memory"
        f" {peaks[1] / 1e6:.2f} GB, {(peaks[1] - before) / 1e6:.2f} GB for the evaluations"
        f" ({truths.gigabytes:.2f} GB for the truth)"
    )
    print({name: round(scores.mean(name), 1) for name in scores.errors})
    plain = min(plain, frames)
    theirs, their_seconds = the_plain_way(shard, members, pose[:plain], betas[:plain])
    apart = max(float(np.abs(theirs[name] - scores.errors[name][:plain]).max()) for name in theirs)
    print(
        f"{plain} frames the plain way: {1000 * their_seconds / plain:.2f} ms per frame; hmrb is"
        f" {1000 * their_seconds / plain / ms:.1f} times as fast, for another checkpoint"
        f" {1000 * their_seconds / plain / again:.1f} times; a person's errors are at most {apart:.1e} mm apart"
    )
    plain_ms = 1000 * their_seconds / plain
    return [
        Figure("a frame of a first checkpoint", [ms], "ms"),
        Figure("a frame of another checkpoint", [again], "ms"),
        Figure("a frame the plain way", [plain_ms], "ms"),
        Figure("first checkpoint, times as fast as the plain way", [plain_ms / ms], "times", "higher"),
        Figure("peak memory", [peaks[1] / 1e6], "GB"),
    ]


def the_plain_way(
    shard: Shard, members: dict[str, dict[str, np.ndarray]], pose: np.ndarray, betas: np.ndarray
) -> tuple[dict[str, np.ndarray], float]:
    """Errors in mm by measurement (c), and the seconds that it took."""
    bodies = {gender: smplx_body(one) for gender, one in members.items()}
    rows = torch.from_numpy(rows_to_one(members["neutral"]["J_regressor_h36m"], ""))
    arrays, out = shard.arrays, dict[str, list[np.ndarray]](mpjpe=[], pa_mpjpe=[], pve=[])
    chosen = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10]  # LSP's 14 of the 17, SPIN's H36M_TO_J14

    def posed(gender: str, pose: torch.Tensor, betas: torch.Tensor) -> torch.Tensor:
        vertices: torch.Tensor = bodies[gender](
            betas=betas, body_pose=pose[:, 3:], global_orient=pose[:, :3], pose2rot=True
        ).vertices
        return vertices

    start = time.process_time()
    with torch.no_grad():
        for at in range(0, len(pose), 32):
            part = slice(at, min(at + 32, len(pose)))
            true_pose = torch.from_numpy(arrays["pose"][part].copy()).flatten(1)
            true_betas = torch.from_numpy(arrays["betas"][part].copy())
            truth, women = (posed(gender, true_pose, true_betas) for gender in ("male", "female"))
            is_woman = torch.from_numpy(arrays["gender"][part] == 2)
            truth[is_woman] = women[is_woman]
            pred = posed("neutral", torch.from_numpy(pose[part]).flatten(1), torch.from_numpy(betas[part]))
            regressor = rows[None].expand(len(truth), -1, -1)
            joints = [torch.matmul(regressor, side) for side in (pred, truth)]
            roots = [side[:, :1] for side in joints]
            meshes = [side - root for side, root in zip((pred, truth), roots, strict=True)]
            ours, others = (side[:, chosen] - root for side, root in zip(joints, roots, strict=True))
            out["mpjpe"].append(1000 * torch.sqrt(((ours - others) ** 2).sum(-1)).mean(-1).numpy())
            out["pve"].append(1000 * torch.sqrt(((meshes[0] - meshes[1]) ** 2).sum(-1)).mean(-1).numpy())
            pairs = zip(ours.numpy(), others.numpy(), strict=True)
            out["pa_mpjpe"].append(np.array([one_by_one(*pair) for pair in pairs]))
    return {name: np.concatenate(parts) for name, parts in out.items()}, time.process_time() - start


def smplx_body(members: dict[str, np.ndarray]) -> smplx.SMPL:
    """The body in smplx's own class."""
    struct = smplx.utils.Struct(**members)
    return smplx.SMPL("made-up.npz", data_struct=struct, batch_size=1, num_betas=10)


def made_up_shard(folder: Path, frames: int, rng: np.random.Generator) -> Shard:
    """A shard with the size of 3DPW's test set: men and women, one small picture each."""
    jpeg = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    path = Store(folder).shard("3dpw", "test")
    blank = Sample(jpeg=jpeg, name="", photo_px=(8, 8), box=np.array([0, 0, 8, 8], np.float32), has_body=True)
    points = np.zeros((18, 3), np.float32)
    with ShardWriter(path, dataset="3dpw", split="test", skeleton="pw3d", body="smpl", made_by="a benchmark") as out:
        for i in range(frames):
            pose = rng.normal(0, 0.3, (24, 3)).astype(np.float32)
            betas = rng.normal(0, 1, 10).astype(np.float32)
            gender = ("male", "female")[i % 2]
            about: dict[str, float | str] = {"sequence": f"clip {i // 1000}", "person": 0.0}
            one = replace(blank, name=f"clip/{i:06d}.jpg", pose=pose, betas=betas, gender=gender, columns=about)
            out.add(replace(one, keypoints2d=points, keypoints3d=np.zeros((18, 4), np.float32)))
    return Shard(path)


def made_up_members(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A random body of SMPL's size, with four weights per vertex and regressors of a hundred vertices."""

    def rows(count: int, used: int) -> np.ndarray:
        out = np.zeros((count, NUM_VERTICES), np.float32)
        for row in out:
            row[rng.choice(NUM_VERTICES, used, replace=False)] = 1 / used
        return out

    weights = np.zeros((NUM_VERTICES, 24), np.float32)
    weights[np.arange(NUM_VERTICES)[:, None], rng.integers(0, 24, (NUM_VERTICES, 4))] = 1
    return {
        "v_template": rng.normal(0, 0.5, (NUM_VERTICES, 3)).astype(np.float32),
        "shapedirs": rng.normal(0, 0.01, (NUM_VERTICES, 3, 10)).astype(np.float32),
        "posedirs": rng.normal(0, 0.001, (NUM_VERTICES, 3, 207)).astype(np.float32),
        "J_regressor": rows(24, 20),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([PARENTS, range(24)]),
        "f": np.zeros((1, 3), np.int64),
        "J_regressor_h36m": rows(17, 100),
        "J_regressor_extra": rows(9, 20),
        "vertex_ids": np.arange(21),
    }


def made_up_body(gender: str, members: dict[str, np.ndarray]) -> SMPL:
    """The body in hmrb's class."""
    return SMPL(body_file("smpl", gender, Path("made-up.npz"), members))


if __name__ == "__main__":
    main()
