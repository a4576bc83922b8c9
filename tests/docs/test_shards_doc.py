"""docs/shards.md: its examples run, and its tables match the layout of a shard."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import h5py
import pytest
from conftest import person, write_shard

import hmrb.data.convert.writer
from hmrb.data.convert.pack import GROWN, SHRUNK, Packing
from hmrb.data.convert.writer import CATEGORY_BYTES
from hmrb.data.shard import LAYOUT_VERSION, NAME_BYTES, Shard, ShardInfo
from hmrb.records import GENDERS

DOC = (Path(__file__).parents[2] / "docs" / "shards.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    match = re.search(rf"<!-- {name} -->\n```python\n(.*?)```", DOC, re.DOTALL)
    assert match is not None
    return match[1]


def run(code: str) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        exec(compile(code, "docs/shards.md", "exec"), {})
    return out.getvalue().strip()


def test_the_examples_write_a_shard_and_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = run(example("write")).split()
    shard = Shard(tmp_path / "lsp_train.h5")
    assert written == ["1", shard.info.sha]
    assert shard.read(0).columns == {"sequence": "a", "occlusion": 0.25}
    assert run(example("read")) == f"a/000001.jpg a [160.  40.] 1.0 {len(shard.jpeg(0))}"


def test_the_reading_example_finds_pictures_in_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hmrb.data.convert.writer, "PICTURES_BYTES", 10)
    run(example("write"))
    assert (tmp_path / "lsp_train.pictures-000.h5").exists()
    assert run(example("read")).endswith(str(len(Shard(tmp_path / "lsp_train.h5").jpeg(0))))


def test_the_tables_name_every_array_with_its_shape_and_type(tmp_path: Path) -> None:
    rows = dict(re.findall(r"^\| `([a-z0-9_/<>]+)` \| ([^|]+) \|", DOC, re.MULTILINE))
    with h5py.File(write_shard(tmp_path / "a.h5", [person(i) for i in range(3)])) as file:
        arrays: dict[str, h5py.Dataset] = {}
        file.visititems(lambda key, node: arrays.update({key: node}) if isinstance(node, h5py.Dataset) else None)
        for key, array in arrays.items():
            said = rows[re.sub("^(columns|extra)/.*", r"\1/<name>", key)]
            kind = f"{NAME_BYTES} bytes" if array.dtype.kind == "S" else str(array.dtype)
            assert kind in said, key
            if key not in ("jpeg/bytes", "jpeg/offset"):
                sizes = {"N": 3, "M": 3, "K": 54}
                shape = [sizes.get(word) or int(word) for word in said.split(",")[0].split()]
                assert array.shape == tuple(shape), key
        assert set(rows) >= {*file.attrs} - {"dataset", "split", "num_people", "num_images", "num_files"}
    assert f"`categories/<column>` ({CATEGORY_BYTES} bytes each" in DOC
    assert f"This is layout {LAYOUT_VERSION}." in DOC
    assert ", ".join(f"{number} {name}" for number, name in enumerate(GENDERS)) in DOC
    assert all(f"`{field}`" in DOC for field in ShardInfo.__dataclass_fields__)


def test_its_numbers_are_those_of_the_code() -> None:
    assert f"More than {hmrb.data.convert.writer.PICTURES_BYTES >> 30} GiB of pictures" in DOC
    assert f"grown by {GROWN} and turned by 45 degrees, `224 / ({SHRUNK} * side)`" in DOC
    assert f"`{Packing('region').name}`" in DOC
