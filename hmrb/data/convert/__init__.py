"""Convert raw datasets to shards: catalogue, conversion, packing and verification."""
