"""Bodies: SMPL-format files from any source, posed by one module that uses smplx's functions.

Regressors belong to one body: `SMPL.joints` rejects a mesh of another body.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmrb.body.expressive import resting_members
from hmrb.body.official import (
    SMPL_LANDMARKS,
    BodyError,
    check_members,
    find_body,
    floats,
    read_members,
    read_regressor,
    rows_to_one,
)
from hmrb.body.tree import Tree
from hmrb.bodykind import SMPL_KIND, SMPLX_KIND, BodyKind
from hmrb.needs import SPIN19
from hmrb.records import GENDERS
from hmrb.store import Store

ALIGNED = 16  # float32 values per vector register (at most) and per cache line
OPEN_BODY = Path(__file__).parent / "open" / "openbody.npz"


@dataclass(frozen=True, slots=True)
class BodyFile:
    """A body of one gender in SMPL format; metres, T-pose, y up.

    In the kind's keypoints, the kinematic joints come first, then the vertices `landmarks`, then the rows of
    `extra_regressor`.
    """

    name: str
    gender: str
    template: Float[np.ndarray, "V 3"]
    shapedirs: Float[np.ndarray, "V 3 S"]
    posedirs: Float[np.ndarray, "V 3 P"] | None
    joint_regressor: Float[np.ndarray, "R V"]
    weights: Float[np.ndarray, "V R"]
    parents: Int[np.ndarray, " R"]
    faces: Int[np.ndarray, "F 3"]
    landmarks: Int[np.ndarray, " L"]
    h36m_regressor: Float[np.ndarray, "H V"]
    extra_regressor: Float[np.ndarray, "E V"]
    spin19_regressor: Float[np.ndarray, "N V"] | None = None
    """Optional, as `mesh24_regressor`; they do not affect the body's hash."""
    mesh24_regressor: Float[np.ndarray, "M V"] | None = None
    """SMPL's joints on the vertices of a body whose own `joint_regressor` has others."""
    kind: BodyKind = SMPL_KIND

    def sha(self) -> str:
        """16 hex digits of the hash of all arrays; it does not depend on the file format."""
        digest = hashlib.sha256()
        for part in (
            self.template, self.shapedirs, self.joint_regressor, self.weights, self.parents, self.faces,
            self.landmarks, self.h36m_regressor, self.extra_regressor,
        ):  # fmt: skip
            digest.update(np.ascontiguousarray(part).tobytes())
        if self.posedirs is not None:
            digest.update(np.ascontiguousarray(self.posedirs).tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Mesh:
    """A posed body: metres, camera axes, before translation. `chain` are the kinematic joints.

    `body` is the body's name. `part` is "" for the whole mesh, or a skeleton's name if only the vertices that its
    joints depend on are present.
    """

    vertices: Float[Tensor, "B V 3"]
    chain: Float[Tensor, "B R 3"]
    body: str
    part: str = ""

    def split(self, size: int) -> "list[Mesh]":
        """Splits into meshes of `size` bodies, in order."""
        parts = zip(self.vertices.split(size), self.chain.split(size), strict=True)
        return [Mesh(vertices, chain, self.body, self.part) for vertices, chain in parts]


class SMPL(nn.Module):
    """Poses a body file. Has only buffers, which are neither trained nor saved in checkpoints."""

    template: Tensor
    directions: Tensor
    weights: Tensor
    rest_joints: Tensor
    joint_shapedirs: Tensor

    def __init__(self, file: BodyFile) -> None:
        super().__init__()
        self.name, self.gender, self.sha, self.kind = file.name, file.gender, file.sha(), file.kind
        self.faces, self.parents = file.faces, file.parents
        self._tree = Tree(file.parents)
        regressor = torch.from_numpy(file.joint_regressor)
        template, shapedirs = torch.from_numpy(file.template), torch.from_numpy(file.shapedirs)
        # The mesh is stored as separate planes of x, y and z, which fit the cache; matrix products with shape and pose
        # deform and pose them. Planes are padded with vertices at the origin, so that rows are aligned for SIMD.
        directions = [shapedirs] if file.posedirs is None else [shapedirs, torch.from_numpy(file.posedirs)]
        self._num_vertices = len(template)
        self._keep("template", _padded(template.T))
        self._keep("directions", _padded(torch.cat(directions, 2).permute(2, 1, 0)))
        self._keep("weights", _padded(torch.from_numpy(file.weights).T))
        # Joints are linear in betas, so they are regressed once here instead of from every shaped mesh.
        self._keep("rest_joints", regressor @ template)
        self._keep("joint_shapedirs", torch.einsum("jv,vck->jck", regressor, shapedirs))
        self._bends = file.posedirs is not None
        one_hot = np.zeros((len(file.landmarks), len(file.template)), np.float32)
        one_hot[range(len(file.landmarks)), file.landmarks] = 1
        self._keep_rows(self.kind.keypoints, np.concatenate([one_hot, file.extra_regressor]))
        self._keep_rows("h36m17", file.h36m_regressor)
        mesh24 = file.joint_regressor if self.kind is SMPL_KIND else file.mesh24_regressor
        for name, rows in (("mesh24", mesh24), ("spin19", file.spin19_regressor)):
            if rows is not None:
                self._keep_rows(name, rows)
        self._keep(f"{self.kind.kinematic}_support", torch.zeros(0, dtype=torch.long))  # needs no vertices

    def has_joints(self, skeleton: str) -> bool:
        """Whether this body has a skeleton's regressor, which `joints` requires."""
        return hasattr(self, f"{skeleton}_support")

    @property
    def num_vertices(self) -> int:
        """Number of vertices of the whole mesh."""
        return self._num_vertices

    def forward(self, rotmats: Float[Tensor, "B R 3 3"], betas: Float[Tensor, "B S"], part: str = "") -> Mesh:
        """Pose the mesh; if `part` is a skeleton's name, only the vertices that its joints depend on."""
        template, directions, weights = (getattr(self, name) for name in self._planes(part))
        joints = torch.addmm(self.rest_joints.flatten(), betas, self.joint_shapedirs.flatten(0, 1).T).unflatten(
            1, (-1, 3)
        )
        pays_for_launches = _is_on_gpu(rotmats)
        chain, moves = (self._tree.at_once if pays_for_launches else self._tree)(rotmats, joints)
        shape_and_pose = betas
        if self._bends:
            bend = (rotmats[:, 1:] - self._tree.identity[:3, :3]).flatten(1)
            shape_and_pose = torch.cat([betas, bend], 1)
        pose_planes = _posed_at_once if pays_for_launches else _posed_by_planes
        posed = pose_planes(template, directions, weights, shape_and_pose, moves)
        count = len(getattr(self, f"{part}_support")) if part else self.num_vertices
        return Mesh(posed[..., :count].mT, chain, self.name, part)

    def joints(self, mesh: Mesh, skeleton: str) -> Float[Tensor, "B J 3"]:
        """Joints of `skeleton` on a mesh of this body, metres, camera axes.

        Skeletons: the kind's kinematic joints and keypoints, h36m17, and mesh24 and spin19 if the body has them.
        Raises BodyError for a mesh of another body, ValueError for a part of a mesh that lacks the vertices.
        """
        if mesh.body != self.name:
            raise BodyError(f"a mesh of body '{mesh.body}' does not fit the regressors of body '{self.name}'")
        if skeleton == self.kind.kinematic:
            return mesh.chain
        if mesh.part not in ("", skeleton):
            raise ValueError(f"the mesh contains only the vertices for '{mesh.part}', not those for '{skeleton}'")
        vertices = mesh.vertices
        if not mesh.part:
            vertices = vertices.mT.index_select(2, getattr(self, f"{skeleton}_support")).mT
        regressed = torch.einsum("jv,bvc->bjc", getattr(self, f"{skeleton}_rows"), vertices)
        return torch.cat([mesh.chain, regressed], 1) if skeleton == self.kind.keypoints else regressed

    def _planes(self, part: str) -> tuple[str, ...]:
        """Names of the buffers for a part's vertices; they are created on first use."""
        names = ("template", "directions", "weights")
        if not part:
            return names
        own = tuple(f"{part}_{name}" for name in names)
        for name, picked in zip(names, own, strict=True):
            if not hasattr(self, picked):
                self._keep(picked, _padded(getattr(self, name)[..., getattr(self, f"{part}_support")]))
        return own

    def _keep(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    def _keep_rows(self, skeleton: str, rows: Float[np.ndarray, "J V"]) -> None:
        support = np.flatnonzero(rows.any(0))
        self._keep(f"{skeleton}_support", torch.from_numpy(support))
        self._keep(f"{skeleton}_rows", torch.from_numpy(np.ascontiguousarray(rows[:, support])))


def _is_on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


def _posed_by_planes(
    template: Float[Tensor, "3 W"],
    directions: Float[Tensor, "K 3 W"],
    weights: Float[Tensor, "R W"],
    shape_and_pose: Float[Tensor, "B K"],
    moves: Float[Tensor, "B R 3 4"],
) -> Float[Tensor, "B 3 W"]:
    """The posed vertices as planes of x, y and z, one plane after the other, for a CPU's caches."""
    planes = zip(template, directions.unbind(1), strict=True)
    unposed = [torch.addmm(middle, shape_and_pose, ways) for middle, ways in planes]
    posed = []
    for row in moves.permute(2, 3, 0, 1).contiguous():
        *turns, plane = (numbers @ weights for numbers in row)
        for turn, own in zip(turns, unposed, strict=True):
            plane = plane.addcmul(turn, own)
        posed.append(plane)
    return torch.stack(posed, 1)


def _posed_at_once(
    template: Float[Tensor, "3 W"],
    directions: Float[Tensor, "K 3 W"],
    weights: Float[Tensor, "R W"],
    shape_and_pose: Float[Tensor, "B K"],
    moves: Float[Tensor, "B R 3 4"],
) -> Float[Tensor, "B 3 W"]:
    """The same in a few large operations, for a GPU, which pays for each launch."""
    unposed = torch.addmm(template.flatten(), shape_and_pose, directions.flatten(1)).unflatten(1, (3, -1))
    turns, shifts = (moves.permute(0, 2, 3, 1) @ weights).split([3, 1], 2)
    return (turns * unposed[:, None]).sum(2) + shifts[:, :, 0]


def _padded(planes: Float[Tensor, "... V"]) -> Float[Tensor, "... W"]:
    return nn.functional.pad(planes, (0, -planes.shape[-1] % ALIGNED)).contiguous()


def load_body(name: str, gender: str = "neutral", store: Store | None = None) -> SMPL:
    """Load a body: `open` is part of the package, `smpl` and `smplx` are read from the store's bodies/.

    Raises BodyError with the expected path and the download page if the file is missing, or with the error in it.
    """
    if gender not in GENDERS:
        raise BodyError(f"unknown gender '{gender}'; known: {', '.join(GENDERS)}")
    if name not in READERS:
        raise BodyError(f"no body named '{name}'. Known: open (part of hmrb), smpl, smplx (your licensed files)")
    return SMPL(READERS[name](gender, store or Store.default()))


def _read_open(gender: str, store: Store) -> BodyFile:
    with np.load(OPEN_BODY, allow_pickle=False) as arrays:
        members = {key: arrays[key] for key in arrays.files}
    members |= {"v_template": members[f"v_template_{gender}"], "shapedirs": members[f"shapedirs_{gender}"]}
    return body_file("open", gender, OPEN_BODY, members)


def _read_smpl(gender: str, store: Store) -> BodyFile:
    folder = store.bodies / "smpl"
    path = find_body(folder, gender)
    members = read_members(path)
    for key in ("J_regressor_h36m", "J_regressor_extra"):
        members[key] = read_regressor(folder / f"{key}.npy")
    if (folder / SPIN19).exists():
        members["SMPL_to_J19"] = read_regressor(folder / SPIN19)
    members["vertex_ids"] = np.array(SMPL_LANDMARKS)
    return body_file("smpl", gender, path, members)


def _read_smplx(gender: str, store: Store) -> BodyFile:
    path, members = resting_members(gender, store)
    return _body_of("smplx", gender, path, members, SMPLX_KIND)


def body_file(name: str, gender: str, path: Path, members: dict[str, np.ndarray]) -> BodyFile:
    """Convert arrays under official names to a BodyFile. Raises BodyError if they are invalid."""
    check_members(path, members)
    return _body_of(name, gender, path, members, SMPL_KIND)


def _body_of(name: str, gender: str, path: Path, members: dict[str, np.ndarray], kind: BodyKind) -> BodyFile:
    """Arrays under official names, whose shapes are right."""
    posedirs, spin19, mesh24 = (members.get(key) for key in ("posedirs", "SMPL_to_J19", "mesh24"))
    parents = members["kintree_table"][0].astype(np.int64)
    parents[0] = -1  # official files store 2^32 - 1
    return BodyFile(
        name=name,
        gender=gender,
        template=floats(members["v_template"]),
        shapedirs=floats(members["shapedirs"][..., : kind.num_betas]),
        posedirs=None if posedirs is None else floats(posedirs),
        joint_regressor=rows_to_one(members["J_regressor"], f"{path}: J_regressor"),
        weights=rows_to_one(members["weights"], f"{path}: weights"),
        parents=parents,
        faces=members["f"].astype(np.int64),
        landmarks=members["vertex_ids"].astype(np.int64),
        h36m_regressor=rows_to_one(members["J_regressor_h36m"], f"{path}: J_regressor_h36m"),
        extra_regressor=rows_to_one(members["J_regressor_extra"], f"{path}: J_regressor_extra"),
        spin19_regressor=None if spin19 is None else floats(spin19),
        mesh24_regressor=None if mesh24 is None else floats(mesh24),
        kind=kind,
    )


READERS: dict[str, Callable[[str, Store], BodyFile]] = {"open": _read_open, "smpl": _read_smpl, "smplx": _read_smplx}
