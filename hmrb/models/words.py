"""Whether a word can mean a checkpoint, known before torch is imported."""

from pathlib import Path

from hmrb.errors import RequestError
from hmrb.models.demo import DEMO_NAME
from hmrb.models.zoo import SUFFIXES, find_row, near


def check_word(word: str | Path) -> None:
    """Raises RequestError unless the word is a path that exists, `demo`, or a name of the model zoo."""
    path = Path(word).expanduser()
    if path.exists() or path == Path(DEMO_NAME) or find_row(str(word)):
        return
    if path.suffix in SUFFIXES or path.parent != Path():
        raise RequestError(f"{path}: no such checkpoint")
    raise RequestError(
        f"no model '{word}': neither a run, nor a file, nor a name of the model zoo.{near(str(word))}"
        " hmrb list-models lists the names"
    )
