"""`hmrb` as a command, run inside the test process, and what it left behind."""

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import yaml
from conftest import tiny_tree

from hmrb.cli import main


@dataclass
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def hmrb(*arguments: str, home: Path | None = None, **environment: str) -> Done:
    """The command in this process: its own would import torch for seconds."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, {"HMRB_HOME": str(home or "/nowhere"), "COLUMNS": "100", **environment}),
        mock.patch.object(sys, "argv", ["hmrb", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 0
    return Done(code, out.getvalue(), err.getvalue())


def refused(done: Done, *said: str, code: int = 2) -> None:
    """One message on stderr, the right exit code, no traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for words in said:
        assert words in done.stderr, done.stderr


def spec_file(folder: Path, **changes: object) -> str:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_tree() | changes))
    return str(path)
