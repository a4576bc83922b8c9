"""Which joint of the training skeleton a key point is, by the name that people give it.

COCO's, PoseTrack's and OpenPose's names, and those of labelling tools: `left_shoulder`, `LShoulder`, `shoulder-left`,
`l.shoulder`. Hips, neck and pelvis are annotated points (`left_hip_extra`), which differ from SMPL's joints of those
names. A name that means different points to different people, such as head, hand, foot or spine, is not known.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from hmrb.errors import RequestError
from hmrb.lookup import did_you_mean
from hmrb.skeleton import SKELETONS, TRAINING_SKELETON

SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
SIDED = {
    "shoulder": "shoulder", "elbow": "elbow", "wrist": "wrist", "hip": "hip_extra", "knee": "knee", "ankle": "ankle",
    "eye": "eye", "ear": "ear", "heel": "heel", "bigtoe": "bigtoe", "smalltoe": "smalltoe", "littletoe": "smalltoe",
}  # fmt: skip
MIDDLE = {
    "nose": "nose", "neck": "neck_extra", "thorax": "thorax_extra",
    "headtop": "headtop", "tophead": "headtop", "topofhead": "headtop",
    "pelvis": "pelvis_extra", "midhip": "pelvis_extra", "hipcenter": "pelvis_extra",
}  # fmt: skip
JOINTS = SKELETONS[TRAINING_SKELETON].joints


def known_joint(name: str) -> str:
    """The joint of the training skeleton that a key point of this name is; "" if the name is not known."""
    if name.endswith("_extra") and name in JOINTS:
        return name
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]
    if len(words) == 1 and words[0][:1] in SIDES and words[0][1:] in SIDED:
        words = [words[0][0], words[0][1:]]
    sides = [SIDES[word] for word in words if word in SIDES]
    rest = "".join(word for word in words if word not in SIDES)
    if len(sides) == 1 and rest in SIDED:
        return f"{sides[0]}_{SIDED[rest]}"
    return "" if sides else MIDDLE.get(rest, "")


def renamed(pairs: Sequence[str]) -> dict[str, str]:
    """Joints by the names that `--rename OURS=THEIRS` gives them. Raises RequestError."""
    out: dict[str, str] = {}
    for pair in pairs:
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not (ours and equals and theirs):
            raise RequestError(f"--rename {pair}: write it as OURS=THEIRS, e.g. --rename left_hip=LH")
        joint = known_joint(ours) or (ours if ours in JOINTS else "")
        if not joint:
            near = did_you_mean(ours, JOINTS) or f" Known: {', '.join(JOINTS)}."
            raise RequestError(f"--rename {pair}: hmrb has no joint named '{ours}'.{near}")
        if theirs in out or joint in out.values():
            raise RequestError(f"--rename {pair}: '{theirs}' or {joint} was renamed before; rename each once")
        out[theirs] = joint
    return out


def columns_of(names: Sequence[str], rename: Mapping[str, str]) -> dict[int, int]:
    """The row in the training skeleton of each key point that is known, by its place in `names`. Raises RequestError.

    `rename` has the joints of names, before all that is known of them.
    """
    taken = set(rename.values())
    joints = {name: rename.get(name) or known_joint(name) for name in names}
    joints = {name: joint for name, joint in joints.items() if name in rename or joint not in taken}
    by_joint: dict[str, str] = {}
    for name, joint in joints.items():
        if joint in by_joint:
            raise RequestError(
                f"the key points '{by_joint[joint]}' and '{name}' are both {joint}; choose one:"
                f" --rename {joint}={by_joint[joint]}"
            )
        if joint:
            by_joint[joint] = name
    return {place: JOINTS.index(joints[name]) for place, name in enumerate(names) if joints.get(name)}


def check_renamed(rename: Mapping[str, str], names: Iterable[str]) -> None:
    """Raises RequestError for a renamed key point that no file has."""
    known = list(dict.fromkeys(names))
    for theirs in rename:
        if theirs not in known:
            raise RequestError(f"--rename: the file has no key point '{theirs}'; it has {', '.join(known)}")
