"""The `hmrb` command: registers the verbs and turns each error into one message and an exit code."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from hmrb.cli.compare import compare
from hmrb.cli.convert_data import convert_data
from hmrb.cli.eval import eval_
from hmrb.cli.export import export
from hmrb.cli.flops import flops
from hmrb.cli.import_checkpoint import import_checkpoint
from hmrb.cli.list_benches import list_benches
from hmrb.cli.list_datasets import list_datasets
from hmrb.cli.list_models import list_models
from hmrb.cli.list_specs import list_specs
from hmrb.cli.names import check_arguments
from hmrb.cli.new import new
from hmrb.cli.plot import plot
from hmrb.cli.predict import predict
from hmrb.cli.report import report
from hmrb.cli.show_augment import show_augment
from hmrb.cli.train import train
from hmrb.cli.verify import verify
from hmrb.errors import RequestError, RunError
from hmrb.formats.files import refusal

app = typer.Typer(
    name="hmrb",
    help="Train, evaluate and compare human mesh recovery models. Every number states its protocol.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train)
app.command("eval")(eval_)
app.command()(predict)
app.command()(flops)
app.command()(compare)
app.command()(report)
app.command()(plot)
app.command("list-specs")(list_specs)
app.command()(new)
app.command("convert-data")(convert_data)
app.command()(verify)
app.command("list-benches")(list_benches)
app.command("list-datasets")(list_datasets)
app.command("list-models")(list_models)
app.command("show-augment")(show_augment)
app.command("import-checkpoint")(import_checkpoint)
app.command()(export)


def _print_version(asked: bool) -> bool:
    if asked:
        typer.echo(f"hmrb {version('hmrb')}")
        raise typer.Exit
    return asked


@app.callback()
def hmrb(
    asked: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train, evaluate and compare human mesh recovery models. Every number states its protocol."""


def main() -> None:
    """Runs the command. Exit codes: 0 done, 1 the run failed, 2 invalid request, 128 + N stopped by signal N."""
    try:
        check_arguments(sys.argv[1:])
        app()
    except RequestError as error:
        _leave(str(error), 2)
    except RunError as error:
        _leave(str(error), 1)
    except KeyboardInterrupt:
        _leave("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has exited
        sys.exit(1)
    except OSError as error:
        if error.errno is None:  # a library's own, not the system's
            raise
        _leave(refusal(error), 1)


def _leave(message: str, code: int) -> None:
    typer.echo(f"hmrb: {message}", err=True)
    sys.exit(code)
