"""What a terminal shows: help in sections, uncut names, one name for one option, and what is missing as a table."""

import json
import re
import sys
from pathlib import Path

import pytest
import typer
from command import hmrb, refused

from hmrb.cli import app
from hmrb.cli.help import EXAMPLES
from hmrb.cli.lines import for_terminal, wrapped
from hmrb.cli.needs import message_of, table_of
from hmrb.cli.progress import waiting
from hmrb.cli.shipped import shipped_specs
from hmrb.errors import Need, RequestError
from hmrb.evaluation.protocols import ROWS
from hmrb.store import Store

RESULT = str(Path(__file__).parents[2] / "docs" / "results" / "quickstart")
VERBS = sorted(command.name for command in app.registered_commands if command.name and not command.hidden)
NEEDS = [
    Need("SMPL male", "hmrb convert-data body --file FILE", "https://smpl.is.tue.mpg.de"),
    Need("shard 3dpw_test", "hmrb convert-data 3dpw --raw DIR", "https://virtualhumans.mpi-inf.mpg.de/3DPW/"),
    Need("shard 3dpw_val", "hmrb convert-data 3dpw --raw DIR", "https://virtualhumans.mpi-inf.mpg.de/3DPW/"),
    Need("shard mine_train", "hmrb convert-data coco-json --file FILE --images DIR --as mine"),
    Need("ImageNet weights of resnet50", "put x.safetensors in /y", "https://hub/x", is_automatic=True),
]


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_as_wide_as_the_terminal_and_at_most_100(verb: str) -> None:
    for columns in (60, 200):
        lines = hmrb(verb, "--help", COLUMNS=str(columns)).stdout.partition("Examples:")[0].splitlines()
        assert max(map(len, lines)) <= min(columns, 100)


@pytest.mark.parametrize("verb", ["train", "eval", "predict", "convert-data"])
def test_slurm_has_a_section_of_its_own(verb: str) -> None:
    said = hmrb(verb, "--help").stdout
    plain, slurm = said.partition("\nSlurm:\n")[::2]
    assert "--partition" in slurm
    assert not {"--slurm", "--sbatch", "--follow", "--partition"} & set(re.findall(r"^  (--[\w-]+)", plain, re.M))


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_examples_whose_options_exist(verb: str) -> None:
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    known = {name for param in command.params for name in param.opts}
    assert EXAMPLES[verb]
    for line in EXAMPLES[verb]:
        assert line.startswith(f"hmrb {verb}")
        assert line in hmrb(verb, "--help").stdout
        assert set(re.findall(r"(?<= )--?[a-z][\w-]*", line)) <= known, line


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_lists_cut_no_name_at_80_columns() -> None:
    said = plain(hmrb("list-specs", FORCE_COLOR="1", COLUMNS="80").stdout)
    assert {f"{name}.yaml" for name in shipped_specs()} <= set(said.split())
    assert "A terminal of 130 columns" in said
    said = plain(hmrb("list-benches", FORCE_COLOR="1", COLUMNS="80").stdout)
    assert {row.name for row in ROWS} <= set(said.split())


def test_specs_that_can_run_here(tmp_path: Path) -> None:
    rows = json.loads(hmrb("list-specs", "--here", "--json", home=tmp_path).stdout)
    assert {"quickstart.yaml", "demo.yaml", "small/baseline.yaml"} <= {row["path"] for row in rows}
    assert {row["study"] for row in rows} == {"methods", "mixes", "small", "small_study"}


def test_metrics_of_a_report_are_named_as_in_eval() -> None:
    new, old = (hmrb("report", RESULT, *words, "--json") for words in (
        ("--metrics", "mpjpe", "pa-mpjpe"), ("--metric", "mpjpe", "--metric", "pa_mpjpe"),
    ))  # fmt: skip
    assert new.returncode == 0, new.stderr
    assert (
        new.stdout == old.stdout == hmrb("report", RESULT, "--metrics", "mpjpe", "pa-mpjpe", "--format", "json").stdout
    )
    assert len(json.loads(new.stdout)) == 2
    assert len(json.loads(hmrb("compare", RESULT, RESULT, "--metrics", "mpjpe", "--json").stdout)) == 1
    refused(hmrb("compare", RESULT, RESULT, "--metrics", "mpjpee"), "Did you mean 'mpjpe'")


def test_a_report_is_written_to_a_file_in_the_format_of_its_suffix(tmp_path: Path) -> None:
    for suffix, start in ((".md", "synthetic-test/"), (".csv", "study,protocol"), (".html", "<"), (".json", "[")):
        done = hmrb("report", RESULT, "-o", str(tmp_path / f"table{suffix}"))
        assert done.stdout == f"{tmp_path / f'table{suffix}'}: written\n", done.stderr
        assert (tmp_path / f"table{suffix}").read_text().startswith(start)
    refused(
        hmrb("report", RESULT, "-o", "table.pdf"), "no format has this suffix; known: .md, .csv, .html, .tex, .json"
    )


def test_set_without_a_value_is_told_how_to_write_it() -> None:
    refused(hmrb("train", "quickstart", "--set", "optim.batch", "32"), "as --set optim.batch=32")
    refused(hmrb("train", "quickstart", "--set", "optim.batch", "--dry-run"), "as --set optim.batch=VALUE")


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 118])
def test_the_table_of_what_is_missing_breaks_no_word(columns: int) -> None:
    lines = table_of(NEEDS, columns)
    words = {word for line in lines for word in line.split()}
    for need in NEEDS:
        assert set(need.command.split()) | set(need.page.split()) <= words
    assert "3dpw_test," in words  # with 3dpw_val, whose command is the same
    widest = max(len(word) for need in NEEDS for word in (need.page, *need.command.split()))
    assert max(map(len, lines)) <= max(columns, 30 + widest)


def test_a_message_is_a_headline_a_table_what_else_is_wrong_and_the_next_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    said = message_of(RequestError("all in lines", NEEDS, subject="tiny", about="tiny.yaml", problems=["and this"]))
    first, _, head, *rows, _, more, last = said.splitlines()
    assert first == "tiny needs 5 things that are not here:"
    assert head.split() == ["what", "command", "page"]
    assert len(rows) >= 4
    assert (more, last) == ("More: hmrb doctor tiny.yaml", "and this")
    assert message_of(RequestError("all in lines")) == "all in lines"


def test_long_lines_are_wrapped_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "truth:  " + "word " * 40
    assert for_terminal(text, 8) == text
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    first, second, *_ = for_terminal(text, 8).splitlines()
    assert len(first) <= 40
    assert second.startswith(" " * 8 + "word")
    assert wrapped("", 40) == [""]


def test_a_silent_time_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    with waiting("importing x.pth"):
        assert capsys.readouterr().err == "importing x.pth ...\n"


def test_dry_run_says_what_is_not_here_and_prints_a_plain_spec(tiny_store: Store, tmp_path: Path) -> None:
    done = hmrb("train", "mix9_l1", "--dry-run", home=tmp_path / "empty")
    assert done.returncode == 0
    assert done.stdout.startswith("name: mix9_l1")
    assert "mix9_l1 needs 16 things that are not here:" in done.stderr
    assert "put resnet50.tv_in1k.safetensors in" in done.stderr
    assert hmrb("train", "quickstart", "--dry-run", home=tiny_store.root).stderr == ""
