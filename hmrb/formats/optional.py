"""Optional modules: readers of rare raw files and of Parquet, export."""

from importlib import import_module
from types import ModuleType

from hmrb.errors import RequestError

SAFE_ARROW = 15  # CVE-2023-47248 is mended in 14.0.1


def needed(module: str, install: str = "'hmrb[convert]'", purpose: str = "to read these files") -> ModuleType:
    """Import an optional module. Raises RequestError with the install command if it is missing."""
    try:
        return import_module(module)
    except ImportError:
        raise RequestError(f"{module} is required {purpose} but is not installed; run: pip install {install}") from None


def parquet_reader(instead: str) -> ModuleType:
    """Import pyarrow.parquet. Raises RequestError with what to do `instead` of installing it, also if it is too old."""
    install = f"'hmrb[parquet]', or {instead}"
    arrow = needed("pyarrow", install, "for Parquet")
    if int(arrow.__version__.partition(".")[0]) < SAFE_ARROW:
        raise RequestError(
            f"pyarrow {arrow.__version__} can run code of the files it reads (CVE-2023-47248); run: pip install -U"
            f" {install}"
        )
    return needed("pyarrow.parquet", install, "for Parquet")
