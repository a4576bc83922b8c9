"""Made-up raw datasets: for each source a small tree of files in its true format, written by code."""

# Each has TREES: what writes a dataset's tree, by slug.
MODULES = ("pw3d", "h36m", "mpi_inf_3dhp", "spin_mi", "muco", "mupots3d", "oh50k3d", "surreal", "cmu_mosh")
