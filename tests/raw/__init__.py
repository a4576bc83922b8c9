"""Made-up raw datasets: for each source a small tree of files in its true format, written by code."""

MODULES = ("aic", "coco", "instavariety", "leeds", "lip", "mpii", "ochuman", "penn_action", "people3d")
"""Modules of this folder whose TREES map a dataset to the function that writes its tree."""
