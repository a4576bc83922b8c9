"""A z-buffer rasteriser in NumPy, shaded mesh overlays on photos, and .obj files.

The centre of pixel (0, 0) is at x = 0, y = 0. Camera frame: x right, y down, z forward, metres.
Faces are counter-clockwise seen from outside; faces that point away from the camera are not drawn.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

NEAR_M = 0.05  # triangles with a nearer corner are dropped; there is no clipping
CHUNK = 1 << 21  # candidate samples per batch; limits memory to about 100 MB when the camera is very close
SUPERSAMPLE = 2  # 2x2 samples per pixel smooth the edges; 3x3 takes twice as long for little gain
LARGE_PX = 1 << 21  # meshes with a larger bounding box are drawn without supersampling, for speed
MESH_COLOUR = (0.65, 0.75, 0.98)  # RGB
KEY_LIGHT = (-0.45, -0.6, -0.66)  # direction to the light in `shade_mesh`: above and left of the camera
KEY, AMBIENT = 0.62, 0.42  # their sum is just above 1, so that surfaces facing the light keep their colour


@dataclass(frozen=True, slots=True)
class Fragments:
    """The visible samples of a mesh: the N pixels that it covers, each with its nearest face.

    `pixel` is y * width + x, ascending and unique. `weights` are the perspective-correct barycentric coordinates in the
    face (linear in space, not on the screen). `depth` is z in metres.
    """

    pixel: Int[np.ndarray, " N"]
    face: Int[np.ndarray, " N"]
    weights: Float[np.ndarray, "N 3"]
    depth: Float[np.ndarray, " N"]

    def mix(self, faces: Int[np.ndarray, "F 3"], values: Float[np.ndarray, "V C"]) -> Float[np.ndarray, "N C"]:
        """Interpolate vertex values at every fragment."""
        corners = faces[self.face]
        mixed: np.ndarray = np.take(values, corners[:, 0], 0) * self.weights[:, 0:1]
        mixed += np.take(values, corners[:, 1], 0) * self.weights[:, 1:2]
        mixed += np.take(values, corners[:, 2], 0) * self.weights[:, 2:3]
        return mixed


@dataclass(frozen=True, slots=True)
class _Triangles:
    """T triangles that face the camera. In each, the second and third screen barycentrics are linear in x and y."""

    face: Int[np.ndarray, " T"]
    left: Int[np.ndarray, " T"]
    top: Int[np.ndarray, " T"]
    columns: Int[np.ndarray, " T"]
    counts: Int[np.ndarray, " T"]
    x: Float[np.ndarray, " T"]
    y: Float[np.ndarray, " T"]
    slopes: Float[np.ndarray, "4 T"]
    nearness: Float[np.ndarray, "3 T"]

    def barycentrics(
        self, row: Int[np.ndarray, " N"], across: Int[np.ndarray, " N"], down: Int[np.ndarray, " N"]
    ) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
        """Weights of the second and third corner; offsets to the first corner keep float32 accurate at any size."""
        dx, dy = across.astype(np.float32) - self.x[row], down.astype(np.float32) - self.y[row]
        return self.slopes[0][row] * dx + self.slopes[1][row] * dy, self.slopes[2][row] * dx + self.slopes[3][row] * dy


def rasterise(
    vertices_px: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], height: int, width: int
) -> Fragments:
    """Rasterise a mesh whose vertices are x px, y px, depth m; returns the visible fragments.

    Every sample in a triangle's bounding box is a candidate. Of the candidates inside their triangle, each pixel keeps
    the one with the largest key: 1/z (upper 32 bits), then triangle index (lower 32 bits). The result does not depend
    on the order of evaluation.
    """
    triangles = _facing(vertices_px.astype(np.float32, copy=False), faces, height, width)
    buffer = np.zeros(height * width, np.uint64)
    for start, stop in _chunks(triangles.counts):
        counts = triangles.counts[start:stop]
        row = np.repeat(np.arange(start, stop, dtype=np.int32), counts)
        offset = np.arange(len(row), dtype=np.int32) - np.repeat((np.cumsum(counts) - counts).astype(np.int32), counts)
        columns = triangles.columns[row]
        down = offset // columns
        across = offset - down * columns + triangles.left[row]
        down += triangles.top[row]
        second, third = triangles.barycentrics(row, across, down)
        inside = np.flatnonzero((second >= 0) & (third >= 0) & (second + third <= 1))
        row, second, third = row[inside], second[inside], third[inside]
        first, rise, turn = triangles.nearness
        nearness = first[row] + second * rise[row] + third * turn[row]
        key = nearness.view(np.uint32).astype(np.uint64) << np.uint64(32) | row.astype(np.uint64)
        np.maximum.at(buffer, down[inside] * np.int64(width) + across[inside], key)
    pixel = np.flatnonzero(buffer)
    row = (buffer[pixel] & np.uint64(0xFFFFFFFF)).astype(np.int32)
    second, third = triangles.barycentrics(row, (pixel % width).astype(np.int32), (pixel // width).astype(np.int32))
    first, rise, turn = triangles.nearness[:, row]
    weights = np.stack([(1 - second - third) * first, second * (first + rise), third * (first + turn)], 1)
    nearness = weights.sum(1)
    return Fragments(pixel, triangles.face[row], weights / nearness[:, None], 1 / nearness)


def _facing(
    vertices_px: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], height: int, width: int
) -> _Triangles:
    """The triangles that face the camera, are in front of it and have a pixel centre in their bounding box."""
    corners = np.ascontiguousarray(faces.T)  # shape 3 T: reductions over corners read contiguous memory
    x, y, z = (np.take(np.ascontiguousarray(axis), corners) for axis in vertices_px.T)
    right_x, right_y, left_x, left_y = x[1] - x[0], y[1] - y[0], x[2] - x[0], y[2] - y[0]
    # Twice the signed area; negative for faces towards the camera, because y points down.
    area = right_x * left_y - left_x * right_y
    left, columns = _span(x, width)
    top, rows = _span(y, height)
    near = np.minimum(np.minimum(z[0], z[1]), z[2])
    kept = np.flatnonzero((area < 0) & (near > NEAR_M) & (columns > 0) & (rows > 0))
    slopes = np.stack([edge[kept] for edge in (left_y, -left_x, -right_y, right_x)]) / area[kept]
    nearness = 1 / np.take(z, kept, 1)
    nearness[1:] -= nearness[0]
    left, top, columns = left[kept], top[kept], columns[kept]
    counts = columns.astype(np.int64) * rows[kept]
    return _Triangles(kept, left, top, columns, counts, x[0, kept], y[0, kept], slopes, nearness)


def _span(corners: Float[np.ndarray, "3 F"], size: int) -> tuple[Int[np.ndarray, " F"], Int[np.ndarray, " F"]]:
    """Along one axis: the first pixel centre inside each triangle's extent, and their number within the image."""
    low = np.minimum(np.minimum(corners[0], corners[1]), corners[2])
    high = np.maximum(np.maximum(corners[0], corners[1]), corners[2])
    first = np.ceil(np.clip(low, 0, size)).astype(np.int32)
    return first, np.floor(np.clip(high, -1, size - 1)).astype(np.int32) - first + 1


