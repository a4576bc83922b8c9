"""Tables from result records: seeds, intervals, differences, and what is refused."""

import csv
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from hmrb.cli import app
from hmrb.errors import RequestError
from hmrb.tables import as_csv, as_markdown, compare, paired, read_results


def write(folder: Path, name: str, seed: int, errors: np.ndarray, **changes: Any) -> Path:
    """A run's result as `hmrb eval` writes it."""
    record = {
        "experiment": name, "benchmark": "synthetic", "protocol": "synthetic-test/lsp14@1", "body_sha": "b0",
        "num_people": len(errors), "shard": {"sha": "a0"}, "spec": {"name": name, "seed": seed, "published": []},
    } | changes  # fmt: skip
    run = folder / f"{name}-{seed}" / "eval"
    run.mkdir(parents=True)
    (run / "synthetic.json").write_text(json.dumps(record))
    with h5py.File(run / "synthetic_samples.h5", "w") as file:
        file["error_mm/pa_mpjpe"] = errors
    return run.parent


def test_seeds_make_one_row_and_a_difference_is_paired(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    people = rng.uniform(20, 120, 400)
    runs = [write(tmp_path, "plain", seed, people + shift) for seed, shift in enumerate((-1.0, 0.0, 1.0))]
    runs += [write(tmp_path, "better", seed, people - 3 + rng.normal(0, 1, 400)) for seed in range(3)]
    (table,) = compare(read_results(runs), "pa_mpjpe", "plain")
    plain, better = table.rows
    assert (plain.seeds, plain.spread) == ((0, 1, 2), pytest.approx(1.0))
    assert plain.value == pytest.approx(people.mean())
    assert plain.difference is None
    assert better.difference == pytest.approx(-3, abs=0.2)
    low, high = better.difference_ci95
    assert low < -2.8 < high + 0.2
    assert high - low < 0.3 < better.ci95[1] - better.ci95[0]  # people differ by 100 mm, the two models by 3


def test_different_protocols_never_share_a_table(tmp_path: Path) -> None:
    runs = [write(tmp_path, name, 0, np.arange(5.0), protocol=f"{name}@1") for name in ("one", "two")]
    assert [table.protocol for table in compare(read_results(runs), "pa_mpjpe", None)] == ["one@1", "two@1"]


def test_published_numbers_come_from_the_record_and_keep_their_doubt(tmp_path: Path) -> None:
    row = {"benchmark": "synthetic", "metric": "pa_mpjpe", "value": 55.0, "source": "x", "doubt": "copied"}
    run = write(tmp_path, "one", 0, np.arange(5.0), spec={"name": "one", "seed": 0, "published": [row]})
    (table,) = compare(read_results([run]), "pa_mpjpe", None)
    assert "| one | 1 | 2.0 | " in as_markdown(table)
    assert "| 55.00 ? |" in as_markdown(table)
    assert float(next(csv.DictReader(as_csv(table).splitlines()))["value"]) == 2.0


def test_what_cannot_be_put_together_is_refused(tmp_path: Path) -> None:
    one = write(tmp_path, "one", 0, np.arange(5.0))
    same = write(tmp_path / "again", "one", 0, np.arange(5.0))
    other = write(tmp_path / "other", "one", 1, np.arange(5.0), spec={"name": "one", "seed": 1, "lr": 2})
    with pytest.raises(RequestError, match="'one' has two results with seed 0"):
        compare(read_results([one, same]), "pa_mpjpe", None)
    with pytest.raises(RequestError, match="results of 'one' come from 2 different specs"):
        compare(read_results([one, other]), "pa_mpjpe", None)
    with pytest.raises(RequestError, match="its record has no pve, only pa_mpjpe"):
        compare(read_results([one]), "pve", None)
    with pytest.raises(RequestError, match="no experiment named 'two'"):
        compare(read_results([one]), "pa_mpjpe", "two")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(RequestError, match=r"broken\.json: no result of hmrb"):
        read_results([tmp_path / "broken.json"])
    with pytest.raises(RequestError, match="no result in it"):
        read_results([tmp_path / "again"])


def test_two_results_are_told_apart_person_by_person(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    people = rng.uniform(20, 120, 300)
    one, same, better = (
        write(tmp_path, name, 0, people + change)
        for name, change in (("one", 0.0), ("same", rng.normal(0, 2, 300)), ("better", rng.normal(-2, 2, 300)))
    )
    read = {path.name: read_results([path])[0] for path in (one, same, better)}
    (chance,), (sure,) = paired(read["one-0"], read["same-0"]), paired(read["one-0"], read["better-0"])
    assert (chance.is_sure, sure.is_sure) == (False, True)
    assert sure.difference == pytest.approx(-2, abs=0.4)
    assert sure.share_lower > 0.75
    shown = CliRunner().invoke(app, ["compare", str(one), str(better)])
    assert shown.exit_code == 0
    assert "PA-MPJPE" in shown.stdout
    assert "may be chance" not in shown.stdout


def test_unlike_numbers_are_not_compared(tmp_path: Path) -> None:
    runs = [write(tmp_path, name, 0, np.arange(5.0), protocol=f"{name}@1", body_sha=name) for name in ("one", "two")]
    done = CliRunner().invoke(app, ["compare", *map(str, runs)])
    said = "can't be compared: protocol: one@1, and two@1; body: one, and two"
    assert said in str(done.exception)


def test_frames_of_a_sequence_are_drawn_together(tmp_path: Path) -> None:
    """Forty frames of ten sequences, alike within each: ten numbers, not forty."""
    rng = np.random.default_rng(0)
    errors = np.repeat(rng.uniform(20, 120, 10), 4)
    run = write(tmp_path, "one", 0, errors)
    (alone,) = compare(read_results([run]), "pa_mpjpe", None)
    with h5py.File(run / "eval" / "synthetic_samples.h5", "r+") as file:
        file["sequence"] = np.repeat(np.arange(10), 4)
    (grouped,) = compare(read_results([run]), "pa_mpjpe", None)
    widths = [table.rows[0].ci95[1] - table.rows[0].ci95[0] for table in (alone, grouped)]
    assert widths[1] > 1.6 * widths[0]  # twice, but for the bootstrap's own noise
