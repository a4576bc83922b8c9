"""torchvision's detector: where its weights come from, and what becomes of its answers."""

import hashlib
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hmrb.detect import load_detector, rcnn
from hmrb.errors import RequestError


class Canned(nn.Module):
    """Two people, one of whom is unlikely, and a dog, in every picture."""

    def __init__(self) -> None:
        super().__init__()
        self.shift_px = nn.Parameter(torch.zeros(1))

    def forward(self, pictures: list[Tensor]) -> list[dict[str, Tensor]]:
        assert pictures[0].max() <= 1
        boxes = torch.tensor([[0.0, 0, 10, 20], [5, 5, 50, 60], [1, 1, 9, 9], [20, 0, 30, 40]]) + self.shift_px
        return [{"boxes": boxes, "labels": torch.tensor([1, 18, 1, 1]), "scores": torch.tensor([0.6, 0.9, 0.3, 0.8])}]


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights' place in torch's cache, for weights that shift boxes by 2 px."""
    held = io.BytesIO()
    torch.save({"shift_px": torch.tensor([2.0])}, held)
    start = hashlib.sha256(held.getvalue()).hexdigest()[:8]
    path = tmp_path / "checkpoints" / f"model-{start}.pth"
    url = f"http://127.0.0.1:9/{path.name}"  # nobody answers there
    monkeypatch.setattr(rcnn, "get_model_weights", lambda _: SimpleNamespace(DEFAULT=SimpleNamespace(url=url)))
    monkeypatch.setattr(rcnn, "get_model", lambda *_, **__: Canned())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path.parent.mkdir()
    path.write_bytes(held.getvalue())
    return path


def test_people_are_kept_by_score_and_other_classes_left_out(weights: Path) -> None:
    found = load_detector("torchvision")(np.full((100, 200, 3), 255, np.uint8))
    assert found.boxes.tolist() == [[22, 2, 10, 40], [2, 2, 10, 20]]
    assert found.scores == pytest.approx([0.8, 0.6])


def test_a_large_picture_is_shrunk_first_and_boxes_are_in_its_own_pixels() -> None:
    found = rcnn.RCNNDetector(Canned())(np.zeros((100, 2 * rcnn.LONGEST_PX, 3), np.uint8))
    assert found.boxes[0] == pytest.approx([40, 0, 20, 80], abs=1)


def test_missing_weights_without_network_are_one_message(weights: Path) -> None:
    weights.unlink()
    with pytest.raises(
        RequestError, match=r"not to be had \(URLError: .*\); download http.* to .*mobilenet\)"
    ) as caught:
        load_detector("torchvision")
    assert "\n" not in str(caught.value)
    assert not list(weights.parent.iterdir())


def test_weights_of_another_hash_are_refused_before_they_are_read(weights: Path) -> None:
    weights.write_bytes(b"\x80\x05cos\nsystem\n.")
    with pytest.raises(RequestError, match=r"its SHA-256 begins with \w{8}, not with \w{8}; download"):
        load_detector("torchvision")
