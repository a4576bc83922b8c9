"""Measures the synthetic domains: the table and the picture of docs/domains.md. Renders 750 people a domain: minutes.

Run `python scripts/domain_cards.py`. The table is between `<!-- cards -->` and `<!-- /cards -->`.
"""

import re
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float

from hmrb.data.sources.domains import render, render_fits
from hmrb.data.sources.synthetic import open_body
from hmrb.formats.pictures import decoded
from hmrb.geometry import rotvec_to_rotmat
from hmrb.records import Sample
from hmrb.synthetic.domains import DOMAINS

PAGE = Path(__file__).parents[1] / "docs" / "domains.md"
PEOPLE = {"train": 500, "test": 250}
TILE_PX, COLUMNS = 112, 10
Cloud = Float[np.ndarray, "N 72"]


def people_of(domain: str, split: str) -> list[list[Sample]]:
    """The photos of the first people of a split."""
    count = -(-PEOPLE[split] // DOMAINS[domain].people)
    return [render(domain, "exact", split, 0, index) for index in range(count)]


def poses(people: list[Sample]) -> Cloud:
    """Kinematic joints of the mean shape without the root's rotation, in millimetres about the root."""
    pose = torch.from_numpy(np.stack([one.pose for one in people]))
    pose[:, 0] = 0
    body = open_body()
    chain = body(rotvec_to_rotmat(pose), torch.zeros(len(pose), body.kind.num_betas), body.kind.kinematic).chain
    return (1000 * (chain - chain[:, :1])).flatten(1).numpy()


def nearest_mm(some: Cloud, others: Cloud) -> float:
    """How far the joints of each pose are, on average, from those of the most similar of the others."""
    joints = some.reshape(-1, 1, 24, 3)
    apart = [np.linalg.norm(one - others.reshape(-1, 24, 3), axis=2).mean(1).min() for one in joints]
    return float(np.mean(apart))


def card(domain: str, people: list[Sample]) -> str:
    """A row: number of subjects and places, visible share, camera."""
    rules = DOMAINS[domain]

    def of(name: str) -> np.ndarray:
        return np.array([one.columns[name] for one in people], float)

    def spread(values: np.ndarray, form: str) -> str:
        return " to ".join(format(value, form) for value in np.percentile(values, (5, 95)))

    seen = (1 - of("occlusion")) * (1 - of("truncation"))
    cells = [
        f"`synthetic_{domain}`", rules.title, f"{rules.subjects}, {rules.places}", f"{rules.side} px, {rules.people}",
        f"{100 * seen.mean():.0f} % ({spread(100 * seen, '.0f')})", f"{100 * (of('occlusion') > 0.1).mean():.0f} %",
        f"{100 * (of('truncation') > 0.02).mean():.0f} %", f"{spread(of('fov'), '.0f')}°",
        spread(of("distance"), ".1f"),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def fit_error(exact: list[Sample]) -> str:
    """How far fitted bodies are from the exact ones of the same people: joints about the root, in millimetres."""
    fitted = list(render_fits("street", 0, 200, 0))
    apart = np.linalg.norm((poses(fitted) - poses(exact[:200])).reshape(-1, 24, 3), axis=2).mean(1)
    return f"{apart.mean():.0f} mm on average ({np.percentile(apart, 5):.0f} to {np.percentile(apart, 95):.0f})"


def main() -> None:
    """Writes the table and the picture."""
    photos = {domain: {split: people_of(domain, split) for split in PEOPLE} for domain in DOMAINS}
    everybody = {
        d: {split: [one for photo in rows for one in photo] for split, rows in photos[d].items()} for d in photos
    }
    lines = [
        "| dataset | what | subjects, places | picture, people | visible | hidden by > 10 % | cut off | field of view "
        "| distance m |",
        "| --- | --- | --- | --- | --- | ---: | ---: | --- | --- |",
        *(card(domain, people["train"]) for domain, people in everybody.items()),
        "",
        f"| mm | {' | '.join(DOMAINS)} |",
        f"| --- |{' ---: |' * len(DOMAINS)}",
    ]
    known = {domain: poses(people["train"]) for domain, people in everybody.items()}
    for domain, people in everybody.items():
        test = poses(people["test"])
        lines.append(f"| {domain} | {' | '.join(f'{nearest_mm(test, known[other]):.0f}' for other in known)} |")
    lines += ["", f"Bodies fitted for `synthetic_street_fits` are off by {fit_error(everybody['street']['train'])}."]
    text = PAGE.read_text(encoding="utf-8")
    table = "\n".join(lines)
    text = re.sub(r"(<!-- cards -->\n).*?(<!-- /cards -->)", lambda m: f"{m[1]}{table}\n{m[2]}", text, flags=re.S)
    PAGE.write_text(text, encoding="utf-8")
    rows = []
    for domain in photos:
        jpegs = [photo[0].jpeg for photo in photos[domain]["train"][:COLUMNS]]
        tiles = [decoded(jpeg, domain)[..., ::-1] for jpeg in jpegs]
        rows.append(np.concatenate([cv2.resize(tile, (TILE_PX, TILE_PX)) for tile in tiles], 1))
    cv2.imwrite(str(PAGE.with_suffix(".jpg")), np.concatenate(rows, 0), [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
