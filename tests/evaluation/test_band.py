"""hmrb compare --band: what differs by no more than reruns of one recipe do."""

import json
from pathlib import Path

import numpy as np
import pytest
from command import hmrb, refused
from scipy.stats import t

from hmrb.check import resolve
from hmrb.evaluation.records import read_results, samples_sha
from hmrb.evaluation.saving import write_record
from hmrb.reports.band import rerun_band, t_quantile
from hmrb.reports.kept_bands import FILE, METRICS, Kept, checks_of, key_of, read_kept
from hmrb.reports.tables import recipe_text
from hmrb.spec import load_experiment

SPECS = Path(__file__).parents[2] / "specs"
SMALL = Path(__file__).parents[2] / "docs" / "results" / "small"


def band(*names: str) -> list[str]:
    return [word for name in names for word in ("--band", str(SMALL / f"{name}.json"))]


def test_a_band_is_student_s_interval_of_two_runs_difference() -> None:
    """Of 2000 sets of three runs and two more of one recipe, a twentieth differs by more than the band."""
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(2000, 5))
    limits = 4.30 * np.sqrt(2) * draws[:, :3].std(1, ddof=1)
    assert 0.04 < (np.abs(draws[:, 3] - draws[:, 4]) > limits).mean() < 0.06
    results = [result for seed in range(3) for result in read_results([SMALL / f"small_baseline-{seed}.json"])]
    means = [result.of("pa_mpjpe")[0].mean() for result in results]
    limit = rerun_band(results, results[0])["pa_mpjpe"]
    assert limit == pytest.approx(t.ppf(0.975, 2) * np.sqrt(2) * np.std(means, ddof=1), rel=1e-4)


def test_student_s_quantiles_are_scipy_s() -> None:
    for share in (0.5, 0.975, 0.999):
        degrees = np.arange(1, 60)
        ours = [t_quantile(share, int(count)) for count in degrees]
        np.testing.assert_allclose(ours, t.ppf(share, degrees), rtol=1e-3, atol=1e-6)


def test_a_difference_is_within_or_beyond_what_reruns_do() -> None:
    reruns = band(*(f"small_baseline-{seed}" for seed in range(3)))
    for other, where in (("small_losses_default-0", "within"), ("small_occlude-0", "beyond")):
        words = ("compare", str(SMALL / "small_baseline-0.json"), str(SMALL / f"{other}.json"), "--metrics", "pa_mpjpe")
        done = hmrb(*words, *reruns)
        assert done.returncode == (where == "beyond"), done.stderr
        assert where in done.stdout
        assert ("beyond the band: PA-MPJPE mm ↓ +" in done.stderr) == (where == "beyond")
        as_json = hmrb(*words, *reruns, "--json")
        assert as_json.returncode == done.returncode
        (row,) = json.loads(as_json.stdout)
        assert (abs(row["difference"]) <= row["band"]) == (where == "within")
        assert "band" not in json.loads(hmrb(*words, "--json").stdout)[0]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["small_baseline-0"], "--band: 1 rerun; name two or more runs of one recipe"),
        (["small_baseline-0", "small_baseline-0"], "--band: seeds 0, 0: a seed is there twice"),
        (["small_baseline-0", "small_occlude-1"], "--band: the runs come from 2 recipes"),
    ],
)
def test_what_are_no_reruns_is_refused(names: list[str], said: str) -> None:
    pair = (str(SMALL / f"small_{name}-0.json") for name in ("baseline", "occlude"))
    refused(hmrb("compare", *pair, *band(*names)), said)


def test_the_kept_runs_are_of_the_shipped_recipes() -> None:
    """Else CI's rerun (.ci/rerun) finds none: train the seeds anew (docs/converging.md)."""
    kept = read_kept(SPECS / FILE)
    specs = [SPECS / "smallest.yaml", *(SPECS / "small_study").rglob("*.yaml"), *(SPECS / "methods/study").glob("*")]
    known = {}
    for path in specs:
        experiment = resolve(load_experiment(path))
        known[key_of(recipe_text(experiment.recipe()))] = experiment.name
    assert {key: row.name for key, row in kept.items()}.items() <= known.items()
    assert kept[next(key for key, name in known.items() if name == "smallest")].seeds == (0, 1, 2, 3, 4)
    assert all(len(row.seeds) >= 3 and row.curve and row.ends for row in kept.values())


def test_kept_ends_are_those_of_the_kept_records() -> None:
    for row in read_kept(SPECS / FILE).values():
        folder = SMALL.parent / row.group
        for place, seed in enumerate(row.seeds if folder.is_dir() else ()):
            for result in read_results(sorted(folder.glob(f"{row.name}-{seed}-*.json"))):
                for metric in result.errors:
                    kept = row.ends[f"{result.record.benchmark}/{metric}"][place]
                    assert kept == pytest.approx(result.record.metrics[metric].value, rel=1e-4)


