"""The study's ten models with stand-in weights: saved in its file layout, imported, compared with its outputs."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import golden
from recipe import study_state

from hmrb.models.hmr import build_model
from hmrb.models.importing import import_model

STUDY_NAMES = {
    "resnet50": "resnet50",
    "twins_pcpvt_b": "twins_pcpvt_b",
    "swin": "swin_t",
    "hrnet_w32": "hrnet_w32",
    "efficientnet_b5": "efficientnet_b5",
    "resnet101": "resnet101",
    "resnet152": "resnet152",
    "resnext101": "resnext101",
    "vit_b": "vit_b16",
    "twins_svt_b": "twins_svt_b",
}
QUICK = ("resnet50", "twins_pcpvt_b", "swin", "hrnet_w32")
OUTPUTS = ("pred_pose", "pred_betas", "pred_cam", "feat_mean")


def differences(theirs: str, folder: Path) -> dict[str, float]:
    """Largest difference of each output between the study's recording and the imported checkpoint.

    Relative to the recording's largest value.
    """
    path = folder / f"{theirs}.pth"
    torch.save({"meta": {"epoch": 100}, "state_dict": study_state(theirs)}, path)
    imported = import_model(path)
    path.unlink()
    assert imported.spec.backbone == STUDY_NAMES[theirs]
    model = build_model(imported.spec)
    model.load_state_dict(imported.arrays)
    image = torch.from_numpy(np.random.default_rng(7).standard_normal((2, 3, 224, 224)).astype(np.float32))
    with torch.no_grad():
        prediction = model.eval()(image)
        cells = model.backbone.tail.map(model.backbone.network, image).flatten(2).mean(2)
    got = dict(zip(OUTPUTS, (prediction.rotmats, prediction.betas, prediction.camera, cells), strict=True))
    recorded = golden(f"model_{theirs}")
    return {key: float(np.abs(got[key].numpy() - recorded[key]).max() / np.abs(recorded[key]).max()) for key in OUTPUTS}


@pytest.mark.parametrize(
    "theirs", [name if name in QUICK else pytest.param(name, marks=pytest.mark.heavy) for name in STUDY_NAMES]
)
def test_an_imported_checkpoint_predicts_what_the_study_does(theirs: str, tmp_path: Path) -> None:
    found = differences(theirs, tmp_path)
    # Allows another summation order; timm's epsilon in a norm, instead of the study's, would be 5e-6 off.
    assert found.pop("feat_mean") < 2e-6
    for output, difference in found.items():
        assert difference < 1e-4, output  # nearly parallel vectors in a random network amplify rounding


if __name__ == "__main__":  # prints the table in docs/checkpoints.md
    print("| backbone | pose | betas | camera | map |\n| --- | --- | --- | --- | --- |")
    for theirs, ours in STUDY_NAMES.items():
        cells = " | ".join(f"{value:.1e}" for value in differences(theirs, Path(tempfile.gettempdir())).values())
        print(f"| `{ours}` | {cells} |")
