"""Trainers that differ from the standard one in a single place each."""
