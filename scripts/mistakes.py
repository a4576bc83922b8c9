"""Makes the mistakes of people who meet hmrb for the first time, and writes docs/mistakes.md: what hmrb says to each.

Each runs as a command of its own, in an empty folder with an empty store, so its seconds of CPU are those of a user.
`--json` runs those that need no timm in this process instead, for the tests, and prints what each left behind.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "mistakes.md"
HEAD = """# 52 mistakes and what hmrb says

What people type who meet `hmrb` for the first time, in an empty folder with an empty store and without a network.
The exit code is 2 for a wrong request, and nothing is left behind. The seconds are of CPU, on one core of a virtual
machine; a request is refused before torch is imported, which takes seconds, unless the column `torch` says why not.
`python scripts/mistakes.py` writes this page.

| command | exit | says | CPU s | torch |
| --- | ---: | --- | ---: | --- |
"""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A command, its exit code, words of its message, and why it needs torch ("" if it does not)."""

    words: str
    said: str
    code: int = 2
    torch: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command left behind. `has_torch`: whether torch was imported."""

    code: int
    text: str
    seconds: float
    has_torch: bool


MACHINE, TIMM, CHECKPOINT = "counts GPUs", "asks timm for its models", "reads the checkpoint"
MISTAKES = (
    Mistake("train quikstart", "nearest names: quickstart"),
    Mistake("train specs/quickstart.yml", "no such file, and no spec of hmrb has this name"),
    Mistake("train notes.txt", "notes.txt: a spec must be a table of fields"),
    Mistake("train mix9_l1", "mix9_l1 needs 15 things that are not here"),
    Mistake("train mix9_l1 --dry-run", "mix9_l1 needs 16 things that are not here", 0),
    Mistake("train quickstart --set optim.epoch=3", "did you mean 'epochs'"),
    Mistake("train quickstart --set optim.batch 32", "--set optim.batch=32"),
    Mistake("train quickstart --set optim.lr=fast", "optim.lr"),
    Mistake("train quickstart --set data.mix={sintetic:|1.0}", "Did you mean 'synthetic'"),
    Mistake("train quickstart --set model.backbone=resnet500", "no backbone named 'resnet500'", torch=TIMM),
    Mistake("train quickstart quickstart", "2 of the specs are named 'quickstart'"),
    Mistake("train quickstart --gpus 8", "--gpus 8: this machine has none", torch=MACHINE),
    Mistake("train quickstart --slurm", "--slurm: set --gpus N"),
    Mistake("train quickstart --slurm --gpus 8", "srun not found"),
    Mistake("train quickstart --nodes 2", "set --rdzv HOST:PORT", torch=MACHINE),
    Mistake("train", "Missing argument"),
    Mistake("trian quickstart", "No such command 'trian'"),
    Mistake("version", "hmrb 0.", 0),
    Mistake("eval", "which checkpoint?"),
    Mistake("eval runs/b", "runs/b: no such checkpoint"),
    Mistake("eval runs/a runs/b --bench study", "runs/b: no such checkpoint or run"),
    Mistake("eval dmo --bench synthetic", "Did you mean 'demo'"),
    Mistake("eval demo --bench sintetic", "Did you mean 'synthetic'"),
    Mistake("eval demo --bench 3dpw", "shard 3dpw_test", torch=CHECKPOINT),
    Mistake("eval demo --bench synthetic --metrics pa-mpje", "Did you mean 'pa_mpjpe'"),
    Mistake("eval --explain 3dpv", "Did you mean '3dpw'"),
    Mistake("eval --from-predictions gone.npz --bench 3dpw", "gone.npz: predictions: no such file"),
    Mistake("eval --template 3dpw", "shard 3dpw_test"),
    Mistake("predict demo gone.jpg -o out", "gone.jpg: no such file or folder"),
    Mistake("predict gone.pt notes.txt -o out", "gone.pt: no such checkpoint"),
    Mistake("report gone", "gone: not a readable hmrb result"),
    Mistake("compare gone gone", "gone: not a readable hmrb result"),
    Mistake("convert-data", "which dataset?"),
    Mistake("convert-data 3DPW", "3dpw: set --raw DIR"),
    Mistake("convert-data mycoco", "no dataset named 'mycoco'"),
    Mistake("convert-data coco --raw gone", "gone: no such folder"),
    Mistake("convert-data synthetic --people 10k", "Invalid value for '--people'"),
    Mistake("convert-data synthetic --preset hard", "no preset named 'hard'"),
    Mistake("convert-data body", "which body?"),
    Mistake("convert-data body --file gone.pkl", "gone.pkl: no such file"),
    Mistake("verify 3dpw_trian", "3dpw_trian"),
    Mistake("list-specs --study backbone", "Did you mean 'backbones'"),
    Mistake("list-datasets --with smpll", "Did you mean 'smpl'"),
    Mistake("list-models nobody", "no published model has 'nobody'"),
    Mistake("show-augment quikstart", "nearest names: quickstart"),
    Mistake("show-augment", "which spec?"),
    Mistake("flops", "give exactly one of"),
    Mistake("flops --backbone resnet500", "no backbone named 'resnet500'", torch=TIMM),
    Mistake("import-checkpoint gone.pth -o ours.pt", "gone.pth: no such file"),
    Mistake("export runs/none model.onnx", "runs/none: no such checkpoint"),
    Mistake("new my|experiment", "my experiment.yaml: name"),
    Mistake("doctor quikstart", "nearest names: quickstart"),
)


def words_of(mistake: Mistake) -> list[str]:
    """The arguments; `|` is a blank within one."""
    return [word.replace("|", " ") for word in mistake.words.split()]


@contextlib.contextmanager
def empty_place() -> Iterator[Path]:
    """An empty folder to stand in, with an empty store and no network."""
    before, there = Path.cwd(), dict(os.environ)
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "notes.txt").write_text("Dear diary\n")
        os.environ |= {
            "HMRB_HOME": f"{name}/store", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": f"{name}/hub",
            "COLUMNS": "100", "CUDA_VISIBLE_DEVICES": "", "PATH": str(Path(sys.executable).parent),
        }  # fmt: skip
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)
            os.environ.clear()
            os.environ.update(there)


def made_here(mistake: Mistake) -> Answer:
    """A mistake in this process."""
    from unittest import mock

    from hmrb.cli import main

    out = io.StringIO()
    start = os.times()
    with (
        mock.patch.object(sys, "argv", ["hmrb", *words_of(mistake)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
    ):
        try:
            main()
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 0
    end = os.times()
    return Answer(code, out.getvalue(), end.user + end.system - start.user - start.system, "torch" in sys.modules)


def made_alone(mistake: Mistake) -> Answer:
    """A mistake as a command of its own."""
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "hmrb", *words_of(mistake)], capture_output=True, text=True)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime
    return Answer(done.returncode, done.stdout + done.stderr, seconds, bool(mistake.torch))


def row_of(mistake: Mistake, answer: Answer, place: Path) -> str:
    """A line of the page: the message's first line with the expected words, without this machine's folders."""
    lines = answer.text.replace(f"{place}/", "").replace(f"{ROOT}/", "").splitlines()
    said = next((line for line in lines if mistake.said in line), mistake.said).strip().removeprefix("hmrb: ")
    short = said if len(said) <= 110 else f"{said[:107].rsplit(' ', 1)[0]} ..."
    command = " ".join(["hmrb", *(f"'{word}'" if " " in word else word for word in words_of(mistake))])
    text = short.replace("|", "\\|").replace("<", "&lt;")
    return f"| `{command}` | {answer.code} | {text} | {answer.seconds:.1f} | {mistake.torch} |"


def main() -> None:
    """Writes the page, or prints what the tests look at."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="run in this process and print the answers")
    as_json = parser.parse_args().json
    with empty_place() as place:
        quick_first = sorted(MISTAKES, key=lambda mistake: bool(mistake.torch))  # torch stays imported
        made = [mistake for mistake in quick_first if not as_json or mistake.torch != TIMM]  # seconds each
        answers = {mistake: (made_here if as_json else made_alone)(mistake) for mistake in made}
        left = sorted(path.name for path in place.iterdir())
    if as_json:
        found = [
            (mistake.words, *[getattr(answer, key) for key in Answer.__slots__]) for mistake, answer in answers.items()
        ]
        print(json.dumps({"answers": found, "left": left}))
        return
    PAGE.write_text(HEAD + "\n".join(row_of(mistake, answers[mistake], place) for mistake in MISTAKES) + "\n")
    for mistake, answer in answers.items():
        if mistake.said not in answer.text or answer.code != mistake.code:
            print(f"{mistake.words}: {answer.code}: {answer.text}", file=sys.stderr)


if __name__ == "__main__":
    main()
