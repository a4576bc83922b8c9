"""docs/augmentations.md names every augmentation, in order, and the stage that it runs in."""

import re
from pathlib import Path

from hmrb.data.augment import AFTER_WARP, AUGMENTS, BEFORE_WARP
from hmrb.spec import parse_experiment

PAGE = (Path(__file__).parents[2] / "docs" / "augmentations.md").read_text(encoding="utf-8")


def test_the_table_has_every_augmentation_and_its_stage() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", PAGE, re.MULTILINE)
    stages = [(op.__name__, "picture") for op in BEFORE_WARP] + [(op.__name__, "crop") for op in AFTER_WARP]
    assert rows == stages
    assert len(rows) == len(AUGMENTS)


def test_the_example_is_a_spec_s() -> None:
    import yaml
    from conftest import tiny_tree

    from hmrb.data.augment import augmenter

    (example,) = re.findall(r"```yaml\n(.+?)```", PAGE, re.DOTALL)
    data = {"mix": {"synthetic": 1.0}, **yaml.safe_load(example)["data"]}
    ops = parse_experiment(tiny_tree() | {"data": data}, "page").data.augment
    assert [op.func.__name__ for op in augmenter(ops, "synthetic").after] == ["degrade", "recolour"]
