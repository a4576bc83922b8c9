"""The rule by which a method cuts its crop out of a picture: part of the model, printed with its results."""

from dataclasses import dataclass

from hmrb.geometry import FOCAL_PX

BOX_MARGIN = 1.2  # of a square around a tight box: SPIN's, the study's and hmrb's converters' rule


@dataclass(frozen=True, slots=True)
class CropRule:
    """A box becomes the square around its centre, `margin` times its longer side wide, scaled to `image_px` pixels."""

    image_px: int
    margin: float = BOX_MARGIN
    focal_px: float = FOCAL_PX
    """Focal length in pixels of the crop, where nobody knows the picture's."""

    def square(self, box: tuple[float, float, float, float], margin: float) -> tuple[float, float, float]:
        """Centre x, y and side in px of the square of a box (x, y, width, height)."""
        x, y, width, height = box
        return x + width / 2, y + height / 2, margin * max(width, height)

    def focal_of(self, side: float) -> float:
        """The focal length in pixels of a picture whose square is `side` px wide, by this rule."""
        return self.focal_px * side / self.image_px

    def said(self, margin: float) -> str:
        """The rule in words."""
        return f"a square of {margin:g} times the box's longer side, scaled to {self.image_px} px"
