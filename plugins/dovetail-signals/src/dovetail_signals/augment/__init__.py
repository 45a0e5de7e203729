"""Augmentation of signals and of patches of them: functions, and the transforms of run files that call them."""
