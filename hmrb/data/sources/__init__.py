"""The catalogue: one file for each dataset or family."""

from hmrb.data.source import Source
from hmrb.data.sources import synthetic

SOURCES: dict[str, Source] = {source.name: source for source in synthetic.SOURCES}
