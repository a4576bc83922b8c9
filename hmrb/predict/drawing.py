"""Pictures of predicted people: bodies over their photo, and each body from the side and from above."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from hmrb.body.render import shade_mesh
from hmrb.errors import RequestError
from hmrb.predict.cameras import Pinholes
from hmrb.predict.people import People
from hmrb.reports.gallery import LABEL_PX, PAPER, TILE_PX, from_above, from_the_side

SMALLEST_PX, LARGEST_PX = 640, 1280  # of the longer side of an overlay: small photos are enlarged, large ones reduced
MOVED = 0.01  # mean distance of vertices; 2 px of a crop of 224
ALPHA = 0.85  # of the bodies
MOST_ROWS = 64  # people on a sheet of views
INK = (20, 20, 20)
COLOURS = (  # RGB of the first people, light enough to be shaded and far apart also for the colour-blind (Okabe, Ito)
    (0.65, 0.75, 0.98), (0.98, 0.76, 0.45), (0.55, 0.85, 0.70), (0.95, 0.65, 0.80), (0.95, 0.90, 0.55),
    (0.60, 0.85, 0.95), (0.95, 0.60, 0.50), (0.80, 0.80, 0.80),
)  # fmt: skip


def overlay(people: People, camera: Pinholes, numbers: Sequence[int] = ()) -> UInt8[np.ndarray, "H W 3"]:
    """The bodies of one picture over it, through a camera per person, the nearest on top; edges are smooth.

    Several people get their number: 1, 2, ..., or `numbers`, which then also choose the colours. Raises RequestError if
    there is no body or the pixels were not kept.
    """
    photo, zoom = _enlarged(_pixels(people))
    # Where each person has the focal length of the crop rule, depths have no common unit: size tells who is nearer.
    order = np.argsort(-camera.transl[:, 2] / camera.focal_px, kind="stable").tolist()
    solid = photo
    numbers = numbers or range(1, len(people) + 1)
    colours = [COLOURS[(number - 1) % len(COLOURS)] for number in numbers]
    for i in order:
        solid = _over(solid, people, camera, i, zoom, colours[i])
    drawn = np.asarray(cv2.addWeighted(solid, ALPHA, photo, 1 - ALPHA, 0))  # the photo shows through, nobody behind
    for i in order if max(numbers, default=0) > 1 else ():
        x, y, width, _ = (people.box[i] * zoom).tolist()
        _number(drawn, numbers[i], (x + width / 2, y), colours[i])
    return drawn


def camera_to_draw(people: People) -> tuple[Pinholes, str]:
    """The camera for the overlay of one picture, and a note if it is not the picture's.

    A network that sees only crops puts the body over the person in its own camera. A short focal length moves it away;
    by more than MOVED of the square, everybody is drawn through their own camera.
    """
    own, picture = people.crop_camera, people.picture_camera
    moved = np.linalg.norm(picture.project(people.vertices) - own.project(people.vertices), axis=2).mean(1)
    share = float((moved / people.square[:, 2]).max(initial=0))
    if share <= MOVED:
        return picture, ""
    return own, (
        f"{people.pictures[0].name}: drawn through each person's own camera; the picture's ({people.camera_from[0]})"
        f" moves bodies by up to {share:.1%} of their square"
    )


def views(people: People) -> UInt8[np.ndarray, "H W 3"]:
    """A row per person of one picture: crop, the body over it, from the side, from above; at most MOST_ROWS people."""
    assert people.body is not None
    pixels, rows = _pixels(people), []
    for i in range(min(len(people), MOST_ROWS)):
        x, y, side = people.square[i].tolist()
        zoom = TILE_PX / side
        matrix = np.array([[zoom, 0, TILE_PX / 2 - zoom * x], [0, zoom, TILE_PX / 2 - zoom * y]])
        crop = np.asarray(cv2.warpAffine(pixels, matrix, (TILE_PX, TILE_PX), flags=cv2.INTER_AREA, borderValue=PAPER))
        camera, colour = people.crop_camera, COLOURS[i % len(COLOURS)]
        center = matrix[:, :2] @ camera.center_px[i] + matrix[:, 2]
        placed = (people.vertices[i] + camera.transl[i]).astype(np.float32)
        focal, at = float(camera.focal_px[i]) * zoom, (float(center[0]), float(center[1]))
        over = shade_mesh(crop, placed, people.faces, focal=focal, center=at, colour=colour)
        side_on, above = (
            look(people.body, people.vertices[i], TILE_PX, colour) for look in (from_the_side, from_above)
        )
        rows.append(np.concatenate([crop, over, side_on, above], 1))
        words = f"{i + 1}: photo, body, from the side, from above"
        if i + 1 == MOST_ROWS < len(people):
            words += f"; {len(people) - MOST_ROWS} more people are not drawn"
        foot = np.full((LABEL_PX, rows[-1].shape[1], 3), PAPER, np.uint8)
        cv2.putText(foot, words, (4, 16), cv2.FONT_HERSHEY_DUPLEX, 0.4, INK, 1, cv2.LINE_AA)
        rows.append(foot)
    return np.concatenate(rows, 0)


def _pixels(people: People) -> UInt8[np.ndarray, "H W 3"]:
    pixels = people.pictures[0].pixels
    if pixels is None:
        raise RequestError(f"the pixels of {people.pictures[0].name} were not kept, so nothing can be drawn on them")
    return pixels


def enlarged(pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "Y X 3"]:
    """A picture in the size of its overlay, with nobody drawn."""
    return _enlarged(pixels)[0]


def _enlarged(pixels: UInt8[np.ndarray, "H W 3"]) -> tuple[UInt8[np.ndarray, "Y X 3"], Float[np.ndarray, "4"]]:
    """A copy of a picture of a readable size, and the factors of x, y, width, height."""
    height, width = pixels.shape[:2]
    longer = max(height, width)
    wanted = min(max(longer, SMALLEST_PX), LARGEST_PX) / longer
    size = max(round(width * wanted), 1), max(round(height * wanted), 1)
    kind = cv2.INTER_AREA if wanted < 1 else cv2.INTER_CUBIC
    scaled = pixels.copy() if wanted == 1 else np.asarray(cv2.resize(pixels, size, interpolation=kind))
    return scaled, np.array([size[0] / width, size[1] / height] * 2)


def _over(
    drawn: UInt8[np.ndarray, "H W 3"],
    people: People,
    camera: Pinholes,
    i: int,
    zoom: Float[np.ndarray, "4"],
    colour: tuple[float, float, float],
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw one person on a picture scaled by `zoom`. Unequal factors (rounded sizes) are put into x and y."""
    placed = people.vertices[i] + camera.transl[i]
    placed[:, 1] *= zoom[1] / zoom[0]
    center = (camera.center_px[i] + 0.5) * zoom[:2] - 0.5
    focal, at = float(camera.focal_px[i] * zoom[0]), (float(center[0]), float(center[1]))
    return shade_mesh(drawn, placed.astype(np.float32), people.faces, focal=focal, center=at, colour=colour, alpha=1)


def _number(
    drawn: UInt8[np.ndarray, "H W 3"], number: int, top: tuple[float, float], colour: tuple[float, float, float]
) -> None:
    """Write a person's number in its colour, on a dark edge, above the box and inside the picture."""
    height, width = drawn.shape[:2]
    at = int(np.clip(top[0] - 8, 2, width - 24)), int(np.clip(top[1] - 6, 22, height - 4))
    paint = tuple(round(255 * part) for part in colour)
    cv2.putText(drawn, str(number), at, cv2.FONT_HERSHEY_DUPLEX, 0.8, INK, 4, cv2.LINE_AA)
    cv2.putText(drawn, str(number), at, cv2.FONT_HERSHEY_DUPLEX, 0.8, paint, 1, cv2.LINE_AA)
