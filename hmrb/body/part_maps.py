"""Which part of a body each cell of a coarse map over a crop shows: a small z-buffer, for losses on parts."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hmrb.body import SMPL, Mesh
from hmrb.body.render import rasterise
from hmrb.geometry import project

WINDOW = 8  # cells along an axis that a GPU tries for a face; the longest of a standing person spans 4 of 56
BODY_M = 1.7  # height of a standing person
CANDIDATES = 1 << 22  # cells that a GPU tries at a time, in about 300 MB
FACE_BITS = 20


class PartMaps:
    """Renders the parts of posed bodies.

    A vertex belongs to the joint with its largest weight, a face to the first of its corners' parts: as in PARE, whose
    own table of vertices is a licensed file.
    """

    def __init__(self, body: SMPL) -> None:
        self.faces = torch.from_numpy(body.faces).to(body.template.device)
        self.part = 1 + body.weights[:, : body.num_vertices].argmax(0)[self.faces].amin(1)
        corners = body.template[:, : body.num_vertices].T[self.faces]
        self.longest_m = float((corners - corners.roll(1, 1)).norm(dim=2).max())

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def __call__(
        self, mesh: Mesh, camera: Float[Tensor, "B 3"], image_px: int, cells: tuple[int, int]
    ) -> Int[Tensor, "B h w"]:
        """0 for the background, 1 + joint for the nearest part at each cell's centre.

        `camera` is weak-perspective, `cells` rows and columns. The map is as high as the crop of `image_px`; with fewer
        columns than rows it shows the crop's middle ones. A GPU draws people with a face of more than WINDOW cells,
        whom the crop cuts off, in larger cells.
        """
        middle = mesh.vertices.new_tensor([cells[1] - 1, cells[0] - 1]) / 2
        flat = project(mesh.vertices, camera, image_px) * (cells[0] / image_px) + middle
        depth = mesh.vertices[..., 2]
        if not flat.is_cuda:
            return self.drawn_in_turn(flat, depth, cells)
        window = min(WINDOW, 2 + int(2 * self.longest_m * cells[0] / BODY_M))
        people = max(1, CANDIDATES // (len(self.faces) * window**2))
        blocks = zip(flat.split(people), depth.split(people), strict=True)
        return torch.cat([self.drawn_at_once(*block, window, cells) for block in blocks])

    def drawn_in_turn(
        self, flat: Float[Tensor, "B V 2"], depth: Float[Tensor, "B V"], cells: tuple[int, int]
    ) -> Int[Tensor, "B h w"]:
        """Person by person, for a CPU. `flat` is in cells, 0 at the first cell's centre; depth in metres."""
        faces, part = self.faces.numpy(), self.part.numpy()
        drawn = np.zeros((len(flat), cells[0] * cells[1]), np.int64)
        before = (depth - depth.amin(1, keepdim=True) + 1)[..., None]  # the renderer draws nothing at 0 m
        for row, vertices in zip(drawn, torch.cat([flat, before], 2).numpy(), strict=True):
            seen = rasterise(vertices, faces, *cells)
            row[seen.pixel] = part[seen.face]
        return torch.from_numpy(drawn).unflatten(1, cells)

    def drawn_at_once(
        self, flat: Float[Tensor, "B V 2"], depth: Float[Tensor, "B V"], window: int, cells: tuple[int, int]
    ) -> Int[Tensor, "B h w"]:
        """All at once, for a GPU, which is not waited for: `window` cells along each axis are tried for a face."""
        corners = flat[:, self.faces]
        spans = corners.amax(2) - corners.amin(2)
        coarser = (spans.amax((1, 2)) / window).clamp(min=1)[:, None, None]
        corners = corners / coarser[..., None]
        near = depth[:, self.faces].amax() - depth[:, self.faces]  # larger is nearer, never negative
        first = corners.amin(2).ceil()
        steps = torch.arange(window, device=flat.device, dtype=flat.dtype)
        at = first[:, :, None] + torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).flatten(0, 1)
        a, b, c = corners.unbind(2)
        second, third, is_facing = _barycentrics(at, a, b, c)
        height, width = cells
        inside = (second >= 0) & (third >= 0) & (second + third <= 1) & is_facing[..., None]
        inside &= (at >= 0).all(-1) & (at[..., 0] < width) & (at[..., 1] < height)
        z = near[..., :1] + second * (near[..., 1:2] - near[..., :1]) + third * (near[..., 2:] - near[..., :1])
        number = torch.arange(1, 1 + len(self.faces), device=flat.device)[:, None]
        key = (z.clamp(min=0).view(torch.int32).long() << FACE_BITS | number) * inside
        column, row = at.clamp(min=0).long().unbind(-1)
        place = row.clamp(max=height - 1) * width + column.clamp(max=width - 1)
        nearest = key.new_zeros(len(flat), height * width)
        nearest.scatter_reduce_(1, place.flatten(1), key.flatten(1), "amax")
        known = torch.cat([self.part.new_zeros(1), self.part])
        drawn = known[nearest & ((1 << FACE_BITS) - 1)].unflatten(1, cells)
        return _finer(drawn, coarser[:, 0, 0])


def _barycentrics(
    at: Float[Tensor, "B F N 2"], a: Float[Tensor, "B F 2"], b: Float[Tensor, "B F 2"], c: Float[Tensor, "B F 2"]
) -> tuple[Float[Tensor, "B F N"], Float[Tensor, "B F N"], Bool[Tensor, "B F"]]:
    """Weights of the second and third corner, and whether a face looks at the camera (y points down)."""
    (right_x, right_y), (left_x, left_y) = (b - a).unbind(-1), (c - a).unbind(-1)
    area = right_x * left_y - left_x * right_y
    is_facing = area < 0
    area = torch.where(is_facing, area, -1.0)[..., None]
    x, y = (at - a[:, :, None]).unbind(-1)
    second = (left_y[..., None] * x - left_x[..., None] * y) / area
    third = (right_x[..., None] * y - right_y[..., None] * x) / area
    return second, third, is_facing


def _finer(drawn: Int[Tensor, "B h w"], coarser: Float[Tensor, " B"]) -> Int[Tensor, "B h w"]:
    """The map in its own cells, of people drawn in cells that are larger by a factor."""
    _, height, width = drawn.shape
    row, column = (
        (torch.arange(size, device=drawn.device) / coarser[:, None]).round().long() for size in (height, width)
    )
    people = torch.arange(len(drawn), device=drawn.device)[:, None, None]
    return drawn[people, row[:, :, None], column[:, None]]
