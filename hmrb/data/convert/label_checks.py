"""Plausibility checks of labels: bone lengths, left and right, orientation, and consistency of 2D, 3D and bodies.

Thresholds are wide: checks compare medians over a dataset, not single people.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from hmrb.body import SMPL
from hmrb.data.shard import Shard
from hmrb.geometry import align_similarity, rotvec_to_rotmat
from hmrb.skeleton import SKELETONS, TRAINING_SKELETON, remap

J = {name: row for row, name in enumerate(SKELETONS[TRAINING_SKELETON].joints)}
MIRROR = SKELETONS[TRAINING_SKELETON].mirror()
ENOUGH = 8  # minimum number of people for a verdict about a dataset
# Bones between SMPL's or annotated joints, and ranges of their median lengths in metres, children included.
BONES = {
    "thigh": ("hip", "knee", 0.25, 0.60),
    "shin": ("knee", "ankle", 0.25, 0.55),
    "upper arm": ("shoulder", "elbow", 0.17, 0.42),
    "forearm": ("elbow", "wrist", 0.14, 0.36),
}
UNITS = {1000: "millimetres", 100: "centimetres", 10: "decimetres", 7: "sevenths of a metre"}
NUMBERS = ("box", "keypoints2d", "keypoints3d", "pose", "betas", "transl")
LIMBS = [(J[f"{s}_{a}"], J[f"{s}_{b}"]) for s in ("left", "right") for a, b in
         (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict of one check and the evidence for it."""

    name: str
    verdict: Literal["ok", "wrong", "skipped"]
    detail: str


def ok(name: str, detail: str) -> Check:
    """A passed check."""
    return Check(name, "ok", detail)


def wrong(name: str, detail: str) -> Check:
    """A failed check."""
    return Check(name, "wrong", detail)


def skipped(name: str, detail: str) -> Check:
    """A check that does not apply or has too little data."""
    return Check(name, "skipped", detail)


def too_few(name: str, counts: Mapping[str, int]) -> Check:
    """A check without enough people. `counts` says how many have what it needs: only 4 with 3D joints; 8 are needed."""
    there = [f"{count} with {what}" for what, count in counts.items() if count]
    if not there:
        return skipped(name, f"nobody with {' or '.join(counts)}")
    return skipped(name, f"only {', '.join(there)}; {ENOUGH} are needed")


@dataclass(frozen=True, slots=True)
class Labels:
    """People of a shard in the training skeleton; `body54` are the joints of the posed bodies, in metres; 0 for those
    that a body lacks."""

    shard: Shard
    rows: Int[np.ndarray, " N"]
    box: Float[np.ndarray, "N 4"]
    keypoints2d: Float[np.ndarray, "N 54 3"]
    keypoints3d: Float[np.ndarray, "N 54 4"]
    has_body: Bool[np.ndarray, " N"]
    root_up: Float[np.ndarray, "N 3"]
    body54: Float[np.ndarray, "N 54 4"] | None

    @classmethod
    def of(cls, shard: Shard, rows: Int[np.ndarray, " N"], body: SMPL | None) -> "Labels":
        """Read the people with finite labels; annotated hips replace unlabelled body hips."""
        arrays, skeleton = shard.arrays, shard.info.skeleton
        numbers = [arrays[key][rows].reshape(len(rows), -1) for key in NUMBERS]
        rows = rows[np.isfinite(np.concatenate(numbers, 1)).all(1)]
        two, three = (
            with_hips(remap(arrays[key][rows].astype(np.float64), skeleton, TRAINING_SKELETON))
            for key in ("keypoints2d", "keypoints3d")
        )
        has_body = arrays["has_body"][rows].astype(bool)
        rotmats = rotvec_to_rotmat(torch.from_numpy(arrays["pose"][rows].astype(np.float32)))
        body54 = None
        if body is not None and has_body.any():
            parts = []
            for start in range(0, len(rows), 64):
                chunk = slice(start, start + 64)
                betas = torch.from_numpy(arrays["betas"][rows[chunk]].astype(np.float32))
                with torch.no_grad():
                    mesh = body(rotmats[chunk], betas, part=body.kind.keypoints)
                    joints = body.joints(mesh, body.kind.keypoints).double().numpy()
                joints = joints + arrays["transl"][rows[chunk]][:, None]
                there = np.ones((*joints.shape[:2], 1))
                parts.append(remap(np.concatenate([joints, there], 2), body.kind.keypoints, TRAINING_SKELETON))
            body54 = np.concatenate(parts)
        up = rotmats[:, 0, :, 1].double().numpy()
        return cls(shard, rows, arrays["box"][rows].astype(np.float64), two, three, has_body, up, body54)


