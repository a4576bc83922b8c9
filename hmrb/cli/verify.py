"""hmrb verify: checks shards for errors."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.status import Status


def verify(
    shards: Annotated[
        list[str], typer.Argument(help="Shards: files, or names in the store, e.g. 3dpw_train.", show_default=False)
    ],
    json_: Annotated[bool, typer.Option("--json", help="Print only the verdicts, as JSON.")] = False,
) -> None:
    """Check shards for errors. Checks counts, checksums, pictures, boxes and labels. Exit code 1 if a check fails."""
    import json

    from rich.console import Console
    from rich.text import Text

    from hmrb.data.convert.own import find_shard
    from hmrb.store import Store

    store, console = Store.default(), Console(stderr=json_, markup=False)
    found = [find_shard(name, store) for name in shards]

    from hmrb.data.convert.contact_sheet import contact_sheet
    from hmrb.data.convert.verify import record
    from hmrb.data.convert.verify import verify as check_shard
    from hmrb.data.sources import CONVERTERS
    from hmrb.errors import RunError

    records = []
    for shard in found:
        source = CONVERTERS.get(shard.info.dataset)
        known = source.known.get(shard.info.split) if source else None
        with console.status(Text(shard.path.name)) as status:
            tell = partial(_show_check, status, shard.path.name)
            checks = check_shard(shard, store, known, tell, source.study_fails if source else ())
        records.append(record(shard, checks))
        if json_:
            continue
        title = f"{shard.place}: {shard.info.num_people} people, sha {shard.info.sha}"
        console.print(title, highlight=False, soft_wrap=True)
        colours = {"ok": "green", "wrong": "bold red", "skipped": "dim"}
        for check in checks:
            console.print("  ", Text(f"{check.verdict:8}", colours[check.verdict]), f" {check.name:18}", sep="", end="")
            console.print(check.detail, markup=False, highlight=False, soft_wrap=True)
        if shard.arrays["jpeg/offset"][-1]:
            try:
                line = f"contact sheet: {contact_sheet(Path(shard.path))}"
            except RunError as error:  # a store that is only readable; the verdicts stand
                line = f"no contact sheet: {error}"
            console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
    if json_:
        typer.echo(json.dumps(records, indent=1))
    if bad := [entry["shard"] for entry in records if not entry["ok"]]:
        raise RunError(f"checks failed for {', '.join(bad)}")


def _show_check(status: "Status", shard: str, check: str) -> None:
    status.update(f"{shard}: {check}")
