"""The embedded detector finds people, several in a picture, at the rates that docs/detector.md states."""

import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import hmrb.detect.mobilenet
from hmrb.detect import DEFAULT_DETECTOR, DETECTORS, Detector, load_detector
from hmrb.detect.mobilenet import WEIGHTS, WEIGHTS_SHA256, MobileNetDetector, load_mobilenet
from hmrb.errors import RequestError
from hmrb.lookup import UnknownName

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from detect_people import SCENES, count_hits, groups, measure, photo, photos

PAGE = Path(__file__).parents[2] / "docs" / "detector.md"


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector()


@pytest.mark.parametrize(
    "title", [pytest.param(title, marks=pytest.mark.heavy if "synthetic" in title else ()) for title in SCENES]
)
def test_recall_and_false_alarms_are_those_of_the_page(detector: Detector, title: str) -> None:
    row, _ = measure(detector, title)
    assert row in PAGE.read_text(encoding="utf-8").splitlines()


def test_a_person_fills_the_box_and_nobody_is_in_coffee_cat_and_rocket(detector: Detector) -> None:
    found = detector(photo("astronaut"))
    assert len(found) == 1
    assert found.scores[0] > 0.5
    assert found.boxes[0] == pytest.approx([15, 15, 350, 497], abs=15)
    for name in ("coffee", "chelsea", "rocket.jpg"):
        assert len(detector(photo(name))) == 0, name


def test_four_people_are_found_in_the_order_of_their_scores(detector: Detector) -> None:
    scene = next(scene for scene in groups() if len(scene.boxes) == 4)
    found = detector(scene.picture)
    assert count_hits(found.boxes, scene.boxes) == 4
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, :2] + found.boxes[:, 2:] <= [scene.picture.shape[1], scene.picture.shape[0]]).all()


def test_the_network_gives_the_numbers_of_the_published_one(detector: Detector) -> None:
    """The published float16 network, run by LiteRT 2.3.0, gave 0.59 and this box for the squeezed picture."""
    assert isinstance(detector, MobileNetDetector)
    found = detector.look(photo("astronaut"), 300, 300)
    assert found.scores[0] == pytest.approx(0.59, abs=0.02)
    assert found.boxes[0] == pytest.approx([19, 16, 344, 492], abs=4)


def test_people_are_found_in_grey_mirrored_and_transposed_pixels(detector: Detector) -> None:
    (astronaut, _) = photos()
    grey = cv2.cvtColor(cv2.cvtColor(astronaut.picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    assert count_hits(detector(grey).boxes, astronaut.boxes) == 1
    mirrored = detector(astronaut.picture[:, ::-1])  # strides below 0
    box = astronaut.boxes * [-1, 1, 1, 1] + [512 - astronaut.boxes[0, 2], 0, 0, 0]
    assert count_hits(mirrored.boxes, box) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (3, 17), (301, 299)])
def test_odd_sizes_are_no_error(detector: Detector, size: tuple[int, int]) -> None:
    assert len(detector(np.full((*size, 3), 127, np.uint8))) == 0


def test_a_wide_picture_takes_no_more_memory_than_its_own(detector: Detector) -> None:
    detector(photo("astronaut"))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wide = np.full((600, 30_000, 3), 200, np.uint8)
    wide[44:556, 100:612] = photo("astronaut")
    detector(wide)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 300 * 1024


def test_a_damaged_file_of_weights_is_refused(tmp_path: Path) -> None:
    for name, content in (("short.npz", WEIGHTS.read_bytes()[:-1]), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            RequestError, match=f"{name}: its SHA-256 begins with .*, not with {WEIGHTS_SHA256}; install"
        ):
            load_mobilenet(tmp_path / name)
    with pytest.raises(RequestError, match=r"gone.npz: no such file; install hmrb again"):
        load_mobilenet(tmp_path / "gone.npz")


def test_the_licence_beside_the_weights_states_their_hash() -> None:
    page = (WEIGHTS.parent / "LICENSE.md").read_text(encoding="utf-8")
    assert WEIGHTS_SHA256 in page
    assert f"{WEIGHTS.stat().st_size:,} bytes" in page
    assert WEIGHTS.stat().st_size < 6_000_000


def test_names_are_known_without_torch() -> None:
    code = "import sys, hmrb.detect; print(sorted({'torch', 'torchvision', 'timm', 'cv2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert DEFAULT_DETECTOR in DETECTORS
    with pytest.raises(UnknownName, match="no detector named 'mobilnet'. Did you mean 'mobilenet'?"):
        load_detector("mobilnet")


def test_the_module_s_least_score_decides(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hmrb.detect.mobilenet, "LEAST_SCORE", 0.99)
    assert len(detector(photo("astronaut"))) == 0
