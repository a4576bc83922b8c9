"""One valid, small input of each kind, made by code."""

import io
import json
import pickle
import tarfile
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from command import Done, hmrb
from conftest import body_arrays, tiny_tree, write_tiny_store
from raw.eft import write_all
from raw.placed import store_with_body

from hmrb.body import load_body
from hmrb.checkpoint import Checkpoint, asdict_shallow
from hmrb.data.shard import Shard
from hmrb.formats.pictures import read_pixels
from hmrb.models.hmr import build_model
from hmrb.predict.video import write_video
from hmrb.spec import parse_experiment
from hmrb.store import Store

PEOPLE = 7  # of the test shard of the tiny store


class Seeds:
    """Inputs that hmrb reads without complaint; each is made on first use, in `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def store(self) -> Store:
        return write_tiny_store(self.root / "home")

    def hmrb(self, *words: Any) -> Done:
        return hmrb(*map(str, words), home=self.store.root)

    @cached_property
    def shard(self) -> Path:
        return self.store.shard("synthetic", "test")

    @cached_property
    def converted(self) -> Path:
        """A shard that `hmrb verify` finds right: pictures, key points, bodies, columns."""
        write_all("eft_mpii", self.root / "raw")
        words = ("--raw", self.root / "raw", "--workers", 1, "--match", "*", "--out", self.root / "converted")
        done = self.hmrb("convert-data", "eft_mpii", *words)
        assert done.returncode == 0, done.stderr
        return next((self.root / "converted" / "shards").glob("*.h5"))

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The fields of a checkpoint."""
        spec = parse_experiment(tiny_tree(), "tiny")
        body = load_body("open", store=self.store)
        return asdict_shallow(
            Checkpoint(
                spec=spec.model_dump_json(), model=build_model(spec.model, self.store).state_dict(), training={},
                step=7, body={"name": "open", "sha": body.sha}, shards={"synthetic": "1"}, chosen_by="synthetic_val",
                score=80.0, code_version="0", torch_version="0",
            )
        )  # fmt: skip

    @cached_property
    def checkpoint(self) -> bytes:
        return saved(self.fields)

    @cached_property
    def model(self) -> Path:
        """The checkpoint as a file."""
        path = self.root / "model.pt"
        path.write_bytes(self.checkpoint)
        return path

    @cached_property
    def video(self) -> bytes:
        """Five frames."""
        path = self.root / "five.mp4"
        write_video(path, [read_pixels(self.images / f"{row % 3}.jpg") for row in range(5)], 25)
        return path.read_bytes()

    @cached_property
    def weights(self) -> bytes:
        return saved({"state_dict": self.backbone})

    @cached_property
    def backbone(self) -> dict[str, Any]:
        """The state dict of this project's small backbone, under the names of its file."""
        mark, model = "backbone.network.", self.fields["model"]
        return {key.removeprefix(mark): value for key, value in model.items() if key.startswith(mark)}

    @cached_property
    def predictions(self) -> dict[str, Any]:
        """A table of predictions for the people of the test shard."""
        rng, shard = np.random.default_rng(0), Shard(self.shard)
        return {
            "pose": rng.normal(0, 0.2, (PEOPLE, 72)).astype(np.float32),
            "betas": rng.normal(0, 1, (PEOPLE, 10)).astype(np.float32),
            "camera": np.tile(np.array([0.9, 0, 0], np.float32), (PEOPLE, 1)),
            "imgname": np.array([shard.name(row) for row in range(PEOPLE)]),
        }

    @cached_property
    def points(self) -> dict[str, Any]:
        """Predictions of points: joints and vertices."""
        rng, body = np.random.default_rng(1), load_body("open", store=self.store)
        joints, vertices = (rng.normal(0, 0.4, (PEOPLE, count, 3)) for count in (14, body.num_vertices))
        return {"joints": joints.astype(np.float32), "vertices": vertices.astype(np.float32)}

    @cached_property
    def result(self) -> Path:
        """A folder with a record and its samples, as `hmrb eval` writes them."""
        path = self.root / "theirs.npz"
        np.savez(path, **self.predictions)
        done = self.hmrb("eval", "--from-predictions", path, "--bench", "synthetic", "--out", self.root / "result")
        assert done.returncode == 0, done.stderr
        return self.root / "result" / "eval"

    @cached_property
    def record(self) -> dict[str, Any]:
        return json.loads((self.result / "synthetic.json").read_text())

    @cached_property
    def body(self) -> dict[str, Any]:
        """The members of an official SMPL file, without those that hmrb needs not."""
        left_out = ("J_regressor_h36m", "J_regressor_extra", "SMPL_to_J19", "vertex_ids", "posedirs")
        return {key: value for key, value in body_arrays(6890).items() if key not in left_out}

    @cached_property
    def bodies(self) -> Path:
        """The folder of bodies of a store that has SMPL's."""
        return store_with_body(self.root / "bodies").bodies

    @cached_property
    def images(self) -> Path:
        folder = self.root / "images"
        folder.mkdir()
        for row in range(3):
            (folder / f"{row}.jpg").write_bytes(picture(".jpg"))
        return folder

    @cached_property
    def packed(self) -> dict[str, dict[str, Any]]:
        """The arrays of three people in each packed format."""
        rng = np.random.default_rng(0)
        names = np.array([f"{row}.jpg" for row in range(3)])
        square = {"center": np.full((3, 2), 50.0), "scale": np.full(3, 0.4)}
        body = {"pose": rng.normal(0, 0.2, (3, 72)), "shape": rng.normal(0, 1, (3, 10))}
        points = np.concatenate([rng.uniform(20, 80, (3, 190, 2)), np.ones((3, 190, 1))], 2)
        joints = np.concatenate([rng.normal(0, 0.4, (3, 190, 3)), np.ones((3, 190, 1))], 2)
        human = {
            "image_path": names, "bbox_xywh": np.tile([20.0, 20, 60, 60, 1], (3, 1)), "keypoints2d": points,
            "keypoints3d": joints, "keypoints2d_mask": np.ones(190, np.uint8), "has_smpl": np.ones(3, np.int64),
            "smpl": {"global_orient": np.ones((3, 3)), "body_pose": np.zeros((3, 69)), "betas": np.ones((3, 10))},
            "meta": {"gender": ["male", "female", "neutral"]},
        }  # fmt: skip
        spin = {
            "imgname": names, "part": points[:, :24], "openpose": points[:, :25], "S": joints[:, :24],
            "has_smpl": np.ones(3), "gender": np.array(["m", "f", ""]), **square, **body,
        }  # fmt: skip
        bedlam = {
            "imgname": names, "gtkps": points[:, :24], "pose_cam": body["pose"], "shape": body["shape"],
            "trans_cam": np.ones((3, 3)), "cam_ext": np.tile(np.eye(4), (3, 1, 1)),
            "cam_int": np.tile(np.eye(3), (3, 1, 1)),
            "gender": np.array(["male", "female", "neutral"]), **square,
        }  # fmt: skip
        return {"humandata": human, "spin": spin, "bedlam": bedlam}

    @cached_property
    def people_4dhumans(self) -> list[dict[str, Any]]:
        rng = np.random.default_rng(0)
        person = {
            "keypoints_2d": np.concatenate([rng.uniform(20, 80, (44, 2)), np.ones((44, 1))], 1),
            "keypoints_3d": np.concatenate([rng.normal(0, 0.4, (44, 3)), np.ones((44, 1))], 1),
            "center": np.full(2, 50.0), "scale": np.full(2, 0.4), "body_pose": rng.normal(0, 0.2, 72),
            "betas": rng.normal(0, 1, 10), "has_body_pose": np.ones(1), "has_betas": np.ones(1),
        }  # fmt: skip
        return [person, dict(person)]


def saved(fields: Any) -> bytes:
    """What torch saves."""
    file = io.BytesIO()
    torch.save(fields, file)
    return file.getvalue()


def tar(members: dict[str, bytes]) -> bytes:
    """A tar archive of files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def tar_4dhumans(people: Any) -> bytes:
    return tar({"set/a.jpg": picture(".jpg"), "set/a.data.pyd": pickle.dumps(people)})


def picture(ending: str) -> bytes:
    """A picture of noise, 100 x 100 pixels."""
    pixels = cv2.resize(np.random.default_rng(0).integers(0, 255, (20, 20, 3)).astype(np.uint8), (100, 100))
    return cv2.imencode(ending, pixels)[1].tobytes()
