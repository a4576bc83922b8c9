"""Records of benchmarks: the page that they make, and honest comparisons of records and of trees."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
compare, page, record = (importlib.import_module(name) for name in ("compare", "page", "record"))
everything: Any = importlib.import_module("all")

MACHINE = {
    "processor": "A", "instruction_sets": ["avx2"], "cores": 2, "system": "Linux",
    **dict.fromkeys(record.VERSIONS, "1.0"),
}  # fmt: skip


def figure(*values: float, better: str = "lower") -> dict[str, Any]:
    return {"unit": "ms", "better": better, "values": list(values)}


def kept(**figures: Any) -> dict[str, Any]:
    return {
        "machine": MACHINE, "date": "2026-11-28", "commit": "abc", "load": 0.0, "note": "",
        "benchmarks": {"fake": {"arguments": ["--small"], "figures": figures}},
    }  # fmt: skip


def test_the_page_is_what_the_records_make() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(page.kept()), "stale: python benchmarks/all.py --table"


def test_a_page_has_each_figure_with_its_spread_and_says_that_a_machine_was_busy() -> None:
    busy = kept(**{"a | <b>": figure(2.0, 1.0, 3.0)}) | {"load": 3.0, "note": "by night"}
    text = page.page({"idle": kept(other=figure(4.0)), "busy": busy})
    assert "| a \\| &lt;b> | ms |  | 2 (1 to 3) |" in text
    assert "| other | ms | 4 |  |" in text
    assert "other work ran on this machine. by night |" in text
    assert "`python benchmarks/fake.py --small`" in text


def test_every_benchmark_is_run_and_names_its_machine() -> None:
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "arguments(__doc__)" in path.read_text()}
    assert scripts == everything.SMALL.keys()
    others = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - scripts
    assert others == {"all", "compare", "page", "record", "shard_rivals"}
    for name in scripts:
        assert re.search(rf'finish\(\s*\w+,\s*"{name}",', (ROOT / "benchmarks" / f"{name}.py").read_text()), name


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (figure(10, 20, 10, 20), figure(11, 22.2, 10.9, 22), "worse"),  # of pairs, whatever the load of each
        (figure(10, 20, 10, 20), figure(11, 19, 9.5, 21), "as before"),
        (figure(10, 10.1, 10), figure(10.1, 10.2, 10.1), "as before"),  # certain, but of 1 %
        (figure(10, 10, 10), figure(8, 8.01, 8), "better"),
        (figure(10, 10, 10, better="higher"), figure(8, 8.01, 8, better="higher"), "worse"),
        (figure(10), figure(20), "not known"),
    ],
)
def test_pairs_tell_a_change_from_noise(old: Any, new: Any, verdict: str) -> None:
    assert compare.of_pairs("a", old, new).verdict == verdict


def test_records_tell_a_change_from_their_own_spread() -> None:
    quiet, noisy = figure(10, 10.1, 9.9), figure(6, 10, 16)
    assert compare.of_records("a", quiet, figure(12, 12.1, 11.9)).verdict == "worse"
    assert compare.of_records("a", noisy, figure(12, 12.1, 11.9)).verdict == "as before"
    assert compare.of_records("a", quiet, figure(12)).verdict == "not known"
    assert compare.of_records("a", figure(0.0), quiet) is None
    assert compare.of_pairs("a", figure(-1.0), quiet) is None


def test_a_student_s_interval_is_right() -> None:
    """Ratios of 1.1, 1.0 and 1.21: the mean logarithm is that of 1.1, and t is 9.925 for two degrees of freedom."""
    found = compare.of_pairs("a", figure(1, 1, 1), figure(1.1, 1.0, 1.21))
    assert found.ratio == pytest.approx(1.1)
    assert found.high / found.ratio == pytest.approx(1.1 ** (9.925 / 3**0.5))


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        everything.main(words)
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.json"
    monkeypatch.setattr(everything, "machine", lambda: MACHINE | {"cores": 64})
    path.write_text(json.dumps(kept()))
    assert "another machine or other versions" in (said := refusal(capsys, "--against", str(path)))
    assert "cores: 2 and 64" in said
    for text in ("", "[]", "{}"):
        path.write_text(text)
        assert "no record that can be read" in refusal(capsys, "--against", str(path))
    assert "no record that can be read" in refusal(capsys, "--against", str(tmp_path / "absent.json"))
    assert "neither a record" in refusal(capsys, "--against", "nosuchcommit")
    assert "use at least 1" in refusal(capsys, "--repeats", "0")


def test_a_record_that_lacks_something_is_told_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.json"
    for content, said in (
        ({"a": 1}, "it lacks benchmarks, machine, commit, date; all.py -o FILE writes one"),
        (kept() | {"machine": 3}, "it lacks machine"),
        (kept() | {"benchmarks": {"fake": {"figures": {}}}}, "its benchmark fake lacks arguments"),
        ([], "it is a list, not a table"),
    ):
        path.write_text(json.dumps(content))
        assert said in refusal(capsys, "--against", str(path))


def test_a_record_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(everything, "run", None)
    assert "/proc/x/y.json: cannot be written" in refusal(capsys, "-o", "/proc/x/y.json")
    assert "it is a folder" in refusal(capsys, "-o", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        record.arguments("").parse_args(["-o", "/proc/x/y.json"])
    assert ended.value.code == 2


def test_a_record_that_the_disk_refuses_at_the_end_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="could not be written"):
        record.written(Path("/proc/x/y.json"), {"figure": 12})
    assert json.loads(capsys.readouterr().out) == {"figure": 12}


SCRIPT = """
import json, sys, hmrb
from pathlib import Path
table = {"step": {"unit": "ms", "better": "lower", "values": [hmrb.MS, hmrb.MS]}}
Path(sys.argv[-1]).write_text(json.dumps({"hmrb": str(Path(hmrb.__file__).parent), "figures": table}))
"""


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two trees with a package of one number, and a benchmark in the second."""
    made = []
    for name, ms in (("old", 10.0), ("new", 12.0)):
        tree = tmp_path / name
        (tree / "hmrb").mkdir(parents=True)
        (tree / "hmrb" / "__init__.py").write_text(f"MS = {ms}\n")
        made.append(tree)
    (made[1] / "benchmarks").mkdir()
    (made[1] / "benchmarks" / "fake.py").write_text(SCRIPT)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # a change of the same length and second would not be seen
    monkeypatch.setattr(everything, "ROOT", made[1])
    monkeypatch.setattr(everything, "SMALL", {"fake": everything.Small(("--small",), 2)})
    monkeypatch.setattr(everything, "machine", lambda: MACHINE)
    return made[0], made[1]


