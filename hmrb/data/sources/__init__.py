"""The catalogue: one file for each dataset or family."""

from hmrb.data.source import Source
from hmrb.data.sources import eft, synthetic

SOURCES: dict[str, Source] = {source.name: source for module in (eft, synthetic) for source in module.SOURCES}
