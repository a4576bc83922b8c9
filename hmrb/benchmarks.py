"""Benchmarks are protocols, as data: which people, joints from where, which root, whose body. Versioned by name."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hmrb.body import SMPL, Mesh
from hmrb.metrics import Posed
from hmrb.skeleton import SKELETONS


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One protocol. Joints are regressed from the mesh on both sides; the root is subtracted before joints are picked.

    `gendered` truth is posed with the body of the labelled gender, the prediction always with the neutral one.
    """

    name: str
    dataset: str
    split: str
    is_test: bool = True
    gendered: bool = False
    regressor: str = "h36m17"
    root: str = "pelvis_extra"
    joints: str = "lsp14"
    metrics: tuple[str, ...] = ("mpjpe", "pa_mpjpe", "pve")
    version: int = 1

    @property
    def protocol(self) -> str:
        """The name that travels with every number."""
        body = "gendered" if self.gendered else "neutral"
        return f"{self.dataset}-{self.split}/{self.joints}-{self.regressor}-{self.root}-{body}@{self.version}"

    @property
    def joint_names(self) -> tuple[str, ...]:
        """The joints that errors are taken of, in order."""
        return SKELETONS[self.joints].joints

    def posed(self, body: SMPL, mesh: Mesh) -> Posed:
        """A mesh relative to the protocol's root, and its joints."""
        points = body.joints(mesh, self.regressor)
        skeleton = SKELETONS[self.regressor]
        root = points[:, None, skeleton.index(self.root)]
        rows = [skeleton.index(joint) for joint in self.joint_names]
        return Posed(points[:, rows] - root, mesh.vertices - root)


def by_gender(
    bodies: dict[str, SMPL], gender: list[str], rotmats: Float[Tensor, "B 24 3 3"], betas: Float[Tensor, "B 10"]
) -> Mesh:
    """Each person posed with the body of its own gender."""
    neutral = bodies["neutral"]
    vertices, chain = rotmats.new_empty(len(gender), neutral.num_vertices, 3), rotmats.new_empty(len(gender), 24, 3)
    for name in sorted(set(gender)):
        rows = torch.tensor([i for i, g in enumerate(gender) if g == name], device=rotmats.device)
        mesh = bodies[name](rotmats[rows], betas[rows])
        vertices[rows], chain[rows] = mesh.vertices, mesh.chain
    return Mesh(vertices, chain, neutral.name)


_ROWS = (
    Benchmark("synthetic", "synthetic", "test"),
    Benchmark("synthetic_val", "synthetic", "val", is_test=False),
    Benchmark("synthetic_full", "synthetic_full", "test"),
    Benchmark("synthetic_full_val", "synthetic_full", "val", is_test=False),
    Benchmark("3dpw", "3dpw", "test", gendered=True),
    Benchmark("3dpw_val", "3dpw", "val", is_test=False, gendered=True),
)
BENCHMARKS = {row.name: row for row in _ROWS}
