"""Augmentation of signals and of their patches, as functions and as transforms for run files."""
