"""Checkpoints: a safe format, and a manager of which to keep."""
