"""The tables `model` and `losses`: the network and what it learns from."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from hmrb.spec.fields import Positive, Rate, Share, SpecModel, Weight, on_or_off

MOST_HIDDEN = 1 << 14  # a layer of 1 GB; the study's have 1024


Width = Annotated[int, Field(gt=0, le=MOST_HIDDEN)]
BoxInput = Literal["none", "cliff", "over_f"]
"""What a head is told of the crop's place in the picture: nothing; offset and size over the focal length, scaled as in
CLIFF (ECCV 2022); or not scaled, as in BEDLAM-CLIFF and CameraHMR."""
Rotation = Literal["interleaved", "triplets", "rows"]
"""How six numbers are two vectors: in turn, as rows of a 3x2 matrix (HMR, SPIN, CLIFF); one after the other, as columns
of the rotation (HMR2.0) or as its rows (TokenHMR)."""


class HeadSpec(SpecModel):
    """The regressor: refines the mean body `steps` times with two layers on the backbone's features."""

    name: str = "iterative"
    steps: Positive = 3
    hidden: Width = 1024
    dropout: Share = 0.5
    box: BoxInput = "none"
    args: dict[str, Any] = {}
    """Arguments of a head of another package."""

    @property
    def rotation(self) -> Rotation:
        """How its six numbers are two vectors."""
        return "interleaved"


class DecoderHeadSpec(SpecModel):
    """A transformer decoder with one query, which looks at the backbone's map (HMR2.0, ICCV 2023)."""

    name: Literal["decoder"]
    layers: Positive = 6
    width: Width = 1024
    heads: Positive = 8
    head_width: Width = 64
    hidden: Width = 1024
    query: Literal["zero", "mean"] = "zero"
    """What the query is made of: a zero, or the mean body (and the box, with `box`)."""
    box: BoxInput = "none"
    rotation: Rotation = "triplets"

    @model_validator(mode="after")
    def _box_is_seen(self) -> "DecoderHeadSpec":
        if self.box != "none" and self.query == "zero":
            raise ValueError(f"box: {self.box} would have no effect: the query is a zero; set query: mean")
        return self


class TokenHeadSpec(SpecModel):
    """The decoder of HMR2.0, and a pose made of `tokens` of a learned dictionary (TokenHMR, CVPR 2024)."""

    name: Literal["tokens"]
    layers: Positive = 6
    width: Width = 1024
    heads: Positive = 8
    head_width: Width = 64
    hidden: Width = 1024

    @property
    def query(self) -> Literal["zero"]:
        """What the query is made of."""
        return "zero"

    @property
    def box(self) -> BoxInput:
        """What it is told of the crop's place."""
        return "none"

    @property
    def rotation(self) -> Rotation:
        """How its six numbers are two vectors."""
        return "rows"


class PartAttentionHeadSpec(SpecModel):
    """PARE's regressor (ICCV 2021): a map of attention for each joint, and a layer of its own for each."""

    name: Literal["part_attention"]
    width: Width = 128
    """Channels of the branch that the pose is read from."""
    shape_width: Width = 64
    """Channels of what shape and camera are read from."""

    @property
    def box(self) -> BoxInput:
        """What it is told of the crop's place."""
        return "none"

    @property
    def rotation(self) -> Rotation:
        """How its six numbers are two vectors."""
        return "interleaved"


def _head_tag(value: Any) -> str:
    """The table of a head's fields, by its name; heads of other packages have the fields of the regressor."""
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    name = name.replace("-", "_") if isinstance(name, str) else ""
    return name if name in HEAD_TABLES else "regressor"


HEAD_TABLES: dict[str, type[SpecModel]] = {
    "regressor": HeadSpec, "decoder": DecoderHeadSpec, "tokens": TokenHeadSpec, "part_attention": PartAttentionHeadSpec,
}  # fmt: skip
AnyHeadSpec = Annotated[
    Annotated[HeadSpec, Tag("regressor")]
    | Annotated[DecoderHeadSpec, Tag("decoder")]
    | Annotated[TokenHeadSpec, Tag("tokens")]
    | Annotated[PartAttentionHeadSpec, Tag("part_attention")],
    Discriminator(_head_tag),
]


