"""Losses based on the physics of rotating machines, built on the native ops of `dovetail.ops`."""
