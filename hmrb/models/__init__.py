"""From a picture to a body."""