def _chunks(counts: Int[np.ndarray, " T"]) -> Iterator[tuple[int, int]]:
    """Ranges of triangles with at most CHUNK candidates in total; a single triangle may have more."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + CHUNK, side="right")))
        yield start, stop
        start = stop


def vertex_normals(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "V 3"]:
    """Unit normals, pointing outwards; the mean over adjacent faces, weighted by area."""
    corners = np.ascontiguousarray(faces.T)
    a, b, c = np.moveaxis(np.take(np.ascontiguousarray(vertices.T), corners, 1), 1, 0)
    u, v = b - a, c - a
    around = corners.ravel()
    normals = np.empty_like(vertices)
    for axis, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        normals[:, axis] = np.bincount(around, np.tile(u[i] * v[j] - u[j] * v[i], 3), len(vertices))
    length = np.sqrt(np.einsum("vc,vc->v", normals, normals))
    normals /= np.maximum(length, np.finfo(np.float32).tiny)[:, None]
    return normals


def shade_mesh(
    image: UInt8[np.ndarray, "H W 3"],
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    *,
    focal: float,
    center: tuple[float, float],
    colour: tuple[float, float, float] | Float[np.ndarray, "V 3"] = MESH_COLOUR,
    alpha: float = 0.85,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw a shaded mesh over an image. Vertices: camera frame, metres; focal and centre: px; colour: RGB 0..1.

    `colour` is that of all vertices, or has a row per vertex.
    Returns a new image. Edges are smooth (2x2 samples per pixel) unless the mesh's box has more than LARGE_PX pixels.
    """
    height, width = image.shape[:2]
    front = vertices[vertices[:, 2] > NEAR_M]
    if not len(front):
        return image.copy()
    flat = front[:, :2] / front[:, 2:] * focal + np.array(center)
    low = np.clip(np.floor(flat.min(0)) - 1, 0, (width, height)).astype(int)
    high = np.clip(np.ceil(flat.max(0)) + 2, 0, (width, height)).astype(int)
    columns, rows = (int(n) for n in high - low)
    if columns <= 0 or rows <= 0:
        return image.copy()
    scale = SUPERSAMPLE if columns * rows <= LARGE_PX else 1
    depth = np.where(vertices[:, 2:] > NEAR_M, vertices[:, 2:], np.inf)
    samples = ((vertices[:, :2] / depth * focal + np.array(center) - low + 0.5) * scale - 0.5).astype(np.float32)
    fragments = rasterise(np.concatenate([samples, vertices[:, 2:]], 1), faces, rows * scale, columns * scale)
    lit = _lambert(fragments.mix(faces, vertex_normals(vertices.astype(np.float32), faces)))
    layer = np.zeros((rows * scale * columns * scale, 4), np.float32)
    tint = np.array(colour, np.float32)
    tint = fragments.mix(faces, tint) if tint.ndim == 2 else tint
    layer[fragments.pixel, :3] = np.clip(lit[:, None] * tint, 0, 1) * (255 * alpha)
    layer[fragments.pixel, 3] = alpha
    fine = layer.reshape(rows * scale, columns * scale, 4)
    cover = cv2.resize(fine, (columns, rows), interpolation=cv2.INTER_AREA).reshape(rows, columns, 4)
    drawn = image.copy()
    patch = drawn[low[1] : high[1], low[0] : high[0]]
    patch[...] = np.rint(patch * (1 - cover[..., 3:]) + cover[..., :3]).astype(np.uint8)
    return drawn


def _lambert(normals: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
    """Brightness of each fragment under one directional light and ambient light."""
    light = np.array(KEY_LIGHT, np.float32)
    facing = normals @ (light / np.linalg.norm(light))
    shade: np.ndarray = AMBIENT + KEY * np.maximum(facing / np.linalg.norm(normals, axis=1), 0)
    return shade


def write_obj(path: Path, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> None:
    """Write the mesh as a Wavefront .obj: metres, indices from 1."""
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in vertices.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (faces + 1).tolist()]
    path.write_text("\n".join(lines) + "\n")
