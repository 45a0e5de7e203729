"""Training: the loop, its state, and what a run hands to its parts."""
