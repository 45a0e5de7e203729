"""Optimizers, their presets and parameter groups; import them from their modules."""
