"""The result of a prediction: people of one or many pictures as arrays, posed, placed and projected on request."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from hmrb.body import SMPL, Mesh
from hmrb.body.render import write_obj
from hmrb.errors import RequestError, RunError
from hmrb.formats.files import reason
from hmrb.formats.writing import replacing
from hmrb.geometry import FOCAL_PX, picture_translation, rotmat_to_rotvec
from hmrb.models.crops import CropRule, rule_named
from hmrb.predict.cameras import Pinholes
from hmrb.predict.given import path_of
from hmrb.predict.glb import write_glb

BLOCK = 256  # people whose joints are posed together
UPRIGHT = np.array([1, -1, -1], np.float32)  # camera axes to those of mesh files: y up


@dataclass(frozen=True, slots=True, eq=False)
class ShownPicture:
    """A picture of a result: its name, its width and height in px, and its RGB pixels if they were kept."""

    name: str
    size_px: tuple[int, int]
    pixels: UInt8[np.ndarray, "H W 3"] | None = None


@dataclass(frozen=True, eq=False)
class People:
    """N predicted people; row i of every array is person i. Metres, radians, pixels; x right, y down, z forward.

    `picture` is each person's row in `pictures`. `box` is x, y, width, height and `square` the crop's centre x, y and
    side, in pixels of the picture (the first pixel's centre is 0). `score` is the detector's (1 for a given box).
    `rotmats` are relative to the parent joint, the root's to the camera. `camera` is the network's weak-perspective
    (scale, tx, ty) for a crop of `image_px` pixels, cut by `crop_rule`. `focal_px` and `center_px` are the picture's
    camera, and `camera_from` says who knew it.
    """

    pictures: tuple[ShownPicture, ...]
    picture: Int[np.ndarray, " N"]
    box: Float[np.ndarray, "N 4"]
    score: Float[np.ndarray, " N"]
    square: Float[np.ndarray, "N 3"]
    rotmats: Float[np.ndarray, "N R 3 3"]
    betas: Float[np.ndarray, "N S"]
    camera: Float[np.ndarray, "N 3"]
    focal_px: Float[np.ndarray, " N"]
    center_px: Float[np.ndarray, "N 2"]
    camera_from: tuple[str, ...]
    image_px: int
    crop_rule: str
    body_name: str
    body: SMPL | None
    """The body that poses them; None if its licensed files are not here: then there are parameters only."""

    def __len__(self) -> int:
        return len(self.picture)

    def __getitem__(self, which: int | np.integer | slice | Int[np.ndarray, " M"] | Bool[np.ndarray, " N"]) -> "People":
        """Some of the people, in the same pictures."""
        rows = np.arange(len(self))[[int(which)] if isinstance(which, int | np.integer) else which]
        parts: dict[str, Any] = {name: getattr(self, name)[rows] for name in PER_PERSON}
        return replace(self, **parts, camera_from=tuple(self.camera_from[row] for row in rows.tolist()))

    def of(self, picture: int) -> "People":
        """The people of one picture, which is then the only one. Raises RequestError if there is no such picture."""
        picture = _row("picture", picture, len(self.pictures))
        some = self[self.picture == picture]
        return replace(some, pictures=(self.pictures[picture],), picture=np.zeros_like(some.picture))

    @cached_property
    def rotvecs(self) -> Float[np.ndarray, "N R 3"]:
        """Axis-angle of `rotmats`: SMPL's `global_orient` and `body_pose`."""
        return rotmat_to_rotvec(torch.from_numpy(self.rotmats)).numpy()

    @cached_property
    def transl(self) -> Float[np.ndarray, "N 3"]:
        """SMPL's translation before the picture's camera: `vertices + transl[:, None]` lie in its frame."""
        return self.picture_camera.transl.astype(np.float32)

    @cached_property
    def picture_camera(self) -> Pinholes:
        """The picture's camera: focal length `focal_px`, principal point `center_px`."""
        return self._placed(self.focal_px, self.center_px)

    @cached_property
    def crop_camera(self) -> Pinholes:
        """Each person's own camera, whose projection is the network's, exactly.

        It looks straight at the crop, or is the picture's, as the network was taught.
        """
        if self._rule.focal.through_picture:
            return self.picture_camera
        side, origin = self.square[:, 2].astype(np.float64), self._origin_px.numpy()
        return self._placed(FOCAL_PX * side / self.image_px, origin)

    def _placed(self, focal_px: Float[np.ndarray, " N"], center_px: Float[np.ndarray, "N 2"]) -> Pinholes:
        parts = (self.camera, self.square[:, 2], focal_px, center_px)
        camera, side, focal, center = (torch.from_numpy(part.astype(np.float64)) for part in parts)
        moved = picture_translation(camera, side, self._origin_px, focal, center)
        return Pinholes(focal_px, center_px, moved.numpy())

    @property
    def _origin_px(self) -> Float[Tensor, "N 2"]:
        return self._rule.origin_px(torch.from_numpy(self.square.astype(np.float64)))

    @property
    def _rule(self) -> CropRule:
        return rule_named(self.crop_rule, self.image_px)

    @property
    def faces(self) -> Int[np.ndarray, "F 3"]:
        """Triangles of the mesh. Raises RequestError without a body."""
        return self._posing.faces

    @cached_property
    def vertices(self) -> Float[np.ndarray, "N V 3"]:
        """Vertices in the camera's axes, before `transl`. Raises RequestError without a body."""
        return np.ascontiguousarray(self._mesh.vertices.numpy())

    def joints(self, skeleton: str = "") -> Float[np.ndarray, "N J 3"]:
        """Joints in the camera's axes, before `transl`: smpl24, smpl54 (the default), h36m17, mesh24.

        Raises RequestError without a body, or for a skeleton that it does not have.
        """
        body = self._posing
        name = skeleton or body.kind.keypoints
        if not body.has_joints(name):
            raise RequestError(f"body '{body.name}' has no joints '{name}'; it has {', '.join(skeletons_of(body))}")
        blocks = zip(*(torch.from_numpy(part).split(BLOCK) for part in (self.rotmats, self.betas)), strict=True)
        with torch.inference_mode():
            return torch.cat([body.joints(body(*block, name), name) for block in blocks]).numpy()

    def joints2d(self, skeleton: str = "") -> Float[np.ndarray, "N J 2"]:
        """The same joints in pixels of the picture, through the picture's camera."""
        return self.picture_camera.project(self.joints(skeleton)).astype(np.float32)

    def draw(self, picture: int = 0, through: Literal["picture", "crop"] = "picture") -> UInt8[np.ndarray, "H W 3"]:
        """The bodies over their picture, the nearest on top, 640 to 1280 px wide or high.

        `through` the picture's camera, or each person's own `crop_camera`. Raises RequestError without body or pixels.
        """
        from hmrb.predict.drawing import overlay  # which imports this module

        if through not in ("picture", "crop"):
            raise RequestError(
                f"through={through!r}: give 'picture' or 'crop', the camera through which bodies are seen"
            )
        some = self.of(picture)
        return overlay(some, some.picture_camera if through == "picture" else some.crop_camera)

    def save_obj(self, path: str | Path, person: int = 0) -> None:
        """Write one person's mesh as Wavefront .obj: metres, y up, about the body's own origin. Raises RunError."""
        row = _row("person", person, len(self))
        save(path, lambda part: write_obj(part, self.vertices[row] * UPRIGHT, self.faces))

    def save_glb(self, path: str | Path, person: int = 0) -> None:
        """Write one person's mesh as binary glTF: metres, y up, about the body's own origin. Raises RunError."""
        row = _row("person", person, len(self))
        save(path, lambda part: write_glb(part, self.vertices[row] * UPRIGHT, self.faces))

    def to_npz(self, path: str | Path) -> None:
        """Write all arrays, which `hmrb eval --from-predictions` reads. Raises RunError."""
        from hmrb.predict.tables import table_of  # which imports this module

        save_arrays(path, table_of(self))

    @property
    def _posing(self) -> SMPL:
        if self.body is None:
            raise RequestError(
                f"the files of body '{self.body_name}' are not here, so these people have parameters (rotmats, betas,"
                " camera, transl) but no vertices and joints; hmrb convert-data body --explain tells how to get them"
            )
        return self.body

    @cached_property
    def _mesh(self) -> Mesh:
        with torch.inference_mode():
            return self._posing(torch.from_numpy(self.rotmats), torch.from_numpy(self.betas))


def joined(parts: Sequence[People]) -> People:
    """The people of several results, in order. Raises ValueError for none."""
    first, starts = parts[0], np.cumsum([0, *(len(part.pictures) for part in parts)])
    arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in PER_PERSON}
    arrays["picture"] = np.concatenate([part.picture + start for part, start in zip(parts, starts[:-1], strict=True)])
    return replace(
        first,
        **arrays,
        pictures=tuple(picture for part in parts for picture in part.pictures),
        camera_from=tuple(said for part in parts for said in part.camera_from),
    )


def skeletons_of(body: SMPL) -> tuple[str, ...]:
    """The skeletons whose joints a body has."""
    names = (body.kind.kinematic, body.kind.keypoints, "mesh24", "h36m17", "spin19")
    return tuple(name for name in names if body.has_joints(name))


def _row(what: str, number: int | np.integer, count: int) -> int:
    """The row of a picture or person; negative numbers count from the end. Raises RequestError if there is none."""
    try:
        return range(count)[number]
    except (IndexError, TypeError):
        raise RequestError(f"{what} {number!r}: there are {count}, counted from 0") from None


def save(path: str | Path, write: Any) -> None:
    """Write a file of a result atomically. Raises RunError, or RequestError for what is no path."""
    path = path_of("path", path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            write(part)
    except OSError as error:
        raise RunError(f"{path}: could not be written: {reason(error)}") from None


def save_arrays(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz atomically. Raises RunError."""

    def write(part: Path) -> None:
        with open(part, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub takes the arrays for allow_pickle

    save(path, write)


PER_PERSON = ("picture", "box", "score", "square", "rotmats", "betas", "camera", "focal_px", "center_px")
