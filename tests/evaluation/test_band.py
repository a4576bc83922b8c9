"""hmrb compare --band: what differs by no more than reruns of one recipe do."""

import json
from pathlib import Path

import numpy as np
import pytest
from command import hmrb, refused
from scipy.stats import t

from hmrb.check import resolve
from hmrb.evaluation.records import read_results
from hmrb.reports.band import T975, rerun_band, t975
from hmrb.reports.tables import recipe_of
from hmrb.spec import load_experiment

SMALL = Path(__file__).parents[2] / "docs" / "results" / "small"


def band(*names: str) -> list[str]:
    return [word for name in names for word in ("--band", str(SMALL / f"{name}.json"))]


def test_a_band_is_student_s_interval_of_two_runs_difference() -> None:
    """Of 2000 sets of three runs and two more of one recipe, a twentieth differs by more than the band."""
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(2000, 5))
    limits = T975[1] * np.sqrt(2) * draws[:, :3].std(1, ddof=1)
    assert 0.04 < (np.abs(draws[:, 3] - draws[:, 4]) > limits).mean() < 0.06
    results = [result for seed in range(3) for result in read_results([SMALL / f"small_baseline-{seed}.json"])]
    means = [result.of("pa_mpjpe")[0].mean() for result in results]
    limit = rerun_band(results, results[0])["pa_mpjpe"]
    assert limit == pytest.approx(4.30 * np.sqrt(2) * np.std(means, ddof=1), rel=1e-4)


def test_student_s_quantiles_are_scipy_s() -> None:
    degrees = np.arange(1, 60)
    np.testing.assert_allclose([t975(int(count)) for count in degrees], t.ppf(0.975, degrees), atol=0.006)


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


def test_the_kept_runs_of_the_smallest_recipe_are_its_own_and_in_their_band() -> None:
    """Else CI's rerun (.ci/rerun) compares with another recipe: train the five seeds anew (docs/converging.md)."""
    files = sorted((SMALL.parent / "smallest").glob("*.json"))
    kept = read_results(files)
    recipe = resolve(load_experiment(SMALL.parents[2] / "specs" / "smallest.yaml")).recipe() | {"seed": 0}
    assert [result.seed for result in kept] == [0, 1, 2, 3, 4]
    assert {recipe_of(result) for result in kept} == {json.dumps(recipe, sort_keys=True)}
    words = [word for file in files for word in ("--band", str(file))]
    for file in files[1:]:
        metrics = ("--metrics", "mpjpe", "--metrics", "pa_mpjpe")
        assert hmrb("compare", str(files[0]), str(file), *metrics, *words).returncode == 0
