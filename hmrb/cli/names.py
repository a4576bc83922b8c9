"""Names from the command line: a line break in one would be a command in a Slurm script."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from hmrb.errors import RequestError


def plain(text: str, what: str) -> str:
    """`text`. Raises RequestError if it has control characters: line breaks, tabs, escape sequences."""
    if any(unicodedata.category(letter) == "Cc" for letter in text):
        raise RequestError(f"{what}: {text[:200]!r} has control characters, such as line breaks; choose another name")
    return text


def png_path(path: Path) -> Path:
    """`path`. Raises RequestError if its suffix is another format's: only PNG is written."""
    if path.suffix.lower() != ".png":
        raise RequestError(f"--out {path}: PNG is the only format; name the file {path.with_suffix('.png')}")
    return path


def check_arguments(words: Sequence[str]) -> None:
    """Raises RequestError if an argument is empty or has control characters, or if --set has no `=`.

    The value of --set may have line breaks, as YAML.
    """
    for before, word, after in zip(("", *words), words, (*words[1:], ""), strict=False):
        if before == "--set" and "=" not in word:
            value = after if after and not after.startswith("-") else "VALUE"
            raise RequestError(f"--set {word}: has no value; write it with =, as --set {word}={value}")
        if not word or (word.startswith("--") and word.endswith("=") and not word.startswith("--set")):
            where = word or before or "the first argument"
            raise RequestError(f"{where}: an empty word is given there; is a variable of the shell not set?")
        if before != "--set" and not word.startswith("--set="):
            plain(word, "argument")
