"""Small artificial raw datasets: for each source, code that writes a tree of files in the dataset's real format.

TREES in a module maps each of its datasets to the function that writes it below a folder.
"""
