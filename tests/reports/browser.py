"""Chromium without a window: what a page does, says and looks like. Without a browser these tests are skipped."""

import json
import os
import re
import shutil
import subprocess
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), "")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--use-gl=angle",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--enable-logging=stderr", "--v=0",
    "--virtual-time-budget=4000", "--disable-background-networking",
)  # fmt: skip
HOOK = """<script>window.faults = [];
addEventListener("error", (event) => faults.push(String(event.message)));
const loud = console.error; console.error = (...words) => { faults.push(words.join(" ")); loud(...words); };</script>"""
AXE = Path(os.environ.get("HMRB_AXE", "axe.min.js"))  # of npm's axe-core


@dataclass(frozen=True)
class Seen:
    """What a script in the page returned, and what the page complained about."""

    value: Any
    faults: list[str]


def asked(page: Path, folder: Path, script: str, width: int = 1200, height: int = 900, dark: bool = False) -> Seen:
    """Runs the body of an async function in a copy of a page `width` px wide, and returns what it returns."""
    text = without_policy(page.read_text(encoding="utf-8"))
    asking = (
        "<script>addEventListener('load', async () => { let value; try { value = await (async () => {"
        f"{script}"
        "})(); } catch (error) { faults.push(String(error.stack || error)); }"
        " parent.postMessage(JSON.stringify({ value, faults }), '*'); });</script>"
    )
    copy = folder / "asked.html"
    copy.write_text(text.replace("<head>", f"<head>{HOOK}").replace("</body>", f"{asking}</body>"), encoding="utf-8")
    frame = folder / "frame.html"  # a window is 500 px wide at least, a frame as wide as is wanted
    frame.write_text(
        "<!doctype html><body style='margin:0'>"
        f"<iframe src='asked.html' width='{width}' height='{height}' style='border:0'>"
        "</iframe><pre id='seen'></pre><script>addEventListener('message', (event) => {"
        "document.getElementById('seen').textContent = btoa(unescape(encodeURIComponent(event.data))); });</script>"
    )
    done = run(frame, folder, "--dump-dom", f"--window-size={max(width, 600)},{height}", *_dark(dark))
    found = re.search(r"<pre id=\"seen\">([^<]+)</pre>", done.stdout)
    assert found, done.stderr[-2000:]
    return Seen(**json.loads(b64decode(found[1]).decode()))


def without_policy(text: str) -> str:
    """A page that runs scripts and loads fonts which are not its own."""
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)


def complaints(page: Path, folder: Path) -> list[str]:
    """What the console says when the page is opened as it is, its policy in force."""
    return [line for line in run(page, folder, "--dump-dom").stderr.splitlines() if "CONSOLE" in line]


def photographed(page: Path, folder: Path, name: str, width: int, height: int, dark: bool = False) -> Path:
    """A picture of the top of the page."""
    run(page, folder, f"--screenshot={folder / name}", f"--window-size={width},{height}", *_dark(dark))
    return folder / name


def run(page: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The browser on a page, with a profile of its own."""
    return subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", *words, page.resolve().as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def _dark(dark: bool) -> list[str]:
    return [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
