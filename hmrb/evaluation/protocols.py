"""Benchmarks: protocols as data, which define people, joints, regressor, root and bodies. Versioned by name."""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import Literal

from hmrb.bodykind import SMPL_KIND, SMPLX_KIND
from hmrb.errors import RequestError
from hmrb.evaluation.metric_table import METRIC_TABLE, MOTION, PCK2D, TITLES, UNITS
from hmrb.lookup import UnknownName, did_you_mean, find
from hmrb.names import Antialias, Decode
from hmrb.skeleton import SKELETONS

SELECTED = ("pa_mpjpe", "mpjpe", "pve")  # metrics computed on the selection benchmark; the first selects
Truth = Literal["gendered", "neutral", "stored", "marked"]
SHARES, ANGLES = ("pck3d", "pa_pck3d", "auc", "pa_auc"), ("mpjae", "pa_mpjae")
OF_BODIES = ("mpjpe", "pa_mpjpe", "pve", "n_mpjpe", "pa_pve", *ANGLES, *SHARES)
OF_JOINTS = ("mpjpe", "pa_mpjpe", "n_mpjpe", *SHARES)
OF_STUDY = ("mpjpe", "pa_mpjpe", "pve_study", *SHARES)
OF_POINTS = tuple(PCK2D)
LOOKS = ("seen", "area")  # a protocol's last words: decode, antialias of its pictures; see `looked_at_as`
MAPPED = "smplx2smpl"  # the end of a protocol's name: predictions of SMPL-X, scored as SMPL
PELVIS, HIP_MIDDLE = ("pelvis_extra",), ("right_hip_extra", "left_hip_extra")
SMPL_PELVIS, SMPL_HIP_MIDDLE = ("pelvis",), ("right_hip", "left_hip")
SHORT = {
    "h36m17": "h36mreg",
    "mpi_inf_3dhp_test": "3dhp17",
    "spin19": "j19",
    "hmr2_14": "hmr14",
}  # names of regressors and joints in protocols
REGRESSORS = {
    "h36m17": "the 17 rows of J_regressor_h36m on the vertices",
    "smpl24": "the 24 kinematic joints",
    "mesh24": "the 24 rows of J_regressor on the posed vertices, which differ from the kinematic joints",
    "smpl54": "the 24 kinematic joints, 21 vertices and the 9 rows of J_regressor_extra on the vertices",
    "spin19": "the 19 rows of SMPL_to_J19 on the vertices",
    "smplx52": "the 22 kinematic joints, 21 vertices and the 9 rows of J_regressor_extra on the mapped vertices",
}
OF_MAPPED = ("h36m17", "mesh24", "spin19")
"""Regressors that a mesh mapped from SMPL-X has: those that look at vertices alone."""
TRUTHS = {
    "gendered": "the labelled body, posed with the body model of the person's gender; for people without a labelled"
    " gender, with the neutral body model, and their number is in the record",
    "neutral": "the labelled body, posed with the neutral body model",
    "stored": "the labelled 3D keypoints of the shard, matched by name; unlabelled joints do not count",
    "marked": "the labelled 2D keypoints of the shard, matched by name; unlabelled joints do not count",
}


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One protocol; DATASET/SPLIT/RULES is the name of one for a shard without a row, by the rules of a row.

    The prediction is always posed with the neutral body; its joints come from `regressor`. The truth is the labelled
    body with joints from the same regressor, or labelled keypoints (`stored`: 3D, `marked`: 2D). In 3D, the mean of the
    `root` joints is subtracted from each side before the `joints` are selected; in 2D, the prediction's camera projects
    the joints. People with a share of labelled joints below `min_labelled`, without a labelled root or without a
    labelled body are skipped and counted. The input image is the square around the shard's box, enlarged by
    `box_scale`. `after` names the evaluation that the protocol reproduces, `variant` a suffix of its name. `fps` is the
    frame rate of sequences (0: no sequences). `siblings` are further datasets whose training sets share people, places
    or photos with it.
    """

    name: str
    dataset: str
    split: str
    after: str
    is_test: bool = True
    truth: Truth = "neutral"
    regressor: str = "h36m17"
    root: tuple[str, ...] = PELVIS
    joints: str = "lsp14"
    metrics: tuple[str, ...] = OF_BODIES
    min_labelled: float = 0.5
    box_scale: float = 1.0
    fps: float = 0.0
    siblings: tuple[str, ...] = ()
    variant: str = ""
    version: int = 1

    @property
    def is_variant(self) -> bool:
        """Whether this is a variant: its name lists its choices, and another row has the dataset's plain name."""
        return "/" in self.name

    @property
    def has_bodies(self) -> bool:
        """Whether the truth is labelled bodies."""
        return self.truth in ("gendered", "neutral")

    @property
    def is_mapped(self) -> bool:
        """Whether it scores predictions of SMPL-X as SMPL; see `through_smpl`."""
        return self.variant.endswith(MAPPED)

    @property
    def decode(self) -> Decode:
        """What is decoded of a picture, as in a spec's `data.decode`."""
        return "seen" if "seen" in self.variant.split("-") else "full"

    @property
    def antialias(self) -> Antialias:
        """The filter against aliasing, as in a spec's `data.antialias`."""
        return "area" if "area" in self.variant.split("-") else "none"

    @property
    def rules(self) -> str:
        """The choices as a name: the part of the protocol that can be applied to another shard."""
        return self._choices.replace("-", "_")

    @property
    def full_name(self) -> str:
        """The name with every choice and the version; it never refers to another protocol."""
        family = f"{self.dataset}/{self.split}" if self.name.count("/") == 2 else self.name.partition("/")[0]
        for word in (MAPPED, *reversed(LOOKS)):
            family = family.removesuffix(f"_{word}")
        return f"{family}/{self._choices}@{self.version}"

    @property
    def protocol(self) -> str:
        """Identifier stored with every result: people, choices, version, 6 hex digits of the hash of all choices."""
        decides = [
            self.dataset, self.split, self.truth, self.regressor, self.root, self.joint_names, self.min_labelled,
            self.version,
        ]  # fmt: skip
        # Newer fields are hashed only if they differ from the default.
        later = {"box_scale": (self.box_scale, 1.0), "variant": (self.variant, "")}
        decides += [[name, value] for name, (value, plain) in later.items() if value != plain]
        sha = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:6]
        return f"{self.dataset}-{self.split}/{self._choices}@{self.version}+{sha}"

    @property
    def file_stem(self) -> str:
        """Its name as a file name without suffix."""
        return self.name.replace("/", "-")

    @property
    def joint_names(self) -> tuple[str, ...]:
        """The joints that are scored, in order."""
        return SKELETONS[self.joints].joints

    @property
    def has_mesh(self) -> bool:
        """Whether a metric needs vertices."""
        return any("vertices" in METRIC_TABLE[name].needs for name in self.metrics if name in METRIC_TABLE)

    @property
    def of_people(self) -> tuple[str, ...]:
        """The metrics with one value per person and image."""
        return tuple(name for name in self.metrics if name not in MOTION)

    @property
    def of_motion(self) -> tuple[str, ...]:
        """The metrics with one value per group of consecutive frames."""
        return tuple(name for name in self.metrics if name in MOTION)

    def only(self, metrics: tuple[str, ...]) -> "Benchmark":
        """The benchmark with only these metrics. Raises RequestError for a metric that it does not have."""
        known = {name: name for name in TITLES}
        asked = tuple(dict.fromkeys(find("metric", name, known) for name in metrics))
        if missing := [name for name in asked if name not in self.metrics]:
            raise RequestError(f"{self.name} has no {', '.join(missing)}; it has {', '.join(self.metrics)}")
        return replace(self, metrics=asked)

    @property
    def part(self) -> str:
        """The part of the mesh that has to be posed, as in `SMPL.forward`."""
        return "" if self.has_mesh else self.regressor

    def explained(self) -> dict[str, str]:
        """Describe every choice in words."""
        people = f"split {self.split} of {self.dataset}"
        root = self.root[0] if len(self.root) == 1 else f"the midpoint of {' and '.join(self.root)}"
        wide = f", enlarged by {self.box_scale:g}" if self.box_scale != 1 else ""
        few = f"fewer than {self.min_labelled:.0%} of the joints labelled"
        skipped = {"stored": f"people without a labelled root, or with {few}", "marked": f"people with {few}"}
        flat = self.truth == "marked"
        return {
            "protocol": self.protocol,
            "full name": self.full_name,
            "after": self.after,
            "people": people + (", a test split: no checkpoint may be chosen on it" if self.is_test else ""),
            "siblings": ", ".join((self.dataset, *self.siblings)) + ": the record lists those in the training data",
            "truth": TRUTHS[self.truth],
            "prediction": "the neutral body"
            + (" of SMPL-X, hands and face at rest, its vertices mapped to SMPL's by BEDLAM's matrix" * self.is_mapped)
            + f"; its joints are {REGRESSORS[self.regressor]}"
            + "".join(f"; for {TITLES[name]}, the truth's body" for name in self.metrics if _by_true_body(name)),
            "joints": f"{len(self.joint_names)} of {self.joints}: {', '.join(self.joint_names)}",
            "root": "none: the prediction's camera projects its joints"
            if flat
            else f"{root}; subtracted separately from truth and prediction before the joints are selected",
            "alignment": "none"
            if flat
            else "PA metrics: least-squares scale, rotation and translation over all joints that have a truth;"
            " PA-PVE: over the vertices",
            "metrics": ", ".join(f"{TITLES[name]} ({UNITS[name]})" for name in self.metrics)
            + "; each is the mean over people of per-person means",
            "motion": f"{self.fps:g} frames per second; their order is the column frame's, else by name"
            if self.of_motion
            else "no motion metrics",
            "skipped": f"{skipped.get(self.truth, 'people without a labelled body')}; their number is in the record",
            "picture": f"the square around the shard's box, which has the margin of the dataset's rule{wide};"
            " scaled to the image size that the model was trained with"
            + "; averaged before where it shrinks to less than half" * (self.antialias == "area")
            + "; only the part and the scale that it shows are decoded" * (self.decode == "seen"),
        }

    @property
    def _choices(self) -> str:
        joints = [self.joints] if self.joints == self.regressor else [self.joints, self.regressor]
        root = (
            []
            if self.truth == "marked"
            else ["hipmid"]
            if len(self.root) == 2
            else [self.root[0].removesuffix("_extra")]
        )
        variant = [self.variant] if self.variant else []
        return "-".join([*(SHORT.get(name, name) for name in joints), *root, self.truth, *variant])


