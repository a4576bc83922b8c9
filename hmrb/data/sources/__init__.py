"""The catalogue's converters: one file for each dataset or family."""

from hmrb.data.source import Source
from hmrb.data.sources import (
    agora,
    aic,
    coco,
    eft,
    h36m,
    instavariety,
    leeds,
    lip,
    mpi_inf_3dhp,
    mpii,
    muco,
    mupots3d,
    ochuman,
    openpose,
    penn_action,
    people3d,
    pw3d,
    spin_mi,
    synthetic,
    up3d,
)

FAMILIES = (
    agora,
    aic,
    coco,
    eft,
    h36m,
    instavariety,
    leeds,
    lip,
    mpi_inf_3dhp,
    mpii,
    muco,
    mupots3d,
    ochuman,
    openpose,
    penn_action,
    people3d,
    pw3d,
    spin_mi,
    synthetic,
    up3d,
)
SOURCES: dict[str, Source] = {source.name: source for family in FAMILIES for source in family.SOURCES}
