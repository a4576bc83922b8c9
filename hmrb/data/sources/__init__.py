"""The catalogue: one file for each dataset or family."""

from hmrb.data.source import Source
from hmrb.data.sources import (
    cmu_mosh,
    h36m,
    mpi_inf_3dhp,
    muco,
    mupots3d,
    oh50k3d,
    pw3d,
    spin_mi,
    surreal,
    synthetic,
)

SOURCES: dict[str, Source] = {
    source.name: source
    for family in (
        cmu_mosh,
        h36m,
        mpi_inf_3dhp,
        muco,
        mupots3d,
        oh50k3d,
        pw3d,
        spin_mi,
        surreal,
        synthetic,
    )
    for source in family.SOURCES
}
