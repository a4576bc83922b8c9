"""What a person's crop tells the method besides its pixels."""

import numpy as np
import torch
from photos import noise

from hmrb.formats.exif import Exif
from hmrb.models.crops import CropRule
from hmrb.predict.engine import conditioning_of, cut
from hmrb.predict.pictures import GivenBox, OpenedPicture, PictureSource

BOX = (10.0, 5.0, 30.0, 60.0)
PICTURE = OpenedPicture(PictureSource("photo", noise), noise(), Exif(1, {}))


def test_methods_are_told_the_square_of_their_rule_and_not_the_box() -> None:
    crop = cut(PICTURE, GivenBox(BOX), 1.2, CropRule(32), None)
    told = conditioning_of([crop], [PICTURE.size_px])
    torch.testing.assert_close(told.square, torch.tensor([[25.0, 35.0, 72.0]]))
    torch.testing.assert_close(told.picture_px, torch.tensor([[60.0, 80.0]]))
    np.testing.assert_allclose(told.crop[0] @ torch.tensor([25.0, 35.0, 1.0]), [16, 16], atol=1e-5)
    assert not told.has_intrinsics.any()
