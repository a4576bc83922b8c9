"""PARE (Kocabas et al., ICCV 2021): a map of attention for each joint. mkocabas/PARE@f848b2f."""

from hmrb.models.methods.hmr2 import BODY_BUFFERS
from hmrb.models.methods.layout import Method, Released

POSE_MAPS = "a pose network's key-point maps, which the method does not run"
METHOD = Method(
    "pare",
    "PARE",
    "pare",
    released=(
        Released(
            "PARE",
            "pare",
            {"head.pose_mlp.weight": (1, 6, 128, 24, 1, 1), "backbone.upsample_stage_2.1.weight": (64, 64, 3, 3)},
            (
                (r"^backbone\.upsample_stage_", "backbone.tail.upsample_stage_"),
                (r"^backbone\.(?!tail\.)", "backbone.network."),
                (r"^head\.", "head."),
            ),
            {r"backbone\.final_layer\.": POSE_MAPS, r"smpl\.": BODY_BUFFERS},
            {
                "method": "pare",
                "backbone": "hrnet_w32",
                "weights": "none",
                "features": "upsampled",
                "head": {"name": "part_attention"},
            },
            prefix="model.",
        ),
    ),
)
