"""mkdocs.yml and the pages that are made from the code."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_commands import GROUP, problem, shown

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import site_compute
from site_hook import on_page_markdown
from site_pages import PAGES

from hmrb.cli.shipped import shipped_specs
from hmrb.data.convert.catalogue import DATASETS
from hmrb.spec import ModelSpec

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def named(nav: Any) -> list[str]:
    """The pages of a nav, in order."""
    if isinstance(nav, str):
        return [nav]
    return [page for one in (nav.values() if isinstance(nav, dict) else nav) for page in named(one)]


def test_the_nav_has_every_page_once() -> None:
    pages = named(CONFIG["nav"])
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.glob("*.md")} | PAGES.keys()
    assert sorted(pages) == sorted(there)


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """The pages, made by a process of their own, which imports no torch."""
    code = (
        "import json, sys, site_pages; made = {path: make() for path, make in site_pages.PAGES.items()}\n"
        "assert 'torch' not in sys.modules; print(json.dumps(made))"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=ROOT / "scripts", capture_output=True, text=True, check=True)
    pages: dict[str, str] = json.loads(done.stdout)
    return pages


def test_the_pages_have_everything(made: dict[str, str]) -> None:
    verbs = GROUP.commands
    assert [verb for verb in verbs if f"\n## {verb}\n" not in made["reference/verbs.md"]] == []
    assert [row.name for row in DATASETS.values() if f"\n### {row.name}\n" not in made["reference/datasets.md"]] == []
    assert [name for name in shipped_specs() if f"\n| {name} |" not in made["reference/compute.md"]] == []
    assert "| `drop_path` | number >= 0, <= 1 | `0.0` | Stochastic depth" in made["reference/spec.md"]
    assert "| `backbones/hrnet_w32` | hrnet_w32, imagenet |" in made["reference/study.md"]
    assert "3dpw PA-MPJPE 65.16" in made["reference/study.md"]


def test_the_commands_of_the_pages_parse(made: dict[str, str]) -> None:
    for text in made.values():
        assert {words: said for words, whole in shown(text) if (said := problem(words, whole))} == {}


def test_links_that_leave_the_site_become_names() -> None:
    class Page:
        class file:
            src_uri = "a.md"

    text = "[log](results/demo/log.jsonl), [licence](../hmrb/LICENSE.md), [one](results.md#a), ![p](demo/a.jpg)"
    assert on_page_markdown(text, Page, None, None) == (
        "log (`results/demo/log.jsonl`), licence (`hmrb/LICENSE.md`), [one](results.md#a), ![p](demo/a.jpg)"
    )


def test_the_counts_are_of_the_specs_models() -> None:
    """Stale otherwise: python scripts/site_compute.py."""
    models = {site_compute.model_key(one.model) for one in site_compute.experiments().values()}
    assert site_compute.read_counts().keys() == models | {site_compute.RESNET50}


@pytest.mark.heavy
def test_the_counts_are_right() -> None:
    counts = site_compute.read_counts()
    models = {site_compute.model_key(one.model): one.model for one in site_compute.experiments().values()}
    for key, model in models.items():
        assert counts[key] == site_compute.counted(model), key


def test_the_model_of_the_costs_uses_the_published_peaks() -> None:
    from hmrb.training.utilisation import PASSES, peak_flops

    card = "NVIDIA A100-SXM4-80GB"
    formats = {"fp32": "tf32", "bf16": "bf16", "fp16": "fp16"}
    assert {name: peak_flops(card, kind) for name, kind in formats.items()} == site_compute.PEAK_FLOPS
    assert site_compute.PASSES == PASSES
    assert site_compute.model_key(ModelSpec()) == site_compute.RESNET50
    assert 0.15 < site_compute.share_of_peak(site_compute.read_counts()) < 0.25


@pytest.mark.parametrize(("value", "text"), [(0.02, "< 0.1"), (1.849, "1.8"), (55.7, "56"), (1234.0, "1,200")])
def test_costs_have_two_digits(value: float, text: str) -> None:
    assert site_compute.number(value) == text


@pytest.mark.heavy
def test_mkdocs_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    words = "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert not re.search(r"^WARNING", done.stderr, re.M)
    index = json.loads((tmp_path / "site/search/search_index.json").read_text(encoding="utf-8"))
    assert len({re.sub("#.*", "", page["location"]) for page in index["docs"]}) == len(named(CONFIG["nav"])) + 1
