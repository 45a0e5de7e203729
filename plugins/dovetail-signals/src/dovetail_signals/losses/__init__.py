"""Losses that know the physics of rotating machines; their terms are the native ops of `dovetail.ops`."""
