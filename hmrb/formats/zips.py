"""Check the zip files that torch writes before torch reads them: it believes sizes and ignores checksums."""

import lzma
import struct
import zipfile
import zlib
from pathlib import Path

from hmrb.formats.files import ZIP, system_error, what_it_is

_BROKEN = (
    OSError, ValueError, RuntimeError, EOFError, KeyError, IndexError, OverflowError, MemoryError, AttributeError,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
)  # fmt: skip
ENCRYPTED = 1  # bit of a member's flags


def zip_problem(path: Path, with_checksums: bool = True) -> str:
    """What is wrong with a zip file of uncompressed members, as torch writes it; empty if it is whole.

    Compressed members are refused before they are unpacked: they could expand to any size. Raises OSError if the file
    cannot be accessed.
    """
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as parts:
            members = parts.infolist()
            if any(member.flag_bits & ENCRYPTED for member in members):
                return "it is encrypted"
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                return "it is compressed, which torch never writes; unpack it, then pass its content"
            if sum(member.file_size for member in members) > size:
                return f"its members claim more than the {size:,} bytes of the file"
            return "its checksums do not match" if with_checksums and parts.testzip() is not None else ""
    except _BROKEN as error:
        if found := system_error(error):  # which zipfile hides behind an error of its own
            raise found from None
        kind = what_it_is(path)
        return f"it is {kind}" if kind and kind != ZIP else "it is truncated, or no zip file"
