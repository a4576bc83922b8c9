"""Parts of a prediction: a file per block of pictures, and everybody's file that they are joined to."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hmrb.errors import RunError
from hmrb.formats.files import reason
from hmrb.formats.hdf5 import read_arrays
from hmrb.formats.optional import needed, parquet_reader
from hmrb.formats.writing import hdf5_file, replacing
from hmrb.predict.account import Account
from hmrb.predict.people import save, save_arrays

ACCOUNT = "account"  # the array of a part that holds its account as JSON
SHARED = "joint_names"  # the only array without a row per person
Table = dict[str, np.ndarray]


class DamagedPart(RunError):
    """A part that is missing or not what was written."""


def part_file(folder: Path, number: int) -> Path:
    """The file of a block's results."""
    return folder / f"{number:05d}.h5"


def write_part(path: Path, table: Mapping[str, np.ndarray], account: Account) -> None:
    """Write the results of a block atomically. Raises RunError."""
    stored = {key: _as_bytes(array) for key, array in table.items()}
    text = json.dumps({"sha": _sha(stored), "account": account.tree()}).encode()
    stored[ACCOUNT] = np.frombuffer(text, np.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, hdf5_file(part) as file:
            for key, array in stored.items():
                file[key] = array
    except OSError as error:
        raise RunError(f"{path}: could not be written: {reason(error)}") from None


def read_account(path: Path) -> Account:
    """The account of a part. Raises DamagedPart."""
    return _account(path, read_arrays(path, lambda key: key == ACCOUNT, DamagedPart))[0]


def is_done(path: Path) -> bool:
    """Whether a block's results are here, and nothing is left to try anew."""
    try:
        return path.exists() and not read_account(path).passing
    except DamagedPart:
        return False


def read_part(path: Path) -> Table:
    """The arrays of a part. Raises DamagedPart, and removes the part, if they are not those that were written."""
    try:
        arrays = read_arrays(path, kind=DamagedPart)
        _, sha = _account(path, arrays)
        del arrays[ACCOUNT]
        if _sha(arrays) != sha:
            raise DamagedPart(f"{path}: its content has changed")
    except DamagedPart as error:
        path.unlink(missing_ok=True)
        raise DamagedPart(f"{error}; run the command again, which predicts this block anew") from None
    return {key: _as_text(array) for key, array in arrays.items()}


Reader = Callable[[Path], Table]


def join(paths: Sequence[Path], out: Path, format: str, read: Reader = read_part) -> None:
    """Write everybody's file from the parts that hold people, or from one that holds none. Raises RunError."""
    if format == "npz":
        save_arrays(out, _joined([read(path) for path in paths]))
    else:
        save(out, lambda part: JOINERS[format](part, paths, read))


def _joined(tables: Sequence[Table]) -> Table:
    return {key: array if key == SHARED else np.concatenate([table[key] for table in tables])
            for key, array in tables[0].items()}  # fmt: skip


def _to_hdf5(out: Path, paths: Sequence[Path], read: Reader) -> None:
    """One array of each name, in the order of the parts; texts are UTF-8 of fixed length."""
    kinds: dict[str, list[tuple[tuple[int, ...], np.dtype[Any]]]] = {}
    for path in paths:
        for key, array in read(path).items():
            stored = _as_bytes(array)
            kinds.setdefault(key, []).append((stored.shape, stored.dtype))
    with hdf5_file(out) as file:
        for key, found in kinds.items():
            rows = found[0][0][0] if key == SHARED else sum(shape[0] for shape, _ in found)
            file.create_dataset(key, (rows, *found[0][0][1:]), max((kind for _, kind in found), key=_width))
        at = 0
        for path in paths:
            table = read(path)
            count = len(table["name"])
            for key, array in table.items() if count else ():
                start = 0 if key == SHARED else at
                file[key][start : start + len(array)] = _as_bytes(array)
            at += count


def _width(kind: np.dtype[Any]) -> int:
    return kind.itemsize


def _to_parquet(out: Path, paths: Sequence[Path], read: Reader) -> None:
    """A row group per part; arrays of several axes are flat lists of fixed length."""
    parquet, arrow = parquet_reader("use --format h5"), needed("pyarrow")

    def column(array: np.ndarray) -> Any:
        if array.dtype.kind == "U":
            return arrow.array([text.encode("utf-8", "replace").decode() for text in array.tolist()], arrow.string())
        if array.ndim == 1:
            return arrow.array(array)
        return arrow.FixedSizeListArray.from_arrays(arrow.array(array.ravel()), int(np.prod(array.shape[1:])))

    writer = None
    try:
        for path in paths:
            table = read(path)
            names = table.pop(SHARED, np.array([], np.str_)).tolist()
            rows = arrow.table({key: column(array) for key, array in table.items()})
            rows = rows.replace_schema_metadata({SHARED: json.dumps(names)})
            writer = writer or parquet.ParquetWriter(str(out), rows.schema)
            writer.write_table(rows)
    finally:
        if writer is not None:
            writer.close()


def _to_json(out: Path, paths: Sequence[Path], read: Reader) -> None:
    """`joint_names`, and `people` with the values of all other arrays, a line each."""
    with open(out, "w", encoding="utf-8") as file:
        before = ""
        for path in paths:
            table = read(path)
            names = table.pop(SHARED, np.array([], np.str_)).tolist()
            before = before or f'{{"joint_names": {json.dumps(names)}, "people": [\n'
            for person in _people(table):
                file.write(before + json.dumps(person, allow_nan=False))
                before = ",\n"
        file.write((before if before != ",\n" else "") + "\n]}\n")


def _people(table: Table) -> Iterator[dict[str, Any]]:
    columns = {key: array.tolist() for key, array in table.items()}
    for row in range(len(table["name"])):
        yield {key: values[row] for key, values in columns.items()}


def _account(path: Path, arrays: Table) -> tuple[Account, str]:
    try:
        tree = json.loads(arrays[ACCOUNT].tobytes())
        return Account.of(tree["account"]), str(tree["sha"])
    except (ValueError, TypeError, LookupError, RecursionError):
        raise DamagedPart(f"{path}: not a part of a prediction") from None


def _sha(stored: Mapping[str, np.ndarray]) -> str:
    whole = hashlib.sha256()
    for key, array in sorted(stored.items()):
        whole.update(f"{key} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()[:16]


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """Texts as HDF5 has them, UTF-8 of fixed length; names that are no text keep their bytes."""
    if array.dtype.kind != "U":
        return array
    texts = [text.encode("utf-8", "surrogateescape") for text in array.tolist()]
    return np.array(texts, f"S{max(map(len, texts), default=1) or 1}")


def _as_text(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "S":
        return array
    return np.array([text.decode("utf-8", "surrogateescape") for text in array.tolist()], np.str_)


JOINERS: dict[str, Callable[[Path, Sequence[Path], Reader], None]] = {
    "h5": _to_hdf5,
    "parquet": _to_parquet,
    "json": _to_json,
}
