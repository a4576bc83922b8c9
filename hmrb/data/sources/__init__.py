"""The catalogue: one file for each dataset or family."""

from hmrb.data.source import Source
from hmrb.data.sources import coco, synthetic

FAMILIES = (coco, synthetic)
SOURCES: dict[str, Source] = {source.name: source for family in FAMILIES for source in family.SOURCES}
