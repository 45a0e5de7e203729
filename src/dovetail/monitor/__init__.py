"""Watching a run: its memory, its gradients, its data."""
