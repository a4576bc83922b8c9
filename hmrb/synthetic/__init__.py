"""Synthetic people: the open body in procedural poses, clothes and scenes, with exact labels."""
