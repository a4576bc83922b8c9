"""Names that would be commands, markup or formulas."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import hmrb, refused, spec_file

import hmrb as package
from hmrb.cli.launch import Processes
from hmrb.cli.many import Command
from hmrb.cli.slurm import request, submit
from hmrb.errors import RequestError

LINE = "a\ntouch X\n#"


@pytest.mark.parametrize("sbatch", [f"account={LINE}", f"{LINE}=1", "comment=a\tb", "comment=a\x1b[2Jb"])
def test_an_sbatch_value_of_several_lines_is_refused(sbatch: str) -> None:
    with pytest.raises(RequestError, match="has control characters, such as line breaks"):
        request(Processes(1, False), 0, None, "60", [sbatch], 1)
    with pytest.raises(RequestError, match="--partition: .* has control characters"):
        request(Processes(1, False), 0, LINE, "60", [], 1)


def test_a_run_s_folder_of_several_lines_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    srun = tmp_path / "srun"
    srun.write_text("#!/bin/sh")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    asked = request(Processes(1, False), 0, None, "60", [], 1)
    for name, log in ((LINE, tmp_path / "log"), ("a", tmp_path / LINE / "log")):
        with pytest.raises(RequestError, match="the name of a folder or a run: .* has control characters"):
            submit([Command(name, (), log)], asked, tmp_path, follow=False)


def test_arguments_of_several_lines_are_refused(tmp_path: Path) -> None:
    refused(hmrb("eval", f"{tmp_path}/{LINE}", "--slurm"), "argument: ", "has control characters, such as line breaks")
    refused(hmrb("train", spec_file(tmp_path), f"--out={tmp_path}/{LINE}"), "has control characters")
    assert not (tmp_path / "X").exists()


def test_every_console_prints_text_as_text() -> None:
    """A name such as `[red]` is no markup: rich would leave it out, and `[/]` would end in a traceback."""
    consoles = [
        call
        for path in Path(package.__path__[0]).rglob("*.py")
        for call in re.findall(r"\b(?:Console|TextColumn)\(.*\)$", path.read_text(), re.M)
    ]
    assert len(consoles) > 10
    assert [call for call in consoles if "markup=False" not in call] == []


@pytest.mark.parametrize("words", [("eval", ""), ("train", "quickstart", "-o", ""), ("predict", "demo", "--out=")])
def test_an_empty_word_is_refused(words: tuple[str, ...]) -> None:
    refused(hmrb(*words), "an empty word is given there; is a variable of the shell not set?")


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGINT, "hmrb: interrupted"), (signal.SIGTERM, "hmrb: stopped by SIGTERM")]
)
def test_a_command_that_is_stopped_says_so(number: int, said: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")  # it waits for a writer
    words = [
        sys.executable,
        "-c",
        "import hmrb.cli; hmrb.cli.main()",
        "predict",
        "demo",
        tmp_path / "a.json",
        "-o",
        "x",
    ]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        with open(tmp_path / "a.json", "w", encoding="utf-8"):  # opens when it reads
            process.send_signal(number)
            _, shown = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert shown.strip() == said
