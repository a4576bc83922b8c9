"""The methods that hmrb trains, imports and runs: a file for each."""

from hmrb.models.methods import camerahmr, cliff, hmr, hmr2
from hmrb.models.methods.layout import Method, Released

METHODS: dict[str, Method] = {module.METHOD.name: module.METHOD for module in (hmr, hmr2, cliff, camerahmr)}

__all__ = ["METHODS", "Method", "Released"]
