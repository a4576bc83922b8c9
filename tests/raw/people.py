"""People for artificial datasets: posed bodies in front of a camera, their joints, and a drawing of them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch

from hmrb.body import SMPL, load_body
from hmrb.geometry import rotvec_to_rotmat
from hmrb.skeleton import SKELETONS
from hmrb.synthetic.poses import PoseStyle, rotmat_to_rotvec, sample_pose, turn

STYLE = PoseStyle(floor=0.05, blend=0.85, recombine=0.2, noise=(0.2, 0.3))
NAMES = SKELETONS["smpl_54"].joints
# Approximate positions of other skeletons' points that smpl_54 does not have.
NEAR = {
    "head_bottom_pt": "neck_extra", "spine_4_3dhp": "spine_3", "left_clavicle_3dhp": "left_collar",
    "right_clavicle_3dhp": "right_collar", "left_hand_3dhp": "left_hand", "right_hand_3dhp": "right_hand",
    "left_toe_3dhp": "left_foot", "right_toe_3dhp": "right_foot", "spine_3dhp": "spine_3",
}  # fmt: skip
# Drawn limbs, each in its own colour: (from, to, RGB).
LIMBS = (
    ("left_hip", "left_knee", (240, 120, 40)), ("left_knee", "left_ankle", (250, 170, 60)),
    ("right_hip", "right_knee", (40, 110, 240)), ("right_knee", "right_ankle", (80, 160, 250)),
    ("left_shoulder", "left_elbow", (230, 60, 60)), ("left_elbow", "left_wrist", (250, 110, 110)),
    ("right_shoulder", "right_elbow", (60, 190, 90)), ("right_elbow", "right_wrist", (110, 230, 130)),
    ("pelvis", "spine_3", (200, 200, 60)), ("spine_3", "head", (220, 220, 120)),
)  # fmt: skip


@dataclass(frozen=True)
class Someone:
    """One body: SMPL pose (24, 3) as axis-angle with the root in the camera frame, betas, translation; metres, pixels.

    `joints` are smpl_54's joints in the camera frame, absolute; `pixels` is their projection; `rest` is the pelvis
    in the rest pose.
    """

    pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    joints: np.ndarray
    pixels: np.ndarray
    rest: np.ndarray
    focal: float
    size: tuple[int, int]

    def points3d(self, skeleton: str) -> np.ndarray:
        """(K, 3) joints of any skeleton in the camera frame, absolute metres; unknown points are NaN."""
        return np.stack([self._point(name, self.joints) for name in SKELETONS[skeleton].joints])

    def points2d(self, skeleton: str) -> np.ndarray:
        """(K, 2) pixels of the joints, 0 is the first pixel's centre; unknown points are NaN."""
        return np.stack([self._point(name, self.pixels) for name in SKELETONS[skeleton].joints])

    def box(self, factor: float = 1.2) -> np.ndarray:
        """Bounding box (x, y, width, height) of the 24 kinematic joints, scaled by `factor`."""
        low, high = self.pixels[:24].min(0), self.pixels[:24].max(0)
        size = factor * (high - low)
        return np.concatenate([(low + high - size) / 2, size])

    def _point(self, name: str, values: np.ndarray) -> np.ndarray:
        for known in (name, NEAR.get(name, ""), name.removesuffix("_openpose"), f"{name}_extra"):
            if known in NAMES:
                return values[NAMES.index(known)]
        return np.full(values.shape[1], np.nan)


@cache
def body() -> SMPL:
    """The body model of all people here."""
    return load_body("open")


@cache
def someone(
    seed: int, size: tuple[int, int] = (320, 240), focal: float = 300.0, at: tuple[float, float] | None = None,
    depth: float = 3.6, yaw_deg: float | None = None,
) -> Someone:  # fmt: skip
    """A person off the image centre (so that mirroring is detectable), roughly upright, mostly facing the camera.

    `size` is (width, height) of the image, `at` the pelvis position as fractions of width and height.
    """
    rng = np.random.default_rng([seed, 77])
    rotmats = sample_pose(rng, STYLE)
    yaw = float(rng.uniform(-50, 50)) if yaw_deg is None else yaw_deg
    rotmats[0] = turn(x=180) @ turn(y=yaw) @ rotmats[0]  # y down, facing the camera
    betas = rng.normal(0, 0.5, 10).astype(np.float32)
    pose = rotmat_to_rotvec(rotmats).astype(np.float32)
    center = np.array(size) / 2 - 0.5
    x, y = at if at is not None else (float(rng.uniform(0.22, 0.38)), 0.5)
    with torch.no_grad():
        mesh = body()(rotvec_to_rotmat(torch.from_numpy(pose))[None], torch.from_numpy(betas)[None])
        local = body().joints(mesh, "smpl54")[0].double().numpy()
    there = np.array([x * size[0], y * size[1]])
    transl = np.append((there - center) / focal * depth, depth) - local[0]
    joints = local + transl
    pixels = focal * joints[:, :2] / joints[:, 2:] + center
    rest = body().rest_joints[0].double().numpy() + (body().joint_shapedirs[0].double().numpy() @ betas)
    return Someone(pose, betas, transl.astype(np.float32), joints, pixels, rest, focal, size)


def draw(people: list[Someone], size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """RGB image: a noisy room, and each person as coloured limbs between the joints."""
    rng = np.random.default_rng([seed, 78])
    width, height = size
    image = cv2.resize(rng.integers(90, 130, (max(height // 8, 2), max(width // 8, 2), 3)).astype(np.uint8), size)
    for person in people:
        thick = max(round(0.07 * person.focal / float(person.joints[0, 2])), 1)
        for start, end, colour in LIMBS:
            a, b = (person.pixels[NAMES.index(name)] for name in (start, end))
            cv2.line(
                image,
                tuple(a.round().astype(int).tolist()),
                tuple(b.round().astype(int).tolist()),
                colour,
                thick,
                cv2.LINE_AA,
            )
    return image


def save(path: Path, image: np.ndarray) -> None:
    """Write RGB pixels as JPEG or PNG, depending on the extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix.lower() in (".jpg", ".jpeg") else []
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