def box_fit(labels: Labels) -> Check:
    """The bounding square contains its person's joints and is not much larger than their extent."""
    seen = labels.keypoints2d[..., 2] > 0
    enough = seen.sum(1) >= 6
    if enough.sum() < ENOUGH:
        return too_few("box_fit", {"6 labelled joints in the image": int(enough.sum())})
    points, box = labels.keypoints2d[enough, :, :2], labels.box[enough]
    center, side = box[:, None, :2] + box[:, None, 2:] / 2, box[:, 2:].max(1)[:, None]
    inside = (np.abs(points - center) <= 0.6 * side[..., None]).all(2)
    share = float(inside[seen[enough]].mean())
    masked = np.where(seen[enough][..., None], points, np.nan)
    low, high = np.nanmin(masked, 1), np.nanmax(masked, 1)
    reach = float(np.median((high - low).max(1) / side[:, 0].clip(1e-6)))
    off = float(np.median(np.linalg.norm((low + high) / 2 - center[:, 0], axis=1) / side[:, 0].clip(1e-6)))
    said = f"{100 * share:.1f} % of joints inside; people span {100 * reach:.0f} % of their squares"
    said += f", {100 * off:.0f} % off centre"
    if share < 0.9 or not 0.3 < reach < 1.3 or off > 0.16:
        return wrong("box_fit", f"{said}: corners read as sizes, or bounding boxes of another image?")
    return ok("box_fit", said)


def bone_lengths(labels: Labels) -> Check:
    """Limb lengths in metres are plausible for people."""
    lengths, most = {}, 0
    for bone, (start, end, _, _) in BONES.items():
        found = [_distance(labels.keypoints3d, J[f"{side}_{start}"], J[f"{side}_{end}"]) for side in ("left", "right")]
        both = np.concatenate(found)
        most = max(most, len(both))
        if len(both) >= ENOUGH:
            lengths[bone] = float(np.median(both))
    if not lengths:
        return too_few("bone_lengths", {"3D limbs": most})
    said = ", ".join(f"{bone} {length:.3g} m" for bone, length in lengths.items())
    odd = [bone for bone, length in lengths.items() if not BONES[bone][2] <= length <= BONES[bone][3]]
    if not odd:
        return ok("bone_lengths", said)
    fits = [factor for factor in UNITS if all(_in(bone, length / factor) for bone, length in lengths.items())]
    best = min(fits, key=lambda factor: sum(_from_middle(b, n / factor) for b, n in lengths.items()), default=None)
    return wrong("bone_lengths", f"{said}: {'the unit is ' + UNITS[best] if best else 'no known unit fits'}")


def upright(labels: Labels) -> Check:
    """Most people are upright: in the camera frame (y down), heads are above hips."""
    if labels.shard.info.skeleton == "none":
        return skipped("upright", "bodies without images have no camera")
    three = labels.keypoints3d
    hips, necks = _middle(three, "left_hip", "right_hip"), _middle(three, "left_shoulder", "right_shoulder")
    has = (hips[:, 3] > 0) & (necks[:, 3] > 0)
    ups = {"3D joints": (necks - hips)[has, :3], "bodies": labels.root_up[labels.has_body]}
    said, bad = [], []
    for name, up in ups.items():
        if len(up) >= ENOUGH:
            down = float(np.median(up[:, 1] / np.linalg.norm(up, axis=1).clip(1e-9)))
            said.append(f"{name}: {'up' if down < 0 else 'down'} by {abs(down):.2f}")
            bad += [name] if down > -0.3 else []
    if not said:
        return too_few("upright", {"3D hips and shoulders": int(has.sum()), "a body": int(labels.has_body.sum())})
    if bad:
        return wrong("upright", f"{', '.join(said)}: {' and '.join(bad)} are not in the camera frame (y down)")
    return ok("upright", ", ".join(said))


