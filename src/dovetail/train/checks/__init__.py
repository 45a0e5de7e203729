"""Checks before the first step: parts that do not fit, figures that will not exist, transforms of training alone."""
