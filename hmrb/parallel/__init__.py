"""Process groups: ranks, collectives, heartbeats."""
