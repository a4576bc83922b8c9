"""The files around the code: lock, citation, workflows, forms, container."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_lock_is_of_this_project_and_names_public_places_only() -> None:
    """Stale otherwise: uv lock."""
    text = (ROOT / "uv.lock").read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    lock = tomllib.loads(text)
    (ours,) = [one for one in lock["package"] if one["name"] == PROJECT["name"]]
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    stated = {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower() for lines in groups for line in lines}
    assert {one["name"] for one in ours["metadata"]["requires-dist"]} == stated
    assert (ours["version"], lock["requires-python"]) == (PROJECT["version"], PROJECT["requires-python"])
    assert set(re.findall(r"https?://[^/\"]+", text)) == {"https://pypi.org", "https://files.pythonhosted.org"}
    assert "file:" not in text


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_workflows_and_forms_can_be_read() -> None:
    flows = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}
    assert flows.keys() == {"tests", "docs", "wheel"}
    for flow in flows.values():
        assert flow["permissions"] == {"contents": "read"}
        assert all(job["steps"] and job["timeout-minutes"] for job in flow["jobs"].values())
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text())
        assert path.stem == "config" or ({"name", "description", "body"} <= form.keys())


def test_the_container_copies_what_there_is() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.M) for word in line.split()]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == allowed
    assert all((ROOT / word).exists() for word in copied)
    assert re.findall(r"^FROM \S+ AS (\w+)$", text, re.M) == ["base", "cpu", "cuda"]
