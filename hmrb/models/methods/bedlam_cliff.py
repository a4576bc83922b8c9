"""BEDLAM-CLIFF (Black et al., CVPR 2023): CLIFF with the true focal length. pixelite1201/BEDLAM@9ad6adf: train/."""

from hmrb.models.methods.hmr2 import BODY_BUFFERS
from hmrb.models.methods.layout import Method, Released
from hmrb.models.methods.pare import POSE_MAPS

RULES = (
    (r"^backbone\.downsample_stage_", "backbone.tail.downsample_stage_"),
    (r"^backbone\.(?!tail\.)", "backbone.network."),
    (r"^head\.", "head."),
)
DROPPED = {
    r"backbone\.final_layer\.": POSE_MAPS,
    r"head\.downsample_module\.": "convolutions that its regressor does not run",
    r"(smpl|smplx)\.|smpl\w*\.|J_regressor$": BODY_BUFFERS,
}
FIELDS = {
    "method": "bedlam_cliff",
    "backbone": "hrnet_w48",
    "weights": "none",
    "features": "conv",
    "camera": "intrinsics",
    "head": {"name": "iterative", "box": "over_f"},
}
BACKBONE = {"backbone.downsample_stage_1.0.weight": (48, 48, 3, 3)}

METHOD = Method(
    "bedlam_cliff",
    "BEDLAM-CLIFF",
    "bedlam",
    released=(
        Released(
            "BEDLAM's CLIFF of real pictures",
            "bedlam",
            {"head.fc1.weight": (1024, 880), **BACKBONE},
            RULES,
            DROPPED,
            FIELDS,
            prefix="model.",
        ),
        Released(
            "BEDLAM-CLIFF",
            "bedlam",
            {"head.fc1.weight": (1024, 869), **BACKBONE},
            RULES,
            DROPPED,
            FIELDS,
            prefix="model.",
            body="smplx",
        ),
    ),
)
