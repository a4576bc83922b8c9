"""The pages of the documentation that are made from the code: verbs, spec, datasets, the study's tables, costs.

mkdocs makes them by site_hook.py; none is a file in docs/. No page needs torch.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer
from site_compute import compute_page
from typer.testing import CliRunner

from hmrb.cli import app
from hmrb.cli.spec_schema import spec_schema, tables_of
from hmrb.data.convert.catalogue import DATASETS, ROLES, Dataset
from hmrb.evaluation.metric_table import TITLES
from hmrb.spec import Experiment

ROOT = Path(__file__).parents[1]
ROLE_TITLES = {
    "train": "Training sets", "test": "Test sets", "auxiliary": "Parts of other datasets", "embedded": "In hmrb",
    "extra": "Further sets that a config of the study or another method names", "own": "Your own",
}  # fmt: skip


def printed(*words: str) -> str:
    """What `hmrb` prints, in 100 columns."""
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "100"}, prog_name="hmrb", catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def verbs_page() -> str:
    """Every verb with its help."""
    group: Any = typer.main.get_command(app)
    lines = [
        "# Verbs",
        "",
        "What `hmrb VERB --help` prints. Exit codes: 0 done, 1 the run failed, 2 the request was invalid, 130 and 143"
        " stopped by Ctrl-C and SIGTERM after writing a checkpoint.",
    ]
    for name in group.commands:
        lines += ["", f"## {name}", "", "```text", printed(name, "--help").strip(), "```"]
    return "\n".join(lines) + "\n"


def spec_page() -> str:
    """Every table of a spec, with types, defaults and meaning."""
    schema = spec_schema()
    lines = [
        "# Fields of a spec",
        "",
        "A spec lists what differs from these defaults, which are the study's baseline. `hmrb train SPEC --dry-run`"
        " prints a spec with all of them, `hmrb new NAME --from SPEC` writes one with every field and its meaning.",
        "",
        "Editors with a YAML language server complete and check specs by `specs/spec.schema.json`, which each spec"
        " names in a comment. For a spec elsewhere: `hmrb list-specs --schema > spec.schema.json`, and the line"
        " `# yaml-language-server: $schema=spec.schema.json` in the spec.",
    ]
    for table in tables_of(Experiment):
        about = schema if table is Experiment else schema["$defs"][table.__name__]
        title = "A spec" if table is Experiment else f"{table.__name__.removesuffix('Spec')}"
        told = inspect.cleandoc(table.__doc__ or "")
        lines += ["", f"## {title}", "", told, "", "| field | type | default | meaning |", "| --- | --- | --- | --- |"]
        for field, one in about["properties"].items():
            default = "required" if field in about.get("required", []) else f"`{_default(one)}`"
            lines.append(_row(f"`{field}`", _kind(one), default, one.get("description", "")))
    return "\n".join(lines) + "\n"


def _default(about: Mapping[str, Any]) -> str:
    value = about.get("default", {})
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind(about: Mapping[str, Any]) -> str:
    """A field's type in words, from its JSON schema."""
    if "$ref" in about:
        name = about["$ref"].rpartition("/")[2]
        return f"[{name.removesuffix('Spec')}](#{name.removesuffix('Spec').lower()})"
    if "enum" in about:
        names = [f"`{name}`" for name in about["enum"]]
        return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    if "anyOf" in about:
        kinds = [_kind(one) for one in about["anyOf"]]
        return " or ".join(dict.fromkeys(kinds))
    if about.get("type") == "array":
        return f"list of {_kind(about.get('items', {}))}"
    if about.get("type") == "object":
        inner = about.get("additionalProperties")
        return f"table of {_kind(inner)}" if isinstance(inner, dict) else "table"
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {about[word]:g}" for word, sign in signs.items() if word in about]
    return " ".join([str(about.get("type", "anything")), *([", ".join(bounds)] if bounds else [])])