class ModelSpec(SpecModel):
    """The network that predicts a body from a picture."""

    method: str = "hmr"
    args: dict[str, Any] = {}
    """Arguments of a method of another package."""
    backbone: str = "resnet50"
    backbone_args: dict[str, Any] = {}
    """Arguments of a backbone of another package."""
    weights: str = "imagenet"
    """Initial weights: `none`, `imagenet`, `mpii` or `coco` (pose networks), `demo` (of the model in the package, for
    the backbone mini), or the path of a checkpoint."""
    start: Literal["backbone", "all"] = "backbone"
    """What a checkpoint in `weights` gives: its backbone; or its head and mean body too, to train a model further on
    other data (fine-tuning). A checkpoint of another program must be imported first."""
    features: Literal["mean", "flatten", "study", "map", "conv", "upsampled"] = "mean"
    """The regressor's input: the mean of the last feature map, the whole map as one vector, or the study's own tail and
    pooling; for heads that look at places, the last map, or HRNet's four maps in the size of the finest (`upsampled`);
    or the mean of HRNet's four maps in the size of the coarsest (`conv`)."""
    drop_path: Share = 0.0
    """Stochastic depth of the backbone in training: the drop probability of its last residual branch."""
    head: AnyHeadSpec = HeadSpec()
    image_px: Positive = 224
    crop: Literal["square", "tall"] = "square"
    """What the backbone sees of a crop of `image_px`: all, or the middle three quarters of its columns."""
    camera: Literal["crop_weak", "full_frame", "intrinsics"] = "crop_weak"
    """How predictions are projected: by a focal length of 5000 px about the crop's middle; by one of the picture's
    diagonal about the picture's; or by the picture's own intrinsics, where they are known, else by its diagonal."""
    mean: Literal["file", "labels"] = "file"
    """The regressor's initial body: from smpl_mean_params.npz, or the mean of the training labels."""
    sync_bn: Annotated[bool | Literal["auto"], BeforeValidator(on_or_off)] = True
    """On several GPUs: BatchNorm's statistics are over all of them, at the cost of two exchanges per layer and step.
    `auto` does so if a GPU sees fewer than 16 pictures at a time."""
    freeze_bn: bool = False
    """Keeps BatchNorm's initial statistics, so a picture's features do not depend on the rest of its batch."""

    @model_validator(mode="after")
    def _further(self) -> "ModelSpec":
        if self.start == "all" and self.weights in ("none", "imagenet", "mpii", "coco"):
            raise ValueError(f"start: all needs the path of a checkpoint in weights, not {self.weights}")
        return self

    @property
    def needs_place(self) -> bool:
        """Whether the model or its camera looks at more than the crop."""
        return self.head.box != "none" or self.camera != "crop_weak"


class LossTerm(SpecModel):
    """One term of the loss: a distance between prediction and label, times a weight."""

    distance: Literal["l1", "mse", "smooth_l1", "cross_entropy"]
    """`cross_entropy` is of `parts`, and its only one."""
    weight: Weight
    reduction: Literal["mean", "sum_per_person", "sum"] = "mean"
    """The sum over labelled entries divided by their number; by the number of people; or by nothing, in a batch of
    `of_batch` people, which the published weight belongs to."""
    of_batch: Positive | None = None
    space: Literal["crop", "picture"] = "crop"
    """Of 2D key points: distances in crop sides, or in picture sides and weighted by the picture's over the crop's."""
    origin: Literal["hips", "none"] = "hips"
    """Of 3D key points: relative to the hips, or as they are."""
    gate: Literal["none", "tals"] = "none"
    """`tals`: labels of data sets outside `data.trusted` count in full only where a prediction is far from them."""
    loose: Share = 0.05
    """What they count elsewhere."""
    args: dict[str, Any] = {}
    """Arguments of a loss of another package."""

    @model_validator(mode="after")
    def _sums_of_a_batch(self) -> "LossTerm":
        if (self.reduction == "sum") != (self.of_batch is not None):
            raise ValueError("reduction sum and of_batch belong together: the batch that the weight was published for")
        return self


class AdversarySpec(SpecModel):
    """The adversarial prior: a discriminator of poses and shapes. Weight 0 disables it."""

    weight: Weight = 1.0
    lr: Rate = 1e-4
    poses: str = "cmu_mosh"
    """The dataset of real bodies for the discriminator, or `labels`: the bodies of the training mix."""


STUDY_LOSSES = {
    "keypoints3d": LossTerm(distance="smooth_l1", weight=100),
    "keypoints2d": LossTerm(distance="smooth_l1", weight=10),
    "vertices": LossTerm(distance="l1", weight=2),
    "pose": LossTerm(distance="mse", weight=3),
    "betas": LossTerm(distance="mse", weight=0.02),
}
