"""Forward kinematics: by level for a CPU, by doubling for a GPU."""

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Tree(nn.Module):
    """A kinematic tree: rotations of joints to their rigid transforms.

    On a CPU, one level of the tree goes after the other. A GPU pays for each launch, so all joints go at once there:
    after n steps, each has the product over itself and its ancestors up to 2^n - 1. SMPL's nine levels take four steps.
    """

    identity: Tensor
    parents: Tensor
    order: Tensor
    back: Tensor
    to_parent: Tensor
    above: Tensor
    nothing_above: Tensor

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
        self._keep_floats("identity", np.eye(4))
        up = np.zeros((len(parents), len(parents)))  # row: a joint; 1 in the column of its parent
        up[np.arange(1, len(parents)), parents[1:]] = 1
        self._keep_floats("to_parent", np.eye(len(parents)) - up)
        steps = []
        while up.any():
            steps.append(up)
            up = up @ up
        self._keep_floats("above", np.stack(steps or [up]))
        is_top = 1 - self.above.sum(2, keepdim=True)
        self.register_buffer("nothing_above", is_top * self.identity.flatten(), persistent=False)

    def forward(
        self, rotmats: Float[Tensor, "B R 3 3"], joints: Float[Tensor, "B R 3"]
    ) -> tuple[Float[Tensor, "B R 3"], Float[Tensor, "B R 3 4"]]:
        """Posed joints, and the transforms that move the rest pose's vertices, as [R | t]; metres.

        `rotmats` are relative to the parent. As `batch_rigid_transform` of smplx, to which it is compared under test.
        """
        offsets = torch.cat([joints[:, :1], joints[:, 1:] - joints.index_select(1, self.parents[1:])], 1)
        local = self._transforms(rotmats, offsets)
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

    def at_once(
        self, rotmats: Float[Tensor, "B R 3 3"], joints: Float[Tensor, "B R 3"]
    ) -> tuple[Float[Tensor, "B R 3"], Float[Tensor, "B R 3 4"]]:
        """The same as `forward` in few launches, on any device."""
        posed = self._transforms(rotmats, self.to_parent @ joints)
        for above, nothing in zip(self.above, self.nothing_above, strict=True):
            flat, one_hot = posed.flatten(2), above.expand(len(posed), -1, -1)
            posed = torch.baddbmm(nothing.expand_as(flat), one_hot, flat).view_as(posed) @ posed
        turned, chain = posed[:, :, :3].split([3, 1], 3)
        return chain[..., 0], torch.cat([turned, chain - turned @ joints[..., None]], 3)

    def _transforms(
        self, rotmats: Float[Tensor, "B R 3 3"], offsets: Float[Tensor, "B R 3"]
    ) -> Float[Tensor, "B R 4 4"]:
        """Each joint's rigid transform relative to its parent."""
        last = self.identity[3].expand(*offsets.shape[:2], 1, 4)
        return torch.cat([torch.cat([rotmats, offsets[..., None]], 3), last], 2)

    def _parents_of(self, number: int, above: Float[Tensor, "B A 4 4"]) -> Float[Tensor, "B L 4 4"]:
        """The transforms of the parents of a level's joints; a view where the parents stand in a row."""
        pick = self._picks[number]
        if pick is None:
            return above.index_select(1, self.get_buffer(f"places_{number}"))
        return above if pick == slice(0, above.shape[1]) else above[:, pick]

    def _keep(self, name: str, value: Int[np.ndarray, " N"]) -> None:
        self.register_buffer(name, torch.from_numpy(value.astype(np.int64)), persistent=False)

    def _keep_floats(self, name: str, value: Float[np.ndarray, "..."]) -> None:
        self.register_buffer(name, torch.from_numpy(value.astype(np.float32)), persistent=False)


def _as_slice(places: Int[np.ndarray, " N"]) -> slice | None:
    """Places as a slice: consecutive ones, or a single one for all, which broadcasts. None for others."""
    first = int(places[0])
    if (places == first).all():
        return slice(first, first + 1)
    return slice(first, first + len(places)) if (np.diff(places) == 1).all() else None
