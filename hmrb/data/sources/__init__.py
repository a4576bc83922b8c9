"""The catalogue: one file for each dataset or family."""

from hmrb.data.source import Source
from hmrb.data.sources import agora, eft, openpose, synthetic, up3d

MODULES = (agora, eft, openpose, synthetic, up3d)
SOURCES: dict[str, Source] = {source.name: source for module in MODULES for source in module.SOURCES}
