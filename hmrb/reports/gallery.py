"""Draws people of a benchmark: the photo, the predicted and the labelled body over it, and both from the side."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hmrb.body import SMPL, Mesh
from hmrb.body.render import MESH_COLOUR, shade_mesh, write_obj
from hmrb.data.loader import read_view
from hmrb.data.warp import crop_matrix
from hmrb.evaluation.evaluate import Scores
from hmrb.evaluation.metric_table import BETTER, UNITS
from hmrb.evaluation.scoring import Bodies
from hmrb.geometry import FOCAL_PX
from hmrb.reports.labelled import labelled_mesh, place_in_crop
from hmrb.reports.own_camera import TileCamera, crop_camera, own_camera
from hmrb.reports.page import put
from hmrb.reports.tables import SLICED

Colour = tuple[float, float, float]
Vertices = Float[np.ndarray, "V 3"]
Picture = UInt8[np.ndarray, "_ _ 3"]

TILE_PX = 256
LABEL_PX = 24
SIDE_FILL = 1 / 1.2  # share of the tile that the side view fills: a person in a square with the usual margin
PAPER = (236, 239, 244)  # background of the side view; suits light pages, dark pages and print
INK = (20, 20, 20)
LABELLED_COLOUR = (0.98, 0.76, 0.45)  # RGB of the labelled body: far from MESH_COLOUR also for the colour-blind
PEOPLE = 4  # people drawn per group: best, median, worst
JPEG_QUALITY = 90
TILES_ACROSS = 2  # people per row of a sheet
FONT = cv2.FONT_HERSHEY_DUPLEX


@dataclass(frozen=True, slots=True)
class Posing:
    """A person's bodies with their roots at the origin: metres, camera axes. `labelled` is None without a label."""

    predicted: Vertices
    labelled: Vertices | None


@dataclass(frozen=True, slots=True)
class DrawnPerson:
    """One person in the gallery. `picture` is a data URI of `size` px; `files` are its files by what they show."""

    name: str
    errors: dict[str, float]
    picture: str
    size: tuple[int, int]
    files: Mapping[str, str]
    posing: Posing


@dataclass(frozen=True, slots=True)
class _Placed:
    """A body in a person's tile: vertices and root in the camera's axes, in metres, and the camera."""

    vertices: Vertices
    root: Float[np.ndarray, "3"]
    camera: TileCamera

    @property
    def rooted(self) -> Vertices:
        return self.vertices - self.root


def overlay(
    body: SMPL, image: UInt8[np.ndarray, "S S 3"], rotmats: Float[np.ndarray, "R 3 3"], betas: Float[np.ndarray, " C"],
    camera: Float[np.ndarray, "3"], image_px: int,
) -> UInt8[np.ndarray, "S S 3"]:  # fmt: skip
    """Draws the predicted mesh over a person's square crop of any size.

    `camera` is the weak-perspective (scale, x, y) for a crop of `image_px` pixels, the network's input size.
    """
    placed = _predicted(body, rotmats, betas, crop_camera(camera, image_px, len(image)))
    return _over(body, image, placed, MESH_COLOUR)


def from_the_side(
    body: SMPL, vertices: Float[np.ndarray, "V 3"], size: int, colour: Colour = MESH_COLOUR
) -> UInt8[np.ndarray, "size size 3"]:
    """Renders a mesh turned by 90 degrees about the camera's vertical axis: seen from the picture's right."""
    return _on_paper(body, [vertices @ FROM_THE_SIDE.T], [colour], size, vertices @ FROM_THE_SIDE.T, depth=False)


def from_above(
    body: SMPL, vertices: Float[np.ndarray, "V 3"], size: int, colour: Colour = MESH_COLOUR
) -> UInt8[np.ndarray, "size size 3"]:
    """Renders a mesh seen from above, the photo's camera below the tile, as large as from the side."""
    return _on_paper(body, [vertices @ FROM_ABOVE.T], [colour], size, vertices @ FROM_ABOVE.T)


