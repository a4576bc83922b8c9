"""A backbone, a head and a loss for hmrb, which finds them by the entry points in pyproject.toml."""
