"""TokenHMR (Dwivedi et al., CVPR 2024): HMR2.0 with a pose made of tokens. saidwivedi/TokenHMR@198645f."""

from pathlib import Path

from hmrb.models.methods.hmr2 import BODY_BUFFERS, DECODER, FIELDS
from hmrb.models.methods.layout import Method, Released, State
from hmrb.models.weight_files import WeightsError, read_weights

HEAD = r"^smpl_head\."
TOKENIZER_FILE = "tokenizer.pth"


def tokenizer(path: Path) -> State:
    """The token decoder and its codebook, from tokenizer.pth beside a checkpoint or in the folder above."""
    places = [folder / TOKENIZER_FILE for folder in (path.parent, path.parent.parent)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise WeightsError(
            f"{path}: TokenHMR's token decoder is in a second file: put {TOKENIZER_FILE} beside it (its fetch_demo_data"
            " downloads both)"
        )
    content = read_weights(found)
    net = content.get("net")
    if not isinstance(net, dict):
        raise WeightsError(f"{found}: no tensors under 'net'; TokenHMR's tokenizer has them there")
    return {f"tokenizer.{key}": value for key, value in net.items()}


METHOD = Method(
    "tokenhmr",
    "TokenHMR",
    "tokenhmr",
    released=(
        Released(
            "TokenHMR",
            "tokenhmr",
            {"smpl_head.decpose_grot.weight": (6, 1024), "backbone.pos_embed": (1, 193, 1280)},
            (
                (HEAD + r"(init_\w+|dec\w+\.)", r"head.tokens.\1"),
                (r"^tokenizer\.", "head.tokens.tokenizer."),
                *DECODER,
            ),
            {
                r"smpl\.": BODY_BUFFERS,
                r"initialized$": "a flag of its trainer",
                r"discriminator\.": "the discriminator; hmrb trains its own",
                r"tokenizer\.encoder\.": "the tokenizer's encoder, which only its own training needs",
            },
            FIELDS | {"method": "tokenhmr", "head": {"name": "tokens"}},
            beside=tokenizer,
        ),
    ),
)
