"""Training: the loop, the step, losses, and what a run writes."""
