"""Progress bar: items done, rate, time left. Without a terminal it prints a line every 10 %."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from hmrb.data.convert.conversion import ProgressReporter
    from hmrb.data.convert.people import Tally


@contextmanager
def progress_bar(
    what: str = "items", accounts: dict[str, dict[str, Any]] | None = None
) -> "Iterator[tuple[Console, ProgressReporter]]":
    """Yields a console to print on and a reporter to call for each item. `accounts` gets those of shards, by file."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from hmrb.data.convert.conversion import ProgressReporter

    console = Console(markup=False)
    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
    ]

    class Bar(ProgressReporter):
        def part(self, path: Path, items: int) -> None:
            progress.add_task(path.name, total=items, rate="")

        def done(self, item: object) -> None:
            task = progress.tasks[-1]
            # The average since the start: items come in blocks.
            speed = (task.completed + 1) / max(task.elapsed or 0.0, 1e-3)
            progress.update(task.id, advance=1, rate=f"{_rate(speed)} {what}/s, left")
            if not console.is_terminal and task.total and task.completed % max(task.total // 10, 1) == 0:
                left = f", {(task.total - task.completed) / speed:.0f} s left" if task.completed < task.total else ""
                console.print(
                    f"{task.description}: {task.completed:.0f} of {task.total:.0f}, {_rate(speed)} {what}/s{left}",
                    highlight=False,
                )

        def account(self, tally: "Tally", missing: Sequence[str], changed: Mapping[str, int] = {}) -> None:
            super().account(tally, missing, changed)
            counts = {"left_out": tally.left_out, "doubtful": tally.doubtful, "changed": changed}
            told = {key: dict(count) for key, count in counts.items()} | {"missing": list(missing)}
            if accounts is not None:
                accounts[progress.tasks[-1].description] = told

        def say(self, line: str) -> None:
            console.print(line, soft_wrap=True, highlight=False)

    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield console, Bar()


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Says on stderr what a silent time is for: a moving line on a terminal, else one plain line."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, markup=False)
    if not console.is_terminal:
        console.print(f"{what} ...", soft_wrap=True, highlight=False)  # no message: those begin with hmrb
        yield
        return
    with console.status(Text(what)):
        yield


def _rate(speed: float) -> str:
    return f"{speed:.0f}" if speed >= 10 else f"{speed:.1f}"