def test_a_run_is_in_the_band_of_its_recipe_or_outside(tmp_path: Path) -> None:
    run = kept_run(tmp_path / "run", [2.6, 2.45, 2.35, 2.25, 2.2])
    done = hmrb("compare", "--band", str(run))
    assert done.returncode == 0, done.stderr
    assert "smallest: against kept runs with seeds 0, 1, 2, 3, 4" in done.stdout
    rows = json.loads(hmrb("compare", "--band", str(run), "--json").stdout)
    assert [row["what"] for row in rows][:2] == ["loss, steps 1 to 20", "loss, steps 21 to 40"]
    assert all(row["low"] < row["value"] < row["high"] and row["is_within"] for row in rows)
    stalled = kept_run(tmp_path / "stalled", [2.6, 2.6, 2.6, 2.6, 2.6])
    refused(hmrb("compare", "--band", str(stalled)), "outside of the band of reruns: loss, steps 41 to 60 2.6", code=1)
    worse = kept_run(tmp_path / "worse", [2.6, 2.45, 2.35, 2.25, 2.2], added_mm=12)
    done = hmrb("compare", "--band", str(worse))
    refused(done, "outside of the band of reruns: synthetic PA-MPJPE mm", code=1)
    (worse / "log.jsonl").unlink()
    without = hmrb("compare", "--band", str(worse))
    assert "not in this run, so not compared: the loss (no log.jsonl)" in without.stdout
    assert "outside" in done.stdout


def test_a_band_holds_one_more_run_in_nineteen_of_twenty() -> None:
    """Of 400 simulated tables of four recipes with three seeds, each with three metrics on four benchmarks."""
    rng = np.random.default_rng(0)
    ends = [f"{bench}/{metric}" for bench in "abcd" for metric in METRICS]
    inside = 0
    for _ in range(400):
        values = rng.normal(100, 3, (4, 4, 12))  # recipe, seed, value
        group = {
            str(recipe): Kept("a", "g", (0, 1, 2), {}, {end: tuple(row[:3, i]) for i, end in enumerate(ends)}, {})
            for recipe, row in enumerate(values)
        }
        checks = checks_of({}, dict(zip(ends, values[0, 3].tolist(), strict=True)), group["0"], group)
        inside += all(check.is_within for check in checks)
    assert 0.93 <= inside / 400 <= 0.985


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([str(SMALL / "small_baseline-0.json")], "name two results to compare, or one run: hmrb compare --band RUN"),
        (["--band", str(SMALL / "small_baseline-0.json")], "no runs of its recipe (small_baseline) are kept"),
        (["--band", "nowhere"], "nowhere"),
        (["--band", "a", "--band", "b"], "name two results to compare, or one run"),
    ],
)
def test_what_has_no_band_is_refused(words: list[str], said: str) -> None:
    refused(hmrb("compare", *words), said)


def test_a_run_on_other_people_is_refused(tmp_path: Path) -> None:
    run = kept_run(tmp_path / "run", [2.6, 2.45, 2.35, 2.25, 2.2], shard="0" * 16)
    refused(hmrb("compare", "--band", str(run)), "synthetic is synthetic-test", "of people 0000000000000000")


def kept_run(folder: Path, losses: list[float], added_mm: float = 0.0, shard: str = "") -> Path:
    """A run of specs/smallest.yaml as it would be with these losses, scored on made-up people."""
    row = next(row for row in read_kept(SPECS / FILE).values() if row.name == "smallest")
    like = read_results([SMALL / "small_baseline-0.json"])[0].record
    spec = resolve(load_experiment(SPECS / "smallest.yaml")).model_dump(mode="json")
    protocol, sha = row.scored["synthetic"]
    means = {name: row.ends[f"synthetic/{name}"][0] + added_mm for name in METRICS}
    arrays = {"row": np.arange(like.num_people), "name": np.full(like.num_people, b"a")}
    arrays |= {f"error/{name}": np.full(like.num_people, mean, np.float32) for name, mean in means.items()}
    record = like.model_copy(
        update={
            "protocol": protocol,
            "conditions": like.conditions.model_copy(update={"shard": like.conditions.shard | {"sha": shard or sha}}),
            "source": like.source.model_copy(update={"experiment": "smallest", "spec": spec}),
            "metrics": {
                name: like.metrics[name].model_copy(update={"value": mean, "people": like.num_people})
                for name, mean in means.items()
            },
            "samples_sha": samples_sha(arrays),
        }
    ).sealed()
    write_record(folder / "eval", "synthetic", record, arrays)
    lines = [json.dumps({"step": 20 * number, "total": loss}) for number, loss in enumerate(losses, 1)]
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    return folder
