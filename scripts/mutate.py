"""Puts small faults into the code, one at a time, and says which of them the tests notice: `python scripts/mutate.py`.

A script, because mutmut and cosmic-ray change every operator of every file and run the suite for each: days, where the
suite takes minutes. These are chosen faults of kinds that people make, each with the tests that should notice it.

    python scripts/mutate.py                     all of them, in a copy of the tree; ends with 1 where one is missed
    python scripts/mutate.py --only NAME         one (may be given several times)
    python scripts/mutate.py --list              what there is
    python scripts/mutate.py --write docs/testing.md    the table between <!-- faults --> and <!-- /faults -->
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = re.compile(r"(<!-- faults -->\n).*?(<!-- /faults -->)", re.S)
COPIED = ("hmrb", "tests", "specs", "docs", "scripts", "benchmarks", "pyproject.toml", "README.md", "CONTRIBUTING.md")
NOTICED = (1, 2)  # pytest: a test failed; tests could not be read
MISSED = 0


@dataclass(frozen=True)
class Fault:
    """`old` becomes `new` in a file, which `tests` should notice. `added` was written because no test did at first."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    added: str = ""


@dataclass(frozen=True)
class Outcome:
    """What the tests made of a fault: the first test that failed, or nothing."""

    fault: Fault
    caught_by: str
    seconds: float


CHANCE, AUGMENT, OCCLUDE = "tests/data/test_chance.py", "tests/data/test_augment.py", "tests/data/test_occlude.py"
CONSTANTS, THRESHOLDS = "tests/test_constants.py", "tests/data/sources/test_thresholds.py"
GRADIENTS, LOSSES, STEP = (f"tests/training/test_{name}.py" for name in ("gradients", "losses", "step"))
SETTINGS, MODELS = "tests/models/test_study_settings.py", "tests/models/test_models.py"
STUDY_MODELS = "tests/models/test_study_models.py"
LOADER, MIXTURE, PACK = "tests/data/test_loader.py", "tests/data/test_mixture.py", "tests/data/convert/test_pack.py"
METRICS, PROTOCOLS = "tests/evaluation/test_metrics.py", "tests/evaluation/test_protocols.py"
PREDICTIONS, EVALUATE = "tests/evaluation/test_predictions.py", "tests/evaluation/test_evaluate.py"
GEOMETRY, SKELETON, CHECKPOINT = "tests/test_geometry.py", "tests/test_skeleton.py", "tests/test_checkpoint.py"
RETENTION = "tests/training/test_retention.py"

