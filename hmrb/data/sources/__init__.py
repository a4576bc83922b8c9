"""The catalogue: one file for each dataset or family."""

from hmrb.data.source import Source
from hmrb.data.sources import (
    aic,
    coco,
    instavariety,
    leeds,
    lip,
    mpii,
    ochuman,
    penn_action,
    people3d,
    synthetic,
)

SOURCES: dict[str, Source] = {
    source.name: source
    for family in (
        aic,
        coco,
        instavariety,
        leeds,
        lip,
        mpii,
        ochuman,
        penn_action,
        people3d,
        synthetic,
    )
    for source in family.SOURCES
}
