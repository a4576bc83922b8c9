"""Lines that fit a terminal and break between words only."""

import shutil
import sys
import textwrap

WIDEST, WITHOUT_TERMINAL = 120, 100
NARROWEST = 24  # columns of a wrapped text


def width() -> int:
    """Columns of the terminal, at most WIDEST; without a terminal WITHOUT_TERMINAL."""
    return min(shutil.get_terminal_size((WITHOUT_TERMINAL, 24)).columns, WIDEST)


def wrapped(text: str, columns: int, indent: str = "") -> list[str]:
    """`text` in lines that break between words only; the second and later lines begin with `indent`."""
    found = textwrap.wrap(
        text,
        max(columns, NARROWEST),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return found or [""]


def for_terminal(text: str, indent: int) -> str:
    """A line as it is printed: wrapped with a hanging indent on a terminal, unchanged in a pipe."""
    return "\n".join(wrapped(text, width(), " " * indent)) if sys.stdout.isatty() else text
