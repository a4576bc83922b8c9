"""People as the arrays of an .npz and as JSON: the names, shapes and units of docs/predict.md."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hmrb.body import SMPL
from hmrb.predict.people import PER_PERSON, People, ShownPicture
from hmrb.skeleton import SKELETONS


def table_of(people: People, rows: Sequence[int] | None = None) -> dict[str, np.ndarray]:
    """All arrays of people, under the names that `hmrb eval --from-predictions` knows. `rows`: theirs in a shard."""
    names = [people.pictures[picture] for picture in people.picture.tolist()]
    table = {
        "name": np.array([picture.name for picture in names], np.str_),
        "picture_px": np.array([picture.size_px for picture in names], np.int32).reshape(-1, 2),
        "box": people.box,
        "score": people.score,
        "square": people.square,
        "rotmats": people.rotmats,
        "betas": people.betas,
        "camera": people.camera,
        "transl": people.transl,
        "focal_px": people.focal_px,
        "center_px": people.center_px,
        "camera_from": np.array(people.camera_from, np.str_),
        "image_px": np.full(len(people), people.image_px, np.int32),
        "crop_rule": np.full(len(people), people.crop_rule),
        "body": np.full(len(people), people.body_name),
    }
    if rows is not None:
        table["row"] = np.array(rows, np.int64)
    if people.body is not None and len(people):
        skeleton = people.body.kind.keypoints
        table |= {
            "joints_m": people.joints() + people.transl[:, None],
            "joints_px": people.joints2d(),
            "joint_names": np.array(SKELETONS[skeleton].joints, np.str_),
        }
    return table


def people_of(table: Mapping[str, np.ndarray], body: SMPL | None) -> People:
    """The people of `table_of`'s arrays, each in a picture of their own without pixels."""
    shown = [
        ShownPicture(name, (width, height))
        for name, (width, height) in zip(table["name"].tolist(), table["picture_px"].tolist(), strict=True)
    ]
    numbers: dict[str, Any] = {key: table[key].astype(np.float32) for key in PER_PERSON if key != "picture"}
    return People(
        pictures=tuple(shown), picture=np.arange(len(shown)), camera_from=tuple(table["camera_from"].tolist()),
        image_px=int(table["image_px"][0]), crop_rule=str(table["crop_rule"][0]), body_name=str(table["body"][0]),
        body=body, **numbers,
    )  # fmt: skip


def tree_of(people: People) -> dict[str, Any]:
    """The people of one picture as a tree for JSON."""
    picture = people.pictures[0]
    has_body = people.body is not None and len(people)
    skeleton = people.body.kind.keypoints if people.body is not None else ""
    placed = people.joints() + people.transl[:, None] if has_body else None
    pixels = people.joints2d() if has_body else None
    own = people.crop_camera
    tree: dict[str, Any] = {
        "picture": picture.name,
        "size_px": list(picture.size_px),
        "body": people.body_name,
        "image_px": people.image_px,
        "crop_rule": people.crop_rule,
        "units": "metres, radians, pixels; x right, y down, z forward; the first pixel's centre is 0",
        "joint_names": list(SKELETONS[skeleton].joints) if has_body else [],
        "people": [],
    }
    for i in range(len(people)):
        person = {
            "box": people.box[i].tolist(),
            "score": float(people.score[i]),
            "square": people.square[i].tolist(),
            "pose": people.rotvecs[i].tolist(),
            "betas": people.betas[i].tolist(),
            "camera": people.camera[i].tolist(),
            "camera_from": people.camera_from[i],
            "focal_px": float(people.focal_px[i]),
            "center_px": people.center_px[i].tolist(),
            "transl": people.transl[i].tolist(),
            "crop_camera": {
                "focal_px": float(own.focal_px[i]),
                "center_px": own.center_px[i].tolist(),
                "transl": own.transl[i].tolist(),
            },
        }
        if placed is not None and pixels is not None:
            person |= {"joints_m": placed[i].tolist(), "joints_px": pixels[i].tolist()}
        tree["people"].append(person)
    return tree
