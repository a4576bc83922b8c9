"""Made-up raw datasets: for each source a small tree of files in its true format, written by code.

Modules with TREES say how: the function that writes each of their datasets below a folder.
"""
