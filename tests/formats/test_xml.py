"""XML files: plain ones are parsed; those with a DOCTYPE and unreadable ones are rejected."""

from pathlib import Path

import pytest

from hmrb.errors import RequestError, RunError
from hmrb.formats import xml
from hmrb.formats.xml import read_xml

BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><a>&y;</a>'


def test_a_file_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes('<?xml version="1.0" encoding="latin1"?><a><b>\xe9</b><b>2</b></a>'.encode("latin1"))
    root = read_xml(path)
    assert (root.tag, [child.text for child in root.iter("b")]) == ("a", ["\xe9", "2"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (BOMB, "it has a DOCTYPE"),
        ("<!DOCTYPE a><a/>", "it has a DOCTYPE"),
        ("<a><b>", "no element found"),
        ("", "no element found"),
        ("not XML", "syntax error"),
        ('<?xml version="1.0" encoding="no-such-encoding"?><a/>', "unknown encoding"),
        (f"<a>{' ' * 100}</a>", "it is larger than 99 bytes"),
        (None, "no such file"),
    ],
)
def test_other_files_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, reason: str
) -> None:
    monkeypatch.setattr(xml, "MAX_BYTES", 99)
    path = tmp_path / "a.xml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RunError if content is not None else RequestError) as refusal:
        read_xml(path)
    said = "" if content is None else "cannot be read as XML: "
    assert str(refusal.value).startswith(f"{path}: {said}{reason}")
