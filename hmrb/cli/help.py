"""How `--help` looks: sections by `rich_help_panel`, plain text that can be copied and piped, examples at the end."""

import re
import sys
from typing import Any

import typer

COLUMNS = 100  # of help, where the terminal has them
# typer's names of types, as readers write them.
METAVARS = {
    "<list[str]>": "NAME",
    "<list[Path]>": "PATH",
    "<str>": "NAME",
    "<path>": "PATH",
    "<int range>": "N",
    "<int>": "N",
    "<float range>": "X",
    "<float>": "X",
}


class Verb(typer.core.TyperCommand):
    """A command whose options are listed in sections: the plain ones first, then each panel in turn."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; Ctrl-C ends it with a word, which typer swallows."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("hmrb: interrupted", err=True)
            sys.exit(130)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes a section per panel."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                plain = "Arguments" if param.param_type_name == "argument" else "Options"
                title = getattr(param, "rich_help_panel", None) or plain
                sections.setdefault(title, []).append((_readable(record[0]), record[1]))
        for title, rows in sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the examples of the command, a line each."""
        if lines := EXAMPLES.get(ctx.info_name or ""):
            with formatter.section("Examples"):
                for line in lines:
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class Verbs(typer.core.TyperGroup):
    """The commands, in sections by their panel, each with its first sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes a section per panel."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                title = getattr(command, "rich_help_panel", None) or "Commands"
                sections.setdefault(title, []).append((name, _first_sentence(command.help or "")))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes where to begin."""
        with formatter.section("Begin with"):
            for line in EXAMPLES["hmrb"]:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _readable(option: str) -> str:
    return re.sub(r"<[^>]+>", lambda found: METAVARS.get(found[0], found[0]), option)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.!?])\s", " ".join(text.split()), maxsplit=1)[0]


EXAMPLES: dict[str, tuple[str, ...]] = {
    "hmrb": (
        "hmrb doctor                               what works here, what is missing, what to do next",
        "hmrb predict demo photo.jpg -o out        the model in the package, on a photo",
        "hmrb train quickstart --cpu-procs 2       a first model, in minutes, without a download",
    ),
    "train": (
        "hmrb train quickstart --cpu-procs 2",
        "hmrb train mix9_l1 --gpus 8 -o runs/mine --set optim.lr=1e-4",
        "hmrb train mix9_l1 --gpus 8 -o runs/mine --resume",
        "hmrb train mix9_l1 --dry-run",
        "hmrb train quickstart --seeds 3 --sweep optim.lr=1e-4,3e-4 --track wandb",
    ),
    "eval": (
        "hmrb eval runs/quickstart",
        "hmrb eval runs/quickstart --bench synthetic --by viewpoint --worst 16",
        "hmrb eval --from-predictions theirs.npz --bench 3dpw",
    ),
    "predict": (
        "hmrb predict demo photo.jpg -o out",
        "hmrb predict runs/mine photos/ --detect -o out",
        "hmrb predict runs/mine photo.jpg --box 120,40,200,420 -o out",
    ),
    "doctor": ("hmrb doctor", "hmrb doctor mix9_l1", "hmrb doctor --offline --json"),
    "flops": ("hmrb flops --backbone hrnet_w32", "hmrb flops --all --json"),
    "compare": (
        "hmrb compare runs/a runs/b",
        "hmrb compare runs/a runs/b --band runs/a.seed_1 --band runs/a.seed_2",
        "hmrb compare --band runs/small_study_loss_l1",
    ),
    "report": (
        "hmrb report runs/* --metrics pa_mpjpe mpjpe",
        "hmrb report runs/small/* --against small_baseline --format md -o table.md",
        "hmrb report runs/small_study_augment_* --studies",
    ),
    "plot": (
        "hmrb plot curves runs/a runs/b -o curves.svg",
        "hmrb plot bars runs/* --metric mpjpe -o bars.pdf",
        "hmrb plot column runs/a --by occlusion -o occlusion.svg",
    ),
    "list-specs": ("hmrb list-specs --study backbones", "hmrb list-specs --here"),
    "new": ("hmrb new my_experiment --from mix9_l1",),
    "convert-data": (
        "hmrb convert-data 3dpw --explain",
        "hmrb convert-data 3dpw --raw DIR",
        "hmrb convert-data body --file basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl",
        "hmrb convert-data coco-json --file A.json --images DIR --as mydata",
    ),
    "show": ("hmrb show synthetic_crowd", "hmrb show 3dpw --split test -o 3dpw.png"),
    "verify": ("hmrb verify 3dpw_train",),
    "list-benches": ("hmrb list-benches --here",),
    "list-datasets": ("hmrb list-datasets --with smpl",),
    "list-models": ("hmrb list-models hmr2",),
    "show-augment": ("hmrb show-augment quickstart", "hmrb show-augment quickstart --all -o all.png"),
    "import-checkpoint": ("hmrb import-checkpoint THEIRS.pth -o ours.pt",),
    "export": ("hmrb export runs/mine model.onnx --body",),
}
