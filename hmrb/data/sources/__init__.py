"""The catalogue: one file for each dataset or family."""

from hmrb.data.source import Source
from hmrb.data.sources import (
    aic,
    coco,
    leeds,
    lip,
    mpii,
    ochuman,
    penn_action,
    h36m,
    pw3d,
    synthetic,
)

SOURCES: dict[str, Source] = {
    source.name: source
    for family in (
        aic,
        coco,
        leeds,
        lip,
        mpii,
        ochuman,
        penn_action,
        h36m,
        pw3d,
        synthetic,
    )
    for source in family.SOURCES
}
from hmrb.data.sources import eft, openpose, synthetic, up3d

MODULES = (eft, openpose, synthetic, up3d)
SOURCES: dict[str, Source] = {source.name: source for module in MODULES for source in module.SOURCES}