def test_two_trees_take_turns(trees: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    old, new = trees
    assert everything.main(["--against", str(old), "--repeats", "2"]) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if "fake: step" in line)
    assert re.search(r"^! fake: step +10 +12 ms +1\.20  1\.20 to 1\.20 +worse$", line), line
    (new / "hmrb" / "__init__.py").write_text("MS = 10.0\n")
    assert everything.main(["--against", str(old), "--repeats", "2"]) == 0


def test_a_commit_gets_a_tree_that_is_removed_again(
    trees: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, new = trees
    monkeypatch.setattr(everything, "git", lambda *words: record.git(*words, tree=new))
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "-q"), ("add", "-A"), (*who, "commit", "-qm", "one")):
        subprocess.run(["git", "-C", str(new), *words], check=True)
    (new / "hmrb" / "__init__.py").write_text("MS = 6.0\n")
    assert everything.main(["--against", "HEAD", "--repeats", "2"]) == 0
    assert "1 better" in capsys.readouterr().out
    assert len(record.git("worktree", "list", tree=new).splitlines()) == 1


def test_a_record_is_compared_with_a_new_run(trees: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(kept(step=figure(8.0, 8.1), gone=figure(1.0))))
    assert everything.main(["--against", str(path)]) == 1
    said = capsys.readouterr().out
    assert "fake: not compared: gone" in said
    assert "1 worse" in said
    old = kept(step=figure(8.0, 8.1))
    old["benchmarks"]["fake"]["arguments"] = ["--large"]
    path.write_text(json.dumps(old))
    assert everything.main(["--against", str(path)]) == 0
    assert "not compared: the record ran it with --large" in capsys.readouterr().out


def test_a_benchmark_that_fails_or_measures_another_package_is_left_out(
    trees: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script, out = trees[1] / "benchmarks" / "fake.py", tmp_path / "new.json"
    for text, why, code in (
        ("import nosuchpackage", "No module named 'nosuchpackage'", 0),
        ("import hmrb.nosuchmodule", "hmrb.nosuchmodule", 1),
        ("raise ValueError('odd')", "ValueError: odd", 1),
        (SCRIPT.replace("str(Path(hmrb.__file__).parent)", "'/elsewhere'"), "it imported /elsewhere", 1),
    ):
        script.write_text(text)
        assert everything.main(["-o", str(out)]) == code
        assert why in capsys.readouterr().out
        assert json.loads(out.read_text())["benchmarks"] == {}
    script.write_text(SCRIPT)
    assert everything.main(["-o", str(out)]) == 0
    assert json.loads(out.read_text())["benchmarks"]["fake"]["figures"]["step"]["values"] == [12.0] * 4


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (0.01234, "0.0123"), (12.345, "12.3"), (1234.5, "1,234")])
def test_a_number_has_three_digits(value: float, text: str) -> None:
    assert record.number(value) == text


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["augment_rate", "convert_rate", "synthetic_rate", "picture_camera"])
def test_a_benchmark_writes_its_record(name: str, tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *everything.SMALL[name].arguments]
    done = subprocess.run([*words, "-o", str(tmp_path / "a.json")], capture_output=True, text=True, check=True)
    assert "machine  " in done.stdout
    found = json.loads((tmp_path / "a.json").read_text())["benchmarks"][name]
    assert found["arguments"] == list(everything.SMALL[name].arguments)
    assert all(one["values"] for one in found["figures"].values())
