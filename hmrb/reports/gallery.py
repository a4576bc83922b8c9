"""Draws people of a benchmark: the photo, the predicted mesh over it, and the mesh from the side."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from hmrb.body import SMPL
from hmrb.body.render import MESH_COLOUR, shade_mesh, write_obj
from hmrb.data.loader import read_view
from hmrb.data.warp import crop_matrix
from hmrb.errors import RunError
from hmrb.evaluation.evaluate import Scores
from hmrb.evaluation.metric_table import BETTER, UNITS
from hmrb.formats.writing import replacing
from hmrb.geometry import FOCAL_PX, camera_translation

TILE_PX = 256
LABEL_PX = 24
SIDE_FILL = 1 / 1.2  # share of the tile that the side view fills: a person in a square with the usual margin
PAPER = (236, 239, 244)  # background of the side view; suits light pages, dark pages and print
PEOPLE = 4  # people drawn per group: best, median, worst
JPEG_QUALITY = 90
TILES_A_ROW = 4  # tiles per row of a sheet
SLICED = ("mpjpe", "pa_mpjpe", "pve")  # metrics shown per slice; the record has all of them


@dataclass(frozen=True, slots=True)
class DrawnPerson:
    """One person in the gallery; `picture` is a data URI with photo, overlay and side view."""

    name: str
    errors: dict[str, float]
    picture: str


def overlay(
    body: SMPL, image: UInt8[np.ndarray, "S S 3"], rotmats: Float[np.ndarray, "R 3 3"], betas: Float[np.ndarray, " C"],
    camera: Float[np.ndarray, "3"], image_px: int,
) -> UInt8[np.ndarray, "S S 3"]:  # fmt: skip
    """Draws the predicted mesh over a person's square crop of any size.

    `camera` is the weak-perspective (scale, x, y) for a crop of `image_px` pixels, the network's input size.
    """
    size = len(image)
    move = camera_translation(torch.from_numpy(camera)[None].float(), image_px)
    vertices = _pose(body, rotmats, betas) + move.numpy()
    focal = FOCAL_PX * size / image_px
    return shade_mesh(image, vertices, body.faces, focal=focal, center=(size / 2, size / 2))


def from_the_side(
    body: SMPL, vertices: Float[np.ndarray, "V 3"], size: int, colour: tuple[float, float, float] = MESH_COLOUR
) -> UInt8[np.ndarray, "size size 3"]:
    """Renders a mesh turned by 90 degrees about the camera's vertical axis: seen from the picture's right."""
    turned = np.stack([vertices[:, 2], vertices[:, 1], -vertices[:, 0]], 1)
    return _on_paper(body, turned, float(np.ptp(turned[:, :2], 0).max()), size, colour)


def from_above(
    body: SMPL, vertices: Float[np.ndarray, "V 3"], size: int, colour: tuple[float, float, float] = MESH_COLOUR
) -> UInt8[np.ndarray, "size size 3"]:
    """Renders a mesh seen from above, the photo's camera below the tile, as large as from the side."""
    turned = np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]], 1)
    return _on_paper(body, turned, float(np.ptp(turned, 0).max()), size, colour)


def _on_paper(
    body: SMPL, turned: Float[np.ndarray, "V 3"], extent: float, size: int, colour: tuple[float, float, float]
) -> UInt8[np.ndarray, "size size 3"]:
    """Renders a mesh; `extent` metres fill SIDE_FILL of the tile."""
    low, high = turned.min(0), turned.max(0)
    distance = 2 * FOCAL_PX / size  # about the distance of the overlay: almost no perspective
    turned += np.array([0, 0, distance], np.float32) - (low + high) / 2
    focal = SIDE_FILL * size * distance / extent
    paper = np.full((size, size, 3), PAPER, np.uint8)
    middle = (size / 2, size / 2)
    return shade_mesh(paper, turned, body.faces, focal=focal, center=middle, colour=colour, alpha=1)


def draw_people(folder: Path, body: SMPL, scores: Scores, image_px: int) -> dict[str, list[DrawnPerson]]:
    """Draws the best, median and worst people of a benchmark; writes their pictures and meshes to `folder`."""
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
    """Row numbers of the people, best first."""
    name = ranked_by(scores)
    sign = 1 if BETTER[name] == "lower" else -1
    order: list[int] = (sign * scores.errors[name]).argsort(kind="stable").tolist()
    return order


def write_worst(path: Path, body: SMPL, scores: Scores, image_px: int, count: int) -> None:
    """Writes a JPEG with the `count` worst people: photo, predicted mesh over it, and the error below."""
    name = ranked_by(scores)
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
    put(path, lambda part: part.write_bytes(jpeg.tobytes()))


def _square(scores: Scores, row: int) -> UInt8[np.ndarray, "S S 3"]:
    """The person's square crop, with the width that the benchmark prescribes."""
    view = read_view(scores.shard, int(scores.people.rows[row]))
    matrix = crop_matrix(replace(view, side=scores.benchmark.box_scale * view.side), TILE_PX)
    return np.asarray(cv2.warpAffine(view.image, matrix, (TILE_PX, TILE_PX)))


def _draw_person(stem: str, body: SMPL, scores: Scores, row: int, image_px: int) -> DrawnPerson:
    """Writes STEM.png (photo, overlay, side view) and STEM.obj (metres, y up)."""
    in_shard = int(scores.people.rows[row])
    photo = _square(scores, row)
    drawn = overlay(body, photo, scores.rotmats[row], scores.betas[row], scores.camera[row], image_px)
    vertices = _pose(body, scores.rotmats[row], scores.betas[row])
    strip = np.concatenate([photo, drawn, from_the_side(body, vertices, TILE_PX)], 1)[..., ::-1]  # BGR, for OpenCV
    png, jpeg = cv2.imencode(".png", strip)[1], cv2.imencode(".jpg", strip, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    upright = vertices * np.array([1, -1, -1], np.float32)
    put(Path(f"{stem}.png"), lambda part: part.write_bytes(png.tobytes()))
    put(Path(f"{stem}.obj"), lambda part: write_obj(part, upright, body.faces))
    uri = f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"
    return DrawnPerson(
        scores.shard.name(in_shard),
        {name: float(scores.errors[name][row]) for name in SLICED if name in scores.errors},
        uri,
    )


def _pose(body: SMPL, rotmats: Float[np.ndarray, "R 3 3"], betas: Float[np.ndarray, " S"]) -> Float[np.ndarray, "V 3"]:
    """Vertices in the camera's axes, metres, before translation."""
    with torch.inference_mode():
        mesh = body(torch.from_numpy(rotmats)[None].float(), torch.from_numpy(betas)[None].float())
    return np.asarray(mesh.vertices[0])


def ranked_by(scores: Scores) -> str:
    """The metric that people are ranked by: PA-MPJPE, or else the first one."""
    return "pa_mpjpe" if "pa_mpjpe" in scores.errors else next(iter(scores.errors))


def put(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file of a report atomically. Raises RunError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            write(part)
    except OSError as error:
        raise RunError(f"{path}: could not write the report ({error.strerror or error})") from None
