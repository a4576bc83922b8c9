"""Prints what is missing: a headline, a table of what, command and page, and the command that says more."""

from collections.abc import Sequence
from itertools import zip_longest

from hmrb.cli.lines import width, wrapped
from hmrb.errors import Need, RequestError, RunError

WIDEST_WHAT, NARROW_COMMAND = 28, 24  # columns
TITLES = ("what", "command", "page")


def message_of(error: RequestError | RunError) -> str:
    """What the command line prints of an error: a table if it is about missing files."""
    if isinstance(error, RunError) or not error.needs:
        return str(error)
    return "\n".join([needs_text(error.needs, error.subject, more(error.about)), *error.problems])


def more(about: str) -> str:
    """The last line of a message about missing files."""
    return f"More: hmrb doctor {about}".rstrip()


def needs_text(needs: Sequence[Need], subject: str, last: str) -> str:
    """The headline, the table and a last line with the next command."""
    count = "1 thing that is" if len(needs) == 1 else f"{len(needs)} things that are"
    verb = "need" if subject.endswith(" specs") else "needs"
    table = "\n".join(f"  {line}".rstrip() for line in table_of(needs, width() - 2))
    return f"{subject} {verb} {count} not here:\n\n{table}\n\n{last}"


def table_of(needs: Sequence[Need], columns: int) -> list[str]:
    """The lines of the table; what one command makes is one row. Words are never broken.

    Where three columns have no room, a row's page is below its command.
    """
    merged: dict[tuple[str, str], list[str]] = {}
    for need in needs:
        merged.setdefault((_command(need), need.page), []).append(need.what)
    rows = [(_together(whats), command, page) for (command, page), whats in merged.items()]
    whats = min(max(len(row[0]) for row in rows), WIDEST_WHAT)
    commands, pages = (max(len(cells[i]) for cells in [TITLES, *rows]) for i in (1, 2))
    is_wide = columns - whats - pages - 4 >= min(NARROW_COMMAND, commands)
    commands = min(commands, columns - whats - 2 - (pages + 2 if is_wide else 0))
    lines = []
    for what, command, page in [TITLES, *rows] if is_wide else rows:
        cells = [wrapped(what, whats), wrapped(command, commands), [page]]
        if not is_wide:
            cells = [cells[0], [*cells[1], *cells.pop()]]
        for parts in zip_longest(*cells, fillvalue=""):
            lines.append("  ".join(f"{part:<{size}}" for part, size in zip(parts, (whats, commands, 0), strict=False)))
    return [line.rstrip() for line in lines if line.strip()]


def _together(whats: Sequence[str]) -> str:
    """`shards 3dpw_test, 3dpw_val`, or the things one after another."""
    if len(whats) > 1 and all(what.startswith("shard ") for what in whats):
        return f"shards {', '.join(what.removeprefix('shard ') for what in whats)}"
    return ", ".join(whats)


def _command(need: Need) -> str:
    return f"{need.command} (hmrb does it on first use)" if need.is_automatic else need.command
