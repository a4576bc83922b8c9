"""Photos, models and stores for the tests of prediction."""

import io
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from conftest import tiny_tree

from hmrb.body import SMPL, load_body
from hmrb.bodykind import SMPL_KIND
from hmrb.predict.people import People, ShownPicture


def noise(width: int = 60, height: int = 80, seed: int = 0) -> np.ndarray:
    """Smooth random RGB pixels."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(pixels, (5, 5), 0))


def jpeg(pixels: np.ndarray | None = None) -> bytes:
    rgb = noise() if pixels is None else pixels
    return cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def exif_block(tags: Mapping[int, tuple[int, Any]], order: str = "<") -> bytes:
    """A TIFF structure: tags below 0x8769 in the first directory, others in EXIF's. Values are (kind, number)."""

    def directory(at: int, rows: list[tuple[int, int, Any]], after: bytes) -> bytes:
        body, extra = b"", b""
        start = at + 2 + 12 * len(rows) + 4
        for tag, kind, value in rows:
            head = struct.pack(f"{order}HHI", tag, kind, 1)
            if kind == 5:
                body += head + struct.pack(f"{order}I", start + len(extra))
                extra += struct.pack(f"{order}II", *value)
            else:
                body += head + struct.pack(f"{order}{'H' if kind == 3 else 'I'}", value).ljust(4, b"\0")
        return struct.pack(f"{order}H", len(rows)) + body + bytes(4) + extra + after

    first = [(tag, kind, value) for tag, (kind, value) in sorted(tags.items()) if tag < 0x8769]
    second = [(tag, kind, value) for tag, (kind, value) in sorted(tags.items()) if tag > 0x8769]
    place = 8 + 2 + 12 * (len(first) + 1) + 4
    inner = directory(place, second, b"")
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(f"{order}I", 8) + directory(8, [*first, (0x8769, 4, place)], inner)


def with_exif(data: bytes, tags: Mapping[int, tuple[int, Any]], order: str = "<") -> bytes:
    """A JPEG with EXIF."""
    block = b"Exif\0\0" + exif_block(tags, order)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]


def saved_by_pillow(mode: str, kind: str, **options: Any) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(noise()).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@cache
def open_body() -> SMPL:
    return load_body("open")


def people(count: int = 2, **changes: Any) -> People:
    """Made-up people of the open body before a picture of 640 x 480 px."""
    import torch

    from hmrb.geometry import rotvec_to_rotmat

    rng = np.random.default_rng(0)
    pose = rng.normal(0, 0.2, (count, 24, 3))
    pose[:, 0] += (np.pi, 0, 0)
    side = rng.uniform(150, 250, count)
    center = np.stack([rng.uniform(200, 440, count), rng.uniform(200, 280, count)], 1)
    facts: dict[str, Any] = {
        "pictures": (ShownPicture("a/photo.jpg", (640, 480), noise(640, 480)),),
        "picture": np.zeros(count, np.int64),
        "box": np.concatenate([center - side[:, None] / 2.4, np.tile(side[:, None] / 1.2, 2)], 1).astype(np.float32),
        "score": np.ones(count, np.float32),
        "square": np.concatenate([center, side[:, None]], 1).astype(np.float32),
        "rotmats": rotvec_to_rotmat(torch.from_numpy(pose)).float().numpy(),
        "betas": rng.normal(0, 1, (count, SMPL_KIND.num_betas)).astype(np.float32),
        "camera": np.stack([rng.uniform(0.8, 1, count), *rng.normal(0, 0.05, (2, count))], 1).astype(np.float32),
        "focal_px": (5000 * side / 224).astype(np.float32),
        "center_px": np.tile(np.array([[319.5, 239.5]], np.float32), (count, 1)),
        "camera_from": ("rule of the method",) * count,
        "image_px": 224,
        "crop_rule": "hmr",
        "body_name": "open",
        "body": open_body(),
    }
    return People(**facts | changes)


def untrained(path: Path, **changes: Any) -> Path:
    """A checkpoint with the initial weights of the tiny spec's model; the camera differs from person to person."""
    import torch

    from hmrb.checkpoint import Checkpoint, save_checkpoint
    from hmrb.models.hmr import build_model
    from hmrb.spec import parse_experiment

    experiment = parse_experiment(tiny_tree() | changes, "tiny")
    torch.manual_seed(0)
    model = build_model(experiment.model)
    sha = open_body().sha if experiment.body == "open" else "unknown"
    content = Checkpoint(
        spec=experiment.model_dump_json(), model=model.state_dict(), training={}, step=1,
        body={"name": experiment.body, "sha": sha}, shards={}, chosen_by="a test", score=None, code_version="",
        torch_version="",
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(content, path)
    return path
