"""A backbone, a head, a loss and a dataset for hmrb, which finds them by the entry points in pyproject.toml."""
