"""What a score leaves for people: a table on stdout, and one HTML page with curves, errors and people.

Their numbers come out of records and logs. Charts are plain paths, which the template colours for light and dark.
"""

import base64
import json
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hmrb.body import SMPL, load_body
from hmrb.data.loader import read_view
from hmrb.data.warp import crop_matrix
from hmrb.errors import RunError
from hmrb.evaluate import Scores
from hmrb.geometry import FOCAL_PX, camera_translation
from hmrb.metrics import BETTER, TITLES, UNITS
from hmrb.render import shade_mesh, write_obj
from hmrb.results import Number, Record
from hmrb.spec import Experiment, dump_experiment
from hmrb.store import Store

TILE_PX = 256
LABEL_PX = 24
SIDE_FILL = 1 / 1.2  # of the tile: what a person takes in a square with the usual margin
PAPER = (236, 239, 244)  # behind the mesh from the side; holds on a white page, a dark one and in print
PEOPLE = 4  # drawn of the best, the median and the worst
JPEG_QUALITY = 90
WIDTH, HEIGHT = 360, 180  # of a chart: text keeps its size on a phone
LEFT, RIGHT, TOP, BOTTOM = 42, 348, 10, 156  # of the plot inside a chart
POINTS = 150  # of a curve: longer logs are drawn as means of as many stretches
LOG_FROM = 10  # highest over lowest value from which an axis is logarithmic
MARGIN = 0.08  # of a range, left free above it
BINS = 32
TAIL = 99.5  # percentile of errors at which the histogram ends
HISTOGRAMS = ("pa_mpjpe", "mpjpe")
SLICED = ("mpjpe", "pa_mpjpe", "pve")  # shown of slices; the record has all
TILES_A_ROW = 4  # of a sheet of people
PACE = {"images_per_s": "images a second", "data_wait": "share of time spent waiting for data", "lr": "learning rate"}


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels of a chart; `start` is where `low` goes."""

    low: float
    high: float
    start: float
    stop: float
    is_log: bool = False

    @classmethod
    def upright(cls, values: Float[np.ndarray, " N"]) -> "Scale":
        """Logarithmic over a wide range, else linear."""
        low, high = float(values.min()), float(values.max())
        if low > 0 and high > LOG_FROM * low:
            return cls(low, high, BOTTOM, TOP, is_log=True)
        margin = MARGIN * (high - low) or MARGIN * abs(high) or 1.0
        return cls(min(max(low - margin, 0.0), low), high + margin, BOTTOM, TOP)

    @classmethod
    def upright_from_0(cls, values: Float[np.ndarray, " N"]) -> "Scale":
        """Linear, for what is judged by its height."""
        return cls(0, (1 + MARGIN) * float(values.max()) or 1, BOTTOM, TOP)

    def __call__(self, values: Any) -> Float[np.ndarray, " N"]:
        """The pixels of values."""
        bend = np.log if self.is_log else np.asarray
        low, high = bend(self.low), bend(self.high)
        return self.start + (bend(values) - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values inside the range, at their pixels."""
        if self.is_log:
            decades = 10.0 ** np.arange(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            digits = [1] if self.high > 1000 * self.low else [1, 3] if self.high > 50 * self.low else [1, 2, 5]
            values = np.outer(decades[:: math.ceil(len(decades) / 6)], digits).ravel()
        else:
            rough = (self.high - self.low) / 5
            power = 10.0 ** math.floor(math.log10(rough))
            step = power * next(digit for digit in (1, 2, 5, 10) if digit * power >= rough)
            values = np.arange(math.ceil(self.low / step), math.floor(self.high / step + 1e-9) + 1) * step
        values = values[(values >= self.low) & (values <= self.high)]
        return [(float(at), _short(value)) for value, at in zip(values, self(values), strict=True)]


@dataclass(frozen=True, slots=True)
class Shape:
    """An SVG path; `style` is its class in the template, `hint` what a pointer on it is told."""

    style: str
    path: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """Shapes between two axes. `keys` say which style means what."""

    title: str
    note: str
    x: list[tuple[float, str]]
    y: list[tuple[float, str]]
    shapes: list[Shape]
    keys: dict[str, str]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in the gallery; `picture` is a data URI with photo, overlay and side view."""

    name: str
    errors: dict[str, float]
    picture: str


def print_table(records: Sequence[Record]) -> None:
    """A row for each benchmark and metric, then where each benchmark's numbers come from, on stdout."""
    console = Console()
    table = Table("benchmark", "metric", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))  # fits 80 columns
    for title in ("mean", "95 % interval", "mean body", "ratio", "people"):
        table.add_column(title, justify="right", no_wrap=True)
    for record in records:
        for name, metric in record.metrics.items():
            low, high = metric.ci95
            numbers = [f"{metric.value:.1f}", f"[{low:.1f}, {high:.1f}]", f"{metric.mean_body:.1f}", _ratio(metric)]
            cells = [record.benchmark, f"{TITLES[name]} {metric.unit}", *numbers, str(metric.people)]
            table.add_row(*map(Text, cells))
    if records:
        console.print(table)
    for record in records:
        source, shard = record.source, record.conditions.shard
        checkpoint = f"checkpoint {source.checkpoint['sha']}"
        shas = f"shard {shard['sha']}  body {source.body['name']} {source.body['sha']}  {checkpoint}"
        lines = [f"{record.benchmark}: {record.protocol}  {shas}"]
        lines += [
            f"{record.benchmark}: skipped {n} of {shard['num_people']} people: {why}"
            for why, n in record.skipped.items()
        ]
        lines += [
            f"{record.benchmark}: {n} degenerate people, in the means: {why}" for why, n in record.degenerate.items()
        ]
        lines += [f"{record.benchmark}: no {TITLES[name]}: {why}" for name, why in record.left_out.items()]
        if source.siblings_trained_on:
            lines.append(
                f"{record.benchmark}: trained on its own people or places: {', '.join(source.siblings_trained_on)}"
            )
        for line in lines:
            console.print(line, soft_wrap=True, highlight=False, markup=False)