def _by_true_body(metric: str) -> bool:
    return metric in METRIC_TABLE and METRIC_TABLE[metric].by_true_body


def find_benchmark(name: str) -> Benchmark:
    """Look up a benchmark by short or full name; `-` and `_` are equal. Raises UnknownName with the nearest names."""
    key = name.replace("-", "_")
    key = ALIASES.get(key, key)
    plain, at, version = key.partition("@")
    if plain.endswith(f"_{MAPPED}"):
        plain = plain.removesuffix(f"_{MAPPED}").replace(SMPLX_KIND.keypoints, SMPL_KIND.keypoints)
        return through_smpl(find_benchmark(plain + at + version))
    for word in LOOKS:
        if plain.endswith(f"_{word}"):
            return looked_at_as(find_benchmark(plain.removesuffix(f"_{word}") + at + version), word)
    if key not in BENCHMARKS:
        key = _spoken(key)
    if key in BENCHMARKS:
        return BENCHMARKS[key]
    if name.count("/") == 2:
        dataset, split, rules = name.split("/")
        return with_rules(dataset.replace("-", "_"), split, rules.removesuffix("@1"))
    known = [other for other in BENCHMARKS if ("@" in other) == ("@" in key)]
    raise UnknownName(f"no benchmark named '{name}'.{did_you_mean(key, known)} hmrb list-benches lists all")


