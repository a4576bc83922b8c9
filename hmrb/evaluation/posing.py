"""Predictions and ground truth posed and rooted by a benchmark's protocol."""

import hashlib

import torch
from jaxtyping import Float
from torch import Tensor

from hmrb.body import SMPL, Mesh
from hmrb.evaluation.metrics import Posed
from hmrb.evaluation.protocols import Benchmark
from hmrb.skeleton import SKELETONS


def posed(benchmark: Benchmark, body: SMPL, mesh: Mesh, rotmats: Float[Tensor, "B R 3 3"] | None = None) -> Posed:
    """A mesh and its joints, relative to the protocol's root."""
    points = body.joints(mesh, benchmark.regressor)
    joints, root = rooted(benchmark, points, benchmark.regressor)
    return Posed(joints, mesh.vertices - root if benchmark.has_mesh else None, rotmats, root=root[:, 0], kind=body.kind)


def rooted(
    benchmark: Benchmark, points: Float[Tensor, "B K 3"], skeleton: str
) -> tuple[Float[Tensor, "B J 3"], Float[Tensor, "B 1 3"]]:
    """From points in `skeleton`, select the protocol's joints relative to its root; returns joints and root."""
    index = SKELETONS[skeleton].index
    root = points[:, [index(joint) for joint in benchmark.root]].mean(1, keepdim=True)
    return points[:, [index(joint) for joint in benchmark.joint_names]] - root, root


def regressor_sha(body: SMPL, regressor: str) -> str:
    """16 hex digits of a regressor's hash. Kinematic joints have no separate regressor; they have the body's hash."""
    if regressor == body.kind.kinematic:
        return body.sha
    digest = hashlib.sha256()
    for part in ("support", "rows"):
        digest.update(getattr(body, f"{regressor}_{part}").cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def by_gender(
    bodies: dict[str, SMPL],
    gender: list[str],
    rotmats: Float[Tensor, "B R 3 3"],
    betas: Float[Tensor, "B S"],
    part: str = "",
) -> Mesh:
    """Pose each person with the body of their gender; with `part`, only the vertices of that part."""
    if len(set(gender)) == 1:
        return bodies[gender[0]](rotmats, betas, part)
    groups = {name: [i for i, g in enumerate(gender) if g == name] for name in sorted(set(gender))}
    meshes = [bodies[name](rotmats[rows], betas[rows], part) for name, rows in groups.items()]
    order = torch.tensor([row for rows in groups.values() for row in rows], device=rotmats.device).argsort()
    planes = torch.cat([mesh.vertices.mT for mesh in meshes])  # matches the memory layout
    chain = torch.cat([mesh.chain for mesh in meshes])
    return Mesh(planes.index_select(0, order).mT, chain[order], meshes[0].body, part)
