"""HMR: backbone and regressor. A method is an nn.Module from images to a Prediction; it does not pose the body."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hmrb.batch import Conditioning, Prediction
from hmrb.bodykind import SMPL_KIND, BodyKind
from hmrb.errors import RequestError
from hmrb.lookup import find
from hmrb.models.backbones import build_backbone, seen_columns, unseen_rim
from hmrb.models.cameras import box_numbers
from hmrb.models.crops import CropRule, rule_named
from hmrb.models.dropout import drop_paths_by_draw
from hmrb.models.half_precision import HALF
from hmrb.models.heads import build_head
from hmrb.models.methods import METHODS
from hmrb.models.weights import initialise, initialise_all
from hmrb.plugins import find_plugin, refuse_arguments
from hmrb.spec import BoxInput, EvalPrecision, ModelSpec
from hmrb.store import Store


class HMR(nn.Module):
    """Predicts pose, shape and camera from an image (Kanazawa et al., CVPR 2018).

    `weights_used` says what the backbone's initial weights are, and what of a picture it does not see; empty for random
    weights and whole pictures.
    """

    def __init__(self, spec: ModelSpec, store: Store, kind: BodyKind = SMPL_KIND) -> None:
        super().__init__()
        self.backbone, num_features = build_backbone(spec)
        is_further = spec.start == "all" and spec.weights != "none"
        said = "" if is_further else initialise(self.backbone, spec, store)
        self.head = build_head(num_features, spec.head, kind)
        if is_further:
            said = initialise_all(self.backbone, self.head, spec, store)
        self.weights_used = "\n".join(filter(None, (said, unseen_rim(spec, self.backbone))))
        self._drop_paths = drop_paths_by_draw(self.backbone)
        self.freeze_bn, self.camera = spec.freeze_bn, spec.camera
        self.box: BoxInput = getattr(self.head, "box", "none")
        self.columns = seen_columns(spec)
        self.crop_rule, self.kind = _crop_rule(spec), kind
        self.train()

    @property
    def needs_place(self) -> bool:
        """Whether the model or its camera looks at more than the crop."""
        return self.box != "none" or self.camera != "crop_weak"

    def forward(
        self,
        image: Float[Tensor, "B 3 H W"],
        keys: Int[Tensor, " B"] | None = None,
        place: Conditioning | None = None,
    ) -> Prediction:
        """Predict the body in normalised RGB crops. The regressor never computes in half precision.

        `keys`, one per draw, determine what dropout and stochastic depth leave out; training requires them. `place` is
        where the crops lie in their pictures; a head with `box` requires it, raises ValueError without.
        """
        for drop_path in self._drop_paths:
            drop_path.keys = keys
        features = self.backbone(image[..., self.columns])
        with torch.autocast(image.device.type, enabled=False):
            told: tuple[Tensor, ...] = ()
            if self.box != "none":
                if place is None:
                    raise ValueError("a head with `box` needs the place of the crops: model(image, keys, place)")
                told = (box_numbers(self.box, place, self.camera),)
            prediction: Prediction = self.head(features.float(), keys, *told)
        if self.camera == "crop_weak":
            return prediction
        return replace(prediction, projection=self.camera, place=place)

    def infer(self, image: Float[Tensor, "B 3 H W"], conditioning: Conditioning) -> Prediction:
        """Predict the body in crops that `crop_rule` cut."""
        return self(image, None, conditioning)

    def train(self, mode: bool = True) -> "HMR":
        """As in any module, except that frozen BatchNorm stays in evaluation mode."""
        super().train(mode)
        for module in self.modules() if self.freeze_bn else ():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self


def computing_in(precision: EvalPrecision, device: torch.device) -> torch.autocast:
    """Autocast context in which backbones compute in half precision, if it is one; weights stay in fp32."""
    return torch.autocast(device.type, HALF.get(precision), enabled=precision in HALF)


def build_model(spec: ModelSpec, store: Store | None = None, kind: BodyKind = SMPL_KIND) -> HMR:
    """Build a spec's model on the CPU, with weights from the store. Raises RequestError if that is not possible."""
    store = store or Store.default()
    if plugin := find_plugin("method", spec.method, MODELS):
        model: HMR = plugin.build(spec.args, spec, store, kind)
        if lacking := [name for name in PARTS if not hasattr(model, name)]:
            raise RequestError(f"the {plugin} does not work as a method: it lacks {', '.join(lacking)}")
        if spec.start == "all" and not isinstance(model, HMR):
            raise RequestError(f"model.start: all: the {plugin} takes no checkpoint's head; use start: backbone")
        return model
    refuse_arguments("method", spec.method, spec.args)
    return find("method", spec.method, MODELS)(spec, store, kind)


def _crop_rule(spec: ModelSpec) -> CropRule:
    """The method's rule; another package's method cuts as HMR does."""
    name = spec.method.replace("-", "_")
    rule = rule_named(METHODS[name].crop if name in METHODS else "hmr", spec.image_px)
    return rule if spec.crop == "tall" else replace(rule, tall=1.0)


PARTS = ("backbone", "head", "weights_used", "crop_rule", "kind", "infer")
"""What hmrb uses of a method; subclasses of HMR have it all."""


MODELS: dict[str, Callable[[ModelSpec, Store, BodyKind], HMR]] = dict.fromkeys(METHODS, HMR)