def left_right(labels: Labels) -> Check:
    """Knees bend forward; a person who faces the camera has their left side at the right of the image."""
    three = labels.keypoints3d
    left, right = three[:, J["left_hip"]], three[:, J["right_hip"]]
    hips, necks = _middle(three, "left_hip", "right_hip"), _middle(three, "left_shoulder", "right_shoulder")
    across, up = (left - right)[:, :3], (necks - hips)[:, :3]
    ahead, told = np.zeros_like(across), np.zeros(len(three))
    for side in ("left", "right"):
        hip, knee, ankle = (three[:, J[f"{side}_{joint}"]] for joint in ("hip", "knee", "ankle"))
        has = (hip[:, 3] > 0) & (knee[:, 3] > 0) & (ankle[:, 3] > 0)
        ahead += np.where(has[:, None], (2 * knee - hip - ankle)[:, :3], 0)
        told += has
    has = (told > 0) & (hips[:, 3] > 0) & (necks[:, 3] > 0)
    votes = np.sign((np.cross(across, up) * ahead).sum(1))[has]
    said, bad = [], False
    if len(votes) >= ENOUGH:
        share = float((votes > 0).mean())
        said.append(f"knees bend forward in {100 * share:.0f} % of 3D people")
        bad |= share < 0.5
    two = labels.keypoints2d
    shoulders = (two[:, J["left_shoulder"]], two[:, J["right_shoulder"]])
    face = two[:, [J["nose"], J["left_eye"], J["right_eye"]], 2].min(1) > 0
    face &= (shoulders[0][:, 2] > 0) & (shoulders[1][:, 2] > 0)
    if face.sum() >= ENOUGH:
        share = float((shoulders[0][face, 0] > shoulders[1][face, 0]).mean())
        said.append(f"{100 * share:.0f} % of people with a visible face have their left side at the image's right")
        bad |= share < 0.5
    if not said:
        return too_few("left_right", {"3D legs": len(votes), "a visible face": int(face.sum())})
    if bad:
        return wrong("left_right", f"{', '.join(said)}: left and right are swapped, or an axis is mirrored")
    return ok("left_right", ", ".join(said))


def projection(labels: Labels) -> Check:
    """3D joints and the joints of bodies project onto the 2D joints."""
    said, bad, both = [], [], {}
    sides = {"3D joints": labels.keypoints3d}
    if labels.body54 is not None:
        sides["bodies"] = labels.body54 * np.where(labels.has_body[:, None, None], 1, (1, 1, 1, 0))
    for name, three in sides.items():
        errors = {
            kind: _miss(labels.keypoints2d, points)
            for kind, points in {
                "as they are": three,
                "with left and right exchanged": three[:, MIRROR],
                "mirrored": three * np.array([-1, 1, 1, 1]),
                "upside down": three * np.array([1, -1, -1, 1]),
            }.items()
        }
        both[f"2D joints and {name}"] = len(errors["as they are"])
        if len(errors["as they are"]) < ENOUGH:
            continue
        medians = {kind: float(np.median(error)) for kind, error in errors.items()}
        best = min(medians, key=lambda kind: medians[kind])
        said.append(f"{name} are off by {100 * medians['as they are']:.1f} % of a person's size")
        if medians["as they are"] > 0.12 or medians[best] < 0.6 * medians["as they are"] - 0.01:
            bad.append(f"{name} {best}: {100 * medians[best]:.1f} %" if best != "as they are" else f"{name} do not fit")
    if not said:
        return too_few("projection", both or {"2D and 3D joints": 0})
    return wrong("projection", f"{', '.join(said)}; {', '.join(bad)}") if bad else ok("projection", ", ".join(said))


