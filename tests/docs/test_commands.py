"""Every hmrb command that README.md, CONTRIBUTING.md, docs, examples and specs show can be parsed as it stands."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from hmrb.cli import app

ROOT = Path(__file__).parents[2]
FILES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md"), *ROOT.glob("specs/**/*.yaml")]
MISTAKES = ROOT / "docs" / "mistakes.md"  # whose commands are wrong
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(FILES) if path != MISTAKES
}
PART = ("MissingParameter", "BadOptionUsage", "BadParameter")  # of a command in prose: without its values
GROUP: Any = typer.main.get_command(app)


def shown(text: str) -> Iterator[tuple[str, bool]]:
    """The commands of a page, and whether each is complete: in a block, not within a sentence."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.S | re.M):
        for line in block.replace("\\\n", " ").splitlines() if language in ("bash", "sh") else []:
            for part in re.split(r"&&|\|\||;", re.sub(r"(^|\s)#.*", "", line)):
                if match := re.match(r"\s*(?:[A-Z_]+=\S+ )*hmrb (.*)", part):
                    yield _alone(match[1]), True
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    for words in re.findall(r"`hmrb ([^`]+)`", prose, re.S):
        yield _alone(" ".join(words.split())), False
    for words in re.findall(r"^# hmrb (train .*)$", text, re.M):
        yield words, True


def _alone(words: str) -> str:
    """A command without what the shell does with its output."""
    return re.sub(r"\s>+\s.*", "", words).strip()


def problem(words: str, is_complete: bool) -> str:
    """Why a command is refused before it begins; empty if it is not."""
    verb, *rest = shlex.split(words)
    if verb not in GROUP.commands:
        return "" if verb.startswith("-") or verb in ("VERB", "NAME") else f"no verb {verb}"
    try:
        GROUP.commands[verb].make_context(verb, rest, resilient_parsing=False)
    except typer.Exit:
        return ""  # --help
    except Exception as error:  # Click's own, which typer has a copy of
        if type(error).__name__ in PART and not is_complete:
            return ""
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize("name", TEXTS)
def test_the_commands_of_a_page_parse(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {words: said for words, is_complete in shown(TEXTS[name]) if (said := problem(words, is_complete))}
    assert wrong == {}


def test_commands_are_found_and_wrong_ones_refused(capsys: pytest.CaptureFixture[str]) -> None:
    block = "hmrb fly\nA=1 hmrb train a.yaml --gups 1  # one\ncd x && hmrb eval a > b"
    text = f"Say `hmrb train\n--dry-run`.\n```bash\n{block}\n```\n"
    found = dict(shown(text))
    assert found == {"fly": True, "train a.yaml --gups 1": True, "eval a": True, "train --dry-run": False}
    assert [bool(problem(words, whole)) for words, whole in found.items()] == [True, True, False, False]
    assert sum(len(list(shown(text))) for text in TEXTS.values()) > 300