# Faults that went unnoticed before this table was there come first; then others, room by room.
FAULTS = (
    Fault(
        "a rotation of half its deviation", "hmrb/data/augment.py",
        "rng.normal(0, rotation_deg)", "rng.normal(0, rotation_deg / 2)",
        (AUGMENT, CHANCE), CHANCE,
    ),
    Fault(
        "one colour gain for three channels", "hmrb/data/augment.py",
        "rng.uniform(1 - factor, 1 + factor, 3)", "rng.uniform(1 - factor, 1 + factor)",
        (AUGMENT, CHANCE), CHANCE,
    ),
    Fault(
        "flips at half their rate", "hmrb/data/augment.py",
        "mirror(view) if rng.random() < p", "mirror(view) if rng.random() < p / 2",
        (AUGMENT, CHANCE), CHANCE,
    ),
    Fault(
        "MPJAE of the spine in place of the pelvis", "hmrb/evaluation/metrics.py",
        '"pelvis", "left_hip", "right_hip", "left_knee"', '"spine_1", "left_hip", "right_hip", "left_knee"',
        (METRICS, CONSTANTS), CONSTANTS,
    ),
    Fault(
        "red and blue of ImageNet's std exchanged", "hmrb/data/loader.py",
        "IMAGENET_STD = (58.395, 57.12, 57.375)", "IMAGENET_STD = (57.375, 57.12, 58.395)",
        (LOADER, CONSTANTS), CONSTANTS,
    ),
    Fault(
        "more than five visible points asked for", "hmrb/data/sources/lip.py",
        "visible.sum() >= FEWEST", "visible.sum() > FEWEST",
        ("tests/data/sources/test_source_lip.py", THRESHOLDS), THRESHOLDS,
    ),
    Fault(
        "another epsilon in Twins' norms", "hmrb/models/tails.py",
        "isinstance(module, nn.LayerNorm)), 1e-5)", "isinstance(module, nn.LayerNorm)), 1e-2)",
        (STUDY_MODELS, SETTINGS), SETTINGS,
    ),
    Fault(
        "the discriminator's loss reaches the network's rotations", "hmrb/training/adversary.py",
        "prediction.rotmats.detach()", "prediction.rotmats",
        (STEP, GRADIENTS),
    ),
    Fault(
        "the discriminator's loss reaches the network's shapes", "hmrb/training/adversary.py",
        "prediction.betas.detach()", "prediction.betas",
        (STEP, GRADIENTS), GRADIENTS,
    ),
    # augmentation
    Fault(
        "a scale that reaches twice as far down", "hmrb/data/augment.py",
        "rng.normal(1, scale), 1 - scale,", "rng.normal(1, scale), 1 - 2 * scale,",
        (AUGMENT, CHANCE),
    ),
    Fault(
        "a crop along the other axis", "hmrb/data/augment.py",
        '0.5 if axis == "y" else float(x), 0.5 if axis == "x" else float(y)',
        '0.5 if axis == "x" else float(x), 0.5 if axis == "y" else float(y)',
        (AUGMENT, CHANCE),
    ),
    Fault(
        "saturation drawn from contrast's range", "hmrb/data/augment.py",
        "rng.uniform(*saturation)", "rng.uniform(*contrast)",
        (AUGMENT, CHANCE), CHANCE,
    ),
    Fault(
        "hues that are never turned back", "hmrb/data/augment.py",
        "rng.integers(-hue, max(hue, 1 - hue))", "rng.integers(0, max(hue, 1))",
        (AUGMENT, CHANCE), CHANCE,
    ),
    Fault(
        "rectangles that are never wide", "hmrb/data/occlude.py",
        "rng.uniform(*area), rng.uniform(aspect, 1 / aspect), *shares",
        "rng.uniform(*area), rng.uniform(1, 1 / aspect), *shares",
        (OCCLUDE, CHANCE), CHANCE,
    ),
    Fault(
        "holes never of the largest side", "hmrb/data/occlude.py",
        "rng.integers(*side_px, (count, 2), endpoint=True)",
        "rng.integers(side_px[0], max(side_px[1], side_px[0] + 1), (count, 2))",
        (OCCLUDE, CHANCE),
    ),
    Fault(
        "objects at joints strewn half as far", "hmrb/data/occlude.py",
        "rng.normal(0, spread, (number, 2))", "rng.normal(0, spread / 2, (number, 2))",
        (OCCLUDE, CHANCE), CHANCE,
    ),
    Fault(
        "a mirrored turn that keeps its sense", "hmrb/data/warp.py",
        "rotation=-view.rotation,", "rotation=view.rotation,",
        (AUGMENT,), AUGMENT,
    ),
    Fault(
        "a crop half a pixel beside", "hmrb/data/warp.py",
        "shift = size / 2 - turn", "shift = (size - 1) / 2 - turn",
        (AUGMENT,),
    ),
    Fault(
        "gains cut down and not rounded", "hmrb/data/warp.py",
        "np.rint(np.arange(256)[:, None] * view.gain)", "np.floor(np.arange(256)[:, None] * view.gain)",
        (AUGMENT,),
    ),
    # sampling
    Fault(
        "shares of a mix in another order", "hmrb/data/mixture.py",
        "accumulate(mix[name] for name in self.names)", "accumulate(sorted(mix[name] for name in self.names))",
        (MIXTURE, LOADER),
    ),
    Fault(
        "a replacement that is the same row", "hmrb/data/mixture.py",
        "mix64(self._seed, index, attempt, 1)", "mix64(self._seed, index, 0, 1)",
        (MIXTURE, LOADER),
    ),
    Fault(
        "the same shuffle in every epoch", "hmrb/data/mixture.py",
        "mix64(self._seed, epoch)", "mix64(self._seed, 0)",
        (MIXTURE, LOADER),
    ),
    Fault(
        "the same augmentation for every draw", "hmrb/data/loader.py",
        "default_rng([self._seed, draw, attempt])", "default_rng([self._seed, attempt])",
        (LOADER,), LOADER,
    ),
    Fault(
        "every process reads the first one's draws", "hmrb/data/loader.py",
        "range(step * self.batch + self.rank, (step + 1) * self.batch, self.size)",
        "range(step * self.batch, (step + 1) * self.batch, self.size)",
        (LOADER,),
    ),
    Fault(
        "a mean shape that knows no shares", "hmrb/data/labelled_bodies.py",
        "betas += mix[name] * torch", "betas += torch",
        (LOADER,),
    ),
    Fault(
        "a square as wide as the shorter side", "hmrb/data/seen.py",
        "side=float(max(width, height))", "side=float(min(width, height))",
        (LOADER, AUGMENT), LOADER,
    ),
    # losses and steps
    Fault(
        "key points scaled by the whole width", "hmrb/training/loss_terms.py",
        "label[..., :2] * to_crop - 1", "label[..., :2] * 2 / size - 1",
        (LOSSES,),
    ),
    Fault(
        "a made-up body is to score 0.1", "hmrb/training/losses.py",
        "scores.new_zeros(()).expand_as", "(scores.new_zeros(()) + 0.1).expand_as",
        (LOSSES, GRADIENTS),
    ),
    Fault(
        "3D joints measured from the hips alone", "hmrb/training/loss_terms.py",
        "is_there = (label[..., 3] > 0)[:, pairs].all(2)", "is_there = (label[..., 3] > 0)[:, pairs].all(2) & False",
        (LOSSES,),
    ),
    Fault(
        "a mean over people in place of entries", "hmrb/training/loss_terms.py",
        "(labelled * (error.numel() // confidence.numel()))", "labelled",
        (LOSSES,),
    ),
    Fault(
        "an unlabelled body that counts", "hmrb/training/loss_terms.py",
        "    confidence = pair.has_body[:, None]\n", "    confidence = pair.has_body[:, None] * 0 + 1\n",
        (LOSSES,),
    ),
    Fault(
        "warm-up from a rate of 0", "hmrb/training/learner.py",
        "factor *= (step + 1) / optim.warmup_steps", "factor *= step / optim.warmup_steps",
        (STEP,),
    ),
    # networks
    Fault(
        "timm's epsilon in ViT's norms", "hmrb/models/tails.py",
        "(block.norm1, block.norm2)), 1e-5)", "(block.norm1, block.norm2)), 1e-6)",
        (STUDY_MODELS, SETTINGS), SETTINGS,
    ),
    Fault(
        "PCPVT's shortened keys with torch's epsilon", "hmrb/models/tails.py",
        "if block.attn.norm is not None), 1e-6)", "if block.attn.norm is not None), 1e-5)",
        (STUDY_MODELS, SETTINGS),
    ),
    Fault(
        "stages laid middle on middle", "hmrb/models/tails.py",
        'mode="bilinear", align_corners=True', 'mode="bilinear", align_corners=False',
        (STUDY_MODELS, SETTINGS),
    ),
    Fault(
        "Swin's last windows not shifted", "hmrb/models/tails.py",
        "block.shift_size = (3, 3)", "block.shift_size = (0, 0)",
        (STUDY_MODELS, SETTINGS),
    ),
    Fault(
        "one dropout mask for both layers", "hmrb/models/head.py",
        "hidden * drops[2 * step + 1]", "hidden * drops[2 * step]",
        (MODELS,), MODELS,
    ),
    Fault(
        "dropout without scaling up", "hmrb/models/dropout.py",
        "(is_kept / (1 - share)).split", "is_kept.float().split",
        (MODELS,),
    ),
    # geometry and skeletons
    Fault(
        "angles beyond half a turn", "hmrb/geometry.py",
        "torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)", "quaternion",
        (GEOMETRY,),
    ),
    Fault(
        "half of the focal length for depth", "hmrb/geometry.py",
        "2 * FOCAL_PX / (image_px * scale + 1e-9)", "FOCAL_PX / (image_px * scale + 1e-9)",
        (GEOMETRY, CONSTANTS),
    ),
    Fault(
        "Newton's method ended early", "hmrb/geometry.py",
        "NEWTON_STEPS = 16", "NEWTON_STEPS = 5",
        (GEOMETRY, METRICS),
    ),
    Fault(
        "an alignment without scale", "hmrb/geometry.py",
        "/ spread.clamp(min=torch.finfo(spread.dtype).tiny)", "* 0 + 1",
        (GEOMETRY, METRICS),
    ),
    Fault(
        "SPIN's extra hips exchanged", "hmrb/skeleton.py",
        "right_hip_extra left_hip_extra neck_extra", "left_hip_extra right_hip_extra neck_extra",
        (SKELETON,),
    ),
    Fault(
        "AI Challenger's neck before the top of the head", "hmrb/skeleton.py",
        '"aic_14": _annotated(f"{_LIMBS} headtop neck")', '"aic_14": _annotated(f"{_LIMBS} neck headtop")',
        (SKELETON, CONSTANTS),
    ),
    # metrics
    Fault(
        "an AUC from 5 mm on", "hmrb/evaluation/metrics.py",
        "tuple(5.0 * i for i in range(31))", "tuple(5.0 * i for i in range(1, 31))",
        (METRICS, CONSTANTS),
    ),
    Fault(
        "a joint at the limit counts as right", "hmrb/evaluation/metrics.py",
        "distances[..., None] < distances.new_tensor", "distances[..., None] <= distances.new_tensor",
        (METRICS,),
    ),
    Fault(
        "a scale fitted the wrong way", "hmrb/evaluation/metrics.py",
        "scale = (pred * truth).sum((1, 2)) / size", "scale = (truth * truth).sum((1, 2)) / (pred * truth).sum((1, 2))",
        (METRICS,),
    ),
    Fault(
        "accelerations across a hidden frame", "hmrb/evaluation/metrics.py",
        "seen[2:] & seen[1:-1] & seen[:-2]", "seen[2:] & seen[:-2]",
        (METRICS,),
    ),
    Fault(
        "a jerk in the unit of an acceleration", "hmrb/evaluation/metrics.py",
        ".norm(dim=-1).mean(1) * fps**3", ".norm(dim=-1).mean(1) * fps**2",
        (METRICS,),
    ),
    Fault(
        "a one-sided p", "hmrb/evaluation/intervals.py",
        "min(1, 2 * (1 + tail) / (1 + RESAMPLES))", "min(1, (1 + tail) / (1 + RESAMPLES))",
        (METRICS,),
    ),
    Fault(
        "a 90 % interval of a difference", "hmrb/evaluation/intervals.py",
        "np.percentile(means, [2.5, 97.5])", "np.percentile(means, [5, 95])",
        (METRICS,), METRICS,
    ),
    Fault(
        "people drawn alone though they are of one sequence", "hmrb/evaluation/intervals.py",
        "np.arange(len(values)) if groups is None", "np.arange(len(values)) if True",
        (METRICS,),
    ),
    # scoring, protocols, predictions
    Fault(
        "projected joints half a pixel beside", "hmrb/evaluation/scoring.py",
        "return (pixels - 0.5) / self.image_px", "return pixels / self.image_px",
        (PROTOCOLS, EVALUATE), PROTOCOLS,
    ),
    Fault(
        "joints without a truth have an error", "hmrb/evaluation/scoring.py",
        "joint_distances_mm(pred.joints, truth.joints) * seen", "joint_distances_mm(pred.joints, truth.joints)",
        (PROTOCOLS, EVALUATE),
    ),
    Fault(
        "half of a labelled root is enough", "hmrb/evaluation/evaluate.py",
        "~root.all(1), few", "~root.any(1), few",
        (PROTOCOLS, EVALUATE), PROTOCOLS,
    ),
    Fault(
        "people with exactly half of the joints left out", "hmrb/evaluation/evaluate.py",
        "~root.all(1), few: seen.mean(1) < benchmark", "~root.all(1), few: seen.mean(1) <= benchmark",
        (PROTOCOLS, EVALUATE),
    ),
    Fault(
        "one hip for the middle of the hips", "hmrb/evaluation/posing.py",
        "for joint in benchmark.root]].mean(1, keepdim=True)", "for joint in benchmark.root]][:, :1]",
        (PROTOCOLS,), PROTOCOLS,
    ),
    Fault(
        "frames followed from one person to another", "hmrb/evaluation/motion.py",
        "((track, 0), (frame, 1))", "((frame, 1),)",
        (PROTOCOLS, EVALUATE), PROTOCOLS,
    ),
    Fault(
        "a mean of rotations that is none", "hmrb/evaluation/predictions.py",
        'means["rotmats"] = nearest_rotation(means["rotmats"])', 'means["rotmats"] = means["rotmats"]',
        (PREDICTIONS,), PREDICTIONS,
    ),
    Fault(
        "predictions in the order of sorted names", "hmrb/evaluation/matching.py",
        "for index, name in enumerate(given):", "for index, name in enumerate(sorted(given)):",
        (PREDICTIONS,),
    ),
    # checkpoints and records
    Fault(
        "a folder stands for its last checkpoint", "hmrb/checkpoint.py",
        "path = run.best if run.best.exists() else run.last", "path = run.last if run.last.exists() else run.best",
        (CHECKPOINT,),
    ),
    Fault(
        "epochs sorted as words", "hmrb/checkpoint.py",
        "key=lambda path: (len(path.name), path.name)", "key=lambda path: path.name",
        (CHECKPOINT, RETENTION), CHECKPOINT,
    ),
    Fault(
        "one checkpoint of an epoch too many kept", "hmrb/training/retention.py",
        "self._run.of_epochs[: -self._spec.keep]", "self._run.of_epochs[: -self._spec.keep - 1]",
        (RETENTION,),
    ),
    Fault(
        "the checkpoint before is not kept", "hmrb/formats/writing.py",
        "if older and path.exists():", "if older and not path.exists():",
        (CHECKPOINT, RETENTION),
    ),
    Fault(
        "parts of a batch taken in turn", "hmrb/batch.py",
        "itemgetter(slice(i * size, (i + 1) * size))", "itemgetter(slice(i, i + (size - 1) * count + 1, count))",
        (STEP,),
    ),
    # converters
    Fault(
        "COCO's people without a right ankle", "hmrb/data/sources/coco.py",
        "LIMBS = slice(5, 17)", "LIMBS = slice(5, 16)",
        ("tests/data/sources/test_source_coco.py", THRESHOLDS), THRESHOLDS,
    ),
    Fault(
        "AI Challenger's hidden points have no label", "hmrb/data/sources/aic.py",
        "(codes == VISIBLE) | (codes == HIDDEN)", "codes == VISIBLE",
        ("tests/data/sources/test_source_aic.py", THRESHOLDS),
    ),
    Fault(
        "EMDB's boxes of no width", "hmrb/data/sources/emdb.py",
        "(corners[:, 2:] > corners[:, :2]).all(1)", "(corners[:, 2:] > corners[:, :2]).any(1)",
        ("tests/data/sources/test_source_emdb.py", THRESHOLDS),
    ),
    Fault(
        "people at pixel 2048 are inside", "hmrb/data/sources/mpi_inf_3dhp.py",
        "(points < SIDE_PX)", "(points <= SIDE_PX)",
        ("tests/data/sources/test_source_mpi_inf_3dhp.py", THRESHOLDS), THRESHOLDS,
    ),
    Fault(
        "OCHuman's people hidden by themselves are seen", "hmrb/data/sources/ochuman.py",
        "codes >= HIDDEN", "codes > HIDDEN",
        ("tests/data/sources/test_source_ochuman.py", THRESHOLDS),
    ),
    Fault(
        "AGORA's people a pixel beside the picture", "hmrb/data/sources/agora.py",
        "(points <= size - 1)", "(points < size)",
        ("tests/data/sources/test_source_agora.py", THRESHOLDS), THRESHOLDS,
    ),
    Fault(
        "SURREAL mirrored about the edge of the picture", "hmrb/data/sources/surreal.py",
        "pixels[:, 0] = WIDTH - 1 - pixels[:, 0]", "pixels[:, 0] = WIDTH - pixels[:, 0]",
        ("tests/data/sources/test_source_surreal.py", THRESHOLDS),
    ),
    Fault(
        "boxes of a smaller margin", "hmrb/data/convert/boxes.py",
        "factor: float = 1.2,", "factor: float = 1.1,",
        ("tests/data/sources/test_source_lip.py", THRESHOLDS),
    ),
    Fault(
        "regions too small for a turned square", "hmrb/data/convert/pack.py",
        "side * GROWN * TURNED / 2 + 1", "side * GROWN / 2 + 1",
        (PACK,),
    ),
)  # fmt: skip


