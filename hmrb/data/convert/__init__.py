"""From raw files to shards: the catalogue, conversion, packing, verification."""
