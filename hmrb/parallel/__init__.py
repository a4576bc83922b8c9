"""Processes that work together: ranks, collectives, heartbeats."""
