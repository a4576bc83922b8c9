"""Fills the tables of docs/scale.md with figures of cards, from the records of gpu_check.py in docs/results/gpu.

A table stands between `<!-- gpu_check training -->` or `<!-- gpu_check rest -->` and `<!-- /table -->`. A figure that
no card has produced is `not measured`. scripts/fill_tables.py calls this; a test fails if a table is stale.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from gpu_check import read_record, shown
from gpu_setup import Figure
from gpu_speed import BATCHES, KNOBS, MODELS, WAYS, evaluation_name, knob_name, rate_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scale.md"
RECORDS = ROOT / "docs" / "results" / "gpu"
TABLE = re.compile(r"(<!-- gpu_check (\w+) -->\n)(.*?)(<!-- /table -->)", re.S)
MISSING, NO_CARD = "not measured", "none yet"
REST = (
    *(rate_name("ResNet-50", BATCHES[0], knob_name(knob)) for knob in KNOBS),
    *(evaluation_name(precision) for precision in ("fp32", "bf16")),
    *(f"vertices in {kind}, mean distance" for kind in ("fp32", "TF32", "bf16")),
    "quickstart, seconds", "quickstart, PA-MPJPE",
)  # fmt: skip


def filled(text: str, records: Path = RECORDS) -> str:
    """The text of a page with its tables made anew."""
    cards = [read_record(path) for path in sorted(records.glob("*.json"))]
    figures = [
        (str(machine["card"]), {one.what: one for found in sections.values() for one in found})
        for machine, sections in cards
    ] or [(NO_CARD, {})]
    tables = {"training": training, "rest": rest}

    def make(match: re.Match[str]) -> str:
        return "\n".join([match[1].rstrip(), *tables[match[2]](figures), match[4]])

    return TABLE.sub(make, text)


def training(cards: Sequence[tuple[str, dict[str, Figure]]]) -> list[str]:
    """Images per second in bf16 by model, batch and source of the pictures."""
    out = [f"| card | model | pictures | {' | '.join(WAYS)} | peak memory | MFU |"]
    out += ["| --- | --- " + "| ---: " * (len(WAYS) + 3) + "|"]
    for card, figures in cards:
        for model in MODELS:
            for batch in BATCHES:
                names = [rate_name(model, batch, way) for way in WAYS]
                names += [f"{names[1]}: peak memory", f"{names[1]}: MFU"]
                cells = " | ".join(_cell(figures, name) for name in names)
                out.append(f"| {card} | {model} | {batch} | {cells} |")
    return out


def rest(cards: Sequence[tuple[str, dict[str, Figure]]]) -> list[str]:
    """The other figures, a row each and a column for each card."""
    out = [f"| figure | {' | '.join(card for card, _ in cards)} |", "| --- " + "| ---: " * len(cards) + "|"]
    return out + [f"| {name} | {' | '.join(_cell(figures, name) for _, figures in cards)} |" for name in REST]


def _cell(figures: dict[str, Figure], name: str) -> str:
    return shown(figures[name]).removesuffix(" images/s") if name in figures else MISSING