def problem(fault: Fault, root: Path) -> str:
    """Why a fault can't be tried; empty where it can."""
    count = (root / fault.file).read_text(encoding="utf-8").count(fault.old)
    missing = [test for test in fault.tests if not (root / test).exists()]
    if count != 1:
        return f"{fault.name}: '{fault.old}' is {count} times in {fault.file}, it has to be there once"
    return f"{fault.name}: no {missing[0]}" if missing else ""


def copied(folder: Path) -> Path:
    """The tree, without what was made in it."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def run_tests(root: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Pytest's exit code and the first test that failed. Leaves no compiled files, which could outlive a fault."""
    environment = os.environ | {
        "PYTHONPATH": str(root), "HMRB_HOME": str(root / "home"), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-n0", "-x", "-q", "-p", "no:cacheprovider", "--tb=no", *tests]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    if done.returncode not in (MISSED, *NOTICED):
        raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.returncode, failed[1] if failed else ""


def tried(fault: Fault, root: Path) -> Outcome:
    """Puts the fault in, runs its tests, takes it out."""
    path, start = root / fault.file, time.monotonic()
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    try:
        code, failed = run_tests(root, fault.tests)
    finally:
        path.write_text(text, encoding="utf-8")
    return Outcome(
        fault, failed or "a test file that can't be read" if code in NOTICED else "", time.monotonic() - start
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown: a row a fault."""
    caught = sum(bool(outcome.caught_by) for outcome in outcomes)
    at_first = sum(bool(outcome.caught_by) and not outcome.fault.added for outcome in outcomes)
    lines = [
        f"{caught} of {len(outcomes)} faults are caught, {at_first} of them before tests were added.", "",
        "| fault | file | caught by | first try |", "| --- | --- | --- | --- |",
    ]  # fmt: skip
    for outcome in outcomes:
        fault = outcome.fault
        by = outcome.caught_by.partition("[")[0].partition("::")
        name = f"`{by[2] or by[0]}`" if outcome.caught_by else "**missed**"
        first = f"missed at first, test added in `{fault.added}`" if fault.added else "caught" if by[0] else "missed"
        lines.append(f"| {fault.name} | `{fault.file}` | {name} | {first} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command line; 1 where a fault is missed."""
    parser = argparse.ArgumentParser(description="Tries faults on the tests.")
    parser.add_argument("--only", action="append", metavar="NAME")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--write", type=Path, metavar="PAGE")
    asked = parser.parse_args()
    if asked.only and asked.write:
        parser.error("--write is for the whole table: leave --only out")
    unknown = set(asked.only or ()) - {fault.name for fault in FAULTS}
    if unknown:
        parser.error(f"no fault is called {', '.join(sorted(unknown))}; --list shows all there are")
    chosen = [fault for fault in FAULTS if not asked.only or fault.name in asked.only]
    if asked.list:
        print("\n".join(f"{fault.name}: {fault.file}" for fault in chosen))
        return 0
    if problems := [said for fault in chosen if (said := problem(fault, ROOT))]:
        raise SystemExit("\n".join(problems))
    with tempfile.TemporaryDirectory() as folder:
        root = copied(Path(folder))
        code, failed = run_tests(root, sorted({test for fault in chosen for test in fault.tests}))
        if code != MISSED:
            raise SystemExit(f"without any fault {failed} fails: nothing can be said")
        outcomes = []
        for fault in chosen:
            outcomes.append(tried(fault, root))
            by, seconds = outcomes[-1].caught_by, outcomes[-1].seconds
            print(f"{'caught' if by else 'MISSED':7} {fault.name:58} {seconds:5.0f} s  {by}", flush=True)
    if asked.write:
        page = asked.write.read_text(encoding="utf-8")
        asked.write.write_text(TABLE.sub(lambda m: f"{m[1]}{table(outcomes)}{m[2]}", page), encoding="utf-8")
    return 1 if any(not outcome.caught_by for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
