"""Trainers for signals; each overrides a few methods of the standard trainer."""
