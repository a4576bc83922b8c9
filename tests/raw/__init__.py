"""Made-up raw datasets: for each source a small tree of files in its true format, written by code.

A module has TREES: the function that writes each of its datasets below a folder.
"""

MODULES: tuple[str, ...] = ()
"""Made-up raw datasets: for each source a small tree of files in its true format, written by code."""

MODULES = ("aic", "coco", "leeds", "lip", "mpii", "ochuman", "penn_action")
"""Modules of this folder whose TREES map a dataset to the function that writes its tree."""
# Each has TREES: what writes a dataset's tree, by slug.
MODULES = ("pw3d", "h36m")
MODULES = ("eft", "openpose", "up3d")
"""Modules here with TREES: how the tree of each of their sources is written."""
