"""Forward kinematics."""

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Tree(nn.Module):
    """A kinematic tree: rotations of joints to their rigid transforms, one level of the tree after the other."""

    identity: Tensor
    parents: Tensor
    order: Tensor
    back: Tensor

    def __init__(self, parents: Int[np.ndarray, " R"]) -> None:
        super().__init__()
        depth = np.zeros(len(parents), np.int64)
        for joint, parent in enumerate(parents[1:], 1):
            depth[joint] = depth[parent] + 1
        levels = [np.flatnonzero(depth == level) for level in range(depth.max() + 1)]
        order = np.concatenate(levels)
        self._sizes = [len(level) for level in levels]
        self._is_ordered = bool((order == np.arange(len(order))).all())  # SMPL's numbers go by level
        self._keep("parents", np.maximum(parents, 0))
        self._keep("order", order)
        self._keep("back", order.argsort())
        self._picks = []
        for number, (above, level) in enumerate(pairwise(levels)):
            places = np.searchsorted(above, parents[level])
            self._keep(f"places_{number}", places)
            self._picks.append(_as_slice(places))
        self.register_buffer("identity", torch.eye(4), persistent=False)

    def forward(
        self, rotmats: Float[Tensor, "B R 3 3"], joints: Float[Tensor, "B R 3"]
    ) -> tuple[Float[Tensor, "B R 3"], Float[Tensor, "B R 3 4"]]:
        """Posed joints, and the transforms that move the rest pose's vertices, as [R | t]; metres.

        `rotmats` are relative to the parent. As `batch_rigid_transform` of smplx, to which it is compared under test.
        """
        offsets = torch.cat([joints[:, :1], joints[:, 1:] - joints.index_select(1, self.parents[1:])], 1)
        last = self.identity[3].expand(*offsets.shape[:2], 1, 4)
        local = torch.cat([torch.cat([rotmats, offsets[..., None]], 3), last], 2)
        if not self._is_ordered:
            local = local.index_select(1, self.order)
        level, *deeper = local.split(self._sizes, 1)
        transforms = [level]
        for number, own in enumerate(deeper):
            level = self._parents_of(number, level) @ own
            transforms.append(level)
        posed = torch.cat(transforms, 1)
        if not self._is_ordered:
            posed = posed.index_select(1, self.back)
        turned, chain = posed[..., :3, :3], posed[..., :3, 3]
        moved = chain - (turned @ joints[..., None])[..., 0]
        return chain, torch.cat([turned, moved[..., None]], 3)

    def _parents_of(self, number: int, above: Float[Tensor, "B A 4 4"]) -> Float[Tensor, "B L 4 4"]:
        """The transforms of the parents of a level's joints; a view where the parents stand in a row."""
        pick = self._picks[number]
        if pick is None:
            return above.index_select(1, self.get_buffer(f"places_{number}"))
        return above if pick == slice(0, above.shape[1]) else above[:, pick]

    def _keep(self, name: str, value: Int[np.ndarray, " N"]) -> None:
        self.register_buffer(name, torch.from_numpy(value.astype(np.int64)), persistent=False)


def _as_slice(places: Int[np.ndarray, " N"]) -> slice | None:
    """Places as a slice: consecutive ones, or a single one for all, which broadcasts. None for others."""
    first = int(places[0])
    if (places == first).all():
        return slice(first, first + 1)
    return slice(first, first + len(places)) if (np.diff(places) == 1).all() else None
