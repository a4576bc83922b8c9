"""Synthetic people: the open body in made-up poses, clothes and places, with exact labels."""
