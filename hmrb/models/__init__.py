"""Models: networks that map an image to body parameters."""