def _spoken(name: str) -> str:
    """A name with its dataset's as in the table: `Human3.6M` is h36m, `3DPW/SMPL24` is 3dpw/smpl24_..."""
    from hmrb.data.convert.catalogue import spoken  # reads a table, which no correct name needs

    family, slash, rules = name.partition("/")
    key = f"{spoken(family) or family.lower()}{slash}{rules.lower()}"
    return ALIASES.get(key, key)


def through_smpl(row: Benchmark) -> Benchmark:
    """The protocol for predictions of SMPL-X where the truth is no SMPL-X body: they are scored as SMPL.

    BEDLAM's evaluation: vertices are mapped by smplx2smpl.pkl before SMPL's regressors. Rotations are not compared.
    """
    if row.is_mapped:
        return row
    regressor = SMPLX_KIND.keypoints if row.regressor == SMPL_KIND.keypoints else row.regressor
    variant = "-".join([*([row.variant] if row.variant else []), MAPPED])
    return replace(row, name=f"{row.name}_{MAPPED}", variant=variant, regressor=regressor)


def looked_at_as(row: Benchmark, word: str) -> Benchmark:
    """The protocol with other pixels, and the name that says so: a word of LOOKS, each once and in that order.

    Raises UnknownName.
    """
    words = row.variant.split("-")
    if word in words or (word == "seen" and "area" in words) or row.is_mapped:
        raise UnknownName(f"no benchmark named '{row.name}_{word}'; write {', '.join(LOOKS)} in this order")
    return replace(row, name=f"{row.name}_{word}", variant="-".join([*([row.variant] if row.variant else []), word]))


