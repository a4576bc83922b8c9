"""Files of other systems, read safely."""
