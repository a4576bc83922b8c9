"""Finding the people in a picture: `load_detector()(picture)`, without a network connection for the embedded one."""

from collections.abc import Callable

from hmrb.detect.boxes import Detections, Detector
from hmrb.lookup import find

__all__ = ["DEFAULT_DETECTOR", "DETECTORS", "Detections", "Detector", "check_detector", "load_detector"]

DEFAULT_DETECTOR = "mobilenet"


def load_detector(name: str = DEFAULT_DETECTOR) -> Detector:
    """The detector named `name`; imports torch. Raises RequestError for an unknown name or missing weights."""
    return find("detector", name, DETECTORS)()


def check_detector(name: str | None) -> None:
    """Raises RequestError for an unknown name, also where nobody has to be found; None is the default detector."""
    if name is not None:
        find("detector", name, DETECTORS)


def _mobilenet() -> Detector:
    from hmrb.detect.mobilenet import load_mobilenet

    return load_mobilenet()


def _torchvision() -> Detector:
    from hmrb.detect.rcnn import load_rcnn

    return load_rcnn()


DETECTORS: dict[str, Callable[[], Detector]] = {"mobilenet": _mobilenet, "torchvision": _torchvision}
"""The embedded detector, and torchvision's Faster R-CNN for hard scenes. See docs/detector.md."""