def datasets_page() -> str:
    """A card for each dataset of the catalogue."""
    lines = [
        "# Datasets",
        "",
        "One card for each dataset that hmrb knows, from its catalogue. hmrb contains none of the real ones: `hmrb"
        " convert-data NAME --explain` says where to get its files and what to beware of, `hmrb list-datasets --here`"
        " which are on your machine. A size is verified (a public source states it), inferred from another number, or"
        " unverified.",
    ]
    for role in ROLES:
        rows = [row for row in DATASETS.values() if row.role == role]
        lines += ["", f"## {ROLE_TITLES[role]}"] if rows else []
        for row in rows:
            lines += ["", f"### {row.name}", "", "| | |", "| --- | --- |"]
            lines += [_row(key, value) for key, value in _card(row).items() if value]
    return "\n".join(lines) + "\n"


def _card(row: Dataset) -> dict[str, str]:
    published = row.published_pa_mpjpe_mm
    size = f"{row.size.count:,} {row.size.unit}" if row.size.count is not None else f"unknown number of {row.size.unit}"
    return {
        "name in specs": f"`{row.slug}`" + (f" (also {', '.join(row.aliases)})" if row.aliases else ""),
        "published": f"{row.venue} {row.year or ''}".strip(),
        "pictures": f"{row.source}, {row.place}" + (f", of {row.parent}" if row.parent else ""),
        "labels": ", ".join(row.annotations) or "unknown",
        "key points": row.skeleton,
        "size": f"{size} ({row.size.status}{'; ' + row.size.note if row.size.note else ''})",
        "shards": ", ".join(f"`{name}_{split}`" for name, split in row.shards),
        "licence": row.licence,
        "access": row.access,
        "homepage": f"<{row.homepage}>" if row.homepage.startswith("http") else row.homepage,
        "trained on it alone": f"{published:.2f} mm PA-MPJPE on 3DPW, as the study published" if published else "",
        "made by": f"`{row.packed_command}`" if row.packed else "",
        "note": row.note,
    }


def study_page() -> str:
    """The study's experiments and their published numbers, a table for each of its studies."""
    rows = [row for row in json.loads(printed("list-specs", "--json")) if row["published"]]
    lines = [
        "# The study's tables",
        "",
        "The experiments of *Benchmarking and Analyzing 3D Human Pose and Shape Estimation Beyond Algorithms* (NeurIPS"
        " 2022) that state a number, as specs, with the numbers that the study published. `?` marks a number that there"
        " is a reason to doubt. None has been reproduced here yet: data and bodies need licences. Your own beside them:"
        " `hmrb report runs/* --studies`.",
    ]
    for study in dict.fromkeys(row["study"] for row in rows):
        lines += ["", f"## {study}", "", "| spec | backbone, weights | trained on | losses | published |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        for row in (row for row in rows if row["study"] == study):
            mix = ", ".join(f"{name} {share:g}" if len(row["mix"]) > 1 else name for name, share in row["mix"].items())
            numbers = "; ".join(_published(one) for one in row["published"])
            name = f"`{row['path'].removesuffix('.yaml')}`"
            lines.append(_row(name, f"{row['backbone']}, {row['weights']}", mix, row["losses"], numbers))
    doubts = {one["doubt"]: None for row in rows for one in row["published"] if one["doubt"]}
    lines += ["", "## Reasons to doubt", "", *(f"- {doubt}" for doubt in doubts)]
    return "\n".join(lines) + "\n"


def _published(one: Mapping[str, Any]) -> str:
    mark = " ?" if one["doubt"] else ""
    return f"{one['benchmark']} {TITLES[one['metric']]} {one['value']:.2f}{mark}"


def changelog_page() -> str:
    """CHANGELOG.md, with links from docs/."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "](")


def _row(*cells: str) -> str:
    """A row of a table; a cell has no line breaks and no bars."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


PAGES: dict[str, Callable[[], str]] = {
    "reference/verbs.md": verbs_page,
    "reference/spec.md": spec_page,
    "reference/datasets.md": datasets_page,
    "reference/study.md": study_page,
    "reference/compute.md": compute_page,
    "changelog.md": changelog_page,
}
"""By their path in the site, which mkdocs.yml names."""
