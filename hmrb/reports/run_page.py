"""The report of an evaluation: one HTML page with curves, errors and people.

All numbers come from records and logs. Charts are SVG paths, which the template colours for light and dark pages.
"""

from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import torch

from hmrb.evaluation.evaluate import Scores
from hmrb.evaluation.records import Record
from hmrb.evaluation.scoring import Bodies
from hmrb.reports.charts import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, curves, histogram, read_log
from hmrb.reports.gallery import draw_people, ranked_by
from hmrb.reports.page import Script, command, put, templates
from hmrb.reports.tables import SLICED, ratio
from hmrb.reports.view3d import packed, packed_faces, within
from hmrb.skeleton import plain_names
from hmrb.spec import Experiment, dump_experiment
from hmrb.store import Store

HISTOGRAMS = ("pa_mpjpe", "mpjpe")
PAGE_BYTES = 3_000_000  # a page of this size opens at once, and can be mailed
MANY_BYTES = 1_000  # of a page, for what the 3D view adds besides its bodies


def write_report(folder: Path, experiment: Experiment, scored: Sequence[tuple[Record, Scores]], store: Store) -> Path:
    """Writes report.html to `folder` and the people it shows to `folder`/overlays; returns the page's path.

    The page is self-contained. Its curves come from the folder's log.jsonl, if there is one. Its 3D view has as many
    people as fit into PAGE_BYTES.
    """
    log = read_log(folder / "log.jsonl")
    benches, faces = [], {}
    for record, scores in scored:
        bodies = Bodies.load(experiment.body, scores.benchmark, store, torch.device("cpu"))
        people = draw_people(folder / "overlays", bodies, scores, experiment.model.image_px)
        faces[bodies.neutral.name] = packed_faces(bodies.neutral.faces)
        benches.append({
            "record": record,
            "joints": _in_words(record.per_joint),
            "histograms": [
                histogram(name, scores.errors[name], scores.baseline[name])
                for name in HISTOGRAMS
                if name in scores.errors
            ],
            "people": {
                group: [{"drawn": person, "body": None, "kind": bodies.neutral.name} for person in drawn]
                for group, drawn in people.items()
            },
            "ranked_by": ranked_by(scores),
            "stem": scores.benchmark.file_stem,
        })  # fmt: skip
    facts = {
        "title": f"{experiment.name} · hmrb report",
        "experiment": experiment,
        "spec": dump_experiment(experiment),
        "benches": benches,
        "names": [name for record, _ in scored for name in (*record.metrics, *SLICED)],
        "last": next((line for line in reversed(log) if "epoch" in line), None),
        "trained": duration(training_seconds(log, experiment.optim.batch)),
        "command": command(),
        "curves": curves(log),
        "plot": {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "bottom": BOTTOM},
    }
    page = _rendered(facts, benches, faces)
    put(folder / "report.html", lambda part: part.write_text(page, encoding="utf-8"))
    return folder / "report.html"


def _rendered(facts: dict[str, Any], benches: list[dict[str, Any]], faces: dict[str, str]) -> str:
    """The page, with the bodies of as many people as fit."""
    template = templates().get_template("run_page.html.j2")
    people = _in_turn(benches)
    scripts = [Script.of("people.js")] if people else []
    flat: dict[str, Any] = {"people": [], "faces": {}}
    page = template.render(**facts, scripts=scripts, bodies=flat if people else None, solid=False, ratio=ratio)
    solids = [packed(person["drawn"].posing) | {"kind": person["kind"]} for person in people]
    room = PAGE_BYTES - len(page.encode()) - sum(map(len, faces.values())) - MANY_BYTES
    fits = within(solids, room)
    if not any(fits):
        return page
    kept: list[dict[str, Any]] = []
    for person, body, is_in in zip(people, solids, fits, strict=True):
        if is_in:
            person["body"] = len(kept)
            kept.append(body)
    bodies = {"people": kept, "faces": faces}
    return template.render(**facts, scripts=scripts, bodies=bodies, solid=True, ratio=ratio)


def _in_turn(benches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The people of all benchmarks, in the order in which they get a place in the 3D view: the worst first."""
    groups = [bench["people"].get(group, []) for group in ("worst", "best", "median") for bench in benches]
    return [person for person in chain.from_iterable(zip_longest(*groups)) if person]


def _in_words(per_joint: dict[str, float]) -> dict[str, float]:
    words = plain_names(list(per_joint))
    return {words[joint]: error for joint, error in per_joint.items()}


def training_seconds(log: Sequence[dict[str, Any]], batch: int) -> float:
    """Seconds that the steps of a log took: their pictures by the speed that the log states for them."""
    done, seconds = 0, 0.0
    for line in log:
        if line.get("images_per_s"):
            seconds += (line["step"] - done) * batch / line["images_per_s"]
            done = line["step"]
    return seconds


def duration(seconds: float) -> str:
    """In words, two parts at most; "" for none."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds else ""
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
