"""Any values in a spec or in --set: the spec is dumped, or refused with one message. hypothesis makes them smaller."""

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import tiny_tree
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fuzz.seeds import Seeds
from fuzz.verdict import Change, Room, judged

SEED = int(os.environ.get("HMRB_FUZZ_SEED", "0"))
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([10**18, 10**400, -1, 0, 1e308, "2026-99-99", "../x", "{{7*7}}", "all", "labels", "\x00"])
)  # fmt: skip
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=8), v, max_size=3))
# Texts that are YAML's own traps.
TEXTS = st.text(max_size=40) | st.sampled_from(
    ["? : ?", "2026-99-99",
     "0x_", "!!bool foo", "[" * 500, "&a [*a]", "1" * 5000, "!!python/object/apply:os.system [x]",
     "{a: 1, a: 2}", "!!binary x", "!!set {a}", "<<: 1", "1:60:60", ".inf", "\ud800", "\x00", "*a", "%YAML 9.9\n---"]
)  # fmt: skip


def paths(tree: Any, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [before] if before else []
    for key in tree if isinstance(tree, dict) else ():
        found += paths(tree[key], (*before, key))
    return found


PATHS = st.sampled_from([*paths(tiny_tree()), ("speed",), ("speed", "device_batch"), ("data", "augment"), ("x", "y")])


def laid(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    tree = table = copy.deepcopy(tiny_tree())
    for key in path[:-1]:
        table = table.setdefault(key, {})
    table[path[-1]] = value
    return tree


def often(times: int) -> Any:
    return settings(
        max_examples=times, derandomize=SEED == 0, deadline=None, database=None,
        phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def dry_run(seeds: Seeds, folder: Path, content: bytes, *words: str) -> None:
    path = folder / "spec.yaml"
    path.write_bytes(content)
    case = judged(
        "spec", 0, Room(folder / "case"), Change(""), lambda: [seeds.hmrb("train", path, "--dry-run", *words)]
    )
    assert not case.problem


def each_kind(seeds: Seeds, folder: Path, times: int) -> None:
    tiny = yaml.safe_dump(tiny_tree()).encode()

    @often(times)
    @given(path=PATHS, value=VALUES)
    def of_values(path: tuple[str, ...], value: Any) -> None:
        dry_run(seeds, folder, yaml.safe_dump(laid(path, value)).encode("utf-8", "surrogatepass"))

    @often(times)
    @given(path=PATHS, text=TEXTS)
    def of_overrides(path: tuple[str, ...], text: str) -> None:
        dry_run(seeds, folder, tiny, "--set", f"{'.'.join(path)}={text}")

    @often(times)
    @given(
        start=st.integers(0, len(tiny)),
        length=st.integers(0, 20),
        text=TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(),
    )
    def of_bytes(start: int, length: int, text: bytes) -> None:
        dry_run(seeds, folder, tiny[:start] + text + tiny[start + length :])

    for kind in (of_values, of_overrides, of_bytes):
        (seed(SEED)(kind) if SEED else kind)()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Seeds:
    return Seeds(tmp_path_factory.mktemp("seeds"))


def test_specs_and_overrides_are_taken_or_refused_with_one_message(seeds: Seeds, tmp_path: Path) -> None:
    each_kind(seeds, tmp_path, 10)


@pytest.mark.heavy
def test_many_specs_and_overrides_are_taken_or_refused_with_one_message(seeds: Seeds, tmp_path: Path) -> None:
    each_kind(seeds, tmp_path, 200)
