"""Packed label files of training sets, as their projects write and read them."""

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def picture(kind: str = ".jpg") -> bytes:
    """A grey image, 20 x 10 pixels."""
    return cv2.imencode(kind, np.full((10, 20, 3), 90, np.uint8))[1].tobytes()


def camera_matrices(*cameras: tuple[float, float, float, float]) -> np.ndarray:
    """(N, 3, 3) intrinsics of fx, fy, cx, cy."""
    matrices = np.zeros((len(cameras), 3, 3))
    for matrix, (fx, fy, cx, cy) in zip(matrices, cameras, strict=True):
        matrix[:] = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]
    return matrices


def bedlam_scene(**changes: Any) -> dict[str, Any]:
    """A file of a scene as BEDLAM's data_processing/df_full_body.py writes it: SMPL-X, 127 projected joints."""
    return {
        "imgname": np.array(["seq_000000/seq_000000_0000.png", "seq_000000/seq_000000_0005.png"]),
        "center": np.array([[9.0, 8.0]] * 2),
        "scale": np.array([0.08] * 2),
        "pose_cam": np.tile(np.arange(165) / 1000, (2, 1)),
        "pose_world": np.zeros((2, 165)),
        "shape": np.full((2, 11), 0.5),
        "trans_cam": np.array([[0.1, 0.2, 0.3]] * 2),
        "trans_world": np.zeros((2, 3)),
        "gtkps": np.full((2, 127, 3), [9.0, 8.0, 1.0]),
        "cam_int": camera_matrices((1000, 1010, 640, 360), (1100, 1110, 641, 361)),
        "cam_ext": np.tile(np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * 4, (2, 1, 1)),
        "gender": np.array(["male", "female"]),
        "proj_verts": np.zeros((2, 437, 3)),
        "motion_info": np.array(["a", "b"]),
        "sub": np.array(["rp_a", "rp_b"]),
    } | changes


def camerahmr(**changes: Any) -> dict[str, Any]:
    """CameraHMR's labels of real images (coco-release.npz): SMPL, 44 points, estimated intrinsics."""
    points = np.zeros((2, 44, 3))
    points[:, 25] = (6, 7, 0.9)  # right ankle: the first after OpenPose's 25
    return {
        "imgname": np.array(["train2014/a.jpg", "train2014/b.jpg"]),
        "center": np.array([[9.0, 8.0]] * 2),
        "scale": np.array([0.08, 0.07]),
        "pose": np.full((2, 72), 0.1),
        "shape": np.ones((2, 10)),
        "cam_int": camera_matrices((500, 500, 10, 5), (510, 510, 10, 5)),
        "gtkps": points,
        "trans_cam": np.array([[0.1, 0.2, 0.3]] * 2),
        "cam_ext": np.tile(np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * 4, (2, 1, 1)),
    } | changes


def tar_of_4dhumans(path: Path, key: str) -> None:
    """A tar as 4D-Humans' hmr2/datasets/image_dataset.py reads them: image, list of people and masks of each key."""
    two, three, masks = np.zeros((44, 3), np.float32), np.zeros((44, 4), np.float32), io.BytesIO()
    two[25], three[43] = (6, 7, 0.9), (0, 0.1, 0.2, 1)  # right ankle, head: the first and last of SPIN's 19
    fit = {"fitting_loss": {"reprojection_loss": np.float32(120.5)}, "detection_npz_idx": 0}
    person = {
        "keypoints_2d": two, "keypoints_3d": three, "center": np.array([9.0, 8.0]), "scale": np.array([0.06, 0.08]),
        "body_pose": np.full(72, 0.1, np.float32), "betas": np.ones(10, np.float32), "has_body_pose": np.array(1.0),
        "has_betas": np.array(1.0), "extra_info": fit,
    }  # fmt: skip
    np.savez_compressed(masks, masks=np.zeros((1, 10, 20), bool))
    members = {"jpg": picture(), "data.pyd": pickle.dumps([person]), "detection.npz": masks.getvalue()}
    with tarfile.open(path, "w") as tar:
        for kind, content in members.items():
            info = tarfile.TarInfo(f"{key}.{kind}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