def body_joints(labels: Labels) -> Check:
    """The joints of labelled bodies match the annotated 3D joints."""
    if labels.body54 is None:
        return skipped(
            "body_joints", "the body model is not installed" if labels.has_body.any() else "no labelled bodies"
        )
    limbs = sorted({joint for limb in LIMBS for joint in limb})
    three = labels.keypoints3d[:, limbs]
    has = labels.has_body & (three[..., 3] > 0).all(1)
    if has.sum() < ENOUGH:
        return too_few("body_joints", {"a body and all 3D limbs": int(has.sum())})
    truth, body = (_centered(points[has]) for points in (three[..., :3], labels.body54[:, limbs, :3]))
    miss = float(np.median(np.linalg.norm(truth - body, axis=2).mean(1)))
    aligned = align_similarity(torch.from_numpy(body), torch.from_numpy(truth)).numpy()
    rest = float(np.median(np.linalg.norm(truth - aligned, axis=2).mean(1)))
    said = f"bodies are {100 * miss:.1f} cm from 3D joints, {100 * rest:.1f} cm after alignment"
    if miss > 0.15 or (miss > 0.08 and rest < 0.4 * miss):
        return wrong("body_joints", f"{said}: the frame, unit or person differs")
    return ok("body_joints", said)


def _miss(two: Float[np.ndarray, "N J 3"], three: Float[np.ndarray, "N J 4"]) -> Float[np.ndarray, " M"]:
    """Per person, the mean distance of scaled and shifted 3D joints from 2D joints, relative to the 2D extent."""
    out = []
    for flat, deep in zip(two, three, strict=True):
        both = (flat[:, 2] > 0) & (deep[:, 3] > 0)
        if both.sum() < 6:
            continue
        z = deep[both, 2:3]
        seen = deep[both, :2] / z if z.min() > 0.5 else deep[both, :2]  # camera frame, or relative to a root
        target, source = flat[both, :2] - flat[both, :2].mean(0), seen - seen.mean(0)
        scale = max((target * source).sum(), 0) / max((source**2).sum(), 1e-12)
        size = max(float(np.ptp(flat[both, :2], 0).max()), 1e-6)
        out.append(float(np.linalg.norm(target - scale * source, axis=1).mean()) / size)
    return np.array(out)


def with_hips(points: Float[np.ndarray, "N 54 C"]) -> Float[np.ndarray, "N 54 C"]:
    """Replace unlabelled body hips by annotated hips, which is accurate enough for these checks."""
    for side in ("left", "right"):
        own, extra = J[f"{side}_hip"], J[f"{side}_hip_extra"]
        unlabelled = points[:, own, -1] <= 0
        points[unlabelled, own] = points[unlabelled, extra]
    return points


def _distance(three: Float[np.ndarray, "N 54 4"], a: int, b: int) -> Float[np.ndarray, " M"]:
    both = (three[:, a, 3] > 0) & (three[:, b, 3] > 0)
    return np.linalg.norm(three[both, a, :3] - three[both, b, :3], axis=1)


def _middle(three: Float[np.ndarray, "N 54 4"], a: str, b: str) -> Float[np.ndarray, "N 4"]:
    middle = (three[:, J[a]] + three[:, J[b]]) / 2
    middle[:, 3] = np.minimum(three[:, J[a], 3], three[:, J[b], 3])
    return middle


def _centered(points: Float[np.ndarray, "N L 3"]) -> Float[np.ndarray, "N L 3"]:
    return points - points.mean(1, keepdims=True)


def _in(bone: str, length: float) -> bool:
    return BONES[bone][2] <= length <= BONES[bone][3]


def _from_middle(bone: str, length: float) -> float:
    """Absolute log ratio of a length to the bone's usual length."""
    return abs(float(np.log(length / np.sqrt(BONES[bone][2] * BONES[bone][3]))))


LABEL_CHECKS: dict[str, Callable[[Labels], Check]] = {
    check.__name__: check for check in (box_fit, bone_lengths, upright, left_right, projection, body_joints)
}
