"""CameraHMR (Patel and Black, 3DV 2025): HMR2.0 told of box and focal length. pixelite1201/CameraHMR@65d11a0."""

from hmrb.models.methods.hmr2 import BODY_BUFFERS, DECODER, FIELDS
from hmrb.models.methods.layout import Method, Released

METHOD = Method(
    "camerahmr",
    "CameraHMR",
    "camerahmr",
    released=(
        Released(
            "CameraHMR",
            "camerahmr",
            {
                "backbone.pos_embed": (1, 193, 1280),
                "smpl_head.transformer.to_token_embedding.weight": (1024, 160),
            },
            DECODER,
            {
                r"smpl_head\.deckp\.": "dense key points, which its own SMPL trainer does not use",
                r"(smpl|smpl_layer|smpl_gt\w*)\.": BODY_BUFFERS,
                r"cam_model\.": "its field-of-view network, which is read from a file of its own",
                r"initialized$": "a flag of its trainer",
            },
            FIELDS
            | {
                "method": "camerahmr",
                "camera": "intrinsics",
                "head": {"name": "decoder", "query": "mean", "box": "over_f"},
            },
        ),
    ),
)
