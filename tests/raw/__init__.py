"""Made-up raw datasets: for each source a small tree of files in its true format, written by code."""
