"""HMR2.0 (Goel et al., ICCV 2023): a plain ViT and a decoder with one query. shubham-goel/4D-Humans@6ec7965."""

from hmrb.bodykind import SMPL_KIND
from hmrb.models.foreign import Rules
from hmrb.models.methods.layout import Method, Released

HEAD = r"^smpl_head\."
LAYER = HEAD + r"transformer\.transformer\.(layers\.\d+)\."
DECODER: Rules = (
    (r"^backbone\.", "backbone.network."),
    (HEAD + r"transformer\.to_token_embedding\.", "head.decoder.to_query."),
    (HEAD + r"transformer\.pos_embedding$", "head.decoder.position"),
    (LAYER + r"0\.norm\.", r"head.decoder.\1.norm1."),
    (LAYER + r"0\.fn\.to_qkv\.", r"head.decoder.\1.self_qkv."),
    (LAYER + r"0\.fn\.to_out\.0\.", r"head.decoder.\1.self_out."),
    (LAYER + r"1\.norm\.", r"head.decoder.\1.norm2."),
    (LAYER + r"1\.fn\.to_(q|kv)\.", r"head.decoder.\1.cross_\2."),
    (LAYER + r"1\.fn\.to_out\.0\.", r"head.decoder.\1.cross_out."),
    (LAYER + r"2\.norm\.", r"head.decoder.\1.norm3."),
    (LAYER + r"2\.fn\.net\.0\.", r"head.decoder.\1.fc1."),
    (LAYER + r"2\.fn\.net\.3\.", r"head.decoder.\1.fc2."),
    (HEAD + r"init_body_pose$", "head.init_pose"),
    (HEAD + r"init_betas$", "head.init_shape"),
    (HEAD + r"(init_cam|dec\w+\.)", r"head.\1"),
)
"""Names of HMR2.0's files, which CameraHMR and TokenHMR share."""

BODY_BUFFERS = "SMPL's buffers; hmrb reads the body's own files"
FIELDS = {
    "backbone": "vitpose_h",
    "weights": "none",
    "features": "map",
    "image_px": 256,
    "crop": "tall",
}

METHOD = Method(
    "hmr2",
    "HMR2.0",
    "hmr2",
    released=(
        Released(
            "HMR2.0",
            "hmr2",
            {
                "backbone.pos_embed": (1, 193, 1280),
                "smpl_head.transformer.to_token_embedding.weight": (1024, 1),
                "smpl_head.decpose.weight": (SMPL_KIND.rot6d_numbers, 1024),
                "smpl_head.decpose_grot.weight": None,
            },
            DECODER,
            {
                r"discriminator\.": "the discriminator; hmrb trains its own",
                r"smpl\.": BODY_BUFFERS,
                r"initialized$": "a flag of its trainer",
            },
            FIELDS | {"method": "hmr2", "head": {"name": "decoder"}},
        ),
    ),
)
