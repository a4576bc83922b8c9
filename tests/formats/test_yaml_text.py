"""Specs that multiply, nest, or hold what a spec cannot: one message within seconds."""

import time
import tracemalloc
from pathlib import Path

import pytest

from hmrb.formats.yaml_text import YamlProblem, load_yaml
from hmrb.spec import SpecError, SpeedSpec, load_experiment

LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10))]
)
BOMBS = {
    "laughs": (LAUGHS, "more than 20,000 values, counting what its aliases stand for"),
    "merged laughs": (LAUGHS.replace("[x", "[{x: 1}").replace("- ", "<<: "), "more than 20,000 values"),
    "itself": ("a: &a [*a]", r"the alias \*a stands for a value that contains it"),
    "digits": ("seed: " + "9" * 5000, "a number of more than 18 digits: 9999"),
    "hex digits": ("seed: 0x" + "f" * 5000, "a number of more than 18 digits"),
    "sixties": ("seed: 1" + ":59" * 5000, "a number of more than 18 digits"),
    "deep": ("a: " + "[" * 1000 + "]" * 1000, "nested deeper than 32 levels"),
    "deep tables": ("{a: " * 100_000, "nested deeper than 32 levels"),
    "large": ("a: " + "x" * (1 << 20), "larger than 1,048,576 bytes"),
    "many": ("\n".join(f"a{i}: 1" for i in range(20_000)), "more than 20,000 values"),
    "no day": ("name: 2026-99-99", "invalid YAML"),
    "a day": ("name: 2026-11-27", "a timestamp; allowed are numbers, texts"),
    "no number": ("seed: 0x_", "invalid YAML"),
    "no truth": ("name: !!bool foo", "invalid YAML"),
    "bytes": ("name: !!binary /w==", "a binary; allowed are numbers, texts"),
    "half a character": (r'name: "\ud800"', "half a character"),
    "lists as keys": ("[1]: 2", "invalid YAML"),
    "code": ("name: !!python/object/apply:os.system [true]", "invalid YAML"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_one_message_within_seconds(tmp_path: Path, kind: str) -> None:
    text, message = BOMBS[kind]
    (tmp_path / "spec.yaml").write_text(text)
    tracemalloc.start()
    begin = time.process_time()  # other work may have the cores
    with pytest.raises(SpecError, match=f"spec.yaml: not a readable spec: .*{message}") as error:
        load_experiment(tmp_path / "spec.yaml")
    assert time.process_time() - begin < 5
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("value", ["2026-99-99", "0x_", "9" * 5000, "[" * 1000, "!!binary /w=="])
def test_bombs_of_set_are_one_message(tmp_path: Path, value: str) -> None:
    (tmp_path / "spec.yaml").write_text("name: a")
    with pytest.raises(SpecError, match="--set seed=.*is not a valid YAML value: ") as error:
        load_experiment(tmp_path / "spec.yaml", (f"seed={value}",))
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name: \xff\xfe", "not a text file in UTF-8"),
        (b"PK\3\4abc", "it is a zip archive"),
        (b"\x1f\x8babc", "it is a gzip archive"),
        (b"<!DOCTYPE html><html>: {", "it is an HTML page"),
    ],
)
def test_another_file_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "spec.yaml").write_bytes(content)
    with pytest.raises(SpecError, match=f"spec.yaml: not a readable spec: {words}"):
        load_experiment(tmp_path / "spec.yaml")


def test_aliases_within_reason_are_read() -> None:
    assert load_yaml("a: &a {p: 1}\nb: *a\nc: {<<: *a, q: 2}") == {"a": {"p": 1}, "b": {"p": 1}, "c": {"p": 1, "q": 2}}


def test_the_same_key_twice_is_refused() -> None:
    with pytest.raises(YamlProblem, match="duplicate key 'a'"):
        load_yaml("a: 1\na: 2")


def test_parts_of_a_giant_batch_are_found_at_once() -> None:
    begin = time.perf_counter()
    with pytest.raises(ValueError, match="use one of 1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 40, 50"):
        SpeedSpec(device_batch=7).micro_batches(1_000_000_000, 1)
    with pytest.raises(ValueError, match="use one of"):
        SpeedSpec(device_batch=7).micro_batches(10**18, 1)
    assert time.perf_counter() - begin < 1