def with_rules(dataset: str, split: str, rules: str) -> Benchmark:
    """A shard as a benchmark, with the rules of a row of the table but those of sequences. Raises UnknownName."""
    key = rules.replace("-", "_")
    if not all(re.fullmatch("[a-z0-9_-]+", word) for word in (dataset, split)):
        raise UnknownName(
            f"no benchmark named '{dataset}/{split}/{rules}'; names have the letters a-z, digits, _ and -"
        )
    row = find("protocol", RULE_ALIASES.get(key, key), RULES)
    return replace(
        row, name=f"{dataset}/{split}/{row.rules}", dataset=dataset, split=split, siblings=(), fps=0.0,
        is_test=split.startswith("test"), metrics=row.of_people,
        after=f"the rules of {row.name}: {row.after}",
    )  # fmt: skip


_OURS = "hmrb: rendered people, whose labels are exact"
_DOMAINS = ("studio", "street", "crowd", "seated", "sport", "closeup", "lowlight", "wide", "lifelike")
_SPIN = "SPIN, BEDLAM and CameraHMR; the study's but for its PVE"
_EFT = "the study, most likely: it published no evaluator for this set"
_FROM_SPIN = "SPIN's truth and root, on the joints that 3DPW is scored on"
_AGORA = "AGORA's joints and root, children included; people are given, not detected, so there is no F1"
_PCK = "4D-Humans: shares of the longer side of 1.2 times the annotators' box, of people with all twelve limb points"
_EMDB = "EMDB's own evaluator"
_MESH24 = "WHAM, GVHMR, CameraHMR: the neutral J_regressor on the vertices of both sides"
_3DHP_PEOPLE = ("muco", "muco_augmented", "muco_unaugmented", "spin_mi")
_COCO_PHOTOS = ("coco", "coco_wholebody", "eft_coco", "eft_coco_part")
_MOVING = (*OF_BODIES, *MOTION)
ROWS = (
    Benchmark("3dpw", "3dpw", "test", _SPIN, truth="gendered", metrics=_MOVING, fps=30),
    Benchmark(
        "3dpw/lsp14_h36mreg_pelvis_gendered_study", "3dpw", "test",
        "the study: its PVE subtracts no root and poses the prediction with the true gender's body",
        truth="gendered", metrics=OF_STUDY, variant="study",
    ),
    Benchmark(
        "3dpw/lsp14_h36mreg_hipmid_gendered", "3dpw", "test", "WHAM", truth="gendered", root=HIP_MIDDLE,
        metrics=_MOVING, fps=30,
    ),
    Benchmark(
        "3dpw/hmr14_j19_pelvis_gendered", "3dpw", "test", "4D-Humans, whose joints come from a regressor of its own",
        truth="gendered", regressor="spin19", joints="hmr2_14",
    ),
    Benchmark(
        "3dpw/smpl24_hipmid_gendered", "3dpw", "test", "the rules of EMDB and RICH", truth="gendered",
        regressor="smpl24", root=SMPL_HIP_MIDDLE, joints="smpl24", metrics=_MOVING, fps=30,
    ),
    Benchmark(
        "3dpw/smpl24_pelvis_neutral", "3dpw", "test", "HybrIK",
        regressor="smpl24", root=SMPL_PELVIS, joints="smpl24",
    ),
    Benchmark("3dpw_val", "3dpw", "val", _SPIN, is_test=False, truth="gendered", metrics=_MOVING, fps=30),
    Benchmark("h36m", "h36m", "test_p2", "the study and SPIN", truth="stored", metrics=OF_JOINTS),
    Benchmark(
        "h36m/lsp14_h36mreg_hipmid_stored", "h36m", "test_p2", "BEDLAM", truth="stored",
        root=HIP_MIDDLE, metrics=OF_JOINTS,
    ),
    Benchmark("h36m_p1", "h36m", "test_p1", "SPIN", truth="stored", metrics=OF_JOINTS),
    Benchmark("eft_coco", "eft_coco", "val", _EFT, siblings=("coco", "coco_wholebody", "eft_coco_part")),
    Benchmark("eft_lspet", "eft_lspet", "test", _EFT, siblings=("lspet", "lsp")),
    Benchmark("eft_ochuman", "eft_ochuman", "test", _EFT, siblings=("ochuman",)),
    Benchmark(
        "mpi_inf_3dhp", "mpi_inf_3dhp", "test", _FROM_SPIN, truth="stored", metrics=OF_JOINTS, siblings=_3DHP_PEOPLE
    ),
    Benchmark(
        "mpi_inf_3dhp/3dhp17_h36mreg_pelvis_stored", "mpi_inf_3dhp", "test", "SPIN", truth="stored",
        joints="mpi_inf_3dhp_test", metrics=OF_JOINTS, siblings=_3DHP_PEOPLE,
    ),
    Benchmark(
        "agora_val", "agora", "val", _AGORA, is_test=False, truth="stored",
        regressor="smpl24", root=SMPL_HIP_MIDDLE, joints="smpl24", metrics=OF_JOINTS,
    ),
    Benchmark(
        "coco_val", "coco", "val", _PCK, truth="marked", regressor="smpl54", root=(), joints="coco",
        metrics=OF_POINTS, box_scale=1.2, siblings=_COCO_PHOTOS[1:],
    ),
    Benchmark(
        "coco_val2017", "coco", "val2017", _PCK, truth="marked", regressor="smpl54", root=(), joints="coco",
        metrics=OF_POINTS, box_scale=1.2, siblings=_COCO_PHOTOS[1:],
    ),
    Benchmark(
        "emdb1", "emdb", "emdb1", _EMDB, truth="gendered", regressor="smpl24", root=SMPL_HIP_MIDDLE, joints="smpl24",
        metrics=_MOVING, fps=30,
    ),
    Benchmark(
        "emdb1/mesh24_hipmid_gendered", "emdb", "emdb1", _MESH24, truth="gendered", regressor="mesh24",
        root=SMPL_HIP_MIDDLE, joints="mesh24", metrics=_MOVING, fps=30,
    ),
    Benchmark(
        "emdb2", "emdb", "emdb2", "hmrb: EMDB-1's rules; what is published of EMDB-2 is in the world's frame",
        truth="gendered", regressor="smpl24", root=SMPL_HIP_MIDDLE, joints="smpl24", metrics=_MOVING, fps=30,
    ),
    Benchmark(
        "rich", "rich", "test", _MESH24 + "; the truth's from SMPL-X, mapped to SMPL", truth="stored",
        regressor="mesh24", root=SMPL_HIP_MIDDLE, joints="mesh24", metrics=OF_JOINTS,
    ),
    Benchmark("synthetic", "synthetic", "test", _OURS),
    Benchmark("synthetic_val", "synthetic", "val", _OURS, is_test=False),
    Benchmark("synthetic_full", "synthetic_full", "test", _OURS),
    Benchmark("synthetic_full_val", "synthetic_full", "val", _OURS, is_test=False),
    Benchmark("synthetic_hidden", "synthetic_hidden", "test", _OURS),
    *(Benchmark(f"synthetic_{domain}", f"synthetic_{domain}", "test", _OURS) for domain in _DOMAINS),
    *(Benchmark(f"synthetic_{domain}_val", f"synthetic_{domain}", "val", _OURS, is_test=False) for domain in _DOMAINS),
)  # fmt: skip
_FULL = {row.full_name.replace("-", "_"): row for row in ROWS}
BENCHMARKS = {row.name: row for row in ROWS} | {name.partition("@")[0]: row for name, row in _FULL.items()} | _FULL
ALIASES = {
    "3dpw/study": "3dpw/lsp14_h36mreg_pelvis_gendered_study",
    "3dpw/hipmid": "3dpw/lsp14_h36mreg_hipmid_gendered",
    "3dpw/smpl24": "3dpw/smpl24_hipmid_gendered",
    "emdb1/mesh24": "emdb1/mesh24_hipmid_gendered",
    "3dpw/4dhumans": "3dpw/hmr14_j19_pelvis_gendered",
    "h36m/hipmid": "h36m/lsp14_h36mreg_hipmid_stored",
}
GROUPS = {"study": ("3dpw", "h36m", "eft_coco", "eft_lspet", "eft_ochuman")}
RULES = {row.rules: row for row in reversed(ROWS)}
RULE_ALIASES = {
    "pck2d": "coco_smpl54_marked",
    "mpjpe14": "lsp14_h36mreg_pelvis_neutral",
    "mpjpe14_gendered": "lsp14_h36mreg_pelvis_gendered",
    "mpjpe14_points": "lsp14_h36mreg_pelvis_stored",
    "mpjpe24": "smpl24_hipmid_gendered",
    "mpjpe24_points": "smpl24_hipmid_stored",
}
"""Short names of the rules that a shard without a row is scored by: of 2D points, labelled bodies, 3D points."""