def print_slices(records: Sequence[Record]) -> None:
    """A table for each benchmark and column that its people were told apart by."""
    console = Console()
    for record in records:
        for column, parts in record.slices.items():
            table = Table(column, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
            table.add_column("people", justify="right")
            shown = [name for name in SLICED if name in record.metrics] or list(record.metrics)[:3]
            for name in shown:
                table.add_column(f"{TITLES[name]} {record.metrics[name].unit}, 95 %", justify="right", no_wrap=True)
            for part in parts:
                means = [part.metrics.get(name) for name in shown]
                numbers = [f"{mean[0]:.1f}  {mean[1][0]:.0f}..{mean[1][1]:.0f}" if mean else "" for mean in means]
                table.add_row(*map(Text, [part.label, str(part.num_people), *numbers]))
            console.print(f"{record.benchmark} by {column}", highlight=False)
            console.print(table)


def write_report(folder: Path, experiment: Experiment, scored: Sequence[tuple[Record, Scores]], store: Store) -> Path:
    """Writes report.html into `folder` and the people it shows into `folder`/overlays; gives the page's path.

    The page needs no other file. Its curves come from the folder's log.jsonl, where there is one.
    """
    body = load_body(experiment.body, store=store)
    log = _read_log(folder / "log.jsonl")
    pages = Environment(loader=PackageLoader("hmrb", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    pages.filters["ratio"] = _ratio
    page = pages.get_template("report.html.j2").render(
        experiment=experiment,
        spec=dump_experiment(experiment),
        benches=[
            {
                "record": record,
                "histograms": [histogram(scores, name) for name in HISTOGRAMS if name in scores.errors],
                "people": draw_people(folder / "overlays", body, scores, experiment.model.image_px),
                "ranked_by": _ranked_by(scores),
                "stem": scores.benchmark.file_stem,
            }
            for record, scores in scored
        ],
        last=next((line for line in reversed(log) if "epoch" in line), None),
        curves=curves(log),
        titles=TITLES,
        units=UNITS,
        plot={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "bottom": BOTTOM},
    )
    _put(folder / "report.html", lambda part: part.write_text(page, encoding="utf-8"))
    return folder / "report.html"


def overlay(
    body: SMPL, image: UInt8[np.ndarray, "S S 3"], rotmats: Float[np.ndarray, "24 3 3"], betas: Float[np.ndarray, "10"],
    camera: Float[np.ndarray, "3"], image_px: int,
) -> UInt8[np.ndarray, "S S 3"]:  # fmt: skip
    """A person's square, of any size, with the predicted mesh over it.

    `camera` is the weak-perspective (scale, x, y) for a crop of `image_px` pixels, the size that the network was shown.
    """
    size = len(image)
    move = camera_translation(torch.from_numpy(camera)[None].float(), image_px)
    vertices = _pose(body, rotmats, betas) + move.numpy()
    focal = FOCAL_PX * size / image_px
    return shade_mesh(image, vertices, body.faces, focal=focal, center=(size / 2, size / 2))


def from_the_side(body: SMPL, vertices: Float[np.ndarray, "V 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """A mesh turned by 90 degrees about the camera's vertical: seen from the picture's right, as large as fits."""
    turned = np.stack([vertices[:, 2], vertices[:, 1], -vertices[:, 0]], 1)
    low, high = turned.min(0), turned.max(0)
    distance = 2 * FOCAL_PX / size  # about as far away as in the overlay: next to no perspective
    turned += np.array([0, 0, distance], np.float32) - (low + high) / 2
    focal = SIDE_FILL * size * distance / float((high - low)[:2].max())
    paper = np.full((size, size, 3), PAPER, np.uint8)
    return shade_mesh(paper, turned, body.faces, focal=focal, center=(size / 2, size / 2), alpha=1)


def curves(log: Sequence[dict[str, Any]]) -> list[Chart]:
    """Scores, losses and pace over the steps of a run: a chart for each."""
    scored, steps = [line for line in log if "benchmark" in line], [line for line in log if "benchmark" not in line]
    charts = []
    for bench in dict.fromkeys(line["benchmark"] for line in scored):
        facts = _series([line for line in scored if line["benchmark"] == bench])
        for name in [name for name in TITLES if name in facts]:
            charts.append(score_chart(name, bench, *facts[name]))
    facts = _series(steps)
    losses = [name for name in facts if name not in (*PACE, "step", "epoch")]
    charts += [line_chart(f"loss: {name}", *facts[name], Scale.upright) for name in losses]
    return charts + [line_chart(PACE[name], *facts[name], Scale.upright_from_0) for name in PACE if name in facts]


def line_chart(
    title: str, steps: Float[np.ndarray, " N"], values: Float[np.ndarray, " N"], upright: Callable[..., Scale]
) -> Chart:
    """A value over the steps; a long one as means of stretches, in a band from their lowest to their highest."""
    x, y = Scale(0, steps[-1] or 1, LEFT, RIGHT), upright(values)
    starts = np.linspace(0, len(values), min(len(values), POINTS), endpoint=False).astype(int)
    counts = np.diff(starts, append=len(values))
    across = x(np.add.reduceat(steps, starts) / counts)
    low, high = y(np.minimum.reduceat(values, starts)), y(np.maximum.reduceat(values, starts))
    band = _path(np.append(across, across[::-1]), np.append(low, high[::-1]))
    line = _path(across, y(np.add.reduceat(values, starts) / counts))
    shapes = [Shape("band", band), Shape("line" if len(values) > 1 else "dot", line)]
    note = f"last {values[-1]:.4g}, mean {values.mean():.4g}"
    return Chart(title, note, x.ticks(), y.ticks(), shapes, {})


def score_chart(metric: str, bench: str, steps: Float[np.ndarray, " N"], values: Float[np.ndarray, " N"]) -> Chart:
    """A benchmark's score over the steps, with a dot each and the best one marked."""
    x, y = Scale(0, steps[-1] or 1, LEFT, RIGHT), Scale.upright(values)
    best = int(values.argmin() if BETTER[metric] == "lower" else values.argmax())
    hints = [f"step {step:.0f}: {value:.1f} {UNITS[metric]}" for step, value in zip(steps, values, strict=True)]
    styles = ["dot best" if i == best else "dot" for i in range(len(values))]
    dots = [Shape(*dot) for dot in zip(styles, map(_path, x(steps)[:, None], y(values)[:, None]), hints, strict=True)]
    chart = line_chart(f"{TITLES[metric]} on {bench}, {UNITS[metric]}", steps, values, Scale.upright)
    note = f"last {values[-1]:.1f}, best {values[best]:.1f} at step {steps[best]:.0f}"
    return replace(chart, note=note, shapes=chart.shapes + dots)


def histogram(scores: Scores, metric: str) -> Chart:
    """How an error is spread over people, and that of the mean body. The last bin holds the tail."""
    errors, baseline = scores.errors[metric], scores.baseline[metric]
    limit = float(np.percentile(np.concatenate([errors, baseline]), TAIL)) or 1.0
    edges = np.linspace(0, limit, BINS + 1)
    counts, others = (np.histogram(np.minimum(values, limit), edges)[0] for values in (errors, baseline))
    x, y = Scale(0, limit, LEFT, RIGHT), Scale.upright_from_0(np.append(counts, others).astype(np.float64))
    at, top, outline = x(edges), y(counts), np.repeat(y(others), 2)
    shapes = []
    for i in np.flatnonzero(counts):
        bar = f"M{at[i] + 0.6:.1f} {BOTTOM}V{top[i]:.1f}H{at[i + 1] - 0.6:.1f}V{BOTTOM}z"
        shapes.append(Shape("bar", bar, f"{edges[i]:.0f} to {edges[i + 1]:.0f} {UNITS[metric]}: {counts[i]} people"))
    shapes.append(Shape("outline", _path(np.repeat(at, 2), np.concatenate([[BOTTOM], outline, [BOTTOM]]))))
    unit = UNITS[metric]
    keys = {
        "bar": f"prediction, mean {errors.mean():.1f} {unit}",
        "outline": f"mean body, mean {baseline.mean():.1f} {unit}",
    }
    note = f"the last bin holds all over {edges[-2]:.0f} {unit}"
    return Chart(f"People by {TITLES[metric]}, {UNITS[metric]}", note, x.ticks(), y.ticks(), shapes, keys)


def draw_people(folder: Path, body: SMPL, scores: Scores, image_px: int) -> dict[str, list[Person]]:
    """The best, median and worst people of a benchmark, their pictures and meshes written into `folder`."""
    if not len(scores.rotmats):
        return {}
    order = best_first(scores)
    count = min(PEOPLE, max(len(order) // 3, 1))
    middle = (len(order) - count) // 2
    groups = {"best": order[:count], "median": order[middle : middle + count], "worst": order[: -count - 1 : -1]}
    stem = folder / scores.benchmark.file_stem
    return {
        group: [_draw_person(f"{stem}_{group}_{k}", body, scores, row, image_px) for k, row in enumerate(rows, 1)]
        for group, rows in groups.items()
    }


def best_first(scores: Scores) -> list[int]:
    """The people from the best to the worst."""
    name = _ranked_by(scores)
    sign = 1 if BETTER[name] == "lower" else -1
    order: list[int] = (sign * scores.errors[name]).argsort(kind="stable").tolist()
    return order


def write_worst(path: Path, body: SMPL, scores: Scores, image_px: int, count: int) -> None:
    """A sheet of the `count` worst people, each the photo and the predicted mesh over it, errors below, as a JPEG."""
    name = _ranked_by(scores)
    tiles = []
    for row in best_first(scores)[: -count - 1 : -1]:
        photo = _square(scores, row)
        drawn = overlay(body, photo, scores.rotmats[row], scores.betas[row], scores.camera[row], image_px)
        tile = np.concatenate([photo, drawn], 1)
        label = f"{scores.errors[name][row]:.1f} {UNITS[name]}  {scores.shard.name(int(scores.people.rows[row]))}"
        foot = np.full((LABEL_PX, tile.shape[1], 3), PAPER, np.uint8)
        cv2.putText(foot, label, (4, 16), cv2.FONT_HERSHEY_DUPLEX, 0.4, (20, 20, 20), 1, cv2.LINE_AA)
        tiles.append(np.concatenate([tile, foot], 0))
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % min(TILES_A_ROW, len(tiles)))
    across = min(TILES_A_ROW, len(tiles))
    sheet = np.concatenate([np.concatenate(tiles[i : i + across], 1) for i in range(0, len(tiles), across)], 0)
    jpeg = cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    _put(path, lambda part: part.write_bytes(jpeg.tobytes()))


def _square(scores: Scores, row: int) -> UInt8[np.ndarray, "S S 3"]:
    """The person's square of the photo, as wide as the benchmark takes it."""
    view = read_view(scores.shard, int(scores.people.rows[row]))
    matrix = crop_matrix(replace(view, side=scores.benchmark.box_scale * view.side), TILE_PX)
    return np.asarray(cv2.warpAffine(view.image, matrix, (TILE_PX, TILE_PX)))


def _draw_person(stem: str, body: SMPL, scores: Scores, row: int, image_px: int) -> Person:
    """Writes STEM.png (photo, overlay, side view) and STEM.obj (metres, y up as viewers want it)."""
    in_shard = int(scores.people.rows[row])
    photo = _square(scores, row)
    drawn = overlay(body, photo, scores.rotmats[row], scores.betas[row], scores.camera[row], image_px)
    vertices = _pose(body, scores.rotmats[row], scores.betas[row])
    strip = np.concatenate([photo, drawn, from_the_side(body, vertices, TILE_PX)], 1)[..., ::-1]  # as OpenCV writes it
    png, jpeg = cv2.imencode(".png", strip)[1], cv2.imencode(".jpg", strip, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    upright = vertices * np.array([1, -1, -1], np.float32)
    _put(Path(f"{stem}.png"), lambda part: part.write_bytes(png.tobytes()))
    _put(Path(f"{stem}.obj"), lambda part: write_obj(part, upright, body.faces))
    uri = f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"
    return Person(
        scores.shard.name(in_shard),
        {name: float(scores.errors[name][row]) for name in SLICED if name in scores.errors},
        uri,
    )


def _pose(body: SMPL, rotmats: Float[np.ndarray, "24 3 3"], betas: Float[np.ndarray, "10"]) -> Float[np.ndarray, "V 3"]:
    """Vertices in the camera's axes, metres, before translation."""
    with torch.inference_mode():
        mesh = body(torch.from_numpy(rotmats)[None].float(), torch.from_numpy(betas)[None].float())
    return np.asarray(mesh.vertices[0])


def _ranked_by(scores: Scores) -> str:
    """PA-MPJPE, or the first metric that there is."""
    return "pa_mpjpe" if "pa_mpjpe" in scores.errors else next(iter(scores.errors))


def _ratio(metric: Number) -> str:
    return f"{metric.value / metric.mean_body:.2f}" if metric.mean_body else "-"


def _series(lines: Sequence[dict[str, Any]]) -> dict[str, tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]]:
    """Steps and finite values of each number in the lines of a log."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        for name, value in line.items():
            if isinstance(value, int | float) and math.isfinite(value):
                pairs.setdefault(name, []).append((line["step"], value))
    return {name: tuple(np.array(rows, np.float64).T) for name, rows in pairs.items()}


def _read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, none where there is no log. A line that was cut off is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        with suppress(json.JSONDecodeError):
            lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict) and "step" in line]


def _put(path: Path, write: Callable[[Path], object]) -> None:
    """Writes under a temporary name, then renames: the file is complete or not there."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise RunError(f"{path}: the report could not be written ({error.strerror or error})") from None


def _path(x: Float[np.ndarray, " N"], y: Float[np.ndarray, " N"]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True)) + "h0"  # h0: a lone point is a dot


def _short(value: float) -> str:
    """1.5e-4, 0.002, 35, 4k, 1.5M."""
    if 0 < abs(value) < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-").replace(".0e", "e")
    power, letter = (1e6, "M") if abs(value) >= 1e6 else (1e3, "k") if abs(value) >= 1e3 else (1, "")
    return f"{value / power:.4g}{letter}"
