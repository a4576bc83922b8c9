"""One word, one thing: what readers may rely on when they look for a name."""

import ast
from collections import Counter
from pathlib import Path

import hmrb

FILES = sorted(Path(hmrb.__file__).parent.rglob("*.py"))


def test_no_two_classes_have_one_name() -> None:
    names = Counter(
        node.name for path in FILES for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    )  # fmt: skip
    assert len(names) > 100
    assert [name for name, count in names.items() if count > 1] == []
