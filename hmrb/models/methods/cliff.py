"""CLIFF (Li et al., ECCV 2022): HMR told of the crop's place. huawei-noah/noah-research@aa0f80c: CLIFF/."""

from hmrb.models.methods.layout import Method, Released

RULES = (
    (r"^encoder\.", "backbone.network."),
    (r"^(fc1|fc2|decpose|decshape|deccam|init_\w+)", r"head.\1"),
)
FIELDS = {
    "method": "cliff",
    "weights": "none",
    "image_px": 256,
    "crop": "tall",
    "camera": "full_frame",
    "head": {"name": "iterative", "box": "cliff"},
}
REGRESSOR = {"fc1.weight": (1024, 2208), "encoder.conv1.weight": (64, 3, 7, 7)}

METHOD = Method(
    "cliff",
    "CLIFF",
    "cliff",
    released=(
        Released("CLIFF, ResNet-50", "cliff", REGRESSOR, RULES, {}, FIELDS | {"backbone": "resnet50"}),
        Released(
            "CLIFF, HRNet-W48",
            "cliff",
            {"fc1.weight": (1024, 2208), "encoder.stage4.2.branches.0.3.conv2.weight": (48, 48, 3, 3)},
            RULES,
            {},
            FIELDS | {"backbone": "hrnet_w48"},
        ),
    ),
)
