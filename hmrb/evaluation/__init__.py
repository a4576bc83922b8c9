"""Evaluation: protocols, metrics, scoring, and the records of results."""
