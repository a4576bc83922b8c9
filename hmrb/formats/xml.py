"""Read small XML files safely."""

from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

from hmrb.errors import RequestError, RunError

MAX_BYTES = 16 << 20  # the files that converters read are far smaller


class _NoDoctype(ElementTree.TreeBuilder):
    """Rejects a DOCTYPE: only a DOCTYPE can declare entities, whose expansion can exhaust memory."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise ValueError("it has a DOCTYPE")


def read_xml(path: Path) -> ElementTree.Element:
    """Parse a file and return its root element.

    Raises RequestError if the file is missing, RunError if it is malformed, larger than MAX_BYTES or has a DOCTYPE.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES} bytes")
        return ElementTree.fromstring(data, ElementTree.XMLParser(target=_NoDoctype()))
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file") from None
    except OSError as error:
        reason = error.strerror or str(error)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        reason = str(error)
    raise RunError(f"{path}: cannot be read as XML: {reason}")
