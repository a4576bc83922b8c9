"""The methods that hmrb trains, imports and runs: a file for each."""

from hmrb.models.methods import bedlam_cliff, camerahmr, cliff, hmr, hmr2, pare, tokenhmr
from hmrb.models.methods.layout import Method, Released

MODULES = (hmr, hmr2, cliff, bedlam_cliff, camerahmr, tokenhmr, pare)
METHODS: dict[str, Method] = {module.METHOD.name: module.METHOD for module in MODULES}

__all__ = ["METHODS", "Method", "Released"]
