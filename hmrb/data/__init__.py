"""Raw datasets to shards, and shards to training batches."""