def draw_people(folder: Path, bodies: Bodies, scores: Scores, image_px: int) -> dict[str, list[DrawnPerson]]:
    """Draws the best, median and worst people of a benchmark; writes their pictures and meshes to `folder`."""
    if not len(scores.rotmats):
        return {}
    order = best_first(scores)
    count = min(PEOPLE, max(len(order) // 3, 1))
    middle = (len(order) - count) // 2
    groups = {"best": order[:count], "median": order[middle : middle + count], "worst": order[: -count - 1 : -1]}
    stem = folder / scores.benchmark.file_stem
    return {
        group: [_draw_person(f"{stem}_{group}_{k}", bodies, scores, row, image_px) for k, row in enumerate(rows, 1)]
        for group, rows in groups.items()
    }


def best_first(scores: Scores) -> list[int]:
    """Row numbers of the people, best first."""
    name = ranked_by(scores)
    sign = 1 if BETTER[name] == "lower" else -1
    order: list[int] = (sign * scores.errors[name]).argsort(kind="stable").tolist()
    return order


def ranked_by(scores: Scores) -> str:
    """The metric that people are ranked by: PA-MPJPE, or else the first one."""
    return "pa_mpjpe" if "pa_mpjpe" in scores.errors else next(iter(scores.errors))


def write_worst(path: Path, bodies: Bodies, scores: Scores, image_px: int, count: int) -> None:
    """Writes a JPEG with the `count` worst people: their views, the error and the name below."""
    name = ranked_by(scores)
    drawn = []
    for row in best_first(scores)[: -count - 1 : -1]:
        views, _ = _views(bodies, scores, row, image_px)
        label = f"{scores.errors[name][row]:.1f} {UNITS[name]}  {scores.shard.name(int(scores.people.rows[row]))}"
        drawn.append((views, label))
    tall = max(len(views) for views, _ in drawn)
    tiles = [np.concatenate([as_tall(views, tall), foot(label, views.shape[1])], 0) for views, label in drawn]
    sheet = sheet_of(tiles, TILES_ACROSS)[..., ::-1]
    jpeg = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    put(path, lambda part: part.write_bytes(jpeg.tobytes()))


def sheet_of(tiles: Sequence[Picture], across: int) -> Picture:
    """Tiles of one size in rows, white where the last row ends early."""
    across = min(across, len(tiles))
    padded = [*tiles, *[np.full_like(tiles[0], 255)] * (-len(tiles) % across)]
    return np.concatenate([np.concatenate(padded[i : i + across], 1) for i in range(0, len(padded), across)], 0)


def as_tall(picture: Picture, height: int) -> Picture:
    """A picture with white below it, `height` px in all."""
    more = height - len(picture)
    return np.asarray(cv2.copyMakeBorder(picture, 0, more, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255)))


def foot(words: str, width: int) -> Picture:
    """A strip with words, to go below a tile."""
    strip = np.full((LABEL_PX, width, 3), PAPER, np.uint8)
    cv2.putText(strip, words, (4, 16), FONT, 0.4, INK, 1, cv2.LINE_AA)
    return strip


def _draw_person(stem: str, bodies: Bodies, scores: Scores, row: int, image_px: int) -> DrawnPerson:
    """Writes STEM.png (the views), STEM.obj and, with a label, STEM_labelled.obj (metres, y up)."""
    views, posing = _views(bodies, scores, row, image_px)
    bgr = views[..., ::-1]  # for OpenCV
    png, jpeg = cv2.imencode(".png", bgr)[1], cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    files = {"picture": Path(f"{stem}.png"), "predicted mesh": Path(f"{stem}.obj")}
    put(files["picture"], lambda part: part.write_bytes(png.tobytes()))
    put(files["predicted mesh"], lambda part: write_obj(part, posing.predicted * UPRIGHT, bodies.neutral.faces))
    if (labelled := posing.labelled) is not None:
        files["labelled mesh"] = Path(f"{stem}_labelled.obj")
        put(files["labelled mesh"], lambda part: write_obj(part, labelled * UPRIGHT, bodies.neutral.faces))
    else:  # that of an earlier report's person
        Path(f"{stem}_labelled.obj").unlink(missing_ok=True)
    return DrawnPerson(
        scores.shard.name(int(scores.people.rows[row])),
        {name: float(scores.errors[name][row]) for name in SLICED if name in scores.errors},
        f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}",
        (views.shape[1], views.shape[0]),
        {what: f"{path.parent.name}/{path.name}" for what, path in files.items()},
        posing,
    )


