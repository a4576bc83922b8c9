"""Safe readers for other systems' file formats."""
