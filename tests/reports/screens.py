"""Pictures of pages in Chromium, those that are kept, and how alike two are."""

import base64
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from browser import asked, photographed, without_policy

KEPT = Path(__file__).parent / "screens"
SHRINK = 0.5  # of a kept picture: its charts and bodies can still be seen, its letters hardly matter
QUALITY = 75  # of a kept WebP
BLOCK = 24  # px of a kept picture: the arm of a body, a bar of a chart, two lines of text
SHIFT = 2  # px by which a block may lie elsewhere: other versions of a browser round differently
LONGER = 0.01  # by which the height of a page may differ


@dataclass(frozen=True)
class Screen:
    """A page as it is seen: the whole of it, or a window of `height` px. `script` runs first."""

    page: str
    width: int = 1200
    height: int = 0
    dark: bool = False
    script: str = ""


OPENED = "document.querySelector('a.tile[data-body]').click();"
SCREENS = {
    "report": Screen("report"),
    "report_dark": Screen("report", dark=True),
    "report_narrow": Screen("report", width=500),
    "person": Screen("report", height=900, script=OPENED),
    "person_dark": Screen("report", height=900, dark=True, script=OPENED),
    "runs": Screen("runs"),
    "runs_dark": Screen("runs", dark=True),
}


def seen(screen: Screen, page: Path, folder: Path, fault: str = "") -> np.ndarray:
    """A picture of the page at the size of the kept ones, BGR, in the fonts of matplotlib. `fault` is added to it."""
    copy, text = folder / "screen.html", without_policy(page.read_text(encoding="utf-8"))
    script = f"<script>addEventListener('load', () => {{ {screen.script} }});</script>"
    text = text.replace("</style>", f"{_fonts()}</style>{fault}", 1).replace("</body>", f"{script}</body>")
    copy.write_text(text, encoding="utf-8")
    tall = "return document.documentElement.scrollHeight"
    height = screen.height or asked(copy, folder, tall, screen.width).value
    shot = cv2.imread(str(photographed(copy, folder, "screen.png", screen.width, height, screen.dark)))
    assert shot is not None, "Chromium made no picture"
    return cv2.resize(shot, None, fx=SHRINK, fy=SHRINK, interpolation=cv2.INTER_AREA)


def difference(one: np.ndarray, other: np.ndarray) -> tuple[float, tuple[int, int]]:
    """Mean difference of the worst channel in the most different block, levels of 255, and the block's middle, px.

    Pictures are blurred and each block may move by SHIFT px. Infinite for pictures of another size.
    """
    tall, wide = min(len(one), len(other)), one.shape[1]
    if abs(len(one) - len(other)) > LONGER * tall or other.shape[1] != wide:
        return np.inf, (wide, tall)
    one, other = (cv2.GaussianBlur(picture[:tall].astype(np.float32), (0, 0), 1.5) for picture in (one, other))
    steps = range(2 * SHIFT + 1)
    padded = cv2.copyMakeBorder(other, SHIFT, SHIFT, SHIFT, SHIFT, cv2.BORDER_REPLICATE)
    moved = [padded[y : y + tall, x : x + wide] for y in steps for x in steps]
    best = np.min([cv2.blur(np.abs(one - each), (BLOCK, BLOCK)).max(2) for each in moved], 0)
    y, x = np.unravel_index(int(best.argmax()), best.shape)
    return float(best[y, x]), (int(x), int(y))


def kept(name: str) -> np.ndarray:
    """A picture of the repository, BGR."""
    picture = cv2.imread(str(KEPT / f"{name}.webp"))
    assert picture is not None, f"no picture {name}.webp is kept; --keep-screens makes it"
    return picture


def keep(name: str, picture: np.ndarray) -> None:
    """Puts a picture into the repository."""
    KEPT.mkdir(exist_ok=True)
    assert cv2.imwrite(str(KEPT / f"{name}.webp"), picture, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])


@cache
def _fonts() -> str:
    """CSS that sets a page in fonts that come with matplotlib, because each machine has others."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    faces = []
    for family, weight, file in (("kept", 400, "Sans"), ("kept", 700, "Sans-Bold"), ("kept mono", 400, "SansMono")):
        data = base64.b64encode((folder / f"DejaVu{file}.ttf").read_bytes()).decode()
        face = f'font-family: "{family}"; font-weight: {weight}; src: url(data:font/ttf;base64,{data})'
        faces.append(f"@font-face {{ {face} }}")
    return "".join(faces) + 'body { font-family: "kept" } code, pre { font-family: "kept mono" }'
