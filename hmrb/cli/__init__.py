"""The `hmrb` command: registers the verbs and turns each error into one message and an exit code."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

import typer

from hmrb.cli.compare import compare
from hmrb.cli.convert_data import convert_data
from hmrb.cli.doctor import doctor
from hmrb.cli.eval import eval_
from hmrb.cli.export import export
from hmrb.cli.flops import flops
from hmrb.cli.help import COLUMNS, Verb, Verbs
from hmrb.cli.import_checkpoint import import_checkpoint
from hmrb.cli.list_benches import list_benches
from hmrb.cli.list_datasets import list_datasets
from hmrb.cli.list_models import list_models
from hmrb.cli.list_specs import list_specs
from hmrb.cli.names import check_arguments
from hmrb.cli.needs import message_of
from hmrb.cli.new import new
from hmrb.cli.plot import plot
from hmrb.cli.predict import predict
from hmrb.cli.report import report
from hmrb.cli.show import show
from hmrb.cli.show_augment import show_augment
from hmrb.cli.train import train
from hmrb.cli.verify import verify
from hmrb.errors import RequestError, RunError, own_words
from hmrb.formats.files import refusal

app = typer.Typer(
    name="hmrb",
    help="Train, evaluate and compare human mesh recovery models. Every number states its protocol.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": COLUMNS},
)
VERBS: dict[str, dict[str, Callable[..., None]]] = {
    "Begin": {"doctor": doctor, "predict": predict},
    "Train and evaluate": {"train": train, "eval": eval_, "compare": compare, "report": report, "plot": plot},
    "Specs": {"list-specs": list_specs, "new": new, "show-augment": show_augment, "flops": flops},
    "Data": {
        "list-datasets": list_datasets,
        "convert-data": convert_data,
        "show": show,
        "verify": verify,
        "list-benches": list_benches,
    },
    "Models of others, and for others": {
        "list-models": list_models,
        "import-checkpoint": import_checkpoint,
        "export": export,
    },
}
for panel, verbs in VERBS.items():
    for verb, function in verbs.items():
        app.command(verb, cls=Verb, rich_help_panel=panel)(function)


def _print_version(asked: bool) -> bool:
    if asked:
        typer.echo(f"hmrb {version('hmrb')}")
        raise typer.Exit
    return asked


@app.command("version", hidden=True)
def _version() -> None:
    """Show the version, as --version does."""
    typer.echo(f"hmrb {version('hmrb')}")


@app.callback()
def hmrb(
    asked: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train, evaluate and compare human mesh recovery models. Every number states its protocol."""


def main() -> None:
    """Runs the command. Exit codes: 0 done, 1 the run failed, 2 invalid request, 128 + N stopped by signal N."""
    before = _exit_at_sigterm()
    try:
        check_arguments(sys.argv[1:])
        app()
    except RequestError as error:
        _leave(message_of(error), 2)
    except RunError as error:
        _leave(own_words(error), 1)
    except KeyboardInterrupt:
        _leave("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has exited
        sys.exit(1)
    except OSError as error:
        if error.errno is None:  # a library's own, not the system's
            raise
        _leave(refusal(error), 1)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _exit_at_sigterm() -> Any:
    """Lets SIGTERM end a command as Ctrl-C does, so that its worker processes end too. Returns what SIGTERM did before.

    None if something else handles the signal already. Training replaces it: it writes a checkpoint first.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return None
    own = os.getpid()

    def leave(number: int, _: Any) -> None:
        if os.getpid() == own:
            typer.echo(f"hmrb: stopped by {signal.Signals(number).name}", err=True)
        sys.exit(128 + number)

    return signal.signal(signal.SIGTERM, leave)


def _leave(message: str, code: int) -> None:
    typer.echo(f"hmrb: {message}", err=True)
    sys.exit(code)