def _views(bodies: Bodies, scores: Scores, row: int, image_px: int) -> tuple[Picture, Posing]:
    """A person's views in RGB, and the bodies.

    Above: the photo, the prediction over it and from the side. Below, if a body is labelled: both bodies from above,
    the labelled body over the photo and from the side.
    """
    neutral, view = bodies.neutral, read_view(scores.shard, int(scores.people.rows[row]))
    square = scores.benchmark.box_scale * view.side
    matrix = crop_matrix(replace(view, side=square), TILE_PX)
    photo = np.asarray(cv2.warpAffine(view.image, matrix, (TILE_PX, TILE_PX)))
    own = own_camera(scores, row, view, matrix, image_px, TILE_PX)
    ours = _predicted(bodies.pose, scores.rotmats[row], scores.betas[row], own)
    over = _over(neutral, photo, ours, MESH_COLOUR)
    mesh = labelled_mesh(bodies, scores, row)
    if mesh is None:
        above = [photo, over, from_the_side(neutral, ours.rooted, TILE_PX)]
        return np.concatenate(list(map(_said, above, SAID)), 1), Posing(ours.rooted, None)
    vertices, root = np.asarray(mesh.vertices[0]), np.asarray(mesh.chain[0, 0])
    instead = own.transl + ours.root - root  # where the prediction stands
    transl = place_in_crop(bodies, mesh, view, square, image_px, instead)
    straight = own if transl is instead else crop_camera(scores.camera[row], image_px, TILE_PX)
    theirs = _Placed(vertices, root, replace(straight, transl=transl))
    pair, colours = [ours.rooted, theirs.rooted], [MESH_COLOUR, LABELLED_COLOUR]
    turned = [body @ FROM_THE_SIDE.T for body in pair]
    room = np.concatenate(turned)
    sides = [_on_paper(neutral, [body], [colour], TILE_PX, room) for body, colour in zip(turned, colours, strict=True)]
    both = [body @ FROM_ABOVE.T for body in pair]
    tiles = [
        photo, over, sides[0],
        _on_paper(neutral, both, colours, TILE_PX, np.concatenate(both)),
        _over(neutral, photo, theirs, LABELLED_COLOUR), sides[1],
    ]  # fmt: skip
    return sheet_of(list(map(_said, tiles, SAID)), 3), Posing(*pair)


def _predicted(
    pose: Callable[[Tensor, Tensor], Mesh], rotmats: Float[np.ndarray, "R 3 3"], betas: Float[np.ndarray, " S"],
    camera: TileCamera,
) -> _Placed:  # fmt: skip
    with torch.inference_mode():
        mesh = pose(torch.from_numpy(rotmats)[None].float(), torch.from_numpy(betas)[None].float())
    return _Placed(np.asarray(mesh.vertices[0]), np.asarray(mesh.chain[0, 0]), camera)


def _over(body: SMPL, image: Picture, placed: _Placed, colour: Colour) -> Picture:
    """The body over its tile, through its camera."""
    focal, middle, vertices = placed.camera.focal, placed.camera.center, placed.vertices + placed.camera.transl
    return shade_mesh(image, vertices, body.faces, focal=focal, center=middle, colour=colour)


def _on_paper(
    body: SMPL, turned: Sequence[Vertices], colours: Sequence[Colour], size: int, room: Float[np.ndarray, "N 3"],
    depth: bool = True,
) -> UInt8[np.ndarray, "size size 3"]:  # fmt: skip
    """Renders meshes in one space, the nearest surface in front; the extent of `room` fills SIDE_FILL of the tile.

    Without `depth`, only the extent across the picture counts.
    """
    low, high = room.min(0), room.max(0)
    extent = float((high - low)[: 3 if depth else 2].max())
    distance = 2 * FOCAL_PX / size  # about the distance of the overlay: almost no perspective
    shift = np.array([0, 0, distance], np.float32) - (low + high) / 2
    points = np.concatenate(turned) + shift
    faces = np.concatenate([body.faces + i * body.num_vertices for i in range(len(turned))])
    tints = np.repeat(np.array(colours, np.float32), body.num_vertices, 0) if len(colours) > 1 else colours[0]
    focal, middle = SIDE_FILL * size * distance / extent, (size / 2, size / 2)
    paper = np.full((size, size, 3), PAPER, np.uint8)
    return shade_mesh(paper, points, faces, focal=focal, center=middle, colour=tints, alpha=1)


def _said(tile: Picture, words: str) -> Picture:
    """The tile with words on paper in its corner."""
    said, high = tile.copy(), len(tile)
    (across, _), _ = cv2.getTextSize(words, FONT, 0.38, 1)
    said[high - 20 :, : across + 10] = PAPER
    cv2.putText(said, words, (5, high - 6), FONT, 0.38, INK, 1, cv2.LINE_AA)
    return said


UPRIGHT = np.array([1, -1, -1], np.float32)  # from the camera's axes to y up
FROM_THE_SIDE = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], np.float32)
FROM_ABOVE = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)
SAID = ("photo", "prediction", "prediction, side", "both, from above", "label", "label, side")
