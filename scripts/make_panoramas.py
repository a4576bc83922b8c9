"""Make the photographed places that synthetic people stand in: hmrb/synthetic/panoramas/*.jpg.

    npm pack @pmndrs/assets@1.7.0 && tar xzf pmndrs-assets-1.7.0.tgz
    apt-get download blender-data && dpkg-deb -x blender-data_*.deb blender
    pip install OpenEXR
    python scripts/make_panoramas.py package/hdri blender/usr/share/blender/datafiles/studiolights/world

The panoramas of both packages are Poly Haven's, CC0. Steps: read the linear light, bring each place to the same median
brightness, compress the lights, apply the display's gamma, write a JPEG of the same size. Says which it leaves out.
"""

import argparse
import base64
import tempfile
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
from jaxtyping import Float, UInt8

OUT = Path(__file__).parents[1] / "hmrb" / "synthetic" / "panoramas"
QUALITY = 88
LEFT_OUT = {"assets_sky": "has no floor", "assets_sunrise": "blender_sunrise", "assets_studio": "blender_studio"}
GREY, KNEE = 0.5, 0.6  # linear brightness of a place's 60th percentile; how much lights are compressed


def linear(data: bytes) -> Float[np.ndarray, "H W 3"]:
    """The RGB light of an OpenEXR picture."""
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        file.write(data)
        file.flush()
        channels = OpenEXR.File(file.name).channels()
    if len(channels) == 1:
        return next(iter(channels.values())).pixels[..., :3].astype(np.float32)
    return np.stack([channels[name].pixels for name in "RGB"], 2).astype(np.float32)


def displayed(light: Float[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """A picture of the light as a camera would show it."""
    bright = GREY * light / np.percentile(light.mean(2), 60)
    return np.rint(255 * np.clip(bright / (1 + KNEE * bright), 0, 1) ** (1 / 2.2)).astype(np.uint8)


def main(assets: Path, blender: Path) -> None:
    """Write the pictures of both folders."""
    OUT.mkdir(exist_ok=True)
    found = {f"assets_{file.name.split('.')[0]}": file for file in sorted(assets.glob("*.exr.js"))}
    found |= {f"blender_{file.stem}": file for file in sorted(blender.glob("*.exr"))}
    for name, file in found.items():
        if name in LEFT_OUT:
            print(f"{name}: left out, {LEFT_OUT[name]}")
            continue
        data = file.read_bytes()
        if file.suffix == ".js":  # a module that exports one data: URL
            data = base64.b64decode(data.split(b"base64,")[1].split(b"'")[0])
        out = OUT / f"{name}.jpg"
        cv2.imwrite(str(out), displayed(linear(data))[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        print(f"{out.name}: {out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path, help="package/hdri of @pmndrs/assets")
    parser.add_argument("blender", type=Path, help="studiolights/world of blender-data")
    given = parser.parse_args()
    main(given.assets, given.blender)
