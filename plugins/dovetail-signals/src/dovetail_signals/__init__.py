"""Vibration, sound and physics for Dovetail: recordings, representations, augmentation, models and losses."""
