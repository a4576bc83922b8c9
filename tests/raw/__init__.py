"""Made-up raw datasets: for each source a small tree of files in its true format, written by code."""

MODULES = ("agora", "eft", "openpose", "up3d")
"""Modules here with TREES: how the tree of each of their sources is written."""
